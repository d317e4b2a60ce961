"""Objects become GeoJSON features again: as they were read, but for the fields that were edited."""

from __future__ import annotations

import math
from typing import Any

from shapely.geometry.base import BaseGeometry

from napari_virchow.qupath.objects import EDITABLE, PathObject, Plane
from napari_virchow.qupath.reading import CHILDREN, type_named
from napari_virchow.qupath.safety import Repairs
from napari_virchow.qupath.shapes import (
    Json,
    lines_of,
    points_of,
    polygons_of,
    repaired_polygon,
    to_json,
)

_DEFAULT_PLANE = Plane()


def to_feature(one: PathObject, repairs: Repairs) -> Json:
    """Return the feature of an object: what was read itself, where nothing was edited."""
    raw = one.raw
    edited = one.edited
    children = _children(one, repairs)
    if raw is not None and not edited and children is None and raw.get("id") == one.id:
        return raw
    if raw is not None and raw.get("id") != one.id:
        repairs.add("id made")
    feature: Json = {"type": "Feature", "id": "", **(raw or {})}
    feature["id"] = one.id
    if raw is None or edited & {"geometry", "is_ellipse", "plane"}:
        feature["geometry"] = _geometry(one, edited)
    if "nucleus" in edited:
        feature.pop("nucleusGeometry", None)
        if one.nucleus is not None:
            feature["nucleusGeometry"] = to_json(repaired_polygon(one.nucleus))
    before = feature.get("properties")
    properties: Json = dict(before) if isinstance(before, dict) else {}
    for name in EDITABLE:  # in one order, so that the same objects make the same file
        if name in edited:
            _set(properties, name, one)
    if children is not None:
        key = next((k for k in CHILDREN if k in properties), CHILDREN[0])
        for old in CHILDREN:
            properties.pop(old, None)
        if children:
            properties[key] = children
    if properties or isinstance(before, dict):
        feature["properties"] = properties
    return feature


def _children(one: PathObject, repairs: Repairs) -> list[Json] | None:
    """Return the features of the children, or None where they are those that were read."""
    raw = one.raw or {}
    properties = raw.get("properties") or {}
    was = [child for key in CHILDREN for child in properties.get(key) or ()]
    now = [to_feature(child, repairs) for child in one.children]
    same = len(was) == len(now) and all(a is b for a, b in zip(was, now, strict=True))
    return None if same else now


def _geometry(one: PathObject, edited: frozenset[str]) -> Json:
    old: Any = (one.raw or {}).get("geometry")
    kept = dict(old) if isinstance(old, dict) else {}
    if "geometry" in edited:
        for key in ("type", "coordinates", "geometries"):
            kept.pop(key, None)
        kept = _safe_json(one.geometry) | kept
    if "is_ellipse" in edited:
        kept.pop("isEllipse", None)
        if one.is_ellipse:
            kept["isEllipse"] = True
    if "plane" in edited:
        kept.pop("plane", None)
        if one.plane != _DEFAULT_PLANE:
            kept["plane"] = {"c": one.plane.c, "z": one.plane.z, "t": one.plane.t}
    return kept


def _safe_json(shape: BaseGeometry) -> Json:
    """Return a new geometry in JSON; what is not valid is left for the safe writer to repair."""
    if shape.geom_type in ("Polygon", "MultiPolygon"):
        return to_json(repaired_polygon(shape) if shape.is_valid else shape)
    if shape.geom_type == "MultiLineString":  # the writer makes objects of its lines
        lines = [to_json(line)["coordinates"] for line in lines_of(shape)]
        return {"type": "MultiLineString", "coordinates": lines}
    if shape.geom_type == "GeometryCollection":
        whole = repaired_polygon(polygons_of(shape))
        found = [whole] if not whole.is_empty else [*lines_of(shape), *points_of(shape)]
        return {"type": "GeometryCollection", "geometries": [to_json(part) for part in found]}
    if shape.is_empty:
        return {"type": shape.geom_type, "coordinates": []}
    return to_json(shape)


def _set(properties: Json, name: str, one: PathObject) -> None:
    """Write one edited field; what is as it is by default is not written."""
    if name == "object_type":
        properties.pop("object_type", None)
        if type_named(properties.get("type")) is not None:
            properties.pop("type")
        properties["objectType"] = one.object_type
        return
    values: dict[str, tuple[str, Any]] = {
        "path_class": (
            "classification",
            None if one.path_class is None else one.path_class.to_json(),
        ),
        "name": ("name", one.name),
        "color": ("color", None if one.color is None else list(one.color)),
        "measurements": (
            "measurements",
            {k: float(v) for k, v in one.measurements.items() if math.isfinite(v)},
        ),
        "is_locked": ("isLocked", True if one.is_locked else None),
        "metadata": ("metadata", dict(one.metadata)),
    }
    if name not in values:
        return
    key, value = values[name]
    properties.pop(key, None)
    if value not in (None, {}):
        properties[key] = value
