"""Objects as pieces that can be drawn and edited one by one, and back without loss.

A drawing program knows plain polygons, ellipses, lines and points. A polygon with holes goes to it
as one line that walks along every ring and between them on bridges, each used twice.
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

Kind = Literal["polygon", "rectangle", "ellipse", "path", "point"]
Points = NDArray[np.float64]
UNCLASSIFIED = "#ff0000"  # what QuPath draws annotations without a class in


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One thing to draw.

    Parameters
    ----------
    kind : str
        "polygon", "rectangle", "ellipse" (by the corners of its box), "path" or "point".
    points : ndarray of shape (n, 2)
        x, y in level-0 pixels, each once; of a polygon ring by ring, the outer one first.
    rings : tuple of int
        How many of the points each ring has.
    """

    kind: Kind
    points: Points
    rings: tuple[int, ...]

    @property
    def walk(self) -> NDArray[np.intp]:
        """The order in which the points are drawn, (m,): those at a bridge come several times."""
        starts = np.concatenate([[0], np.cumsum(self.rings)]).astype(int)
        order = list(range(self.rings[0]))
        for start, length in zip(starts[1:-1], self.rings[1:], strict=True):
            order += [0, *range(start, start + length), start]
        return np.array(order, np.intp)

    @property
    def vertices(self) -> Points:
        """What to draw, (m, 2); closed by going back to the first, but for a path."""
        return self.points[self.walk]


def pieces_of(one: PathObject) -> list[Piece]:
    """Return what an object looks like, piece by piece; `with_pieces` takes them back."""
    if one.is_ellipse and not one.geometry.is_empty:
        return [Piece("ellipse", _box(one.geometry), (4,))]
    return [_piece(part) for part in _leaves(one.geometry)]


def with_pieces(one: PathObject, pieces: Sequence[Piece]) -> PathObject | None:
    """Return an object that looks like these pieces; None where nothing is left of it.

    Class, name, measurements and all else stay as they are.
    """
    if not pieces:
        return None
    if len(pieces) == 1 and pieces[0].kind == "ellipse":
        return _with_ellipse(one, pieces[0])
    shapes = [_shape(piece) for piece in pieces]
    several = one.geometry.geom_type.startswith("Multi") and not one.is_ellipse
    points = all(shape.geom_type == "Point" for shape in shapes)
    if len(shapes) == 1 and not (several and points):
        return replace(one, geometry=shapes[0], is_ellipse=False)
    kinds = {shape.geom_type for shape in shapes}
    if len(kinds) > 1:
        whole: BaseGeometry = shapely.GeometryCollection(shapes)
    elif kinds == {"Polygon"}:
        whole = shapely.MultiPolygon(shapes)
    elif kinds == {"Point"}:
        whole = shapely.MultiPoint(shapes)
    else:
        whole = shapely.MultiLineString(shapes)
    return replace(one, geometry=whole, is_ellipse=False)


def edited_piece(piece: Piece, vertices: NDArray[np.floating[Any]], kind: Kind) -> Piece | None:
    """Return a piece after its drawing was edited; the points that nobody moved stay exact.

    Parameters
    ----------
    piece : Piece
        As it was drawn.
    vertices : ndarray of shape (k, 2)
        As they are drawn now, perhaps as 32-bit floats.
    kind : str
        What it is drawn as now.

    Returns
    -------
    Piece or None
        None where too little is left to draw. A point of a bridge that was moved moves all of it;
        a point put onto a bridge is left out; a hole of under three points is closed.
    """
    new = np.asarray(vertices, np.float64)
    old = piece.vertices.astype(np.asarray(vertices).dtype).astype(np.float64)
    walk = piece.walk
    if len(new) == len(old):
        points = piece.points.copy()
        moved = (new != old).any(axis=1)
        points[walk[moved]] = new[moved]
        return Piece(kind, points, piece.rings)
    if len(new) == len(old) + 1:
        at = _first_difference(new, old)
        if (new[at + 1 :] == old[at:]).all():
            return _inserted(piece, at, new[at], kind)
    if len(new) == len(old) - 1:
        at = _first_difference(new, old)
        if (new[at:] == old[at + 1 :]).all():
            return _without(piece, int(walk[at]), kind)
    return drawn_piece(kind, new)


def drawn_piece(kind: Kind, vertices: NDArray[np.floating[Any]]) -> Piece | None:
    """Return the piece of something newly drawn, or None where it is too little to be anything."""
    points = np.asarray(vertices, np.float64)
    needed = {"point": 1, "path": 2}.get(kind, 3)
    if len(np.unique(points, axis=0)) < needed or not np.isfinite(points).all():
        return None
    return Piece(kind, points, (len(points),))


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


def _piece(shape: BaseGeometry) -> Piece:
    if shape.geom_type != "Polygon":
        kind: Kind = "point" if shape.geom_type == "Point" else "path"
        points = shapely.get_coordinates(shape)
        return Piece(kind, points, (len(points),))
    rings = [shapely.get_coordinates(ring)[:-1] for ring in shapely.get_rings(shape)]
    lengths = tuple(len(ring) for ring in rings)
    points = np.concatenate(rings)
    upright = lengths == (4,) and len(np.unique(points, axis=0)) == 4
    if upright and all(len(np.unique(points[:, axis])) == 2 for axis in (0, 1)):
        return Piece("rectangle", points, lengths)
    return Piece("polygon", points, lengths)


def _shape(piece: Piece) -> BaseGeometry:
    if piece.kind == "point":
        return shapely.Point(piece.points[0])
    if piece.kind == "path":
        return shapely.LineString(piece.points)
    if piece.kind == "ellipse":
        return _ellipse(piece.points)
    rings = np.split(piece.points, np.cumsum(piece.rings)[:-1])
    return shapely.Polygon(rings[0], rings[1:])


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


def _ring_of(piece: Piece, point: int) -> int:
    return int(np.searchsorted(np.cumsum(piece.rings), point, side="right"))


def _inserted(piece: Piece, at: int, point: Points, kind: Kind) -> Piece:
    """Return a piece with one more point, drawn between the ones before and after place `at`."""
    walk = piece.walk
    if kind == "path":
        return Piece(kind, np.insert(piece.points, at, point, axis=0), (len(piece.points) + 1,))
    before, after = int(walk[at - 1]), int(walk[at % len(walk)])
    ring = _ring_of(piece, before)
    if ring != _ring_of(piece, after):
        return piece
    rings = tuple(n + (number == ring) for number, n in enumerate(piece.rings))
    return Piece(kind, np.insert(piece.points, before + 1, point, axis=0), rings)


def _without(piece: Piece, point: int, kind: Kind) -> Piece | None:
    ring = _ring_of(piece, point)
    needed = 2 if kind == "path" else 3
    if piece.rings[ring] > needed:
        rings = tuple(n - (number == ring) for number, n in enumerate(piece.rings))
        return Piece(kind, np.delete(piece.points, point, axis=0), rings)
    if ring == 0:
        return None
    start = sum(piece.rings[:ring])
    gone = range(start, start + piece.rings[ring])
    rings = piece.rings[:ring] + piece.rings[ring + 1 :]
    return Piece(kind, np.delete(piece.points, gone, axis=0), rings)
