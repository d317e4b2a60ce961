"""Labels: what is said, what can be taken back, and what survives."""

from __future__ import annotations

import getpass
import json
import random
import threading

import numpy as np
import pytest

from napari_virchow.labels import (
    LabelChange,
    LabelClass,
    LabelRow,
    LabelSet,
    default_annotator,
    default_journal,
)
from napari_virchow.labels.edits import PALETTE
from napari_virchow.tiles import Tile

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


# Classes


def test_classes_get_safe_colours_and_the_keys_1_to_9_in_order(labels):
    made = [labels.add_class(f"class {i}") for i in range(20)]
    assert [c.color for c in made[:15]] == list(PALETTE)
    assert len({c.color for c in made}) == 20
    assert [c.hotkey for c in made] == [*"123456789", *[None] * 11]
    assert labels.classes == tuple(made)


def test_a_freed_key_and_colour_go_to_the_next_class(labels):
    first = labels.add_class("a")
    labels.add_class("b")
    labels.delete_class(first.id)
    assert labels.add_class("c") == LabelClass(3, "c", PALETTE[0], "1")


def test_a_class_id_is_never_given_out_again(path):
    with LabelSet(path) as labels:
        labels.add_class("a")
        labels.undo()
        assert labels.add_class("b").id == 2
        labels.undo()
    with LabelSet(path) as labels:
        assert labels.add_class("c").id == 3


def test_a_key_that_is_taken_is_exchanged(labels):
    a, b = labels.add_class("a"), labels.add_class("b")
    labels.set_hotkey(a.id, "2")
    assert [c.hotkey for c in labels.classes] == ["2", "1"]
    labels.undo()
    assert labels.classes == (a, b)


@pytest.mark.parametrize(
    "name", ["Tumor", " tumor ", "TUMOR", "", "  ", "a\nb", "x" * 201, "\ud800"]
)
def test_a_class_name_that_is_taken_or_unfit_is_refused(labels, name):
    labels.add_class("Tumor")
    before = snapshot(labels)
    with pytest.raises(ValueError):
        labels.add_class(name)
    assert snapshot(labels) == before


@pytest.mark.parametrize("color", ["red", "#12345", "#gggggg", "", "#1234567"])
def test_a_colour_that_is_none_is_refused(labels, color):
    with pytest.raises(ValueError, match="colour"):
        labels.add_class("a", color)


@pytest.mark.parametrize("hotkey", ["0", "10", "a", "", "12"])
def test_a_hotkey_other_than_1_to_9_is_refused(labels, hotkey):
    made = labels.add_class("a")
    with pytest.raises(ValueError, match="hotkey"):
        labels.set_hotkey(made.id, hotkey)
    with pytest.raises(ValueError, match="hotkey"):
        labels.add_class("b", hotkey=hotkey)


def test_a_class_can_change_the_case_of_its_own_name(labels):
    made = labels.add_class("tumor")
    labels.rename_class(made.id, "Tumor")
    assert labels.classes[0].name == "Tumor"
    assert labels.undo_text == "rename tumor to Tumor"


def test_changing_a_class_to_what_it_is_leaves_nothing_to_undo(labels):
    made = labels.add_class("a")
    labels.rename_class(made.id, "a")
    labels.recolor_class(made.id, made.color.upper())
    labels.set_hotkey(made.id, "1")
    assert labels.undo_text == "add class a"


def test_a_class_that_is_not_there_is_named(labels):
    for verb in (labels.delete_class, lambda i: labels.rename_class(i, "x")):
        with pytest.raises(KeyError, match="no class 7"):
            verb(7)
    with pytest.raises(KeyError, match="no class 7"):
        labels.label(SLIDE, FINE, [(0, 0)], 7)


# Labels


def test_a_label_says_where_what_who_and_when(labels):
    made = labels.add_class("a")
    assert labels.label(SLIDE, FINE, [(2, 3)], made.id) == 1
    (label,) = labels.labels()
    assert (label.slide, label.grid, label.tile, label.class_id) == (SLIDE, FINE, (2, 3), made.id)
    assert label.annotator == "ann"
    assert label.time.endswith("+00:00")
    assert labels.label_at(SLIDE, FINE, Tile(2, 3)) == label
    assert labels.label_at(SLIDE, FINE, Tile(3, 2)) is None


def test_labels_stay_at_their_slide_and_magnification(labels):
    made = labels.add_class("a")
    labels.label(SLIDE, FINE, [(0, 0)], made.id)
    labels.label(OTHER, COARSE, [(1, 1), (1, 2)], made.id)
    assert labels.get(SLIDE, FINE) == {(0, 0): made.id}
    assert labels.get(SLIDE, COARSE) == {}
    assert labels.slides() == (SLIDE, OTHER)
    assert labels.grids(OTHER) == (COARSE,)
    assert labels.counts() == {made.id: 3}
    assert labels.counts(SLIDE) == {made.id: 1}


def test_the_last_word_on_a_tile_counts(labels):
    a, b = labels.add_class("a"), labels.add_class("b")
    labels.label(SLIDE, FINE, [(0, 0), (0, 1)], a.id)
    assert labels.label(SLIDE, FINE, [(0, 1), (0, 2), (0, 1)], b.id) == 2
    assert labels.get(SLIDE, FINE) == {(0, 0): a.id, (0, 1): b.id, (0, 2): b.id}
    assert labels.label(SLIDE, FINE, [(0, 1), (5, 5)], None) == 1
    assert labels.counts() == {a.id: 1, b.id: 1}


def test_saying_the_same_again_changes_nothing(labels):
    made = labels.add_class("a")
    labels.label(SLIDE, FINE, [(0, 0)], made.id)
    before = labels.labels()
    assert labels.label(SLIDE, FINE, [(0, 0)], made.id) == 0
    assert labels.label(SLIDE, FINE, [(9, 9)], None) == 0
    assert labels.labels() == before
    assert labels.undo_text == "label 1 tile as a"


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        pytest.param([(0, 0), (-1, 0)], ValueError, id="negative"),
        pytest.param([(0, 0), (0, 2**31)], ValueError, id="huge"),
        pytest.param([(0, 0), (0.5, 1)], TypeError, id="not whole"),
        pytest.param([(0, 0), (1, 2, 3)], ValueError, id="three numbers"),
        pytest.param(np.zeros((1, 2)), TypeError, id="an array of floats"),
    ],
)
def test_one_bad_tile_and_none_is_labelled(labels, bad, error):
    made = labels.add_class("a")
    with pytest.raises(error):
        labels.label(SLIDE, FINE, bad, made.id)
    assert labels.labels() == []


def test_an_array_of_tiles_is_as_good_as_a_list(path):
    with LabelSet(path) as labels:
        made = labels.add_class("a")
        labels.label(SLIDE, FINE, np.array([[1, 2], [3, 4]], np.int32), made.id)
        labels.label(SLIDE, FINE, [(np.int64(5), np.uint8(6))], made.id)
    with LabelSet(path) as labels:
        assert labels.get(SLIDE, FINE) == dict.fromkeys([(1, 2), (3, 4), (5, 6)], made.id)


# Undo


def test_undoing_a_merge_brings_every_label_back(labels):
    a, b = labels.add_class("a"), labels.add_class("b")
    labels.label(SLIDE, FINE, [(0, 0), (0, 1)], a.id)
    labels.label(OTHER, COARSE, [(0, 0)], a.id)
    labels.label(SLIDE, FINE, [(1, 1)], b.id)
    before = snapshot(labels)
    labels.merge_classes(a.id, b.id)
    assert labels.classes == (b,)
    assert labels.counts() == {b.id: 4}
    assert labels.undo_text == "merge a into b"
    assert labels.undo()
    assert snapshot(labels) == before


def test_undoing_a_deletion_brings_every_label_back(labels):
    a, b = labels.add_class("a"), labels.add_class("b")
    labels.label(SLIDE, FINE, [(0, 0), (0, 1)], a.id)
    labels.label(SLIDE, FINE, [(1, 1)], b.id)
    before = snapshot(labels)
    labels.delete_class(a.id)
    assert labels.get(SLIDE, FINE) == {(1, 1): b.id}
    labels.undo()
    assert snapshot(labels) == before


def test_a_class_is_not_merged_into_itself(labels):
    made = labels.add_class("a")
    with pytest.raises(ValueError, match="itself"):
        labels.merge_classes(made.id, made.id)


def test_a_gesture_is_one_step(path):
    with LabelSet(path) as labels:
        made = labels.add_class("a")
        with labels.gesture():
            for col in range(3):
                labels.label(SLIDE, FINE, [(0, col)], made.id)
        assert labels.undo_text == "label 3 tiles as a"
    with LabelSet(path) as labels:
        assert labels.undo_text == "label 3 tiles as a"
        labels.undo()
        assert labels.labels() == []
        assert labels.redo_text == "label 3 tiles as a"
        labels.redo()
        assert labels.counts() == {made.id: 3}


def test_undo_within_a_gesture_ends_the_step(labels):
    made = labels.add_class("a")
    with labels.gesture():
        labels.label(SLIDE, FINE, [(0, 0)], made.id)
        labels.label(SLIDE, FINE, [(0, 1)], made.id)
        labels.undo()
        assert labels.labels() == []
        labels.label(SLIDE, FINE, [(0, 2)], made.id)
    assert labels.get(SLIDE, FINE) == {(0, 2): made.id}
    labels.undo()
    assert labels.undo_text == "add class a"


def test_a_new_step_ends_redo(labels):
    labels.add_class("a")
    labels.undo()
    assert labels.can_redo
    labels.add_class("b")
    assert not labels.can_redo
    assert not labels.redo()


def test_there_is_nothing_to_undo_at_first(labels):
    assert not labels.can_undo
    assert (labels.undo_text, labels.redo_text) == ("", "")
    assert not labels.undo()


class Oracle:
    """The same rules in the plainest way: names instead of ids, a copy of everything per step."""

    def __init__(self):
        self.classes, self.labels = set(), {}

    def merge(self, source, into):
        self.classes.discard(source)
        self.labels = {k: into if v == source else v for k, v in self.labels.items()}

    def delete(self, name):
        self.classes.discard(name)
        self.labels = {k: v for k, v in self.labels.items() if v != name}

    def rename(self, old, new):
        self.classes = {new if c == old else c for c in self.classes}
        self.labels = {k: new if v == old else v for k, v in self.labels.items()}

    def label(self, slide, grid, tiles, name):
        for tile in tiles:
            if name is None:
                self.labels.pop((slide, grid, tile), None)
            else:
                self.labels[slide, grid, tile] = name


def random_step(labels, oracle, chance, number):
    """Do something to both, or something that turns out to change nothing."""
    ids = {c.name: c.id for c in labels.classes}
    some = chance.choice(sorted(ids)) if ids else None
    action = chance.choice(["add", "rename", "recolor", "key", "merge", "delete", *["label"] * 8])
    if action == "add" or some is None:
        labels.add_class(f"c{number}")
        oracle.classes.add(f"c{number}")
    elif action == "rename":
        labels.rename_class(ids[some], f"r{number}")
        oracle.rename(some, f"r{number}")
    elif action == "recolor":
        labels.recolor_class(ids[some], f"#{chance.randrange(2**24):06x}")
    elif action == "key":
        labels.set_hotkey(ids[some], chance.choice([*"123456789", None]))
    elif action == "merge" and len(ids) > 1:
        into = chance.choice(sorted(ids.keys() - {some}))
        labels.merge_classes(ids[some], ids[into])
        oracle.merge(some, into)
    elif action == "delete":
        labels.delete_class(ids[some])
        oracle.delete(some)
    elif action == "label":
        with labels.gesture():
            for _ in range(chance.choice([1, 1, 3])):
                where = chance.choice([SLIDE, OTHER]), chance.choice([FINE, COARSE])
                tiles = [(chance.randrange(4), chance.randrange(4)) for _ in range(5)]
                name = chance.choice([*sorted(ids), None])
                labels.label(*where, tiles, None if name is None else ids[name])
                oracle.label(*where, tiles, name)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_done_can_be_undone_redone_and_reopened(path, seed):
    chance, oracle = random.Random(seed), Oracle()
    with LabelSet(path) as labels:
        states = [snapshot(labels)]
        for number in range(60):
            before = labels._history.n_steps[0]
            random_step(labels, oracle, chance, number)
            assert {r[:3]: r.class_name for r in labels.rows()} == oracle.labels
            assert {c.name for c in labels.classes} == oracle.classes
            if labels._history.n_steps[0] > before:
                states.append(snapshot(labels))
    position = len(states) - 1
    for _ in range(4):  # some steps back and forth in each session
        with LabelSet(path) as labels:
            assert snapshot(labels) == states[position]
            for _ in range(20):
                if chance.random() < 0.6:
                    position -= labels.undo()
                else:
                    position += labels.redo()
                assert snapshot(labels) == states[position]
    with LabelSet(path) as labels:
        while labels.undo():
            position -= 1
            assert snapshot(labels) == states[position]
        assert snapshot(labels) == ((), [], {})
        while labels.redo():
            pass
        assert snapshot(labels) == states[-1]
    with LabelSet(path) as labels:
        assert snapshot(labels) == states[-1]


# Signals


def test_each_change_is_told_once_per_grid(labels):
    told: list[LabelChange] = []
    labels.changed.connect(told.append)
    a = labels.add_class("a")
    labels.label(SLIDE, FINE, [(0, 0), (0, 1)], a.id)
    labels.label(OTHER, FINE, [(2, 2)], a.id)
    labels.delete_class(a.id)
    labels.undo()
    classes = LabelChange(None, None, (), "classes")
    first = LabelChange(SLIDE, FINE, ((0, 0), (0, 1)), "labels")
    second = LabelChange(OTHER, FINE, ((2, 2),), "labels")
    assert told[:3] == [classes, first, second]
    assert told[3:6] == [classes, first, second]
    assert told[6] == classes
    assert {(c.slide, frozenset(c.tiles)) for c in told[7:]} == {
        (c.slide, frozenset(c.tiles)) for c in (first, second)
    }


def test_a_signal_is_not_sent_under_the_lock(labels):
    seen = []

    def look_from_another_thread(_change):
        thread = threading.Thread(target=lambda: seen.append(labels.counts()))
        thread.start()
        thread.join(5)

    labels.changed.connect(look_from_another_thread)
    labels.add_class("a")
    assert seen == [{1: 0}]


def test_threads_may_label_at_once(path):
    with LabelSet(path) as labels:
        made = labels.add_class("a")

        def work(row):
            for col in range(50):
                labels.label(SLIDE, FINE, [(row, col)], made.id)

        threads = [threading.Thread(target=work, args=(row,)) for row in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with LabelSet(path) as labels:
        assert labels.counts() == {made.id: 200}
        assert labels._history.n_steps == (201, 0)


# Beside the labels


def test_an_annotator_without_a_name_is_unknown(monkeypatch):
    def nobody():
        raise OSError("No username set in the environment")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert default_annotator() == "unknown"
    with LabelSet(None) as labels:
        assert labels.annotator == "unknown"


def test_the_default_journal_is_named_after_the_annotator(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_VIRCHOW_STORE", str(tmp_path))
    assert default_journal("M. Kurz/../x") == tmp_path / "labels" / "M._Kurz_.._x.sqlite"
    assert default_journal("..").name == "unknown.sqlite"


def test_rows_are_taken_over_as_they_are(labels):
    labels.add_class("Tumor")
    row = LabelRow(SLIDE, FINE, Tile(0, 0), "tumor", "bob", "2024-03-05T12:00:00+02:00")
    assert labels.add_rows([row, row._replace(tile=Tile(0, 1), class_name="fat")], "import") == 2
    label = labels.labels()[0]
    assert (label.annotator, label.time) == ("bob", "2024-03-05T10:00:00.000000+00:00")
    assert [c.name for c in labels.classes] == ["Tumor", "fat"]
    labels.undo()
    assert [c.name for c in labels.classes] == ["Tumor"]
    assert json.dumps(labels.labels()) == "[]"
