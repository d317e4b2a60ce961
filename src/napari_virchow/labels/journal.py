"""The journal of labels: a gesture is on disk within a second, and nobody waits for it.

Every gesture is a row of an append-only table of events, with what undoes it; the tables of classes
and labels, brought up to date in the same transaction, are only there to open quickly.
A write-ahead log keeps readers beside the writer. Each commit reaches the disk itself
(``synchronous=FULL``): ``kill -9`` would need less, a power cut does not. A thread of its own
commits, so that nobody who labels waits for a disk.
"""

from __future__ import annotations

import atexit
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from psygnal import EmitLoopError, Signal

from napari_virchow.labels.edits import Event, LabelRow, TileChange, decode, encode
from napari_virchow.labels.journal_file import (
    JournalContents,
    JournalError,
    back_up,
    load,
    one_sentence,
    open_journal,
    take_lock,
)

VIEW_DELAY_S = 0.5
RETRY_S = 2.0
BACKUP_DELAY_S = 2.0  # not while napari is busy with opening
BACKUP_S = 3600.0

_log = logging.getLogger(__name__)


class Journal:
    """A journal held open for writing.

    Parameters
    ----------
    path : Path
        The file; it and its folder are made if need be. Beside it lie ``.lock``, ``.bak`` (a copy
        made when the journal is opened and every hour of work) and SQLite's ``-wal`` and ``-shm``.

    Raises
    ------
    JournalBusy
        If another process, or this one, has it open for writing.
    JournalError
        If it is damaged, not a journal, from a newer version, or cannot be written. The file is
        left as it is.
    """

    # Saving did not work and is tried again, JournalError (writer thread; once in a row)
    failed = Signal(Exception)
    # What could not be saved is saved now (writer thread)
    recovered = Signal()

    def __init__(self, path: Path) -> None:
        self.path = path = path.expanduser().absolute()
        self._lock = take_lock(path)
        try:
            with one_sentence(path):
                self._reader, self._writer = open_journal(path)
                self._inode = path.stat().st_ino
        except BaseException:
            self._lock.release()
            raise
        self._scopes: dict[tuple[str, str], int] = {}
        self._backup_due = time.monotonic() + BACKUP_DELAY_S
        # All below belongs to `_wake`.
        self._wake = threading.Condition()
        self._todo: list[Callable[[], None]] = []
        self._views: dict[str, str] = {}
        self._added = self._saved = self._failures = 0
        # When the writer has to wake up, time.monotonic()
        self._due: float | None = self._backup_due
        self._failing = self._closing = False
        self._thread = threading.Thread(target=self._run, name="label-journal", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # who forgets to close loses nothing

    def load(self) -> JournalContents:
        """Read what has been saved.

        Raises
        ------
        JournalError
            If the file is damaged.
        """
        with one_sentence(self.path):
            return load(self._reader)

    def events(self, first: int, last: int) -> list[Event]:
        """Read the events `first` to `last`, both included, which must have been saved."""
        with one_sentence(self.path):
            rows = self._reader.execute(
                "SELECT id, step, kind, time, annotator, text, changes FROM events"
                " WHERE id BETWEEN ? AND ? ORDER BY id",
                (first, last),
            ).fetchall()
            return [
                Event(event_id, step, kind, when, annotator, text, decode(changes))
                for event_id, step, kind, when, annotator, text, changes in rows
            ]

    def append(self, event: Event) -> None:
        """Have an event saved at once; return before it is."""
        self._add(lambda: self._write_event(event))

    def overrule(self, rows: Iterable[LabelRow]) -> None:
        """Have labels kept that lost against another annotator's."""
        flat = [(row.slide, row.grid, *row.tile, *row[3:]) for row in rows]

        def write() -> None:
            self._writer.executemany("INSERT INTO overruled VALUES(?,?,?,?,?,?,?)", flat)

        self._add(write)

    def set_view(self, slide: str, view: str) -> None:
        """Have a slide's view (JSON) saved within half a second, only the last of many."""
        with self._wake:
            self._views[slide] = view
            self._added += 1
            due = time.monotonic() + VIEW_DELAY_S
            if self._due is None or due < self._due:
                self._due = due
                self._wake.notify_all()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all is on disk; False when that failed, or took longer than `timeout` s."""
        with self._wake:
            wanted, failures = self._added, self._failures
            if self._saved >= wanted:
                return True
            self._due = 0.0
            self._wake.notify_all()
            self._wake.wait_for(lambda: self._saved >= wanted or self._failures > failures, timeout)
            return self._saved >= wanted

    def close(self) -> None:
        """Save what is left, stop the thread and let others have the journal.

        Raises
        ------
        JournalError
            If the last changes cannot be saved. It is closed all the same.
        """
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._due = 0.0
            self._wake.notify_all()
        self._thread.join()
        atexit.unregister(self.close)
        self._reader.close()
        self._writer.close()
        self._lock.release()
        if self._todo:
            n = len(self._todo)
            raise JournalError(
                f"The last {'change' if n == 1 else f'{n} changes'} of the labels could not be"
                f" saved to {self.path}; what was saved before is safe."
            )

    def _add(self, write: Callable[[], None]) -> None:
        with self._wake:
            if self._closing:
                raise JournalError(f"The label journal {self.path} is closed; open it again.")
            self._todo.append(write)
            self._added += 1
            if not self._failing:  # else it waits for the next try
                self._due = 0.0
                self._wake.notify_all()

    def _run(self) -> None:
        closing = False
        while not closing:
            self._back_up_if_due()
            with self._wake:
                self._sleep()
                todo, views, added = list(self._todo), dict(self._views), self._added
                closing = self._closing
                self._due = None
            if not todo and not views:
                continue
            try:
                self._save(todo, views)
            except Exception as error:  # noqa: BLE001 a border: if this thread died, labels would
                self._on_not_saved(error)
            else:
                self._on_saved(todo, views, added)

    def _sleep(self) -> None:
        while self._due is None or self._due > time.monotonic():
            self._wake.wait(None if self._due is None else self._due - time.monotonic())

    def _save(self, todo: list[Callable[[], None]], views: dict[str, str]) -> None:
        if not self.path.exists() or self.path.stat().st_ino != self._inode:
            raise OSError("the file was moved or deleted while it was open")
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            for write in todo:
                write()
            self._writer.executemany("REPLACE INTO views VALUES(?,?)", views.items())
            self._writer.execute("COMMIT")
        except BaseException:
            self._scopes.clear()
            if self._writer.in_transaction:  # SQLite has rolled back itself after some errors
                self._writer.execute("ROLLBACK")
            raise

    def _on_saved(self, todo: list[Callable[[], None]], views: dict[str, str], added: int) -> None:
        with self._wake:
            del self._todo[: len(todo)]
            for slide, view in views.items():
                if self._views[slide] is view:
                    del self._views[slide]
            if self._views and self._due is None:
                self._due = time.monotonic() + VIEW_DELAY_S  # looked on meanwhile
            self._saved = added
            recovered, self._failing = self._failing, False
            self._wake.notify_all()
        if recovered:
            self._tell(self.recovered.emit)

    def _on_not_saved(self, error: Exception) -> None:
        with self._wake:
            self._failures += 1
            first, self._failing = not self._failing, True
            if not self._closing:
                self._due = time.monotonic() + RETRY_S
            self._wake.notify_all()
        if first:
            sentence = (
                f"Labels could not be saved to {self.path} ({error}); they are kept in memory and"
                " saving is tried again: check the disk and the folder, and do not close yet."
            )
            failure = JournalError(sentence)
            failure.__cause__ = error
            self._tell(self.failed.emit, failure)

    def _tell(self, emit: Callable[..., Any], *args: object) -> None:
        try:
            emit(*args)
        except EmitLoopError:  # a listener's fault must not end the saving of labels
            _log.exception("a listener to the label journal failed")

    def _write_event(self, event: Event) -> None:
        execute = self._writer.execute
        # What is taken back or repeated is written down already.
        changes = encode(event.changes if event.kind == "do" else ())
        execute(
            "INSERT INTO events VALUES(?,?,?,?,?,?,?)",
            (event.id, event.step, event.kind, event.time, event.annotator, event.text, changes),
        )
        for change in event.changes:
            if isinstance(change, TileChange):
                self._write_tiles(change)
            elif change.after is not None:
                new = change.after
                values = (new.id, new.name, new.color, new.hotkey)
                execute("REPLACE INTO classes VALUES(?,?,?,?)", values)
                execute("UPDATE meta SET value = max(value, ?) WHERE key='last_class'", (new.id,))
            elif change.before is not None:
                execute("DELETE FROM classes WHERE id=?", (change.before.id,))

    def _write_tiles(self, change: TileChange) -> None:
        scope = self._scope(change.slide, change.grid)
        put = [(scope, *tile, *after) for tile, _, after in change.marks if after is not None]
        self._writer.executemany("REPLACE INTO labels VALUES(?,?,?,?,?,?)", put)
        gone = [(scope, *tile) for tile, _, after in change.marks if after is None]
        self._writer.executemany("DELETE FROM labels WHERE scope=? AND row=? AND col=?", gone)

    def _scope(self, slide: str, grid: str) -> int:
        key = slide, grid
        if key not in self._scopes:
            self._writer.execute("INSERT OR IGNORE INTO scopes(slide, grid) VALUES(?,?)", key)
            query = "SELECT id FROM scopes WHERE slide=? AND grid=?"
            self._scopes[key] = self._writer.execute(query, key).fetchone()[0]
        return self._scopes[key]

    def _back_up_if_due(self) -> None:
        if time.monotonic() < self._backup_due:
            return
        self._backup_due = time.monotonic() + BACKUP_S
        try:
            back_up(self._writer, self.path)
        except (sqlite3.Error, OSError):
            _log.exception("no backup of the label journal %s was made", self.path)
