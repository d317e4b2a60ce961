"""Labels: what a person says tiles are, kept on disk as it is said, and undone at will."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from psygnal import Signal

from napari_virchow.labels import plans
from napari_virchow.labels.edits import (
    Change,
    ClassChange,
    Label,
    LabelChange,
    LabelClass,
    LabelRow,
    Mark,
    TileChange,
    clean_text,
    label_of,
    summarize,
)
from napari_virchow.labels.history import LabelHistory, now
from napari_virchow.labels.journal import Journal
from napari_virchow.labels.journal_file import (
    JournalBusy,
    JournalContents,
    JournalError,
    default_annotator,
    default_journal,
)
from napari_virchow.tiles import Tile

__all__ = [
    "JournalBusy",
    "JournalError",
    "Label",
    "LabelChange",
    "LabelClass",
    "LabelRow",
    "LabelSet",
    "default_annotator",
    "default_journal",
]


class LabelSet:
    """Classes and labels of one annotator over any number of slides.

    Every verb is safe from any thread and returns before the disk has been written; it is within a
    second, and then survives ``kill -9``. Undo reaches back over restarts to the first class.
    A label belongs to (slide identity, grid name, tile), so it stays when the encoder changes, and
    stays with its magnification.

    Parameters
    ----------
    journal : Path, str or None
        File to open or to make; None keeps everything in memory only.
    annotator : str, optional
        Who labels from now on; the user who is logged in when left out.

    Raises
    ------
    JournalBusy
        If the journal is open for writing elsewhere.
    JournalError
        If it is damaged, from a newer version, or cannot be written.
    """

    # Classes or labels changed, LabelChange (thread of whoever changed them)
    changed = Signal(LabelChange)
    # The journal could not be written and tries again, JournalError (a thread of its own)
    failed = Signal(Exception)
    # All that could not be written has been (a thread of its own)
    recovered = Signal()

    def __init__(self, journal: Path | str | None, *, annotator: str | None = None) -> None:
        self.annotator = clean_text(
            default_annotator() if annotator is None else annotator, "an annotator"
        )
        self._lock = threading.RLock()
        self._journal = None if journal is None else Journal(Path(journal))
        try:
            contents = JournalContents() if self._journal is None else self._journal.load()
            self._history = LabelHistory(contents, self._journal)
        except BaseException:
            self.close()
            raise
        self._state = contents.state
        self._views, self._overruled = contents.views, contents.overruled
        if self._journal is not None:
            self._journal.failed.connect(self.failed.emit)
            self._journal.recovered.connect(self.recovered.emit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Classes

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        """All classes by id, that is in the order they were made."""
        with self._lock:
            return tuple(self._state.classes[i] for i in sorted(self._state.classes))

    def add_class(
        self, name: str, color: str | None = None, hotkey: str | None = None
    ) -> LabelClass:
        """Make a class, with the first free colour and hotkey of their kind unless given.

        Raises
        ------
        ValueError
            If there is a class of this name or hotkey, whatever the case, or one of the three is
            not allowed.
        """
        with self._lock:
            others = self._state.classes.values()
            if hotkey is not None and (owner := [c.name for c in others if c.hotkey == hotkey]):
                raise ValueError(f"hotkey {hotkey} belongs to class {owner[0]!r}")
            new = plans.new_class(self._history.last_class + 1, name, others, color, hotkey)
            changes = self._do(f"add class {new.name}", [ClassChange(None, new)])
        self._emit(changes)
        return new

    def rename_class(self, class_id: int, name: str) -> None:
        """Give a class another name; ValueError if it is taken, KeyError without such a class."""
        self._replace(class_id, "rename {old} to {name}", name=name)

    def recolor_class(self, class_id: int, color: str) -> None:
        """Give a class another colour, "#rrggbb"; ValueError if it is none."""
        self._replace(class_id, "recolour {old}", color=color.strip().lower())

    def set_hotkey(self, class_id: int, hotkey: str | None) -> None:
        """Give a class another hotkey, "1" to "9" or None; whoever had it gets the old one."""
        self._replace(class_id, f"give key {hotkey} to {{old}}", hotkey=hotkey)

    def merge_classes(self, source_id: int, into_id: int) -> None:
        """Make all labels of one class another's, and delete the first.

        Who labelled and when stays. KeyError without such a class, ValueError if they are the same.
        """
        with self._lock:
            source, into = self._class(source_id), self._class(into_id)
            if source == into:
                raise ValueError(f"class {source.name!r} cannot be merged into itself")
            changes = plans.plan_end_of_class(self._state, source_id, into_id)
            self._do(f"merge {source.name} into {into.name}", changes)
        self._emit(changes)

    def delete_class(self, class_id: int) -> None:
        """Delete a class and all its labels; KeyError without such a class."""
        with self._lock:
            gone = self._class(class_id)
            changes = plans.plan_end_of_class(self._state, class_id, None)
            self._do(f"delete class {gone.name}", changes)
        self._emit(changes)

    # Labels

    def label(self, slide: str, grid_name: str, tiles: plans.Tiles, class_id: int | None) -> int:
        """Say what tiles are; what they were called before is replaced.

        Parameters
        ----------
        slide, grid_name : str
            `Slide.identity` and `TileGrid.name`.
        tiles : iterable of (row, column), or integer ndarray of shape (n, 2)
            In any order, twice if need be.
        class_id : int or None
            None erases.

        Returns
        -------
        int
            How many tiles changed. None: nothing happened, and there is nothing to undo.

        Raises
        ------
        KeyError
            If there is no such class.
        ValueError, TypeError
            If a row or a column is negative, huge, or not a whole number. Nothing is labelled then.
        """
        scope = clean_text(slide, "a slide"), clean_text(grid_name, "a grid")
        with self._lock:
            mark, text = None, "erase {tiles}"
            if class_id is not None:
                text = f"label {{tiles}} as {self._class(class_id).name}"
                mark = Mark(class_id, self.annotator, now())
            change = plans.plan_marks(self._state, scope, tiles, mark)
            if change is None:
                return 0
            self._do(text, [change])
        self._emit([change])
        return len(change.marks)

    @contextmanager
    def gesture(self) -> Iterator[None]:
        """Make one undo step of all that happens inside, such as a drag over many tiles.

        Each call inside is on its way to the disk at once all the same. Undo inside ends the step.
        """
        with self._lock:
            self._history.begin_gesture()
        try:
            yield
        finally:
            with self._lock:
                self._history.end_gesture()

    def add_rows(
        self, rows: Sequence[LabelRow], text: str, classes: Iterable[LabelClass] = ()
    ) -> int:
        """Take over labels as they are, annotator and time included, as one undo step.

        Each row replaces what its tile was called before, and later rows replace earlier ones.
        `text` is what undo shows, with "{tiles}" for their number. Missing classes are made, with
        the colour and hotkey of `classes`, matched by name, where those are free.

        Returns
        -------
        int
            How many tiles changed.

        Raises
        ------
        ValueError, TypeError
            If a name, a tile or a time is not allowed. Nothing is taken over then.
        """
        with self._lock:
            changes = plans.plan_rows(self._state, rows, classes, self._history.last_class)
            self._do(text, changes)
        self._emit(changes)
        return sum(len(c.marks) for c in changes if isinstance(c, TileChange))

    def get(self, slide: str, grid_name: str) -> dict[Tile, int]:
        """Return a copy of tile → class id for one grid of a slide; empty without labels."""
        with self._lock:
            marks = self._state.marks.get((slide, grid_name), {})
            return {tile: mark.class_id for tile, mark in marks.items()}

    def label_at(self, slide: str, grid_name: str, tile: Tile) -> Label | None:
        """Return the label of one tile."""
        with self._lock:
            mark = self._state.marks.get((slide, grid_name), {}).get(tile)
        return None if mark is None else label_of(slide, grid_name, tile, mark)

    def labels(self) -> list[Label]:
        """Return all labels, by slide, grid, row and column."""
        with self._lock:
            return self._state.labels()

    def rows(self) -> list[LabelRow]:
        """Return all labels as `labels` does, with the names of their classes."""
        with self._lock:
            return self._state.rows()

    def counts(self, slide: str | None = None) -> dict[int, int]:
        """Return how many labels each class has, in all or on one slide; 0 is not left out."""
        with self._lock:
            return self._state.count(slide)

    def slides(self) -> tuple[str, ...]:
        """Return the identities of all slides that have labels, sorted."""
        with self._lock:
            return tuple(sorted({slide for slide, _ in self._state.marks}))

    def grids(self, slide: str) -> tuple[str, ...]:
        """Return the names of a slide's grids that have labels, sorted."""
        with self._lock:
            return tuple(sorted(grid for s, grid in self._state.marks if s == slide))

    # Undo

    def undo(self) -> bool:
        """Take back the last step, of this day or an earlier one; False when there is none.

        JournalError if the step lies on disk and cannot be read; nothing has changed then.
        """
        with self._lock:
            changes = self._history.undo(self.annotator)
        self._emit(changes or ())
        return changes is not None

    def redo(self) -> bool:
        """Repeat the step taken back last; False when there is none. Raises as `undo` does."""
        with self._lock:
            changes = self._history.redo(self.annotator)
        self._emit(changes or ())
        return changes is not None

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return self._history.n_steps[0] > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to repeat."""
        return self._history.n_steps[1] > 0

    @property
    def undo_text(self) -> str:
        """What `undo` would take back, such as "label 3 tiles as Tumor"; "" for nothing."""
        with self._lock:
            return self._history.undo_text

    @property
    def redo_text(self) -> str:
        """What `redo` would repeat; "" for nothing."""
        with self._lock:
            return self._history.redo_text

    # What is remembered beside labels

    def set_view(self, slide: str, view: Mapping[str, Any]) -> None:
        """Remember how a slide was looked at, as anything JSON can hold; call as often as you like.

        Raises
        ------
        TypeError, ValueError
            If JSON cannot hold it.
        """
        text = json.dumps(dict(view), allow_nan=False)
        with self._lock:
            self._views[slide] = json.loads(text)
            if self._journal is not None:
                self._journal.set_view(slide, text)

    def view(self, slide: str) -> dict[str, Any] | None:
        """Return how a slide was looked at last, or None."""
        with self._lock:
            return copy.deepcopy(self._views.get(slide))

    @property
    def overruled(self) -> tuple[LabelRow, ...]:
        """Labels beside those that count, other annotators' for instance, since a merge."""
        with self._lock:
            return tuple(self._overruled)

    def overrule(self, rows: Iterable[LabelRow]) -> None:
        """Keep labels beside those that count, for the record and for later merges."""
        kept = list(rows)
        with self._lock:
            self._overruled.extend(kept)
            if self._journal is not None:
                self._journal.overrule(kept)

    @property
    def path(self) -> Path | None:
        """The journal's file, or None."""
        return None if self._journal is None else self._journal.path

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all is on disk; False when that failed, or took longer than `timeout` s."""
        return True if self._journal is None else self._journal.flush(timeout)

    def close(self) -> None:
        """Save what is left and let others have the journal. Safe to call twice.

        Raises
        ------
        JournalError
            If the last labels cannot be saved. It is closed all the same.
        """
        if self._journal is not None:
            self._journal.close()

    def _class(self, class_id: int) -> LabelClass:
        if class_id not in self._state.classes:
            raise KeyError(f"there is no class {class_id}")
        return self._state.classes[class_id]

    def _replace(self, class_id: int, text: str, **values: str | None) -> None:
        with self._lock:
            old = self._class(class_id)
            changes = plans.plan_class(self._state, replace(old, **values))  # type: ignore[arg-type]
            self._do(text.format(old=old.name, name=values.get("name")), changes)
        self._emit(changes)

    def _do(self, text: str, changes: list[Change]) -> list[Change]:
        if changes:
            self._history.do(self.annotator, text, changes)
        return changes

    def _emit(self, changes: Iterable[Change]) -> None:
        """Tell what changed; never under the lock."""
        for change in summarize(changes):
            self.changed.emit(change)
