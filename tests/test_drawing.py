"""Objects become pieces to draw, pieces are edited, and nothing else of the objects changes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import shapely

from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.drawing import (
    color_of,
    drawn_piece,
    edited_piece,
    new_annotation,
    pieces_of,
    with_pieces,
)
from napari_virchow.qupath.features import to_feature
from napari_virchow.qupath.geojson import parse_geojson, read_geojson
from napari_virchow.qupath.objects import PathObject, flatten
from napari_virchow.qupath.safety import Repairs

DATA = Path(os.environ.get("NAPARI_VIRCHOW_TEST_DATA", "/nowhere")) / "geojson"
SHELL = [(0.01, 0.02), (90.03, 0), (90, 70), (0, 70)]
HOLES = [[(10, 10), (10, 30), (30, 30)], [(50, 50), (50, 60), (60, 60), (60, 50)]]
ID = "6f4dbb1c-4bb6-4f2b-a0c3-5d2e4e0c0a11"


def an_object(geometry, **options):
    return PathObject(ID, "annotation", geometry, **options)


def as_drawn(piece):
    return piece.vertices.astype(np.float32)


def a_feature(geometry):
    feature = {
        "type": "Feature",
        "id": ID,
        "geometry": geometry,
        "properties": {
            "objectType": "annotation",
            "name": "second look",
            "classification": {"name": "Tumor", "color": [200, 0, 0]},
            "measurements": {"Area px^2": 5.5},
            "isLocked": True,
            "ours": {"deep": [1, 2]},
        },
        "extra": "kept",
    }
    [one] = parse_geojson(json.dumps(feature)).objects
    return one


def test_a_polygon_with_holes_is_one_walk_that_uses_each_bridge_twice():
    [piece] = pieces_of(an_object(shapely.Polygon(SHELL, HOLES)))
    assert piece.kind == "polygon"
    assert piece.rings == (4, 3, 4)
    assert piece.walk.tolist() == [0, 1, 2, 3, 0, 4, 5, 6, 4, 0, 7, 8, 9, 10, 7]
    ends = [*piece.walk.tolist(), 0]
    sides = [frozenset(pair) for pair in zip(ends, ends[1:], strict=False)]
    once = {side for side in sides if sides.count(side) == 1}
    assert len(once) == 4 + 3 + 4
    assert {frozenset((0, 4)), frozenset((0, 7))} == set(sides) - once


@pytest.mark.parametrize(
    "geometry",
    [
        shapely.Polygon(SHELL),
        shapely.Polygon(SHELL, HOLES),
        shapely.MultiPolygon([shapely.Polygon(SHELL, HOLES), shapely.box(200, 1, 207, 9)]),
        shapely.box(3, 5, 11, 17),
        shapely.LineString([(1, 1), (5, 2), (7, 9)]),
        shapely.MultiLineString([[(1, 1), (5, 2)], [(3, 3), (4, 9)]]),
        shapely.Point(3, 4),
        shapely.MultiPoint([(3, 4), (5, 6), (7, 1)]),
        shapely.MultiPoint([(3, 4)]),
        shapely.GeometryCollection([shapely.Point(1, 2), shapely.box(3, 5, 11, 17)]),
    ],
    ids=lambda shape: shape.geom_type,
)
def test_what_is_drawn_and_taken_back_is_the_same(geometry):
    one = an_object(geometry, name="x")
    again = with_pieces(one, pieces_of(one))
    assert again.geometry.geom_type == geometry.geom_type
    assert shapely.equals_identical(again.geometry, geometry)
    assert (again.id, again.name) == (ID, "x")


def test_a_moved_corner_moves_nothing_else_not_even_by_the_rounding_of_32_bits():
    far = shapely.transform(shapely.Polygon(SHELL, HOLES), lambda xy: xy + 98765.43)
    [piece] = pieces_of(an_object(far))
    vertices = as_drawn(piece)
    assert (vertices != piece.vertices).any()
    vertices[2] += 3
    after = edited_piece(piece, vertices, "polygon")
    moved = (after.points != piece.points).any(axis=1)
    assert np.flatnonzero(moved).tolist() == [2]


@pytest.mark.parametrize("place", [0, 4, 9])
def test_moving_any_of_the_points_at_a_bridge_moves_the_corner_they_are(place):
    [piece] = pieces_of(an_object(shapely.Polygon(SHELL, HOLES)))
    vertices = as_drawn(piece)
    vertices[place] = (-5, -7)
    after = edited_piece(piece, vertices, "polygon")
    assert after.points[0].tolist() == [-5, -7]
    assert (after.vertices[[0, 4, 9]] == (-5, -7)).all()
    assert (after.points[1:] == piece.points[1:]).all()


@pytest.mark.parametrize(
    ("at", "rings", "place"),
    [
        pytest.param(2, (5, 3, 4), 2, id="in the outline"),
        pytest.param(7, (4, 4, 4), 6, id="in the first hole"),
        pytest.param(14, (4, 3, 5), 11, id="in the last side of the last hole"),
        pytest.param(5, (4, 3, 4), None, id="on a bridge"),
        pytest.param(15, (4, 3, 4), None, id="on the bridge home"),
    ],
)
def test_a_point_that_is_put_in_goes_to_the_ring_it_was_put_on(at, rings, place):
    [piece] = pieces_of(an_object(shapely.Polygon(SHELL, HOLES)))
    vertices = np.insert(as_drawn(piece), at, (41, 43), axis=0)
    after = edited_piece(piece, vertices, "polygon")
    assert after.rings == rings
    if place is not None:
        assert after.points[place].tolist() == [41, 43]


def test_a_point_that_is_taken_out_leaves_its_ring_and_a_hole_of_two_is_closed():
    [piece] = pieces_of(an_object(shapely.Polygon(SHELL, HOLES)))
    assert edited_piece(piece, np.delete(as_drawn(piece), 1, 0), "polygon").rings == (3, 3, 4)
    closed = edited_piece(piece, np.delete(as_drawn(piece), 6, 0), "polygon")
    assert closed.rings == (4, 4)
    assert (closed.points[4:] == HOLES[1]).all()


def test_a_triangle_without_a_corner_is_nothing():
    [piece] = pieces_of(an_object(shapely.Polygon(SHELL[:3])))
    assert edited_piece(piece, np.delete(as_drawn(piece), 1, 0), "polygon") is None
    assert with_pieces(an_object(shapely.Polygon(SHELL[:3])), []) is None


def test_an_ellipse_stays_one_when_its_box_changes_and_becomes_a_polygon_when_turned():
    box = shapely.Polygon([(2, 3), (12, 3), (12, 9), (2, 9)])
    one = an_object(box, is_ellipse=True)
    [piece] = pieces_of(one)
    assert piece.kind == "ellipse"
    assert with_pieces(one, [piece]) is one
    wider = edited_piece(piece, piece.vertices + [(0, 0), (4, 0), (4, 0), (0, 0)], "ellipse")
    changed = with_pieces(one, [wider])
    assert changed.is_ellipse
    assert changed.geometry.bounds == pytest.approx((2, 3, 16, 9))
    turned = edited_piece(piece, np.array([(7, 0), (12, 6), (7, 12), (2, 6)]), "ellipse")
    askew = with_pieces(one, [turned])
    assert not askew.is_ellipse
    assert askew.geometry.area == pytest.approx(np.pi * 15, rel=2e-3)


def test_of_an_edited_object_only_the_geometry_changes_in_the_file():
    rings = [[*SHELL, SHELL[0]], [*HOLES[0], HOLES[0][0]]]
    other = [[(200, 1), (207, 1), (207, 9), (200, 1)]]
    one = a_feature({"type": "MultiPolygon", "coordinates": [rings, other], "plane": {"z": 3}})
    first, second = pieces_of(one)
    vertices = as_drawn(first)
    vertices[1] += (0, -4)
    changed = with_pieces(one, [edited_piece(first, vertices, "polygon"), second])
    assert changed.edited == {"geometry"}
    before, after = one.raw, to_feature(changed, Repairs())
    assert {k: v for k, v in after.items() if k != "geometry"} == {
        k: v for k, v in before.items() if k != "geometry"
    }
    assert after["geometry"]["plane"] == {"z": 3}
    assert after["geometry"]["type"] == "MultiPolygon"
    assert changed.geometry.area == pytest.approx(one.geometry.area + 4 * 90 / 2, rel=1e-3)


def test_new_things_get_an_id_and_a_class_and_nothing_is_made_of_too_little():
    square = drawn_piece("polygon", np.array(SHELL, np.float32))
    one, two = (new_annotation(square, PathClass.of("Tumor")) for _ in range(2))
    assert one.id != two.id
    assert one.path_class.name == "Tumor"
    assert one.geometry.geom_type == "Polygon"
    assert drawn_piece("polygon", np.array([(1, 1), (2, 2), (1, 1)])) is None
    assert drawn_piece("path", np.array([(1, 1), (1, 1)])) is None
    assert drawn_piece("point", np.array([(np.nan, 1)])) is None


def test_colours_are_the_objects_own_then_its_class_and_red_without_one():
    square = shapely.box(0, 0, 1, 1)
    assert color_of(an_object(square)) == "#ff0000"
    assert color_of(an_object(square, path_class=PathClass.of("Stroma"))) == "#96c896"
    own = an_object(square, path_class=PathClass.of("Stroma"), color=(1, 2, 255))
    assert color_of(own) == "#0102ff"


@pytest.mark.skipif(not DATA.exists(), reason="needs NAPARI_VIRCHOW_TEST_DATA")
@pytest.mark.parametrize("path", sorted(DATA.rglob("*.geojson")), ids=lambda path: path.name)
def test_every_object_of_real_files_can_be_drawn_and_taken_back(path):
    for one in flatten(read_geojson(path).objects):
        pieces = pieces_of(one)
        if one.geometry.is_empty or path.name == "14_three_pts.geojson":  # a ring without area
            continue
        drawn = [edited_piece(p, as_drawn(p), p.kind) for p in pieces]
        again = with_pieces(one, drawn)
        same = shapely.get_coordinates(again.geometry) == shapely.get_coordinates(one.geometry)
        assert same.all()
        assert again.edited <= {"geometry"}
