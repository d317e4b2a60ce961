"""GeoJSON geometries and shapely's: reading any, writing only what every QuPath accepts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from napari_virchow.qupath.steps import AT_ONCE

GRID = 0.01  # px; QuPath 0.6 and later put coordinates on it
KINDS = ("Point", "MultiPoint", "LineString", "Polygon", "MultiPolygon")
_READ = (*KINDS, "MultiLineString", "GeometryCollection")
Json = dict[str, Any]


class GeometryError(ValueError):
    """A geometry that cannot be read; a few words say why."""


def parse_many(geometries: Sequence[Any]) -> list[BaseGeometry | GeometryError]:
    """Return the shapely geometry of each GeoJSON geometry, or what is wrong with it.

    Plain polygons, which are nearly all there is in large files, are made all at once.
    """
    found: list[BaseGeometry | GeometryError | None] = [None] * len(geometries)
    plain = [n for n, one in enumerate(geometries) if _is_plain(one)]
    for start in range(0, len(plain), AT_ONCE):
        some = plain[start : start + AT_ONCE]
        for number, shape in zip(some, _plain([geometries[n] for n in some]), strict=True):
            found[number] = shape
    return [
        _parsed(one) if shape is None else shape
        for one, shape in zip(geometries, found, strict=True)
    ]


def parse(geometry: Any) -> BaseGeometry:
    """Return the shapely geometry of a GeoJSON geometry; open rings are closed.

    Raises
    ------
    GeometryError
        If it is none, or has coordinates that are no finite numbers.
    """
    if geometry is None:
        raise GeometryError("geometry is null or missing")
    if not isinstance(geometry, dict):
        raise GeometryError(f"geometry is a {type(geometry).__name__}, not an object")
    kind = geometry.get("type")
    if kind not in _READ:
        raise GeometryError(f"geometry has the unknown type {kind!r}")
    if kind == "GeometryCollection":
        parts = geometry.get("geometries")
        if not isinstance(parts, list):
            raise GeometryError("a GeometryCollection has no geometries")
        return shapely.GeometryCollection([parse(part) for part in parts])
    coordinates = geometry.get("coordinates")
    if not isinstance(coordinates, list):
        raise GeometryError(f"{kind} has no coordinates")
    return _built(kind, coordinates)


def rings_are_closed(geometry: Json) -> bool:
    """Say whether all rings of a polygon or multipolygon in JSON are closed, with 4 points."""
    polygons = geometry["coordinates"]
    if geometry["type"] == "Polygon":
        polygons = [polygons]
    rings = [ring for polygon in polygons for ring in polygon]
    closed = all(len(ring) >= 4 and ring[0] == ring[-1] for ring in rings)
    return closed and bool(polygons) and all(polygons)


def repaired_polygon(shape: BaseGeometry) -> BaseGeometry:
    """Return the valid polygons of a shape on QuPath's grid; empty if nothing with an area is left.

    One polygon comes as Polygon, more as MultiPolygon.
    """
    sound = shapely.force_2d(shape if shape.is_valid else _made_valid(shape))
    whole = shapely.set_precision(polygons_of(sound), GRID)
    parts = [part for part in shapely.get_parts(polygons_of(whole)) if part.area > 0]
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _made_valid(shape: BaseGeometry) -> BaseGeometry:
    """Return a valid shape of polygons that cross themselves, without rings of under 3 corners."""
    parts = []
    for polygon in shapely.get_parts(shape):
        shell, *holes = shapely.get_rings(polygon)
        if _is_ring(shell):
            parts.append(shapely.Polygon(shell, [hole for hole in holes if _is_ring(hole)]))
    if not parts:
        return shapely.Polygon()
    return shapely.make_valid(parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts))


def _is_ring(ring: BaseGeometry) -> bool:
    return len(np.unique(shapely.get_coordinates(ring), axis=0)) >= 3


def polygons_of(shape: BaseGeometry) -> BaseGeometry:
    """Return only what of a shape has an area, as one Polygon or MultiPolygon."""
    if shape.geom_type in ("Polygon", "MultiPolygon"):
        return shape
    parts = [p for p in _flat_parts(shape) if p.geom_type == "Polygon" and not p.is_empty]
    if not parts:
        return shapely.Polygon()
    merged = shapely.union_all([part if part.is_valid else part.buffer(0) for part in parts])
    return merged if merged.geom_type in ("Polygon", "MultiPolygon") else polygons_of(merged)


def lines_of(shape: BaseGeometry) -> list[BaseGeometry]:
    """Return the lines of a shape that have a length."""
    parts = _flat_parts(shape)
    return [p for p in parts if p.geom_type == "LineString" and p.length > 0]


def points_of(shape: BaseGeometry) -> list[BaseGeometry]:
    """Return the points of a shape."""
    return [p for p in _flat_parts(shape) if p.geom_type == "Point" and not p.is_empty]


def to_json(shape: BaseGeometry) -> Json:
    """Return a shapely geometry as GeoJSON, rounded to 0.01 px, z left out.

    Raises
    ------
    GeometryError
        If it is of a type that some version of QuPath refuses.
    """
    kind = shape.geom_type
    if kind == "Point":
        return {"type": kind, "coordinates": _points(shape)[0]}
    if kind in ("MultiPoint", "LineString"):
        return {"type": kind, "coordinates": _points(shape)}
    if kind == "Polygon":
        return {"type": kind, "coordinates": _rings(shape)}
    if kind == "MultiPolygon":
        return {"type": kind, "coordinates": [_rings(p) for p in shapely.get_parts(shape)]}
    raise GeometryError(f"QuPath does not read every {kind}")


def bounds_of(shapes: Sequence[BaseGeometry]) -> NDArray[np.float64]:
    """Return left, top, right, bottom of each shape, (n, 4)."""
    starts = range(0, len(shapes), AT_ONCE)
    parts = [shapely.bounds(list(shapes[n : n + AT_ONCE])) for n in starts]
    return np.concatenate([np.empty((0, 4)), *parts])


def rounded(points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return coordinates with two decimals, as QuPath writes them, and no -0.0."""
    return np.asarray(np.round(points, 2) + 0.0, np.float64)


def _points(shape: BaseGeometry) -> list[list[float]]:
    points: list[list[float]] = rounded(shapely.get_coordinates(shape)).tolist()
    return points


def _rings(polygon: BaseGeometry) -> list[list[list[float]]]:
    return [_points(ring) for ring in shapely.get_rings(polygon)]


def _flat_parts(shape: BaseGeometry) -> list[BaseGeometry]:
    parts = list(shapely.get_parts(shape))
    if shape.geom_type == "GeometryCollection":
        return [leaf for part in parts for leaf in _flat_parts(part)]
    return parts


def _is_plain(geometry: Any) -> bool:
    """Say whether this is a polygon of one closed ring."""
    if not isinstance(geometry, dict) or geometry.get("type") != "Polygon":
        return False
    rings = geometry.get("coordinates")
    if not isinstance(rings, list) or len(rings) != 1 or not isinstance(rings[0], list):
        return False
    ring = rings[0]
    return len(ring) >= 4 and isinstance(ring[0], list) and ring[0] == ring[-1]


def _plain(geometries: list[Json]) -> list[BaseGeometry | None]:
    """Return polygons of one closed ring; None where one needs a closer look."""
    rings = [one["coordinates"][0] for one in geometries]
    if not rings:
        return []
    try:
        points = np.array(list(chain.from_iterable(rings)), np.float64)
    except (ValueError, TypeError, OverflowError):
        points = np.empty((0, 0))
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        return [None] * len(rings)
    ends = np.concatenate([[0], np.cumsum([len(ring) for ring in rings])])
    every = np.arange(len(rings) + 1)
    made = shapely.from_ragged_array(shapely.GeometryType.POLYGON, points, (ends, every))
    return list(made)


def _parsed(geometry: Any) -> BaseGeometry | GeometryError:
    try:
        return parse(geometry)
    except GeometryError as error:
        return error


def _built(kind: str, coordinates: list[Any]) -> BaseGeometry:
    if kind == "Point":
        return shapely.Point(_array([coordinates])[0])
    if kind == "MultiPoint":
        return shapely.MultiPoint(_array(coordinates))
    if kind == "LineString":
        return _line(coordinates)
    _refuse_unless_lists(kind, coordinates)
    if kind == "MultiLineString":
        return shapely.MultiLineString([_line(line) for line in coordinates])
    if kind == "Polygon":
        return _polygon(coordinates)
    for polygon in coordinates:
        _refuse_unless_lists(kind, polygon)
    return shapely.MultiPolygon([_polygon(polygon) for polygon in coordinates])


def _line(points: Any) -> BaseGeometry:
    array = _array(points)
    if len(array) < 2:
        raise GeometryError("a line needs two points")
    return shapely.LineString(array)


def _polygon(rings: list[Any]) -> BaseGeometry:
    shell, *holes = [_ring(ring) for ring in rings] or [np.empty((0, 2))]
    if not len(shell):
        return shapely.Polygon()
    return shapely.Polygon(shell, [hole for hole in holes if len(hole)])


def _ring(points: Any) -> NDArray[np.float64]:
    array = _array(points)
    if len(array) and (array[0] != array[-1]).any():
        array = np.concatenate([array, array[:1]])
    missing = 4 - len(array)
    return np.concatenate([array, *[array[-1:]] * missing]) if len(array) else array


def _array(points: Any) -> NDArray[np.float64]:
    """Return (n, 2) coordinates; a third value is left out."""
    if not isinstance(points, list):
        raise GeometryError("coordinates are not a list")
    if not points:
        return np.empty((0, 2))
    for point in points:
        if not isinstance(point, list) or len(point) < 2:
            raise GeometryError(f"{point!r} is not a pair of coordinates")
    try:
        array = np.array([point[:2] for point in points], np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise GeometryError("coordinates are not numbers") from error
    if not np.isfinite(array).all():
        raise GeometryError("coordinates are not finite")
    return array


def _refuse_unless_lists(kind: str, value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(part, list) for part in value):
        raise GeometryError(f"the coordinates of a {kind} are not nested as they must be")
