"""Classifiers applied to slides, from the command line and through a session."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.fakes import FakeEncoder

from napari_virchow.classification.facts import ApplyOptions
from napari_virchow.classify import ModelError, TileClassifier
from napari_virchow.cli import main
from napari_virchow.qupath.geojson import read_geojson
from napari_virchow.sample import CLASSES, read_truth, write_sample
from napari_virchow.session import Session
from napari_virchow.tiles import Tile

DOCS = Path(__file__).parents[1] / "docs" / "classification.md"
MPP = 0.5


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A slide, a store in which it is embedded, and a classifier trained on it."""
    folder = tmp_path_factory.mktemp("labelled")
    path = folder / "labelled.tif"
    write_sample(path, width=3072, height=2304)
    truth = read_truth(path.with_suffix(".csv")).classes
    with Session(folder / "store", device="cpu") as session:
        slide = session.open_slide(path)
        session.load_encoder("texture")
        session.embed_slide(slide, mpp=MPP)
        assert session.wait(120)
        tiles, _ = session.embeddings(slide, MPP)
        for class_id in np.unique(truth[truth > 0]):
            made = session.labels.add_class(CLASSES[class_id]).id
            here = [Tile(*t) for t in tiles.tolist() if truth[tuple(t)] == class_id]
            session.labels.label(slide.identity, slide.grid(MPP).name, here[::3], made)
        session.train_classifier().classifier.save(folder / "model")
    return folder


@pytest.fixture
def model(labelled):
    return labelled / "model"


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A slide of which nothing is embedded."""
    path = tmp_path_factory.mktemp("other") / "other.tif"
    write_sample(path, width=2048, height=1536, seed=3)
    return path


@pytest.fixture
def run(capsys):
    def call(*words):
        code = main([str(word) for word in ("classify", "apply", *words)])
        return code, *capsys.readouterr()

    return call


def rows_of(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_is_missing_is_embedded_and_every_tissue_tile_classified(run, model, other, tmp_path):
    words = (model, other, "--store", tmp_path / "store", "--out", tmp_path / "out", "--json")
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    [slide] = json.loads(out)["slides"]
    rows = rows_of(slide["file"])
    assert slide["missing"] == 0
    assert sum(slide["tiles"].values()) == len(rows) > 10
    assert {row["class"] for row in rows} <= {*CLASSES[1:], "unknown"}
    truth = read_truth(other.with_suffix(".csv")).classes
    at = [(int(row["row"]), int(row["col"])) for row in rows]
    right = [CLASSES[truth[p]] == r["class"] for p, r in zip(at, rows, strict=True) if truth[p]]
    assert np.mean(right) > 0.7

    assert run(*words)[1] == out  # the second time from the store


def test_geojson_for_qupath_has_class_probabilities_and_margin(run, model, other, tmp_path):
    where = ("--store", tmp_path / "store", "--out", tmp_path / "out", "--format", "geojson")
    code, _, err = run(model, other, *where)
    assert (code, err) == (0, "")
    [path] = (tmp_path / "out").iterdir()
    found = read_geojson(path)
    assert path.suffix == ".geojson"
    assert not found.problems
    assert {one.object_type for one in found.objects} == {"tile"}
    names = {one.path_class.name for one in found.objects if one.path_class}
    assert names
    assert names <= set(CLASSES[1:])
    measured = found.objects[0].measurements
    assert {f"p({name})" for name in names} | {"margin", "novelty"} <= measured.keys()
    assert found.block["frame"]["name"] == "whole slide"


def test_only_stored_embeds_nothing_and_says_what_is_missing(run, model, other, tmp_path):
    words = ("--store", tmp_path / "store", "--out", tmp_path / "out", "--only-stored")
    code, out, err = run(model, other, *words)
    assert (code, err) == (0, "")
    assert re.search(r"0 tiles: none is embedded; \d+ tiles on tissue are not embedded", out)


def test_a_slide_that_cannot_be_read_does_not_keep_the_others_waiting(run, model, other, tmp_path):
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"no slide")
    where = ("--store", tmp_path / "store", "--out", tmp_path / "out", "--json")
    code, out, err = run(model, bad, other, *where)
    document = json.loads(out)
    assert code == 1
    assert "1 of 2 slides could not be classified" in err
    assert [one["slide"] for one in document["failures"]] == [str(bad)]
    assert [one["slide"] for one in document["slides"]] == [str(other)]


def test_an_encoder_that_cannot_be_had_is_one_sentence_with_a_way_out(run, model, other, tmp_path):
    text = (model / "classifier.json").read_text("utf-8")
    made = json.loads(text)
    text = text.replace(made["encoder"], "uni-0123456789ab-class")
    text = text.replace('"pooling": "descriptor"', '"pooling": "class"')
    copy = tmp_path / "model"
    copy.mkdir()
    (copy / "classifier.json").write_text(text, "utf-8")
    (copy / "classifier.safetensors").write_bytes((model / "classifier.safetensors").read_bytes())
    code, _, err = run(copy, other, "--store", tmp_path / "store", "--weights", "/no/such.bin")
    assert code == 2
    assert "--only-stored" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["--unknown-above", "7"], ["--format", "png"], ["--frame", "x"]])
def test_bad_options_are_refused_in_one_sentence(run, model, other, tmp_path, words):
    where = ("--store", tmp_path / "store", "--out", tmp_path / "out", "--only-stored")
    code, out, err = run(model, other, *where, *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_keeps_what_is_embedded(model, labelled, tmp_path):
    store = tmp_path / "store"
    words = ("classify", "apply", model, labelled / "labelled.tif", "--store", store)
    code = "import sys; from napari_virchow.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *map(str, words), "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        pause = threading.Event()
        while not list(store.glob("*/*/*.zarr/c.*.0")):
            assert process.poll() is None, process.communicate()
            pause.wait(0.005)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert "kept" in err
    assert not (tmp_path / "out").exists()


def test_a_session_says_what_a_classifier_thinks_without_its_encoder(labelled, model):
    with Session(labelled / "store", device="cpu") as session:
        slide = session.open_slide(labelled / "labelled.tif")
        tiles, predictions = session.predict_tiles(model, slide)
        assert session.encoder is None
        assert len(tiles) == len(predictions) > 30
        truth = read_truth(labelled / "labelled.csv").classes[tiles[:, 0], tiles[:, 1]]
        names = {c.id: c.name for c in TileClassifier.load(model).classes}
        said = np.array([names.get(i, "") for i in predictions.class_id.tolist()])
        known = truth > 0
        assert np.mean(said[known] == np.array(CLASSES)[truth[known]]) > 0.9


def test_a_session_refuses_to_embed_with_another_encoder(model, other, tmp_path):
    with Session(tmp_path, device="cpu") as session:
        slide = session.open_slide(other)
        session.use_encoder(FakeEncoder())
        with pytest.raises(ModelError, match=FakeEncoder().identity):
            session.apply_classifier(model, [slide])
        done = session.apply_classifier(model, [slide], how=ApplyOptions(embed=False))
        assert (done[0].n_tiles, done[0].file) == (0, "")


def test_the_example_in_the_docs_runs(labelled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAPARI_VIRCHOW_STORE", str(tmp_path / "store"))
    text = DOCS.read_text("utf-8").split("## From Python", 1)[1]
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    path = str(labelled / "labelled.tif")
    scope: dict = {}
    exec(compile(code.replace("slide.svs", path), DOCS.name, "exec"), scope)
    assert (tmp_path / "model" / "classifier.json").is_file()
    [table] = (tmp_path / "classes").glob("labelled-*.csv")
    assert {row["class"] for row in rows_of(table)} <= {"tumour", "stroma", "unknown"}
