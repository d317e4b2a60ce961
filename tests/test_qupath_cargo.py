"""What is pushed to QuPath: a session's predictions and regions, in pieces."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from tests.fakes import FakeSlide

from napari_virchow.classify import ClassInfo
from napari_virchow.classify.predictions import Predictions
from napari_virchow.labels.edits import LabelClass
from napari_virchow.qupath.cargo import classes_of, count, gather, pieces
from napari_virchow.qupath.export import labelled_tiles
from napari_virchow.qupath.frame import SlideBox, whole_slide
from napari_virchow.qupath.live_facts import LiveError
from napari_virchow.tiles import Tile

SLIDE = FakeSlide(tiles=(3, 5))
FRAME = whole_slide(SlideBox(SLIDE.width, SLIDE.height))
PLACES = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
CHANCE = np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1], np.float32)


def session(*, slide=SLIDE.identity, ids=(3, 7)):
    """A session of two classes: tumor in the left tiles, fat in the others, one of them unknown."""
    predictions = Predictions(
        "classes",
        np.array([3, 7]),
        np.where(CHANCE > 0.5, 3, 7).astype(np.int32),
        np.stack([CHANCE, 1 - CHANCE], 1),
        np.abs(2 * CHANCE - 1),
        np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.99], np.float32),
    )
    painted = SimpleNamespace(
        slide=slide, grid=SLIDE.grid(), tiles=np.array(PLACES), predictions=predictions
    )
    classes = [ClassInfo(n, name, "#000000") for n, name in zip(ids, ("Tumor", "Fat"), strict=True)]
    return SimpleNamespace(
        labels=SimpleNamespace(classes=(LabelClass(1, "Tumor", "#c80000"),)),
        classification=SimpleNamespace(
            painted=painted, unknown_above=0.95, classifier=SimpleNamespace(classes=classes)
        ),
    )


def features_of(cargo, size=2000):
    found = [piece for piece in pieces(cargo, FRAME, size)]
    features = [json.loads(piece.text)["features"] for piece in found]
    assert [piece.n for piece in found] == [len(some) for some in features]
    return [one for some in features for one in some]


def test_predictions_are_tiles_with_a_class_and_the_probability_of_each():
    cargo = gather(session(), SLIDE, "predictions")
    assert count(cargo) == 6
    first, *_, last = features_of(cargo, size=4)
    assert first["properties"]["classification"] == {"name": "Tumor", "color": [200, 0, 0]}
    measured = first["properties"]["measurements"]
    assert measured.keys() == {"p(Tumor)", "p(Fat)", "margin", "novelty"}
    assert measured["p(Tumor)"] == pytest.approx(0.9)
    assert "classification" not in last["properties"]  # unlike anything labelled
    assert len({one["id"] for one in features_of(cargo)}) == 6


def test_classes_that_are_labelled_have_the_colour_of_the_labels():
    found = classes_of(gather(session(), SLIDE, "predictions"))
    assert {one.name: one.hex_color for one in found} == {"Tumor": "#c80000", "Fat": "#000000"}


def test_regions_are_one_annotation_for_each_connected_area():
    cargo = gather(session(), SLIDE, "regions")
    features = features_of(cargo)
    tumor = [f for f in features if f["properties"]["classification"]["name"] == "Tumor"]
    assert {f["properties"]["objectType"] for f in features} == {"annotation"}
    assert len(tumor) == 1 and tumor[0]["properties"]["measurements"]["tiles"] == 3
    assert {one.name for one in classes_of(cargo)} == {"Tumor", "Fat"}


def test_labelled_tiles_go_row_by_row_with_their_class():
    tiles, ids = labelled_tiles({Tile(3, 1): 7, Tile(0, 9): 5, Tile(3, 0): 6, Tile(0, 2): 7})
    assert tiles.tolist() == [[0, 2], [0, 9], [3, 0], [3, 1]]
    assert ids.tolist() == [7, 5, 6, 7]
    assert [len(part) for part in labelled_tiles({})] == [0, 0]


def test_objects_may_be_listed_only_when_they_are_pushed():
    objects = [object(), object()]
    assert gather(session(), SLIDE, lambda: objects) == objects


@pytest.mark.parametrize(
    ("given", "what"),
    [(session(slide="other"), "no predictions"), (session(ids=(3, 8)), "have just changed")],
)
def test_predictions_of_another_slide_or_other_classes_are_not_pushed(given, what):
    with pytest.raises(LiveError, match=what):
        gather(given, SLIDE, "predictions")
