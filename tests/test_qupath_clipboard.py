"""Objects go to QuPath's clipboard as text and come back from it."""

import json

import numpy as np
import pytest
import shapely

from napari_virchow.qupath.export import SlideTiles, objects_text, tiles_text
from napari_virchow.qupath.frame import SlideBox, bounds_frame
from napari_virchow.qupath.geojson import GeoJsonError, parse_geojson
from napari_virchow.qupath.objects import PathObject
from napari_virchow.qupath.placing import to_slide
from napari_virchow.tiles import Rect, TileGrid

FRAME = bounds_frame(SlideBox(700, 500, Rect(100, 50, 300, 200)))


def boxes(n):
    return [
        PathObject(
            f"{k:08x}-2222-3333-4444-555555555555", "annotation", shapely.box(k, 60, k + 5, 67)
        )
        for k in range(n)
    ]


@pytest.mark.parametrize("n", [1, 5000])
def test_what_was_copied_is_pasted_with_the_same_ids_in_the_same_place(n):
    text = objects_text(boxes(n), FRAME)
    assert '"geometry"' in text and '"feature"' in text.lower()
    pasted = to_slide(parse_geojson(text).objects, FRAME)
    assert [one.id for one in pasted] == [one.id for one in boxes(n)]
    assert all(a.geometry.equals(b.geometry) for a, b in zip(pasted, boxes(n), strict=True))


def test_tiles_are_copied_as_tiles_and_say_their_frame():
    where = SlideTiles("slide", TileGrid(700, 500, (0.5, 0.5)), np.array([[0, 1], [1, 2]]), FRAME)
    found = parse_geojson(tiles_text(where))
    assert [one.object_type for one in found.objects] == ["tile", "tile"]
    assert found.block["frame"]["name"] == "bounds"


@pytest.mark.parametrize("wrapped", [False, True])
def test_one_object_as_qupath_copies_it_is_pasted(wrapped):
    feature = json.loads(objects_text(boxes(1)))["features"][0]
    text = json.dumps([feature] if wrapped else feature, indent=2)
    assert [one.id for one in parse_geojson(text).objects] == [boxes(1)[0].id]


@pytest.mark.parametrize("text", ["", "some words", "{", "5", '{"a": 5}', "[5]"])
def test_other_text_is_refused_in_a_sentence_or_has_no_objects(text):
    try:
        found = parse_geojson(text, "the clipboard")
    except GeoJsonError as error:
        assert str(error).startswith("the clipboard is") and str(error).endswith(".")
    else:
        assert found.objects == () and found.problems
