"""The safe writer: features that every version of QuPath reads, and a count of what was repaired.

QuPath 0.6 and later refuse a whole file for one invalid polygon, and every version does for a class
without a colour; a null where there should be none is refused by some.
"""

from __future__ import annotations

import math
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from napari_virchow.qupath.classes import parse_class, parse_color, safe_class, safe_color
from napari_virchow.qupath.objects import NAMESPACE, ObjectType
from napari_virchow.qupath.reading import (
    CHILDREN,
    TYPE_KEYS,
    Problem,
    is_uuid,
    parse_measurements,
    type_of,
)
from napari_virchow.qupath.shapes import (
    GRID,
    KINDS,
    Json,
    lines_of,
    parse,
    points_of,
    polygons_of,
    repaired_polygon,
    rings_are_closed,
    to_json,
)

# Spellings that every version reads as they are; those with a capital ("TILE") become annotations.
_SAFE_TYPES = frozenset(("annotation", "detection", "tile", "cell", "tmaCore", "tma_core", "root"))


@dataclass(slots=True)
class Repairs:
    """What was changed so that QuPath reads it.

    Attributes
    ----------
    counts : Counter of str
        How often each kind of repair was made.
    repaired : int
        Features that needed one or more.
    dropped : list of Problem
        Features left out, by index, and why.
    """

    counts: Counter[str] = field(default_factory=Counter)
    repaired: int = 0
    dropped: list[Problem] = field(default_factory=list)

    def add(self, what: str, n: int = 1) -> None:
        """Count a repair."""
        self.counts[what] += n


def safe_features(
    feature: Json,
    shape: BaseGeometry,
    index: int,
    repairs: Repairs,
    *,
    is_valid: bool,
    strict: bool = False,
) -> list[Json]:
    """Return a feature as QuPath reads it: itself if it is fine, else a repaired copy.

    Parameters
    ----------
    feature : dict
        A GeoJSON feature with a geometry; it is not changed.
    shape : shapely geometry
        Its geometry.
    index : int
        Its place, for the report.
    repairs : Repairs
        Where it is written down what was done.
    is_valid : bool
        Whether `shape` is valid.
    strict : bool
        Also leave out polygons without an area, which QuPath reads but some versions cannot write
        again, and make a Polygon of a MultiPolygon with one part.

    Returns
    -------
    list of dict
        Empty where nothing can be saved; several for several lines.
    """
    before = repairs.counts.total()
    geometries = _geometries(feature["geometry"], shape, repairs, is_valid=is_valid, strict=strict)
    if not geometries:
        repairs.dropped.append(Problem(index, "nothing with an area, a length or a place is left"))
        return []
    properties = feature.get("properties")
    fixed = _properties(feature, properties, index, repairs, strict=strict)
    nucleus = feature.get("nucleusGeometry")
    good_nucleus = _nucleus(nucleus, repairs) if nucleus is not None else None
    if repairs.counts.total() == before:
        return [feature]
    repairs.repaired += 1
    made = []
    for number, geometry in enumerate(geometries):
        copy = dict(feature) | {"geometry": geometry}
        if fixed is None:
            copy.pop("properties", None)
        else:
            copy["properties"] = fixed
        copy.pop("nucleusGeometry", None)
        if good_nucleus is not None:
            copy["nucleusGeometry"] = good_nucleus
        if number:
            copy["id"] = str(uuid.uuid5(NAMESPACE, f"{feature['id']}/{number}"))
        made.append(copy)
    return made


def safe_child(feature: Json, index: int, repairs: Repairs, *, strict: bool) -> list[Json]:
    """Return a nested feature as `safe_features` does, after looking at its geometry and id."""
    try:
        shape = parse(feature.get("geometry"))
    except ValueError as error:
        repairs.add("nested object without a geometry left out")
        repairs.dropped.append(Problem(index, f"nested: {error}"))
        return []
    feature = with_id(feature, shape, index, repairs)
    valid = bool(shape.is_valid)
    return safe_features(feature, shape, index, repairs, is_valid=valid, strict=strict)


def with_id(feature: Json, shape: BaseGeometry, index: int, repairs: Repairs) -> Json:
    """Return a feature whose id is a UUID: its own, else one that follows from place and shape."""
    if is_uuid(feature.get("id")):
        return feature
    repairs.add("id made")
    seed = f"{index}/{repairs.counts['id made']}/{shape.wkt}"
    return feature | {"id": str(uuid.uuid5(NAMESPACE, seed))}


def without_nulls(value: Any, repairs: Repairs) -> Any:
    """Return JSON without nulls and numbers that are not finite, at any depth."""
    if isinstance(value, dict):
        kept = {k: without_nulls(v, repairs) for k, v in value.items() if not _is_nothing(v)}
        if len(kept) < len(value):
            repairs.add("null or non-finite value left out", len(value) - len(kept))
        return kept
    if isinstance(value, list):
        entries = [without_nulls(v, repairs) for v in value if not _is_nothing(v)]
        if len(entries) < len(value):
            repairs.add("null or non-finite value left out", len(value) - len(entries))
        return entries
    return value


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _geometries(
    geometry: Json, shape: BaseGeometry, repairs: Repairs, *, is_valid: bool, strict: bool
) -> list[Json]:
    """Return the geometries that take the place of one; itself if it is fine."""
    kind = geometry["type"]
    if shape.is_empty:
        return []
    if kind in ("Polygon", "MultiPolygon"):
        if is_valid and rings_are_closed(geometry):
            return _sound_polygon(geometry, shape, repairs, strict=strict)
        return _mended_polygon(geometry, shape, repairs, strict=strict)
    if kind == "LineString" and not shape.length > 0:
        repairs.add("line without a length made a point")
        return [_like(geometry, shapely.Point(shapely.get_coordinates(shape)[0]))]
    if kind in KINDS:
        return [geometry]
    return _split(geometry, shape, repairs)


def _sound_polygon(
    geometry: Json, shape: BaseGeometry, repairs: Repairs, *, strict: bool
) -> list[Json]:
    if not strict:
        return [geometry]
    if shapely.set_precision(shape, GRID).is_empty:
        return []
    if geometry["type"] == "MultiPolygon" and len(geometry["coordinates"]) == 1:
        repairs.add("MultiPolygon of one part made a Polygon")
        return [geometry | {"type": "Polygon", "coordinates": geometry["coordinates"][0]}]
    return [geometry]


def _mended_polygon(
    geometry: Json, shape: BaseGeometry, repairs: Repairs, *, strict: bool
) -> list[Json]:
    mended = repaired_polygon(shape)
    if mended.is_empty:
        # Without an area, yet every version reads it, as long as its ring is closed.
        if strict or not _closed_polygon(geometry):
            return []
        return [geometry]
    closed = _closed_polygon(geometry)
    repairs.add("invalid polygon made valid" if closed else "unclosed ring closed")
    return [_like(geometry, mended)]


def _closed_polygon(geometry: Json) -> bool:
    polygons = geometry["coordinates"]
    if geometry["type"] == "Polygon":
        polygons = [polygons]
    rings = [ring for polygon in polygons for ring in polygon]
    return bool(rings) and all(ring and ring[0] == ring[-1] for ring in rings)


def _split(geometry: Json, shape: BaseGeometry, repairs: Repairs) -> list[Json]:
    """Return what QuPath 0.6 and later can hold of several lines, or of a collection."""
    whole = repaired_polygon(polygons_of(shape))
    lines, points = lines_of(shape), points_of(shape)
    if not whole.is_empty:
        repairs.add("GeometryCollection made polygons")
        if lines or points:
            repairs.add("line or point beside polygons left out", len(lines) + len(points))
        return [_like(geometry, whole)]
    if lines:
        repairs.add(f"{geometry['type']} made lines of their own")
        return [_like(geometry, line) for line in lines]
    if points:
        repairs.add("GeometryCollection made points")
        made = points[0] if len(points) == 1 else shapely.MultiPoint(points)
        return [_like(geometry, made)]
    return []


def _like(geometry: Json, shape: BaseGeometry) -> Json:
    """Return a geometry for `shape` that keeps what else a geometry said, such as its plane."""
    kept = {k: v for k, v in geometry.items() if k not in ("type", "coordinates", "geometries")}
    return to_json(shape) | kept


def _nucleus(nucleus: Any, repairs: Repairs) -> Json | None:
    try:
        shape = parse(nucleus)
    except ValueError:
        repairs.add("unreadable nucleus left out")
        return None
    if nucleus["type"] not in ("Polygon", "MultiPolygon"):
        repairs.add("nucleus that is no polygon left out")
        return None
    if shape.is_valid and rings_are_closed(nucleus):
        return dict(nucleus)
    mended = repaired_polygon(shape)
    repairs.add("invalid nucleus made valid")
    return None if mended.is_empty else _like(nucleus, mended)


def _properties(
    feature: Json, properties: Any, index: int, repairs: Repairs, *, strict: bool
) -> Json | None:
    """Return the properties as QuPath reads them; the same object where they are fine."""
    if not isinstance(properties, dict):
        if "properties" in feature:
            repairs.add("properties that were null left out")
        return None
    changed: Json = {}
    gone: set[str] = set()
    if "classification" in properties and not safe_class(properties["classification"]):
        found = parse_class(properties["classification"])
        if found is None:
            gone.add("classification")
            repairs.add("empty class left out")
        else:
            changed["classification"] = found.to_json()
            repairs.add("class written with its colour")
    if "color" in properties and not safe_color(properties["color"]):
        color = parse_color(properties["color"])
        changed["color"] = None if color is None else list(color)
        repairs.add("colour written as three numbers")
    if "name" in properties and not isinstance(properties["name"], str):
        changed["name"] = None if properties["name"] is None else str(properties["name"])
        repairs.add("name that is no text")
    _check_type(feature, properties, changed, gone, repairs)
    _check_values(properties, changed, repairs)
    if "id" in properties:
        gone.add("id")
        _move_id(properties, changed, repairs)
    _check_children(properties, changed, index, repairs, strict=strict)
    if not changed and not gone:
        return properties
    gone |= {key for key, value in changed.items() if value is None}
    return {key: v for key, v in (properties | changed).items() if key not in gone}


def _check_type(
    feature: Json, properties: Json, changed: Json, gone: set[str], repairs: Repairs
) -> None:
    spelt = [properties[key] for key in TYPE_KEYS[:2] if key in properties]
    if all(isinstance(word, str) and word in _SAFE_TYPES for word in spelt):
        return
    found: ObjectType = type_of(feature, properties) or "annotation"
    changed["objectType"] = found
    gone.update(TYPE_KEYS[1:2])
    repairs.add("object type spelt as QuPath does")


def _move_id(properties: Json, changed: Json, repairs: Repairs) -> None:
    """Make metadata of an id where geopandas puts it, unless it is the object's own."""
    found = properties["id"]
    repairs.add("id moved to where QuPath looks for it")
    if is_uuid(found) or not isinstance(found, str | int | float):
        return
    metadata = changed.get("metadata", properties.get("metadata")) or {}
    changed["metadata"] = {"id": str(found)} | metadata


def _check_values(properties: Json, changed: Json, repairs: Repairs) -> None:
    measurements = properties.get("measurements")
    if measurements is not None and not _safe_measurements(measurements):
        found, _ = parse_measurements(measurements)
        finite = {name: value for name, value in found.items() if math.isfinite(value)}
        changed["measurements"] = finite or None
        repairs.add("measurement that is not a finite number left out")
    metadata = properties.get("metadata")
    plain = isinstance(metadata, dict) and not any(
        v is None or isinstance(v, dict | list) for v in metadata.values()
    )
    if metadata is not None and not plain:
        kept = metadata.items() if isinstance(metadata, dict) else ()
        flat = {k: v for k, v in kept if isinstance(v, str | int | float)}
        changed["metadata"] = flat or None
        repairs.add("metadata that is no plain text left out")
    for flag in ("isLocked", "isMissing"):
        if flag in properties and not isinstance(properties[flag], bool):
            changed[flag] = None
            repairs.add(f"{flag} that is neither true nor false left out")


def _check_children(
    properties: Json, changed: Json, index: int, repairs: Repairs, *, strict: bool
) -> None:
    for key in CHILDREN:
        children = properties.get(key)
        if children is None:
            continue
        listed = children if isinstance(children, list) else []
        features = [one for one in listed if isinstance(one, dict)]
        if len(features) < len(listed) or listed is not children:
            repairs.add("nested object that is no feature left out")
        before = repairs.counts.total()
        lost = len(repairs.dropped)
        made = [part for one in features for part in safe_child(one, index, repairs, strict=strict)]
        if repairs.counts.total() > before or len(repairs.dropped) > lost:
            repairs.add("nested objects repaired")
        if made != children:
            changed[key] = made or None


def _safe_measurements(value: Any) -> bool:
    if isinstance(value, dict):
        numbers = list(value.values())
    elif isinstance(value, list):
        if not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in value):
            return False
        numbers = [one.get("value") for one in value]
    else:
        return False
    return all(
        (type(n) is float and n - n == 0) or (type(n) is int and abs(n) < 1 << 63) for n in numbers
    )
