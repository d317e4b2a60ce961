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


def test_every_ring_is_a_line_of_its_own_that_ends_where_it_began():
    pieces = pieces_of(an_object(shapely.Polygon(SHELL, HOLES)))
    assert [(p.kind, p.part, p.ring, len(p.points)) for p in pieces] == [
        ("ring", 0, 0, 4),
        ("ring", 0, 1, 3),
        ("ring", 0, 2, 4),
    ]
    assert pieces[1].vertices.tolist() == [[10, 10], [10, 30], [30, 30], [10, 10]]


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
    far = shapely.transform(shapely.Polygon(SHELL), lambda xy: xy + 98765.43)
    [piece] = pieces_of(an_object(far))
    vertices = as_drawn(piece)
    assert (vertices != piece.vertices).any()
    vertices[2] += 3
    after = edited_piece(piece, vertices)
    moved = (after.points != piece.points).any(axis=1)
    assert np.flatnonzero(moved).tolist() == [2]


@pytest.mark.parametrize("place", [0, 4])
def test_moving_either_end_of_a_ring_moves_the_corner_they_both_are(place):
    [piece] = pieces_of(an_object(shapely.Polygon(SHELL)))
    vertices = as_drawn(piece)
    vertices[place] = (-5, -7)
    after = edited_piece(piece, vertices)
    assert after.points[0].tolist() == [-5, -7]
    assert (after.points[1:] == piece.points[1:]).all()
    assert after.vertices[4].tolist() == [-5, -7]


@pytest.mark.parametrize(("at", "place"), [(0, 4), (1, 1), (3, 3), (4, 4), (5, 4)])
def test_a_point_that_is_put_in_comes_where_it_was_put(at, place):
    [piece] = pieces_of(an_object(shapely.Polygon(SHELL)))
    after = edited_piece(piece, np.insert(as_drawn(piece), at, (41, 43), axis=0))
    assert len(after.points) == 5
    assert after.points[place].tolist() == [41, 43]
    assert (np.delete(after.points, place, 0) == piece.points).all()


@pytest.mark.parametrize(("at", "gone"), [(0, 0), (1, 1), (3, 3), (4, 0)])
def test_a_point_that_is_taken_out_is_gone_alone(at, gone):
    [piece] = pieces_of(an_object(shapely.Polygon(SHELL)))
    after = edited_piece(piece, np.delete(as_drawn(piece), at, 0))
    assert (after.points == np.delete(piece.points, gone, 0)).all()


def test_lines_are_edited_at_both_ends():
    [piece] = pieces_of(an_object(shapely.LineString([(1, 1), (5, 2), (7, 9)])))
    for at in range(4):
        after = edited_piece(piece, np.insert(as_drawn(piece), at, (3, 30), axis=0))
        assert after.points.tolist() == np.insert(piece.points, at, (3, 30), 0).tolist()
    assert edited_piece(piece, piece.points[1:]).points.tolist() == [[5, 2], [7, 9]]
    assert edited_piece(edited_piece(piece, piece.points[1:]), piece.points[2:]) is None


def test_what_is_drawn_quite_differently_is_taken_as_it_is():
    [piece] = pieces_of(an_object(shapely.Polygon(SHELL)))
    after = edited_piece(piece, np.array([(0, 0), (9, 0), (9, 9), (0, 0)]) + 3)
    assert after.points.tolist() == [[3, 3], [12, 3], [12, 12]]


def test_a_hole_is_filled_alone_and_goes_with_what_is_around_it():
    one = an_object(
        shapely.MultiPolygon([shapely.Polygon(SHELL, HOLES), shapely.box(200, 1, 207, 9)])
    )
    pieces = pieces_of(one)
    filled = with_pieces(one, [p for p in pieces if (p.part, p.ring) != (0, 1)])
    assert filled.geometry.area == pytest.approx(one.geometry.area + 200)
    less = with_pieces(one, [p for p in pieces if (p.part, p.ring) != (0, 0)])
    assert less.geometry.equals(shapely.box(200, 1, 207, 9))


def test_a_triangle_without_a_corner_is_nothing():
    [piece] = pieces_of(an_object(shapely.Polygon(SHELL[:3])))
    assert edited_piece(piece, np.delete(as_drawn(piece), 1, 0)) is None
    assert with_pieces(an_object(shapely.Polygon(SHELL[:3])), []) is None


def test_an_ellipse_stays_one_when_its_box_changes_and_becomes_a_polygon_when_turned():
    box = shapely.Polygon([(2, 3), (12, 3), (12, 9), (2, 9)])
    one = an_object(box, is_ellipse=True)
    [piece] = pieces_of(one)
    assert piece.kind == "ellipse"
    assert with_pieces(one, [piece]) is one
    wider = edited_piece(piece, piece.vertices + [(0, 0), (4, 0), (4, 0), (0, 0)])
    changed = with_pieces(one, [wider])
    assert changed.is_ellipse
    assert changed.geometry.bounds == pytest.approx((2, 3, 16, 9))
    turned = edited_piece(piece, np.array([(7, 0), (12, 6), (7, 12), (2, 6)]))
    askew = with_pieces(one, [turned])
    assert not askew.is_ellipse
    assert askew.geometry.area == pytest.approx(np.pi * 15, rel=2e-3)


def test_of_an_edited_object_only_the_geometry_changes_in_the_file():
    rings = [[*SHELL, SHELL[0]], [*HOLES[0], HOLES[0][0]]]
    other = [[(200, 1), (207, 1), (207, 9), (200, 1)]]
    one = a_feature({"type": "MultiPolygon", "coordinates": [rings, other], "plane": {"z": 3}})
    first, *rest = pieces_of(one)
    vertices = as_drawn(first)
    vertices[1] += (0, -4)
    changed = with_pieces(one, [edited_piece(first, vertices), *rest])
    assert changed.edited == {"geometry"}
    before, after = one.raw, to_feature(changed, Repairs())
    assert {k: v for k, v in after.items() if k != "geometry"} == {
        k: v for k, v in before.items() if k != "geometry"
    }
    assert after["geometry"]["plane"] == {"z": 3}
    assert after["geometry"]["type"] == "MultiPolygon"
    assert changed.geometry.area == pytest.approx(one.geometry.area + 4 * 90 / 2, rel=1e-3)


def test_new_things_get_an_id_and_a_class_and_nothing_is_made_of_too_little():
    square = drawn_piece("ring", np.array(SHELL, np.float32))
    one, two = (new_annotation(square, PathClass.of("Tumor")) for _ in range(2))
    assert one.id != two.id
    assert one.path_class.name == "Tumor"
    assert one.geometry.geom_type == "Polygon"
    assert drawn_piece("ring", np.array([(1, 1), (2, 2), (1, 1)])) is None
    assert drawn_piece("line", np.array([(1, 1), (1, 1)])) is None
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
        drawn = [edited_piece(p, as_drawn(p)) for p in pieces]
        again = with_pieces(one, drawn)
        same = shapely.get_coordinates(again.geometry) == shapely.get_coordinates(one.geometry)
        assert same.all()
        assert again.edited <= {"geometry"}
