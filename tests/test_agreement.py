"""Several annotators' labels: what counts, who disagrees, and files without loss."""

from __future__ import annotations

import json

import pytest

from napari_virchow.labels import JournalError, LabelSet
from napari_virchow.labels.agreement import (
    export_csv,
    export_json,
    import_csv,
    kappa,
    merge_journals,
)
from napari_virchow.labels.edits import LabelRow
from napari_virchow.tiles import Tile

SLIDE, GRID = "5a" * 16, "224px-0.5mpp"


def row(col, class_name, annotator, minute, slide=SLIDE):
    time = f"2024-03-05T10:{minute:02}:00.000000+00:00"
    return LabelRow(slide, GRID, Tile(0, col), class_name, annotator, time)


def journal_of(folder, name, rows):
    path = folder / f"{name}.sqlite"
    with LabelSet(path, annotator=name) as labels:
        labels.add_rows(rows, "label {tiles}")
    return path


@pytest.fixture
def journals(tmp_path):
    """Two annotators who share tiles 0 to 3 and disagree on tile 1, where ann was later."""
    ann = [row(i, c, "ann", 9) for i, c in enumerate(["Fat", "Fat", "Gland", "Gland"])]
    bob = [row(i, c, "bob", 5) for i, c in enumerate(["fat", "gland", "gland", "gland", "Nerve"])]
    return [
        journal_of(tmp_path, "ann", [*ann, row(8, "Fat", "ann", 1)]),
        journal_of(tmp_path, "bob", bob),
    ]


def test_merging_keeps_annotators_and_lists_every_conflict(tmp_path, journals):
    report = merge_journals(journals, tmp_path / "both.sqlite")
    assert report.n == 6
    (conflict,) = report.conflicts
    assert conflict.tile == (0, 1)
    assert [(r.annotator, r.class_name) for r in conflict.rows] == [
        ("bob", "gland"),
        ("ann", "Fat"),
    ]
    with LabelSet(tmp_path / "both.sqlite") as both:
        assert [c.name for c in both.classes] == ["Fat", "Gland", "Nerve"]
        found = {r.tile.col: (r.class_name, r.annotator) for r in both.rows()}
        assert [(r.tile.col, r.annotator) for r in both.overruled] == [(i, "bob") for i in range(4)]
        assert both.undo_text == "merge 6 tiles from ann and bob"
    assert found == {
        **{0: ("Fat", "ann"), 1: ("Fat", "ann"), 2: ("Gland", "ann"), 3: ("Gland", "ann")},
        **{4: ("Nerve", "bob"), 8: ("Fat", "ann")},
    }


def test_agreement_is_worked_out_on_the_tiles_both_labelled(tmp_path, journals):
    # ann says F F G G, bob F G G G: observed 3/4, by chance 2/4 * 1/4 + 2/4 * 3/4 = 1/2.
    report = merge_journals(journals, tmp_path / "both.sqlite")
    assert report.shared == {("ann", "bob"): 4}
    assert report.kappa == {("ann", "bob"): pytest.approx(0.5)}


def test_merging_what_was_merged_still_compares_everybody(tmp_path, journals):
    third = journal_of(tmp_path, "cas", [row(0, "Fat", "cas", 30), row(1, "gland", "cas", 30)])
    merge_journals(journals, tmp_path / "two.sqlite")
    report = merge_journals([tmp_path / "two.sqlite", third], tmp_path / "three.sqlite")
    at_once = merge_journals([*journals, third], tmp_path / "once.sqlite")
    assert report.kappa == at_once.kappa
    assert report.shared == {("ann", "bob"): 4, ("ann", "cas"): 2, ("bob", "cas"): 2}
    assert [r.annotator for r in report.conflicts[0].rows] == ["bob", "ann", "cas"]
    with LabelSet(tmp_path / "three.sqlite") as a, LabelSet(tmp_path / "once.sqlite") as b:
        assert a.rows() == b.rows()


def test_one_annotator_who_changed_her_mind_is_a_conflict_too(tmp_path):
    early = journal_of(tmp_path, "early", [row(0, "Fat", "ann", 1)])
    late = journal_of(tmp_path, "late", [row(0, "Gland", "ann", 2)])
    report = merge_journals([late, early], tmp_path / "out.sqlite")
    assert [r.class_name for r in report.conflicts[0].rows] == ["Fat", "Gland"]
    assert report.kappa == {}


def test_the_same_journal_twice_is_no_conflict(tmp_path, journals):
    report = merge_journals([journals[0], journals[0]], tmp_path / "out.sqlite")
    assert (report.n, report.conflicts, report.kappa) == (5, (), {})


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param([], [], None, id="no tile"),
        pytest.param(["a"], ["b"], None, id="one tile"),
        pytest.param(["a", "a"], ["a", "a"], None, id="one class: any two would agree"),
        pytest.param(["a", "b"], ["a", "b"], 1.0, id="of one mind"),
        pytest.param(["a", "b"], ["b", "a"], -1.0, id="never"),
        pytest.param(["a", "b", "a", "b"], ["a", "a", "b", "b"], 0.0, id="as by chance"),
    ],
)
def test_kappa(first, second, expected):
    assert kappa(first, second) == expected


def test_merging_overwrites_nothing(tmp_path, journals):
    with pytest.raises(ValueError, match="exists already"):
        merge_journals(journals, journals[0])
    with pytest.raises(ValueError, match="no label journals"):
        merge_journals([], tmp_path / "out.sqlite")


def test_a_journal_that_cannot_be_read_leaves_no_result(tmp_path, journals):
    journals[1].write_bytes(b"not a journal, but long enough to be one " * 200)
    with pytest.raises(JournalError, match=r"bob\.sqlite"):
        merge_journals(journals, tmp_path / "out.sqlite")
    assert not (tmp_path / "out.sqlite").exists()


def test_a_journal_that_is_open_can_be_merged(tmp_path, journals):
    with LabelSet(journals[0]) as labels:
        labels.label(SLIDE, GRID, [(7, 7)], labels.classes[0].id)
        labels.flush()
        assert merge_journals(journals, tmp_path / "out.sqlite").n == 7


def test_csv_goes_out_and_comes_in_without_loss(tmp_path):
    rows = [
        row(0, 'Drüse, "groß"; 1', "Änne, M.", 1),
        row(1, "=1+1", "bob", 2),
        row(2, "肿瘤", "bob", 3, slide="c3" * 16),
    ]
    with LabelSet(None) as labels, LabelSet(None) as again:
        labels.add_rows(rows, "import")
        assert export_csv(labels, tmp_path / "labels.csv") == 3
        report = import_csv(again, tmp_path / "labels.csv")
        assert again.rows() == labels.rows() == rows
        assert (report.n, report.conflicts) == (3, ())
        assert again.undo_text == "import 3 tiles from labels.csv"
        assert import_csv(again, tmp_path / "labels.csv").n == 0


def test_importing_lists_conflicts_and_the_later_label_counts(tmp_path):
    with LabelSet(None) as labels, LabelSet(None) as other:
        labels.add_rows([row(0, "a", "ann", 5), row(1, "a", "ann", 5)], "import")
        other.add_rows([row(0, "b", "bob", 6), row(1, "b", "bob", 4)], "import")
        export_csv(other, tmp_path / "labels.csv")
        report = import_csv(labels, tmp_path / "labels.csv")
        assert [r.class_name for r in labels.rows()] == ["b", "a"]
    assert (report.n, len(report.conflicts)) == (1, 2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("s,g,x,1,a,ann,2024-03-05", "line 3: .*'x'"),
        ("s,g,-1,1,a,ann,2024-03-05", "line 3: .*from 0"),
        ("s,g,1,1,,ann,2024-03-05", "line 3: a class needs"),
        ("s,g,1,1,a,ann,yesterday", "line 3: .*yesterday"),
        ("s,g,1", "line 3"),
    ],
)
def test_a_bad_line_of_csv_is_named_and_nothing_imported(tmp_path, line, said):
    path = tmp_path / "labels.csv"
    good = "s,g,0,0,a,ann,2024-03-05"
    path.write_text(f"slide,grid,row,col,class,annotator,time\n{good}\n{line}\n", "utf-8")
    with LabelSet(None) as labels:
        with pytest.raises(ValueError, match=rf"labels\.csv, {said}"):
            import_csv(labels, path)
        assert labels.rows() == []


def test_a_table_of_something_else_is_refused(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("x,y\n1,2\n", "utf-8")
    with LabelSet(None) as labels, pytest.raises(ValueError, match="no column 'slide'"):
        import_csv(labels, path)


def test_json_has_colours_and_keys_as_well(tmp_path, journals):
    assert export_json(journals[0], tmp_path / "labels.json") == 5
    content = json.loads((tmp_path / "labels.json").read_text("utf-8"))
    assert content["classes"][0] == {"id": 1, "name": "Fat", "color": "#e69f00", "hotkey": "1"}
    assert content["labels"][0] == [SLIDE, GRID, 0, 0, "Fat", "ann", row(0, "", "", 9).time]
