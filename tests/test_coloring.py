"""Colours and legends of maps."""

from __future__ import annotations

import numpy as np
from tests.fakes import FakeSlide

from napari_virchow.labels import LabelSet
from napari_virchow.mapping import Clusters, Mapped, MappedSlide, Scope, coloring
from napari_virchow.tiles import Tile


def map_of(*slides, tiles_each=5):
    """A map of the first tiles of each slide's first row."""
    n = len(slides) * tiles_each
    return Mapped(
        1,
        Scope(0.5),
        "fake-0-class",
        tuple(MappedSlide(s.identity, s.name, s.path, s.grid()) for s in slides),
        np.repeat(np.arange(len(slides), dtype=np.int32), tiles_each),
        np.array([(0, k) for _ in slides for k in range(tiles_each)], np.int32),
        np.zeros((n, 3), np.float32),
        np.zeros((n, 2), np.float32),
        n,
        0.0,
    )


ONE, TWO = FakeSlide("one"), FakeSlide("two")


def lines(found):
    return [(e.value, e.text, e.n_tiles) for e in found.entries]


def test_labels_colour_their_tiles_on_every_slide():
    labels = LabelSet(None)
    tumour, fat = labels.add_class("Tumour").id, labels.add_class("Fat").id
    labels.label("slide-one", ONE.grid().name, [Tile(0, 1), Tile(0, 2), Tile(9, 9)], tumour)
    labels.label("slide-two", TWO.grid().name, [Tile(0, 4)], fat)
    labels.label("slide-three", TWO.grid().name, [Tile(0, 4)], fat)
    found = coloring.by_label(map_of(ONE, TWO), labels)
    assert found.value.tolist() == [0, 1, 1, 0, 0, 0, 0, 0, 0, 2]
    assert lines(found) == [(1, "Tumour", 2), (2, "Fat", 1), (0, "No label", 7)]
    assert found.entries[0].color == labels.classes[0].color


def test_predictions_are_of_one_slide_and_said_to_be():
    labels = LabelSet(None)
    labels.add_class("Gone")
    labels.add_class("Tumour")
    labels.delete_class(1)
    tiles = np.array([(0, 0), (0, 1), (0, 2), (0, 3)])
    predicted = np.array([2, 2, 0, 7])  # 7 is no class of ours
    found = coloring.by_prediction(map_of(ONE, TWO), "slide-two", tiles, predicted, labels.classes)
    assert found.value.tolist() == [0] * 5 + [1, 1, 0, 0, 0]
    assert lines(found) == [(1, "Tumour", 2), (0, "No class", 8)]
    assert "chosen" in found.note


def test_slides_beyond_the_colours_are_one_line():
    found = coloring.by_slide(map_of(*(FakeSlide(str(n)) for n in range(17)), tiles_each=3))
    assert lines(found)[0] == (1, "0", 3)
    assert lines(found)[-1] == (0, "2 other slides", 6)
    assert len({e.color for e in found.entries}) == 16


def test_clusters_have_different_colours_and_none_is_said():
    cluster = np.array([1, 1, 0, 2, 1], np.int32)
    found = coloring.by_cluster(Clusters(1, "HDBSCAN", cluster, 2, 5, 0.0))
    assert found.value.tolist() == [1, 1, 0, 2, 1]
    assert lines(found) == [(1, "Cluster 1", 3), (2, "Cluster 2", 1), (0, "In no cluster", 1)]
    assert len(set(coloring.cluster_colors(37))) == 37


def test_numbers_become_steps_of_a_ramp():
    tiles = np.array([(0, 0), (0, 1), (0, 2)])
    known = [("slide-one", tiles, np.array([0.0, 0.5, 1.0])), ("slide-gone", tiles, tiles[:, 0])]
    found = coloring.by_number(map_of(ONE), known)
    assert found.value.tolist() == [1, 128, 255, 0, 0]
    assert np.allclose(found.ramp, (0.01, 0.99))
    assert lines(coloring.by_number(map_of(ONE), [])) == [(0, "Nothing known", 5)]
