"""Objects as pieces that can be drawn and edited one by one, and back without loss.

A drawing program knows lines, ellipses and points. Each ring of a polygon, holes too, is drawn as a
line of its own that ends where it began.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.objects import PathObject

Kind = Literal["ring", "ellipse", "line", "point"]
Points = NDArray[np.float64]
UNCLASSIFIED = "#ff0000"  # what QuPath draws annotations without a class in
_NEEDED = {"ring": 3, "ellipse": 3, "line": 2, "point": 1}


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One thing to draw.

    Parameters
    ----------
    kind : str
        "ring", "ellipse" (by the corners of its box), "line" or "point".
    points : ndarray of shape (n, 2)
        x, y in level-0 pixels; those of a ring each once.
    part : int
        Which of the parts of the object it belongs to.
    ring : int
        Which ring of the part it is: 0 goes around it, the others around its holes.
    """

    kind: Kind
    points: Points
    part: int = 0
    ring: int = 0

    @property
    def vertices(self) -> Points:
        """What to draw, (m, 2): a ring comes back to its first point."""
        return (
            np.concatenate([self.points, self.points[:1]]) if self.kind == "ring" else self.points
        )


def pieces_of(one: PathObject) -> list[Piece]:
    """Return what an object looks like, piece by piece; `with_pieces` takes them back."""
    if one.is_ellipse and not one.geometry.is_empty:
        return [Piece("ellipse", _box(one.geometry))]
    pieces = []
    for part, shape in enumerate(_leaves(one.geometry)):
        if shape.geom_type == "Polygon":
            rings = [shapely.get_coordinates(ring)[:-1] for ring in shapely.get_rings(shape)]
            pieces += [Piece("ring", points, part, ring) for ring, points in enumerate(rings)]
        else:
            kind: Kind = "point" if shape.geom_type == "Point" else "line"
            pieces.append(Piece(kind, shapely.get_coordinates(shape), part))
    return pieces


def with_pieces(one: PathObject, pieces: Sequence[Piece]) -> PathObject | None:
    """Return an object that looks like these pieces; None where nothing is left of it.

    Class, name, measurements and all else stay as they are. A hole goes with the ring around it.
    """
    if len(pieces) == 1 and pieces[0].kind == "ellipse":
        return _with_ellipse(one, pieces[0])
    shapes = []
    for part in sorted({piece.part for piece in pieces}):
        mine = sorted((p for p in pieces if p.part == part), key=lambda piece: piece.ring)
        if mine[0].ring == 0:
            shapes.append(_shape(mine))
    if not shapes:
        return None
    kinds = {shape.geom_type for shape in shapes}
    whole: BaseGeometry
    if len(kinds) > 1:
        whole = shapely.GeometryCollection(shapes)
    elif kinds == {"Point"} and (len(shapes) > 1 or one.geometry.geom_type == "MultiPoint"):
        whole = shapely.MultiPoint(shapes)
    elif len(shapes) == 1:
        whole = shapes[0]
    else:
        polygons = kinds == {"Polygon"}
        whole = shapely.MultiPolygon(shapes) if polygons else shapely.MultiLineString(shapes)
    return replace(one, geometry=whole, is_ellipse=False)


def edited_piece(
    piece: Piece,
    vertices: NDArray[np.floating[Any]],
    before: NDArray[np.floating[Any]] | None = None,
) -> Piece | None:
    """Return a piece after its drawing was edited; the points that nobody moved stay exact.

    Parameters
    ----------
    piece : Piece
        As it was drawn.
    vertices : ndarray of shape (m, 2)
        As they are drawn now, perhaps as 32-bit floats.
    before : ndarray of shape (k, 2), optional
        As they were drawn, if that is not just `piece.vertices` in the precision of `vertices`.

    Returns
    -------
    Piece or None
        None where too little is left to draw. Where the first or the last point of a ring was
        moved or taken out, both were: they are one.
    """
    new = np.asarray(vertices, np.float64)
    was = piece.vertices.astype(np.asarray(vertices).dtype) if before is None else before
    old = np.asarray(was, np.float64)
    n = len(piece.points)
    if len(new) == len(old):
        points = piece.points.copy()
        moved = np.flatnonzero((new != old).any(axis=1))
        points[moved % n] = new[moved]
        return replace(piece, points=points)
    at = _first_difference(new, old)
    if len(new) == len(old) + 1 and (new[at + 1 :] == old[at:]).all():
        # In front of the first point of a ring is behind the last.
        place = n if piece.kind == "ring" and at == 0 else min(at, n)
        return replace(piece, points=np.insert(piece.points, place, new[at], axis=0))
    if len(new) == len(old) - 1 and (new[at:] == old[at + 1 :]).all():
        points = np.delete(piece.points, at % n, axis=0)
        return replace(piece, points=points) if len(points) >= _NEEDED[piece.kind] else None
    found = drawn_piece(piece.kind, new)
    return None if found is None else replace(piece, points=found.points)


def drawn_piece(kind: Kind, vertices: NDArray[np.floating[Any]]) -> Piece | None:
    """Return the piece of something newly drawn, or None where it is too little to be anything."""
    points = np.asarray(vertices, np.float64)
    if kind == "ring" and len(points) > 1 and (points[0] == points[-1]).all():
        points = points[:-1]
    enough = len(np.unique(points, axis=0)) >= _NEEDED[kind] and np.isfinite(points).all()
    return Piece(kind, points) if enough else None


def new_annotation(piece: Piece, path_class: PathClass | None = None) -> PathObject | None:
    """Return an annotation, with an id of its own, of something newly drawn."""
    empty = PathObject(str(uuid.uuid4()), "annotation", shapely.Polygon(), path_class=path_class)
    return with_pieces(empty, [piece])


def color_of(one: PathObject) -> str:
    """Return the colour QuPath draws an object in, "#rrggbb": its own, or that of its class."""
    if one.color is not None:
        return "#{:02x}{:02x}{:02x}".format(*one.color)
    return UNCLASSIFIED if one.path_class is None else one.path_class.hex_color


def _leaves(shape: BaseGeometry) -> list[BaseGeometry]:
    if hasattr(shape, "geoms"):
        return [leaf for part in shape.geoms for leaf in _leaves(part)]
    return [] if shape.is_empty else [shape]


def _shape(rings: Sequence[Piece]) -> BaseGeometry:
    first = rings[0]
    if first.kind == "point":
        return shapely.Point(first.points[0])
    if first.kind == "line":
        return shapely.LineString(first.points)
    if first.kind == "ellipse":
        return _ellipse(first.points)
    return shapely.Polygon(first.points, [piece.points for piece in rings[1:]])


def _with_ellipse(one: PathObject, piece: Piece) -> PathObject:
    if one.is_ellipse and (piece.points == _box(one.geometry)).all():
        return one
    first, second, third, _ = piece.points
    along = np.abs(np.array([second - first, third - second])) > 1e-3
    upright = bool((along.sum(axis=1) <= 1).all())
    # A turned one has no other way to be told to QuPath than by its outline.
    return replace(one, geometry=_ellipse(piece.points), is_ellipse=upright)


def _ellipse(corners: Points) -> BaseGeometry:
    """Return the ellipse in a box, or in a box that was turned, as a polygon of 128 corners."""
    middle = corners.mean(axis=0)
    one, other = (corners[1] - corners[0]) / 2, (corners[2] - corners[1]) / 2
    angle = np.linspace(0, 2 * np.pi, 128, endpoint=False)[:, None]
    return shapely.Polygon(middle + np.cos(angle) * one + np.sin(angle) * other)


def _box(shape: BaseGeometry) -> Points:
    left, top, right, bottom = shape.bounds
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _first_difference(one: Points, other: Points) -> int:
    n = min(len(one), len(other))
    different = (one[:n] != other[:n]).any(axis=1)
    return int(different.argmax()) if different.any() else n
