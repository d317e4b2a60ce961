"""Live classification: labels in, maps and honest figures out."""

from __future__ import annotations

import csv
import threading
import time

import numpy as np
import pytest
from tests.fakes import FakeEncoder

from napari_virchow.classification.export import export_all
from napari_virchow.classification.facts import ApplyOptions
from napari_virchow.classify import ModelError
from napari_virchow.latest import Latest
from napari_virchow.sample import write_sample
from napari_virchow.session import Session
from napari_virchow.states import TileState
from napari_virchow.tiles import Rect, Tile

MPP = 0.5


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("slides") / "small.tif"
    write_sample(path, width=4096, height=3072)
    return path


@pytest.fixture(scope="module")
def embedded(slide_file, tmp_path_factory):
    """A store in which the whole slide is embedded."""
    store = tmp_path_factory.mktemp("store")
    with Session(store, device="cpu") as session:
        slide = session.open_slide(slide_file)
        session.load_encoder("texture")
        session.embed_slide(slide, mpp=MPP)
        assert session.wait(120)
    return store


@pytest.fixture
def session(embedded, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setenv("NAPARI_VIRCHOW_STORE", str(tmp_path / "store"))
    shutil.copytree(embedded, tmp_path / "store")
    with Session(device="cpu") as made:
        made.load_encoder("texture")
        yield made


def settle(session):
    """Wait until maps, and the embedding they may have asked for, are done."""
    for _ in range(3):
        assert session.classification.wait(30)
        assert session.wait(60)
    assert session.classification.wait(30)


def halves(session, slide):
    """Two sets of embedded tiles that lie far apart."""
    tiles, _ = session.embeddings(slide, MPP)
    order = np.argsort(tiles[:, 1], kind="stable")
    make = lambda part: [Tile(*t) for t in tiles[part].tolist()]  # noqa: E731
    return make(order[:12]), make(order[-12:])


def test_clicks_become_a_map_and_honest_figures(session, slide_file):
    slide = session.open_slide(slide_file)
    live = session.classification
    maps, said = [], []
    live.predicted.connect(maps.append)
    live.emptied.connect(said.append)
    live.look_at(slide, MPP)
    assert live.wait(30)
    assert said == ["Label a tile to see what looks like it."]
    one = live.labels.add_class("One").id
    two = live.labels.add_class("Two").id
    left, right = halves(session, slide)
    live.label(slide, MPP, left[:1], one)
    assert live.wait(30)
    assert maps[-1].predictions.kind == "similarity"
    live.label(slide, MPP, right, two)
    live.label(slide, MPP, left, one)
    assert live.wait(30)
    painted = maps[-1]
    assert painted.predictions.kind == "classes"
    assert painted.n_labels == 24
    assert len(painted.tiles) == len(session.embeddings(slide, MPP)[0])
    generations = [m.generation for m in maps]
    assert generations == sorted(generations)
    found = live.assessment
    assert found is not None
    assert len(found.rows) == 24
    assert found.stop.text
    labelled = {*left, *right}
    assert all(q.tile not in labelled for q in found.queue)
    assert live.summary()["labels"] == {"One": 12, "Two": 12}


class SlowSlide:
    """A slide of which the painter does not hear for a while."""

    def __init__(self, slide):
        self._slide, self.begun, self.gate = slide, threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self._slide, name)

    def grid(self, mpp):
        if threading.current_thread() is not threading.main_thread():
            self.begun.set()
            assert self.gate.wait(20)
        return self._slide.grid(mpp)


def test_a_slide_that_was_left_does_not_empty_the_next(session, slide_file, tmp_path):
    write_sample(tmp_path / "left.tif", width=1024, height=768)  # nothing of it is embedded
    left = SlowSlide(session.open_slide(tmp_path / "left.tif"))
    live, said, failed = session.classification, [], []
    live.emptied.connect(said.append)
    live.failed.connect(failed.append)
    live.look_at(left, MPP)
    assert left.begun.wait(20)
    live.look_at(session.open_slide(slide_file), MPP)
    left.gate.set()
    assert live.wait(30)
    assert (said, failed) == (["Label a tile to see what looks like it."], [])


def test_tiles_passed_over_are_not_queued_again(session, slide_file):
    slide = session.open_slide(slide_file)
    live = session.classification
    live.look_at(slide, MPP)
    left, right = halves(session, slide)
    for name, tiles in (("One", left[:3]), ("Two", right[:3])):
        live.label(slide, MPP, tiles, live.labels.add_class(name).id)
    assert live.wait(30)
    first = live.assessment
    assert all(0 < q.probability <= 1 for q in first.queue)
    assert first.grids == {slide.identity: slide.grid(MPP)}
    before = {q.tile for q in first.queue}
    live.passed |= {(slide.identity, first.grid.name, tile) for tile in before}
    live.refresh()
    assert live.wait(30)
    assert live.assessment is not first
    assert live.assessment.queue
    assert before.isdisjoint(q.tile for q in live.assessment.queue)


def test_undo_takes_the_map_back(session, slide_file):
    slide = session.open_slide(slide_file)
    live = session.classification
    live.look_at(slide, MPP)
    one = live.labels.add_class("One").id
    left, _ = halves(session, slide)
    live.label(slide, MPP, left[:1], one)
    assert live.wait(30)
    assert live.painted is not None
    live.labels.undo()
    assert live.wait(30)
    assert live.painted is None
    live.labels.redo()
    assert live.wait(30)
    assert live.painted is not None


def test_a_label_on_a_tile_that_is_not_embedded_is_embedded_next(slide_file, tmp_path):
    with Session(tmp_path, device="cpu") as session:
        session.load_encoder("texture")
        slide = session.open_slide(slide_file)
        live = session.classification
        live.look_at(slide, MPP)
        class_id = live.labels.add_class("Tumour").id
        tile = Tile(6, 9)
        live.label(slide, MPP, [tile], class_id)
        settle(session)
        assert session.tile_states(slide, MPP).states[tile] == TileState.EMBEDDED
        assert live.painted is not None
        assert live.painted.n_labels == 1


def test_the_map_grows_while_tiles_are_embedded(slide_file, tmp_path):
    with Session(tmp_path, device="cpu") as session:
        session.load_encoder("texture")
        slide = session.open_slide(slide_file)
        live = session.classification
        live.look_at(slide, MPP)
        class_id = live.labels.add_class("Tumour").id
        live.label(slide, MPP, [Tile(6, 9)], class_id)
        session.look_at(slide, Rect(0, 0, slide.width, slide.height), mpp=MPP)
        assert session.wait(120)
        deadline = time.monotonic() + 30
        n = len(session.embeddings(slide, MPP)[0])
        while live.painted is None or len(live.painted.tiles) < n:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_labels_of_another_slide_teach_too(session, slide_file, tmp_path):
    other_file = tmp_path / "other.tif"
    write_sample(other_file, width=2048, height=1536, seed=3)
    other = session.open_slide(other_file)
    session.embed_slide(other, mpp=MPP)
    assert session.wait(60)
    slide = session.open_slide(slide_file)
    live = session.classification
    one = live.labels.add_class("One").id
    two = live.labels.add_class("Two").id
    left, _ = halves(session, other)
    live.label(other, MPP, left[:3], one)
    live.label(slide, MPP, halves(session, slide)[1][:3], two)
    live.look_at(slide, MPP)
    assert live.wait(30)
    assert live.painted.predictions.kind == "classes"
    assert live.painted.n_labels == 6


def test_a_classifier_is_saved_loaded_and_applied(session, slide_file, tmp_path):
    slide = session.open_slide(slide_file)
    live = session.classification
    live.look_at(slide, MPP)
    with pytest.raises(ValueError, match="label tiles of two classes"):
        live.save(tmp_path / "model")
    left, right = halves(session, slide)
    live.label(slide, MPP, left, live.labels.add_class("One").id)
    live.label(slide, MPP, right, live.labels.add_class("Two").id)
    assert live.wait(30)
    before = live.painted.predictions.class_id
    live.save(tmp_path / "model")
    assert live.export_predictions(tmp_path / "map.csv") == len(before)
    with (tmp_path / "map.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["label"] for line in lines} == {"", "One", "Two"}
    live.load(tmp_path / "model")
    assert live.wait(30)
    assert live.loaded == tmp_path / "model"
    assert (live.painted.predictions.class_id == before).mean() > 0.99
    done = session.apply_classifier(live.classifier, [slide], out=tmp_path / "out")
    assert done[0].missing == 0
    assert sum(done[0].counts.values()) == done[0].n_tiles == len(before)
    assert done[0].file == str(tmp_path / "out" / f"small-{slide.identity[:8]}.csv")
    with pytest.raises(ModelError, match="0.5"):
        live.look_at(slide, 1.0)
        live.load(tmp_path / "model")


def test_only_the_view_is_embedded_and_classified_when_asked(slide_file, tmp_path):
    with Session(tmp_path, device="cpu") as session:
        session.load_encoder("texture")
        slide = session.open_slide(slide_file)
        live = session.classification
        live.look_at(slide, MPP)
        for name, tile in (("One", Tile(3, 2)), ("Two", Tile(9, 12))):
            live.label(slide, MPP, [tile], live.labels.add_class(name).id)
        settle(session)
        view = Rect(5 * 224, 5 * 224, 3 * 224, 2 * 224)
        inside = set(slide.grid(MPP).tiles_in(view))
        tissue = session.tissue(slide, slide.grid(MPP))
        assert len(inside) == 6
        (done,) = session.apply_classifier(
            live.classifier, [slide], how=ApplyOptions(view=view, unknown_above=1)
        )
        assert done.missing == 0
        assert done.n_tiles == sum(done.counts.values()) == sum(tissue[t] for t in inside)


def test_everything_is_exported_as_tables(session, slide_file, tmp_path):
    slide = session.open_slide(slide_file)
    live = session.classification
    live.look_at(slide, MPP)
    with pytest.raises(ValueError, match="label a tile first"):
        export_all(live, tmp_path / "tables")
    left, right = halves(session, slide)
    live.label(slide, MPP, left, live.labels.add_class("One").id)
    live.label(slide, MPP, right, live.labels.add_class("Two").id)
    assert live.wait(30)
    files = export_all(live, tmp_path / "tables")
    assert [f.name for f in files] == ["labels.csv", "predictions.csv", "figures.csv"]
    with files[0].open() as file:
        assert len(list(csv.DictReader(file))) == 24
    with files[2].open() as file:
        lines = list(csv.DictReader(file))
    figures = {(x["figure"], x["class"]): x["value"] for x in lines}
    assert figures["labels", "One"] == "12"
    if live.assessment.evaluation.reason is None:
        assert 0 <= float(figures["balanced accuracy", ""]) <= 1
        assert 0 <= float(figures["f1", "Two"]) <= 1
    else:
        assert ("too few labels to tell", "") in figures


def test_labels_stay_when_the_encoder_changes_but_its_classifiers_do_not(
    session, slide_file, tmp_path
):
    slide = session.open_slide(slide_file)
    live = session.classification
    live.look_at(slide, MPP)
    left, right = halves(session, slide)
    live.label(slide, MPP, left, live.labels.add_class("One").id)
    live.label(slide, MPP, right, live.labels.add_class("Two").id)
    assert live.wait(30)
    before = live.labels.rows()
    live.save(tmp_path / "model")
    other = FakeEncoder()
    session.use_encoder(other)
    session.embed_slide(slide, mpp=MPP)
    settle(session)
    assert live.labels.rows() == before
    assert (live.painted.encoder, live.painted.n_labels) == (other.identity, 24)
    with pytest.raises(ModelError, match=f"texture.*{other.identity}"):
        live.load(tmp_path / "model")


def test_labels_are_there_again_in_the_next_session(embedded, slide_file, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_VIRCHOW_STORE", str(tmp_path))
    with Session(device="cpu") as first:
        slide = first.open_slide(slide_file)
        class_id = first.labels.add_class("Fat", "#112233").id
        first.classification.label(slide, MPP, [Tile(1, 2)], class_id)
        first.labels.set_view(slide.identity, {"zoom": 2})
    with Session(device="cpu") as second:
        slide = second.open_slide(slide_file)
        assert second.labels.get(slide.identity, slide.grid(MPP).name) == {Tile(1, 2): class_id}
        assert second.labels.classes[0].color == "#112233"
        assert second.labels.view(slide.identity) == {"zoom": 2}


def test_only_the_newest_job_runs():
    errors, ran, gate = [], [], threading.Event()
    latest = Latest("test", errors.append)
    latest.put(gate.wait)
    for n in range(5):
        latest.put(lambda n=n: ran.append(n))
    gate.set()
    assert latest.wait(5)
    assert ran in ([4], [0, 4], [1, 4], [2, 4], [3, 4])

    def fail():
        raise ValueError("no")

    latest.put(fail)
    assert latest.wait(5)
    assert str(errors[0]) == "no"
    latest.close()
    latest.put(fail)
