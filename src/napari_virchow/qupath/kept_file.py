"""The file that a slide's objects are kept in: a table of GeoJSON features, written behind."""

from __future__ import annotations

import atexit
import json
import logging
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import filelock
from psygnal import EmitLoopError, Signal

from napari_virchow.qupath.features import to_feature
from napari_virchow.qupath.frame import Frame
from napari_virchow.qupath.objects import PathObject
from napari_virchow.qupath.placing import to_qupath, to_slide
from napari_virchow.qupath.reading import parse_features
from napari_virchow.qupath.safety import Repairs
from napari_virchow.qupath.steps import many_kept

APPLICATION_ID = 0x6E764F42  # "nvOB", where SQLite's own file format has room for it
VERSION = 1
DELAY_S = 0.2  # an object that is dragged is not written at every move
RETRY_S = 2.0
_SLICE = 500
_DRAWN = 0  # the number of no frame: level 0
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS frames(id INTEGER PRIMARY KEY, frame TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS objects(id TEXT PRIMARY KEY, place INTEGER NOT NULL,
    frame INTEGER NOT NULL, feature TEXT NOT NULL) WITHOUT ROWID;
PRAGMA application_id={APPLICATION_ID};
PRAGMA user_version={VERSION};
"""
Entry = tuple[int, PathObject] | None
_log = logging.getLogger(__name__)


class KeptError(Exception):
    """Kept objects cannot be read or written; the text is one sentence for the user."""


class KeptBusy(KeptError):
    """Another process, or another window, has these objects open."""


class KeptFile:
    """Objects on disk. Each lies there as the feature that a file for QuPath would have of it.

    So an object nobody edited is, after any time, the same to the letter. A thread of its own
    writes, a moment after `put`; each transaction reaches the disk.

    Parameters
    ----------
    path : Path
        The file; it and its folder are made if need be. Beside it lie ``.lock`` and SQLite's own.

    Raises
    ------
    KeptBusy
        If it is open elsewhere.
    KeptError
        If it is damaged, something else, from a newer version, or cannot be written; it is left
        as it is.
    """

    failed = Signal(Exception)
    recovered = Signal()

    def __init__(self, path: Path) -> None:
        self.path = path = path.expanduser().absolute()
        self._guard = _take(path)
        try:
            with _one_sentence(path):
                self._connection = _opened(path)
        except BaseException:
            self._guard.release()
            raise
        self._wake = threading.Condition()
        self._todo: dict[str, Entry] = {}
        self._added = self._saved = self._failures = 0
        self._hurry = self._closing = self._failing = False
        self._thread = threading.Thread(target=self._run, name="qupath-objects", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # who forgets to close loses nothing

    def load(self) -> list[tuple[int, PathObject]]:
        """Return place and object of all that is kept; call it before the first `put`.

        Raises
        ------
        KeptError
            If the file is damaged.
        """
        with _one_sentence(self.path):
            frames = {
                number: _frame_of(json.loads(text))
                for number, text in self._connection.execute("SELECT id, frame FROM frames")
            }
            query = "SELECT place, frame, feature FROM objects ORDER BY place, id"
            rows = self._connection.execute(query).fetchall()
            found: list[tuple[int, PathObject]] = []
            with many_kept():
                for start in range(0, len(rows), _SLICE):
                    found += _parsed(rows[start : start + _SLICE], frames)
            return found

    def put(self, entries: Mapping[str, Entry]) -> None:
        """Have objects at the top saved with their place, or deleted (None); return before it."""
        with self._wake:
            for uid, entry in entries.items():
                self._todo[uid] = entry
            self._added += 1
            self._wake.notify_all()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all is on disk; False when that failed, or took longer than `timeout` s."""
        with self._wake:
            wanted, failures = self._added, self._failures
            self._hurry = True
            self._wake.notify_all()
            self._wake.wait_for(lambda: self._saved >= wanted or self._failures > failures, timeout)
            return self._saved >= wanted

    def close(self) -> None:
        """Save what is left, stop the thread and let go of the file. Safe to call twice.

        Raises
        ------
        KeptError
            If what is left cannot be saved.
        """
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify_all()
        self._thread.join()
        atexit.unregister(self.close)
        lost = bool(self._todo)
        self._connection.close()
        self._guard.release()
        if lost:
            raise KeptError(
                f"The last changes of objects could not be saved in {self.path}; check that the "
                "disk has room and that you may write there."
            )

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._todo or self._closing or self._hurry)
                if not (self._closing or self._hurry):
                    pause = RETRY_S if self._failing else DELAY_S
                    self._wake.wait_for(lambda: self._closing or self._hurry, pause)
                todo, number, closing_now = self._todo, self._added, self._closing
                self._todo, self._hurry = {}, False
            error = self._save(todo)
            with self._wake:
                if error is None:
                    self._saved = number
                else:
                    self._todo = todo | self._todo
                    self._failures += 1
                self._wake.notify_all()
            self._tell(error)
            if closing_now:
                return

    def _save(self, todo: dict[str, Entry]) -> KeptError | None:
        if not todo:
            return None
        try:
            with _one_sentence(self.path):
                self._write(todo)
        except KeptError as error:
            return error
        return None

    def _write(self, todo: dict[str, Entry]) -> None:
        execute = self._connection.execute
        execute("BEGIN")
        try:
            gone = [(uid,) for uid, entry in todo.items() if entry is None]
            self._connection.executemany("DELETE FROM objects WHERE id=?", gone)
            entries = [entry for entry in todo.values() if entry is not None]
            for start in range(0, len(entries), _SLICE):
                rows = list(self._rows(entries[start : start + _SLICE]))
                self._connection.executemany("REPLACE INTO objects VALUES(?,?,?,?)", rows)
            execute("COMMIT")
        except BaseException:
            execute("ROLLBACK")
            raise

    def _rows(self, entries: list[tuple[int, PathObject]]) -> Iterator[tuple[str, int, int, str]]:
        """Yield rows of objects, each in the pixels of the image it came from."""
        for frame in {_came_from(one) for _, one in entries}:
            mine = [(place, one) for place, one in entries if _came_from(one) == frame]
            number = self._number_of(frame)
            objects = [one for _, one in mine]
            back = objects if frame is None else to_qupath(objects, frame)
            for (place, _), one in zip(mine, back, strict=True):
                yield one.id, place, number, json.dumps(to_feature(one, Repairs()))

    def _number_of(self, frame: Frame | None) -> int:
        if frame is None:
            return _DRAWN
        text = json.dumps(frame.to_block())
        self._connection.execute("INSERT OR IGNORE INTO frames(frame) VALUES(?)", (text,))
        query = "SELECT id FROM frames WHERE frame=?"
        return int(self._connection.execute(query, (text,)).fetchone()[0])

    def _tell(self, error: KeptError | None) -> None:
        was, self._failing = self._failing, error is not None
        try:
            if error is not None and not was:
                self.failed.emit(error)
            elif error is None and was:
                self.recovered.emit()
        except EmitLoopError:
            _log.exception("A listener to the saving of objects failed")


def _came_from(one: PathObject) -> Frame | None:
    """Return the frame an object was read in; None for one that was drawn here."""
    frame = one.frame[0] if one.frame else None
    return frame if isinstance(frame, Frame) else None


def _frame_of(block: Mapping[str, Any]) -> Frame:
    a, b, c, d, e, f = map(float, block["matrix"])
    name, width, height = str(block["name"]), int(block["width"]), int(block["height"])
    return Frame(name, width, height, (a, b, c, d, e, f))


def _parsed(
    rows: list[tuple[int, int, str]], frames: Mapping[int, Frame]
) -> list[tuple[int, PathObject]]:
    features = [json.loads(text) for _, _, text in rows]
    objects, problems, _ = parse_features(features, "kept")
    if problems:
        raise ValueError(f"object {problems[0].index}: {problems[0].reason}")
    found: list[tuple[int, PathObject]] = []
    for number in dict.fromkeys(frame for _, frame, _ in rows):
        mine = [n for n, row in enumerate(rows) if row[1] == number]
        placed = [objects[n] for n in mine]
        if number != _DRAWN:
            placed = to_slide(placed, frames[number])
        found += [(rows[n][0], one) for n, one in zip(mine, placed, strict=True)]
    return found


def _take(path: Path) -> filelock.BaseFileLock:
    # Not tied to a thread: whoever closes the file lets go of it.
    lock = filelock.FileLock(path.with_name(path.name + ".lock"), timeout=0, thread_local=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise KeptBusy(
            f"The objects of this slide ({path}) are open in another window or process; close it "
            "there to edit them here."
        ) from None
    except OSError as error:
        raise KeptError(f"{path} cannot be written ({error.strerror}).") from error
    return lock


def _opened(path: Path) -> sqlite3.Connection:
    uri = f"{path.as_uri()}?mode=rwc"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if n_tables and application != APPLICATION_ID:
            raise KeptError(f"{path} does not hold objects; choose another file.")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise KeptError(
                f"{path} was written by a newer napari-virchow (version {version}, this one reads "
                f"up to {VERSION}); update napari-virchow."
            )
        (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if sound != "ok":
            raise sqlite3.DatabaseError(" ".join(sound.split()))
        with closing(connection.cursor()) as cursor:
            cursor.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """Turn what SQLite says about a file into one sentence that names it."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise KeptError(
            f"The objects in {path} cannot be opened or saved ({error}); check that the disk has "
            "room and that you may write there."
        ) from error
    except (sqlite3.Error, KeyError, TypeError, ValueError) as error:
        raise KeptError(
            f"The objects in {path} are damaged ({error}) and were left as they are; move the file "
            "away to start anew."
        ) from error
