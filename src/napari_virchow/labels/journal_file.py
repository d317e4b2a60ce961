"""The file of a label journal: its tables, its lock, its backup, and whether it is sound."""

from __future__ import annotations

import getpass
import json
import os
import re
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock

from napari_virchow.labels.edits import LabelClass, LabelRow, LabelState, Mark, clean_text
from napari_virchow.paths import store_dir
from napari_virchow.tiles import Tile

APPLICATION_ID = 0x6E764C4A  # "nvLJ", where SQLite's own file format has room for it
VERSION = 1
_SCHEMA = f"""
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE events(id INTEGER PRIMARY KEY, step INTEGER NOT NULL, kind TEXT NOT NULL,
    time TEXT NOT NULL, annotator TEXT NOT NULL, text TEXT NOT NULL, changes TEXT NOT NULL);
CREATE TABLE classes(id INTEGER PRIMARY KEY, name TEXT NOT NULL, color TEXT NOT NULL, hotkey TEXT);
CREATE TABLE scopes(id INTEGER PRIMARY KEY, slide TEXT NOT NULL, grid TEXT NOT NULL,
    UNIQUE(slide, grid));
CREATE TABLE labels(scope INTEGER NOT NULL, row INTEGER NOT NULL, col INTEGER NOT NULL,
    class_id INTEGER NOT NULL, annotator TEXT NOT NULL, time TEXT NOT NULL,
    PRIMARY KEY(scope, row, col)) WITHOUT ROWID;
CREATE TABLE views(slide TEXT PRIMARY KEY, view TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE overruled(slide TEXT NOT NULL, grid TEXT NOT NULL, row INTEGER NOT NULL,
    col INTEGER NOT NULL, class TEXT NOT NULL, annotator TEXT NOT NULL, time TEXT NOT NULL);
PRAGMA application_id={APPLICATION_ID};
PRAGMA user_version={VERSION};
"""


class JournalError(Exception):
    """A journal cannot be opened, read or written; the text is one sentence for the user."""


class JournalBusy(JournalError):
    """Another process, or another window, writes to this journal."""


@dataclass(slots=True)
class JournalContents:
    """All that a journal holds, but for what its events changed.

    `events` are (id, step, kind), oldest first; `last_class` is the highest class id ever given.
    """

    state: LabelState = field(default_factory=LabelState)
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    overruled: list[LabelRow] = field(default_factory=list)
    events: list[tuple[int, int, str]] = field(default_factory=list)
    last_class: int = 0


def default_annotator() -> str:
    """Return the name of the user who is logged in, or "unknown"."""
    try:
        return clean_text(getpass.getuser(), "an annotator")
    except (OSError, KeyError, ImportError, ValueError):  # a container's user may have no name
        return "unknown"


def default_journal(annotator: str | None = None) -> Path:
    """Return where an annotator's journal lies when nobody says otherwise; it need not exist."""
    name = re.sub(r"[^\w.-]+", "_", annotator or default_annotator()).strip(".") or "unknown"
    return store_dir() / "labels" / f"{name}.sqlite"


def read_journal(path: Path) -> JournalContents:
    """Read a journal that another process may be writing at the same time.

    Raises
    ------
    JournalError
        If there is none, if it is damaged, not a journal or from a newer version.
    """
    if not path.is_file():
        raise JournalError(f"There is no label journal at {path}; check the name.")
    with one_sentence(path), closing(_check(path)) as connection:
        return load(connection)


def backup_path(path: Path) -> Path:
    """Return where the last good copy of a journal lies."""
    return path.with_name(path.name + ".bak")


def take_lock(path: Path) -> filelock.BaseFileLock:
    # Not tied to a thread: whoever closes the journal lets go of it.
    lock = filelock.FileLock(path.with_name(path.name + ".lock"), timeout=0, thread_local=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise JournalBusy(
            f"The label journal {path} is open in another window or process; close it there, or"
            " label into a journal of your own and merge the two later."
        ) from None
    except OSError as error:
        raise JournalError(
            f"The label journal {path} cannot be written ({error.strerror}); choose another folder."
        ) from error
    return lock


@contextmanager
def one_sentence(path: Path) -> Iterator[None]:
    """Turn what SQLite says about a file into one sentence that names it."""
    try:
        yield
    except sqlite3.OperationalError as error:  # busy, no permission, disk full: not the file
        raise JournalError(
            f"The label journal {path} cannot be opened ({error}); check that the disk has room and"
            " that you may write there."
        ) from error
    except (sqlite3.Error, KeyError, TypeError, ValueError) as error:
        backup = backup_path(path)
        advice = (
            f"to go on from its backup, move it and its -wal file away and rename {backup.name}"
            if backup.exists()
            else "there is no backup of it"
        )
        raise JournalError(
            f"The label journal {path} is damaged ({error}) and was left as it is; {advice}."
        ) from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def _check(path: Path) -> sqlite3.Connection:
    """Open a journal for reading if it is sound and ours."""
    beside_a_log = path.with_name(path.name + "-wal").exists()
    if path.stat().st_size == 0:
        raise sqlite3.DatabaseError("the file is empty")
    # Without a log, a folder that cannot be written would be refused but for "immutable".
    read_only_folder = not beside_a_log and not os.access(path.parent, os.W_OK)
    connection = _connect(path, "immutable=1" if read_only_folder else "mode=ro")
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise JournalError(f"{path} is not a label journal; choose another file.")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise JournalError(
                f"The label journal {path} was written by a newer napari-virchow (version {version}"
                f" of the journal, this one reads up to {VERSION}); update napari-virchow."
            )
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(" ".join(found.split()))
    except BaseException:
        connection.close()
        raise
    return connection


def open_journal(path: Path) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """Return connections for reading and for writing to a journal; make it if there is none."""
    log = path.with_name(path.name + "-wal")
    if not path.exists() and log.exists() and log.stat().st_size:
        raise sqlite3.DatabaseError(f"only its log {log.name} is there")
    if path.exists() and (path.stat().st_size or backup_path(path).exists()):
        _check(path).close()
    else:
        _create(path)
    writer = _connect(path, "mode=rw")
    try:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("PRAGMA synchronous=FULL")
        return _connect(path, "mode=ro"), writer
    except BaseException:
        writer.close()
        raise


def _create(path: Path) -> None:
    """Make an empty journal that is whole from the first moment on, whoever is killed when."""
    made = path.with_name(path.name + ".new")
    made.unlink(missing_ok=True)
    with closing(sqlite3.connect(made)) as connection:
        first = f"INSERT INTO meta VALUES('id', '{uuid.uuid4().hex}'), ('last_class', 0);"
        connection.executescript(f"BEGIN; {_SCHEMA} {first} COMMIT;")
    made.replace(path)


def load(connection: sqlite3.Connection) -> JournalContents:
    contents, execute = JournalContents(), connection.execute
    state = contents.state
    execute("BEGIN")  # one moment for all tables, whatever a writer does meanwhile
    for values in execute("SELECT id, name, color, hotkey FROM classes"):
        state.classes[values[0]] = LabelClass(*values)
    make = tuple.__new__  # a named tuple's own way of being made takes thrice as long
    for scope, slide, grid in execute("SELECT id, slide, grid FROM scopes").fetchall():
        query = "SELECT row, col, class_id, annotator, time FROM labels WHERE scope=?"
        rows = execute(query, (scope,))
        marks = {make(Tile, row[:2]): make(Mark, row[2:]) for row in rows}
        if marks:
            state.marks[slide, grid] = marks
    query = "SELECT class_id, count(*) FROM labels GROUP BY class_id"
    state.counts.update(dict(execute(query).fetchall()))
    contents.views = {s: json.loads(v) for s, v in execute("SELECT slide, view FROM views")}
    for slide, grid, row, col, *rest in execute("SELECT * FROM overruled"):
        contents.overruled.append(LabelRow(slide, grid, Tile(row, col), *rest))
    contents.events = execute("SELECT id, step, kind FROM events ORDER BY id").fetchall()
    query = "SELECT value FROM meta WHERE key='last_class'"
    (contents.last_class,) = execute(query).fetchone()
    execute("COMMIT")
    return contents


def back_up(connection: sqlite3.Connection, path: Path) -> None:
    """Copy a journal to its backup; a backup of some other journal is moved aside, not lost."""
    backup = backup_path(path)
    query = "SELECT value, (SELECT max(id) FROM events) FROM meta WHERE key='id'"
    journal = connection.execute(query).fetchone()
    if backup.exists():
        with closing(_connect(backup, "immutable=1")) as old:
            before = old.execute(query).fetchone()
        if before == journal:
            return
        if before[0] != journal[0]:
            backup.replace(backup.with_name(f"{backup.name}-{before[0][:8]}"))
    made = backup.with_name(backup.name + ".new")
    made.unlink(missing_ok=True)
    with closing(sqlite3.connect(made)) as target:
        connection.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # one file, with no log beside it
    made.replace(backup)
