"""Training and applying a classifier from the command line, on embeddings that are stored."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from tests.slides import write_svs

from napari_virchow.cli import main
from napari_virchow.labels import LabelSet
from napari_virchow.slide import open_slide
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Tile

ENCODER = "texture-v1-e8790ad6-descriptor"
GRID = "224px-0.5mpp"
ROWS, COLS = 24, 32  # tiles; the left half is of one kind, the right half of another


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    pixels = np.full((ROWS * 224, COLS * 224, 3), (200, 110, 170), np.uint8)  # stained
    return write_svs(tmp_path_factory.mktemp("slides") / "halves.svs", pixels, factors=(1,))


@pytest.fixture(scope="module")
def identity(slide):
    with open_slide(slide) as opened:
        return opened.identity


@pytest.fixture
def store(slide, identity, tmp_path, monkeypatch):
    """Store embeddings of two kinds, far apart."""
    rng = np.random.default_rng(4)
    kinds = rng.normal(size=(2, 40))
    tiles = [Tile(row, col) for row in range(ROWS) for col in range(COLS)]
    matrix = np.stack([kinds[int(tile.col >= COLS // 2)] for tile in tiles])
    matrix += 0.3 * rng.normal(size=matrix.shape)
    with open_slide(slide) as opened:
        grid = opened.grid(0.5)
    folder = tmp_path / "store"
    made = EmbeddingStore.open(
        folder, slide=identity, encoder=ENCODER, grid=grid, dim=40, writable=True
    )
    made.append(tiles, matrix.astype(np.float32))
    made.close()
    monkeypatch.setenv("NAPARI_VIRCHOW_STORE", str(folder))
    return folder


@pytest.fixture
def labels(identity, tmp_path):
    """Labels in six separate places for each of two classes."""
    path = tmp_path / "labels.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["slide", "grid", "row", "col", "class", "annotator", "time"])
        for name, left in (("tumour", 1), ("stroma", COLS // 2 + 1)):
            for row in (1, 12, 22):
                for col in (left, left + 12):
                    time = f"2026-11-24T10:00:{row:02d}.{col:06d}+00:00"
                    writer.writerow([identity, GRID, row, col, name, "ann", time])
    return path


def run(capsys, *words):
    code = main([*map(str, words)])
    return code, capsys.readouterr()


def trained(capsys, labels, model):
    code, out = run(capsys, "classify", "train", "--labels", labels, "--out", model, "--json")
    assert code == 0, out.err
    return json.loads(out.out)


def test_a_classifier_is_trained_tested_by_blocks_and_applied(
    capsys, store, labels, slide, tmp_path
):
    facts = trained(capsys, labels, tmp_path / "model")
    assert facts["labels"] == {"tumour": 6, "stroma": 6}
    assert facts["metrics"]["validated_by"] == "block"
    assert facts["metrics"]["balanced_accuracy"] > 0.9
    assert [point["per_class"] for point in facts["learning_curve"]] == [1, 2, 5]
    code, out = run(
        capsys, "classify", "apply", tmp_path / "model", slide, "--out", tmp_path / "out",
        "--unknown-above", 1, "--json",
    )  # fmt: skip
    assert code == 0, out.err
    [applied] = json.loads(out.out)["slides"]
    with Path(applied["file"]).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == ROWS * COLS
    right = [
        (row["class"] == "tumour") == (int(row["col"]) < COLS // 2) and row["class"] != "unknown"
        for row in rows
    ]
    assert np.mean(right) > 0.97
    assert all(0 <= float(row["p(tumour)"]) <= 1 for row in rows)


def test_few_labels_get_a_sentence_instead_of_a_figure(capsys, store, labels, tmp_path):
    few = tmp_path / "few.csv"
    lines = labels.read_text("utf-8").splitlines()
    few.write_text("\n".join([lines[0], lines[1], lines[7]]), "utf-8")
    facts = trained(capsys, few, tmp_path / "model")
    assert "balanced_accuracy" not in facts["metrics"]
    assert "Too few labels to tell" in facts["metrics"]["reason"]


def test_a_wrong_label_is_named(capsys, store, labels, tmp_path):
    text = labels.read_text("utf-8").splitlines()
    text[2] = text[2].replace("tumour", "stroma")
    labels.write_text("\n".join(text), "utf-8")
    facts = trained(capsys, labels, tmp_path / "model")
    row, col = (int(value) for value in text[2].split(",")[2:4])
    assert [(one["row"], one["col"]) for one in facts["suspects"]] == [(row, col)]


def test_the_next_tiles_to_label_are_apart_from_the_labels(capsys, store, labels, slide, tmp_path):
    trained(capsys, labels, tmp_path / "model")
    code, out = run(
        capsys, "classify", "next", tmp_path / "model", slide, "--labels", labels,
        "--count", 4, "--json",
    )  # fmt: skip
    assert code == 0, out.err
    tiles = [(one["row"], one["col"]) for one in json.loads(out.out)["tiles"]]
    assert len(tiles) == 4
    with labels.open(newline="", encoding="utf-8") as file:
        taken = [(int(row["row"]), int(row["col"])) for row in csv.DictReader(file)]
    for n, one in enumerate(tiles):
        for other in [*taken, *tiles[:n]]:
            assert max(abs(one[0] - other[0]), abs(one[1] - other[1])) > 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "--labels", "{tmp}/none.csv", "--out", "{tmp}/m"], "There is no file"),
        (["train", "--labels", "{tmp}/empty.csv", "--out", "{tmp}/m"], "no labels"),
        (["train", "--labels", "{labels}", "--encoder", "uni", "--out", "{tmp}/m"], "by uni"),
        (["apply", "{tmp}/nothing", "{slide}"], "nothing"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(
    capsys, store, labels, slide, tmp_path, words, sentence
):
    (tmp_path / "empty.csv").write_text("slide,grid,row,col,class,annotator,time\n", "utf-8")
    code, out = run(
        capsys, "classify", *(w.format(tmp=tmp_path, labels=labels, slide=slide) for w in words)
    )
    assert code == 2
    assert sentence in out.err
    assert out.err.count("\n") == 1
    assert not (tmp_path / "m").exists()


@pytest.fixture
def journals(tmp_path):
    """Two annotators who agree on three of four tiles."""
    paths = []
    for annotator, said in (("ann", "ttss"), ("bob", "ttst")):
        path = tmp_path / f"{annotator}.sqlite"
        with LabelSet(path, annotator=annotator) as kept:
            ids = {name[0]: kept.add_class(name).id for name in ("tumour", "stroma")}
            for col, initial in enumerate(said):
                kept.label("slide-one", GRID, [Tile(3, col)], ids[initial])
        paths.append(path)
    return paths


def test_journals_are_merged_with_their_conflicts_and_kappa(capsys, journals, tmp_path):
    code, out = run(capsys, "labels", "merge", *journals, "--out", tmp_path / "1.sqlite", "--json")
    assert code == 0, out.err
    facts = json.loads(out.out)
    assert facts["labels"] == 4
    [conflict] = facts["conflicts"]
    assert (conflict["row"], conflict["col"], conflict["kept"]) == (3, 3, "tumour")
    assert [one[:2] for one in conflict["said"]] == [["ann", "stroma"], ["bob", "tumour"]]
    # They agree on 3 of 4; by chance they would on 1/2 * 3/4 + 1/2 * 1/4 = 1/2.
    assert facts["agreement"] == [{"annotators": ["ann", "bob"], "kappa": 0.5, "tiles": 4}]
    code, out = run(capsys, "labels", "merge", *journals, "--out", tmp_path / "2.sqlite")
    assert "slide-one row 3 col 3: ann: stroma / bob: tumour" in out.out
    assert "Cohen's kappa 0.50 (4 tiles labelled by both)" in out.out


def test_merged_labels_are_exported_and_shown(capsys, journals, tmp_path):
    run(capsys, "labels", "merge", *journals, "--out", tmp_path / "both.sqlite")
    target = tmp_path / "both.csv"
    code, out = run(capsys, "labels", "export", tmp_path / "both.sqlite", "--out", target)
    assert code == 0, out.err
    assert len(target.read_text("utf-8").splitlines()) == 5
    code, out = run(capsys, "labels", "show", target)
    assert code == 0
    assert f"slide-one  {GRID}  tumour: 3" in out.out
