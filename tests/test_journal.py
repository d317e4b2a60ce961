"""The journal of labels: what is on disk after a kill, a full disk, damage, or another window."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from napari_virchow.labels import (
    JournalBusy,
    JournalError,
    LabelSet,
)
from napari_virchow.labels import journal as journal_module
from napari_virchow.labels.journal_file import VERSION, backup_path, read_journal

SLIDE, OTHER = "5a" * 16, "c3" * 16
FINE, COARSE = "224px-0.5mpp", "224px-1mpp"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ann.sqlite"


@pytest.fixture
def labels():
    with LabelSet(None, annotator="ann") as made:
        yield made


def snapshot(labels):
    """All that undo has to bring back, times and annotators included."""
    return labels.classes, labels.labels(), labels.counts()


def run_python(code, *arguments):
    """Run code in a process of its own and return it, its output not yet read."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_opening_again_restores_labels_classes_and_view(path):
    with LabelSet(path, annotator="ann") as labels:
        labels.add_class("Drüse, groß")
        labels.label(SLIDE, FINE, [(0, 0)], 1)
        for zoom in range(100):
            labels.set_view(SLIDE, {"zoom": zoom, "center": [1.5, 2.5]})
        before = snapshot(labels)
    with LabelSet(path, annotator="bob") as labels:
        assert snapshot(labels) == before
        assert labels.view(SLIDE) == {"zoom": 99, "center": [1.5, 2.5]}
        assert labels.view(OTHER) is None


def test_a_view_is_saved_without_asking(path):
    with LabelSet(path) as labels:
        labels.set_view(SLIDE, {"zoom": 2})
        while not read_journal(path).views:
            time.sleep(0.02)
        assert read_journal(path).views == {SLIDE: {"zoom": 2}}


def test_a_view_that_is_not_json_is_refused(labels):
    with pytest.raises((TypeError, ValueError)):
        labels.set_view(SLIDE, {"zoom": float("nan")})
    assert labels.view(SLIDE) is None


KILLED = """
import sys, time
from napari_virchow.labels import LabelSet
labels = LabelSet(sys.argv[1], annotator="ann")
class_id = labels.classes[0].id if labels.classes else labels.add_class("a").id
number = sum(labels.counts().values())
while True:
    with labels.gesture():
        for _ in range(7):
            labels.label("5a", "224px-0.5mpp", [divmod(number, 100)], class_id)
            print("said", number, time.monotonic(), flush=True)
            number += 1
            time.sleep(0.001)
    if number % 5 == 0:
        labels.flush()
        print("safe", number - 1, 0, flush=True)
"""


def test_a_label_survives_kill_9(path):
    n_before = 0
    for life_s in (0.1, 1.4, 0.0, 0.4):
        child = run_python(KILLED, path)
        first = child.stdout.readline()
        assert first.split()[:2] == ["said", str(n_before)]
        time.sleep(life_s)
        killed = time.monotonic()
        child.kill()
        output = first + child.stdout.read()
        child.wait()
        child.stdout.close()
        lines = [line.split() for line in output.splitlines() if line.count(" ") == 2]
        safe = [int(n) for word, n, _ in lines if word == "safe"]
        old = [int(n) for word, n, at in lines if word == "said" and float(at) < killed - 1]
        found = {r * 100 + c for r, c in read_journal(path).state.marks.get(("5a", FINE), {})}
        n_before = len(found)
        assert found == set(range(n_before))
        assert n_before > max([-1, *safe, *old])
        if life_s > 1:
            assert old
    with LabelSet(path) as labels:  # its lock went with it
        while labels.undo():
            pass
        assert labels.labels() == []


def test_who_forgets_to_close_loses_nothing(path):
    child = run_python(
        """
        import sys
        from napari_virchow.labels import LabelSet
        labels = LabelSet(sys.argv[1])
        labels.add_class("a")
        labels.label("5a", "224px-0.5mpp", [(0, col) for col in range(5000)], 1)
        """,
        path,
    )
    assert child.communicate(timeout=60) == ("", None)
    assert len(read_journal(path).state.labels()) == 5000


def test_a_journal_has_one_writer(path):
    with LabelSet(path), pytest.raises(JournalBusy, match=r"ann\.sqlite is open in another"):
        LabelSet(path)
    LabelSet(path).close()


def test_another_process_is_refused_and_may_read(path):
    with LabelSet(path) as labels:
        labels.add_class("a")
        labels.flush()
        child = run_python(
            """
            import sys
            from pathlib import Path
            from napari_virchow.labels.journal_file import JournalBusy, read_journal
            from napari_virchow.labels import LabelSet
            try:
                LabelSet(sys.argv[1])
            except JournalBusy:
                print("busy", read_journal(Path(sys.argv[1])).state.classes[1].name)
            """,
            path,
        )
        output, _ = child.communicate(timeout=60)
        assert output == "busy a\n"


def test_a_closed_journal_takes_no_labels(path):
    labels = LabelSet(path)
    labels.close()
    labels.close()
    with pytest.raises(JournalError, match="closed"):
        labels.add_class("a")
    assert labels.classes == ()


def test_a_journal_of_a_newer_version_is_refused_in_a_sentence(path):
    LabelSet(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version={VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"ann\.sqlite was written by a newer napari-virchow"):
        LabelSet(path)
    assert path.read_bytes() == before


def test_another_programs_file_is_refused(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes(name)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="not a label journal"):
        LabelSet(path)
    assert path.read_bytes() == before


def scribble(path, at):
    content = bytearray(path.read_bytes())
    content[at : at + 200] = b"?" * 200
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda p: scribble(p, 0), id="head"),
        pytest.param(lambda p: scribble(p, 4096 * 5), id="middle"),
        pytest.param(lambda p: p.write_bytes(p.read_bytes()[:5000]), id="cut short"),
        pytest.param(lambda p: p.write_bytes(b""), id="empty"),
    ],
)
def test_a_damaged_journal_is_left_alone_and_its_backup_works(path, damage, monkeypatch):
    monkeypatch.setattr(journal_module, "BACKUP_DELAY_S", 0.0)
    with LabelSet(path) as labels:
        labels.add_class("a")
        labels.label(SLIDE, FINE, [(r, c) for r in range(30) for c in range(30)], 1)
        labels.flush()
        before = snapshot(labels)
    with LabelSet(path) as labels:
        deadline = time.monotonic() + 10
        while not backed_up(path, 900) and time.monotonic() < deadline:
            time.sleep(0.01)
    damage(path)
    damaged = path.read_bytes()
    with pytest.raises(JournalError, match=r"ann\.sqlite is damaged .* ann\.sqlite\.bak"):
        LabelSet(path)
    with pytest.raises(JournalError, match=r"ann\.sqlite is damaged"):
        read_journal(path)
    assert path.read_bytes() == damaged
    backup_path(path).replace(path)
    with LabelSet(path) as labels:
        assert snapshot(labels) == before


def backed_up(path, n_labels):
    backup = backup_path(path)
    return backup.exists() and len(read_journal(backup).state.labels()) == n_labels


def test_the_backup_of_another_journal_is_moved_aside(path, monkeypatch):
    monkeypatch.setattr(journal_module, "BACKUP_DELAY_S", 0.0)
    for name in "ab":
        with LabelSet(path) as labels:
            labels.add_class(name)
            labels.flush()
        with LabelSet(path):
            wait_for_backup_of(path, name)
        path.unlink()
    kept = sorted(path.parent.glob("ann.sqlite.bak*"))
    assert [read_journal(p).state.classes[1].name for p in kept] == ["b", "a"]


def wait_for_backup_of(path, name):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if backup_path(path).exists():
            classes = read_journal(backup_path(path)).state.classes
            if [c.name for c in classes.values()] == [name]:
                return
        time.sleep(0.01)
    pytest.fail(f"no backup of {name}")


def test_a_log_without_its_journal_is_not_thrown_away(path):
    path.with_name("ann.sqlite-wal").write_bytes(b"labels")
    with pytest.raises(JournalError, match="only its log"):
        LabelSet(path)
    assert not path.exists()


def test_a_journal_that_is_not_there_is_named(path):
    with pytest.raises(JournalError, match=r"no label journal at .*ann\.sqlite"):
        read_journal(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(JournalError, match="cannot be written"):
        LabelSet(tmp_path / "file" / "ann.sqlite")


def test_labels_outlast_a_journal_that_is_gone_for_a_while(path, monkeypatch):
    monkeypatch.setattr(journal_module, "RETRY_S", 0.05)
    failed, recovered = [], threading.Event()
    with LabelSet(path) as labels:
        labels.failed.connect(failed.append)
        labels.recovered.connect(recovered.set)
        labels.add_class("a")
        assert labels.flush()
        moved = path.rename(path.with_name("elsewhere"))
        labels.label(SLIDE, FINE, [(0, 0)], 1)
        assert not labels.flush()
        labels.label(SLIDE, FINE, [(0, 1)], 1)
        assert not labels.flush()
        assert labels.counts() == {1: 2}
        moved.rename(path)
        assert recovered.wait(10)
        assert labels.flush()
    (error,) = failed
    assert isinstance(error, JournalError)
    assert "ann.sqlite" in str(error)
    assert "moved or deleted" in str(error)
    assert len(read_journal(path).state.labels()) == 2


def test_closing_tells_what_could_not_be_saved(path):
    labels = LabelSet(path)
    labels.add_class("a")
    labels.flush()
    moved = path.rename(path.with_name("elsewhere"))
    labels.label(SLIDE, FINE, [(0, 0)], 1)
    with pytest.raises(JournalError, match="last change of the labels"):
        labels.close()
    moved.rename(path)
    LabelSet(path).close()


def test_a_listeners_fault_does_not_end_saving(path, monkeypatch):
    monkeypatch.setattr(journal_module, "RETRY_S", 0.05)
    with LabelSet(path) as labels:
        labels.failed.connect(lambda error: 1 / 0)
        moved = path.rename(path.with_name("elsewhere"))
        labels.add_class("a")
        assert not labels.flush()
        moved.rename(path)
        assert labels.flush()
    assert len(read_journal(path).state.classes) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_labels_outlast_a_full_disk(path):
    child = run_python(
        """
        import resource, sys
        from napari_virchow.labels import LabelSet
        labels = LabelSet(sys.argv[1])
        failures = []
        labels.failed.connect(failures.append)
        labels.add_class("a")
        labels.flush()
        full = (200_000, resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_FSIZE, full)
        labels.label("5a", "224px-0.5mpp", [(i // 100, i % 100) for i in range(10_000)], 1)
        print(labels.flush(), len(failures), labels.counts())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        print(labels.flush(), len(failures))
        labels.close()
        """,
        path,
    )
    output, _ = child.communicate(timeout=60)
    assert output.splitlines() == ["False 1 {1: 10000}", "True 1"]
    assert len(read_journal(path).state.labels()) == 10_000


def test_100_000_labels_come_back(path):
    with LabelSet(path) as labels:
        made = labels.add_class("a")
        for row in range(10):
            tiles = [(row * 100 + i // 100, i % 100) for i in range(10_000)]
            labels.label(SLIDE, FINE, tiles, made.id)
    with LabelSet(path) as labels:
        assert labels.counts() == {made.id: 100_000}
