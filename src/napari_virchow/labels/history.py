"""The steps that led to the labels there are, each of which can be taken back and repeated."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from napari_virchow.labels.edits import Change, ClassChange, Event, EventKind, LabelState
from napari_virchow.labels.journal import Journal
from napari_virchow.labels.journal_file import JournalContents, JournalError


def now() -> str:
    """Return the time in UTC; as texts of one length, times sort as they should."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class LabelHistory:
    """Unlimited undo and redo of changes to a `LabelState`, also over restarts.

    It has no lock: whoever owns it calls it from one thread at a time.

    Parameters
    ----------
    contents : JournalContents
        What was there when the journal was opened.
    journal : Journal or None
        Where each step is written; None keeps them in memory only.

    Raises
    ------
    JournalError
        If the journal takes back a step that it does not have.
    """

    def __init__(self, contents: JournalContents, journal: Journal | None) -> None:
        self.state: LabelState = contents.state
        self.last_class = contents.last_class  # highest id ever given, undone or not
        self._journal = journal
        # A step is its first and last event; those of this session are in memory as well.
        self._done: list[tuple[int, int]] = []
        self._undone: list[tuple[int, int]] = []
        self._recent: dict[int, list[Event]] = {}
        self._gestures = 0
        self._in_gesture = False  # whether the last step is that of the gesture under way
        self._last_event = contents.events[-1][0] if contents.events else 0
        self._restore(contents.events)

    def do(self, annotator: str, text: str, changes: Iterable[Change]) -> None:
        """Make changes, as a step of their own or as part of the gesture under way."""
        first = self._done[-1][0] if self._in_gesture else self._last_event + 1
        event = self._write("do", first, annotator, text, tuple(changes))
        self._recent.setdefault(first, []).append(event)
        if self._in_gesture:
            self._done[-1] = first, event.id
            return
        self._done.append((first, event.id))
        for step in self._undone:
            self._recent.pop(step[0], None)
        self._undone.clear()
        self._in_gesture = self._gestures > 0

    def undo(self, annotator: str) -> tuple[Change, ...] | None:
        """Take back the last step and return what that changed; None when there is none."""
        return self._move("undo", annotator, self._done, self._undone)

    def redo(self, annotator: str) -> tuple[Change, ...] | None:
        """Repeat the step taken back last and return what that changed; None without one."""
        return self._move("redo", annotator, self._undone, self._done)

    def begin_gesture(self) -> None:
        """Make one step of what follows; gestures inside a gesture belong to the outer one."""
        self._gestures += 1

    def end_gesture(self) -> None:
        """Make steps of their own again of what follows."""
        self._gestures -= 1
        if not self._gestures:
            self._in_gesture = False

    @property
    def undo_text(self) -> str:
        """What `undo` would take back, such as "label 3 tiles as Tumor"; "" for nothing."""
        return self._text(self._done)

    @property
    def redo_text(self) -> str:
        """What `redo` would repeat; "" for nothing."""
        return self._text(self._undone)

    @property
    def n_steps(self) -> tuple[int, int]:
        """How many steps can be undone, and how many redone."""
        return len(self._done), len(self._undone)

    def _move(
        self,
        kind: EventKind,
        annotator: str,
        source: list[tuple[int, int]],
        target: list[tuple[int, int]],
    ) -> tuple[Change, ...] | None:
        self._in_gesture = False  # what follows inside a gesture is a step of its own
        if not source:
            return None
        step = source[-1]
        changes = tuple(change for event in self._events(step) for change in event.changes)
        if kind == "undo":
            changes = tuple(change.reversed() for change in reversed(changes))
        self._write(kind, step[0], annotator, f"{kind} {self._text(source)}", changes)
        target.append(source.pop())
        return changes

    def _write(
        self, kind: EventKind, step: int, annotator: str, text: str, changes: tuple[Change, ...]
    ) -> Event:
        event = Event(self._last_event + 1, step, kind, now(), annotator, text, changes)
        if self._journal is not None:
            self._journal.append(event)  # refuses when it is closed; then nothing has changed
        self._last_event = event.id
        self.state.apply(changes)
        made = [c.after.id for c in changes if isinstance(c, ClassChange) and c.after is not None]
        self.last_class = max(self.last_class, *made, 0)
        return event

    def _events(self, step: tuple[int, int]) -> list[Event]:
        if step[0] not in self._recent and self._journal is not None:
            self._recent[step[0]] = self._journal.events(*step)
        return self._recent[step[0]]

    def _text(self, steps: list[tuple[int, int]]) -> str:
        if not steps:
            return ""
        events = self._events(steps[-1])
        if len({event.text for event in events}) > 1:
            return f"{len(events)} changes"
        n = sum(event.n_tiles for event in events)
        return events[0].text.replace("{tiles}", "1 tile" if n == 1 else f"{n:,} tiles", 1)

    def _restore(self, events: Iterable[tuple[int, int, str]]) -> None:
        done, undone = self._done, self._undone
        for event_id, step, kind in events:
            if kind == "do":
                if event_id != step:
                    done.pop()  # it goes on
                done.append((step, event_id))
                undone.clear()
                continue
            source, target = (done, undone) if kind == "undo" else (undone, done)
            if not source or source[-1][0] != step:
                raise JournalError(
                    f"The label journal is damaged: event {event_id} wants to {kind} step {step},"
                    " which is not there; go on from its backup."
                )
            target.append(source.pop())
