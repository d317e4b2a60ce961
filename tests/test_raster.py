"""Many objects become one picture: tiles pixel by pixel, everything else by its area."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.export import SlideTiles, tiles_text
from napari_virchow.qupath.geojson import parse_geojson
from napari_virchow.qupath.objects import PathObject
from napari_virchow.qupath.raster import picture_of
from napari_virchow.tiles import TileGrid

TUMOR, STROMA = PathClass.of("Tumor"), PathClass.of("Stroma")


def detection(shape, kind=None, **options):
    return PathObject("", "detection", shape, path_class=kind, **options)


def test_tiles_are_a_pixel_each_though_their_corners_are_rounded():
    grid = TileGrid(90_000, 70_000, (0.2527, 0.2527))  # tiles are 443.2 px wide
    tiles = np.array([(3, 5), (3, 6), (90, 150), (11, 200)], np.int32)
    classes = [type("C", (), {"id": 7, "name": "Tumor", "color": "#c80000"})()]
    text = tiles_text(SlideTiles("s", grid, tiles), np.array([7, 0, 7, 0]), classes)
    picture = picture_of(parse_geojson(text).objects)
    assert picture.of_tiles
    assert picture.values.shape == (90 - 3 + 1, 200 - 5 + 1)
    where = {
        (r + 3, c + 5): picture.names[picture.values[r, c]] for r, c in np.argwhere(picture.values)
    }
    assert where == {(3, 5): "Tumor", (3, 6): "", (90, 150): "Tumor", (11, 200): ""}
    assert picture.step == pytest.approx(grid.step, abs=0.001)
    assert picture.origin == pytest.approx((5 * grid.step[0], 3 * grid.step[1]), abs=0.01)


def test_other_shapes_are_painted_where_they_are_and_holes_are_left():
    ring = shapely.Polygon(
        [(100, 50), (120, 50), (120, 64), (100, 64)], [[(104, 54), (116, 54), (116, 60), (104, 60)]]
    )
    below = detection(shapely.box(106, 55, 110, 58), STROMA)
    picture = picture_of([below, detection(ring, TUMOR)])
    assert not picture.of_tiles
    assert (picture.origin, picture.step) == ((100, 50), (1, 1))

    def at(x, y):
        return picture.names.get(int(picture.values[y - 50, x - 100]))

    assert at(102, 52) == "Tumor"
    assert at(108, 56) == "Stroma"
    assert at(113, 57) is None
    assert picture.colors == {1: "#96c896", 2: "#c80000"}


def test_a_large_field_is_drawn_smaller_and_an_ellipse_round():
    circle = detection(shapely.box(0, 0, 1000, 1000), TUMOR, is_ellipse=True)
    picture = picture_of([circle], limit=100)
    assert picture.values.shape == (100, 100)
    assert picture.step == (10, 10)
    assert picture.values.mean() == pytest.approx(np.pi / 4, abs=0.03)
    assert picture.values[1, 1] == 0


def test_lines_points_and_many_colours_have_a_place_too():
    found = [detection(shapely.LineString([(0, 0), (40, 40)])), detection(shapely.Point(3, 30))]
    found += [
        detection(shapely.box(50 + n, n, 55 + n, n + 3), color=(n % 256, n // 256, 9))
        for n in range(300)
    ]
    picture = picture_of(found)
    assert picture.values.dtype == np.uint16
    assert picture.values[20, 20] == 1
    assert picture.values.max() == 301


def test_nothing_is_no_picture():
    assert picture_of([]) is None
    assert picture_of([detection(shapely.Polygon())]) is None
