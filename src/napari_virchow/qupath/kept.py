"""The QuPath objects of one slide: edited, undone, and kept on disk while one works on them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from psygnal import Signal

from napari_virchow.qupath.kept_file import KeptFile
from napari_virchow.qupath.objects import NAMESPACE, PathObject, flatten

Changes = Mapping[str, PathObject | None]
MAX_STEPS = 200


@dataclass(frozen=True, slots=True)
class ObjectsChange:
    """Some objects are different now.

    Attributes
    ----------
    ids : tuple of str
        Objects at the top that are new, changed or gone, in their order.
    text : str
        What was done, such as "move annotation".
    """

    ids: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class _Step:
    text: str
    before: dict[str, tuple[int, PathObject] | None]
    after: dict[str, tuple[int, PathObject] | None]


class KeptObjects:
    """The objects of one slide, in level-0 pixels, and every step of editing them.

    Every method may be called from any thread. Signals are emitted by the thread that changed
    something, but for `failed` and `recovered`.

    Parameters
    ----------
    path : Path or None
        The file they are kept in, read at once if it is there; None keeps them in memory only.

    Raises
    ------
    KeptError
        If the file cannot be read, or another window has it open (`KeptBusy`).
    """

    changed = Signal(ObjectsChange)
    # Saving did not work and is tried again, KeptError (writer thread; once in a row)
    failed = Signal(Exception)
    # What could not be saved is saved now (writer thread)
    recovered = Signal()

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.RLock()
        self._tops: dict[str, tuple[int, PathObject]] = {}
        self._owner: dict[str, str] = {}  # id of any object -> of the one at the top it is in
        self._done: list[_Step] = []
        self._undone: list[_Step] = []
        self._next = 0
        self._file = None if path is None else KeptFile(path)
        if self._file is not None:
            self._file.failed.connect(self.failed.emit)
            self._file.recovered.connect(self.recovered.emit)
            for place, one in self._file.load():
                self._set(one.id, (place, one))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Return how many objects there are, nested ones included."""
        return len(self._owner)

    @property
    def objects(self) -> list[PathObject]:
        """All objects at the top, in the order they came."""
        with self._lock:
            return [one for _, one in sorted(self._tops.values(), key=lambda pair: pair[0])]

    def get(self, uid: str) -> PathObject | None:
        """Return an object, nested or not, or None if there is none of this id."""
        with self._lock:
            top = self._owner.get(uid)
            every = flatten([self._tops[top][1]] if top is not None else [])
            return next((one for one in every if one.id == uid), None)

    def add(self, objects: Iterable[PathObject], text: str) -> tuple[int, int]:
        """Take objects in as one step; those of a known id take the place of what was there.

        Of several with the same id in what is given, the later ones get new ids.

        Returns
        -------
        n_new, n_replaced : int
            Objects at the top.
        """
        with self._lock:
            given = _with_own_ids(objects)
            after: dict[str, tuple[int, PathObject] | None] = {}
            replaced, number = 0, self._next
            for one in given:
                known = self._tops.get(one.id)
                replaced += known is not None
                after[one.id] = (known[0] if known else number, one)
                number += known is None
                for inner in flatten(one.children):
                    if (top := self._owner.get(inner.id)) not in (None, one.id):
                        after.setdefault(str(top), None)  # it comes nested now
            self._do(text, after)
        self.changed.emit(ObjectsChange(tuple(after), text))
        return len(given) - replaced, replaced

    def update(self, changes: Changes, text: str) -> int:
        """Change some objects, nested or not, or take them away (None), as one step.

        Returns
        -------
        int
            How many are really different.

        Raises
        ------
        KeyError
            If there is no object of one of the ids. Nothing has changed then.
        """
        with self._lock:
            for uid in changes:
                if uid not in self._owner:
                    raise KeyError(f"there is no object {uid}")
            real = {uid: one for uid, one in changes.items() if self.get(uid) is not one}
            after: dict[str, tuple[int, PathObject] | None] = {}
            for top in dict.fromkeys(self._owner[uid] for uid in real):
                place, one = self._tops[top]
                new = _replaced(one, real)
                after[top] = None if new is None else (place, new)
            if after:
                self._do(text, after)
        if after:
            self.changed.emit(ObjectsChange(tuple(after), text))
        return len(real)

    def clear(self, text: str = "remove all objects") -> None:
        """Take all objects away, as one step."""
        self.update(dict.fromkeys(list(self._tops)), text)

    # Undo

    def undo(self) -> bool:
        """Take back the last step since the slide was opened; False when there is none."""
        return self._move(self._done, self._undone, back=True)

    def redo(self) -> bool:
        """Repeat the step taken back last; False when there is none."""
        return self._move(self._undone, self._done, back=False)

    @property
    def undo_text(self) -> str:
        """What `undo` would take back; "" for nothing."""
        return self._done[-1].text if self._done else ""

    @property
    def redo_text(self) -> str:
        """What `redo` would repeat; "" for nothing."""
        return self._undone[-1].text if self._undone else ""

    # The disk

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all is on disk; False when that failed, or took longer than `timeout` s."""
        return True if self._file is None else self._file.flush(timeout)

    def close(self) -> None:
        """Save what is left and let others have the file. Safe to call twice.

        Raises
        ------
        KeptError
            If the last changes cannot be saved. It is closed all the same.
        """
        if self._file is not None:
            self._file.close()

    def _do(self, text: str, after: dict[str, tuple[int, PathObject] | None]) -> None:
        step = _Step(text, {uid: self._tops.get(uid) for uid in after}, after)
        self._done.append(step)
        del self._done[:-MAX_STEPS]
        self._undone.clear()
        self._apply(after)

    def _move(self, source: list[_Step], target: list[_Step], *, back: bool) -> bool:
        with self._lock:
            if not source:
                return False
            step = source.pop()
            target.append(step)
            values = step.before if back else step.after
            self._apply(values)
        self.changed.emit(ObjectsChange(tuple(values), step.text))
        return True

    def _apply(self, values: Mapping[str, tuple[int, PathObject] | None]) -> None:
        for uid in values:  # first all away, as ids may move from one nest to another
            self._drop(uid)
        for uid, entry in values.items():
            if entry is not None:
                self._set(uid, entry)
        if self._file is not None:
            self._file.put(values)

    def _set(self, uid: str, entry: tuple[int, PathObject]) -> None:
        self._tops[uid] = entry
        self._next = max(self._next, entry[0] + 1)
        for inner in flatten([entry[1]]):
            self._owner[inner.id] = uid

    def _drop(self, uid: str) -> None:
        entry = self._tops.pop(uid, None)
        for inner in flatten([entry[1]] if entry is not None else []):
            self._owner.pop(inner.id, None)


def _with_own_ids(objects: Iterable[PathObject]) -> list[PathObject]:
    """Return objects of which no two have the same id."""
    seen: set[str] = set()

    def own(one: PathObject) -> PathObject:
        uid, n = one.id, 0
        while uid in seen:
            n += 1
            uid = str(uuid.uuid5(NAMESPACE, f"{one.id}/again/{n}"))
        seen.add(uid)
        children = tuple(own(child) for child in one.children)
        if uid == one.id and all(a is b for a, b in zip(children, one.children, strict=True)):
            return one
        return replace(one, id=uid, children=children)

    return [own(one) for one in objects]


def _replaced(one: PathObject, changes: Changes) -> PathObject | None:
    """Return an object with changes made to it, or to what is nested in it."""
    now = changes.get(one.id, one)
    if now is None or not now.children:
        return now
    children = [_replaced(child, changes) for child in now.children]
    left = tuple(child for child in children if child is not None)
    same = len(left) == len(now.children) and all(
        a is b for a, b in zip(left, now.children, strict=True)
    )
    return now if same else replace(now, children=left)
