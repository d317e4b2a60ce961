"""Features of GeoJSON, as any version of QuPath writes them, become objects."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shapely.geometry.base import BaseGeometry

from napari_virchow.qupath.classes import parse_class, parse_color
from napari_virchow.qupath.objects import (
    NAMESPACE,
    OBJECT_TYPES,
    ObjectType,
    PathObject,
    Plane,
    sealed,
)
from napari_virchow.qupath.shapes import GeometryError, parse_many, rings_are_closed

CHILDREN = ("childObjects", "children")
TYPE_KEYS = ("objectType", "object_type", "type")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TYPES: Mapping[str, ObjectType] = {name.lower(): name for name in OBJECT_TYPES}
_NON_FINITE = {"nan": math.nan, "infinity": math.inf, "-infinity": -math.inf}
_DEFAULT_PLANE = Plane()


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a feature: its place in the file, counted from 0, and why."""

    index: int
    reason: str


@dataclass(slots=True)
class _Notes:
    """What was found wrong while reading."""

    problems: list[Problem]
    notes: list[Problem]
    seed: str
    count: int = 0
    index: int = 0

    def new_id(self) -> str:
        self.count += 1
        return str(uuid.uuid5(NAMESPACE, f"{self.seed}/{self.count}"))


def is_uuid(value: Any) -> bool:
    """Say whether this is a UUID in the usual spelling."""
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def parse_features(
    features: list[Any], seed: str
) -> tuple[list[PathObject], list[Problem], list[Problem]]:
    """Make objects of features.

    Parameters
    ----------
    features : list
        What a file has at its top, in its order.
    seed : str
        Names the file's content: features without an id get one that follows from it.

    Returns
    -------
    objects : list of PathObject
        Of all features that can be read.
    problems : list of Problem
        Those that cannot.
    notes : list of Problem
        Those that were read with something left out or put right.
    """
    notes = _Notes([], [], seed)
    objects = _parse_level(features, notes, top=True)
    return objects, notes.problems, notes.notes


def type_of(feature: Mapping[str, Any], properties: Mapping[str, Any]) -> ObjectType | None:
    """Return the type a feature says, in any spelling; None if it says none."""
    for key in TYPE_KEYS:
        found = type_named(properties.get(key))
        if found is not None:
            return found
    return type_named(feature.get("id"))  # QuPath 0.2 and before put the Java class here


def type_named(value: Any) -> ObjectType | None:
    """Return the type of a word such as "tile", "TILE", "tma_core" or "PathTileObject"."""
    if not isinstance(value, str):
        return None
    if value in OBJECT_TYPES:
        return value
    word = value.rpartition(".")[2].lower().replace("_", "")
    word = word.removeprefix("path").removesuffix("object")
    return _TYPES.get(word)


def parse_measurements(value: Any) -> tuple[dict[str, float], int]:
    """Return measurements by name, and how many entries are none (null, true, text)."""
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        named = [one for one in value if isinstance(one, dict) and "name" in one]
        pairs = [(str(one["name"]), one.get("value")) for one in named]
    else:
        return {}, int(value is not None)
    found: dict[str, float] = {}
    for name, number in pairs:
        if type(number) is float or type(number) is int:
            found[name] = float(number) if abs(number) < 1e308 or number != number else _big(number)
        elif isinstance(number, str) and number.lower() in _NON_FINITE:
            found[name] = _NON_FINITE[number.lower()]
    return found, len(pairs) - len(found)


def _big(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _parse_level(features: list[Any], notes: _Notes, *, top: bool) -> list[PathObject]:
    """Make objects of features side by side, and of those nested in them."""
    good: list[tuple[int, dict[str, Any]]] = []
    for number, feature in enumerate(features):
        index = number if top else notes.index
        if isinstance(feature, dict) and feature.get("type") == "Feature":
            good.append((index, feature))
        else:
            kind = feature.get("type") if isinstance(feature, dict) else type(feature).__name__
            notes.problems.append(Problem(index, f"it is not a Feature but {kind!r}"))
    shapes = parse_many([feature.get("geometry") for _, feature in good])
    nuclei = parse_many([f["nucleusGeometry"] for _, f in good if f.get("nucleusGeometry")])
    following = iter(nuclei)
    objects = []
    for (index, feature), shape in zip(good, shapes, strict=True):
        notes.index = index
        nucleus = next(following) if feature.get("nucleusGeometry") else None
        if isinstance(shape, GeometryError):
            notes.problems.append(Problem(index, str(shape)))
            continue
        if isinstance(nucleus, GeometryError):
            notes.notes.append(Problem(index, f"its nucleus is left out: {nucleus}"))
            nucleus = None
        try:
            objects.append(_object(feature, shape, nucleus, notes))
        except ValueError as error:
            notes.problems.append(Problem(index, str(error)))
    return objects


def _object(
    feature: dict[str, Any], shape: BaseGeometry, nucleus: BaseGeometry | None, notes: _Notes
) -> PathObject:
    geometry = feature["geometry"]
    properties = feature.get("properties", {})
    if properties is None:
        properties = {}
        notes.notes.append(Problem(notes.index, "properties is null"))
    if not isinstance(properties, dict):
        raise ValueError("properties is not an object")
    if geometry["type"] in ("Polygon", "MultiPolygon") and not rings_are_closed(geometry):
        notes.notes.append(Problem(notes.index, "a ring was not closed, or too short"))
    measurements, n_left_out = parse_measurements(properties.get("measurements"))
    if n_left_out:
        notes.notes.append(Problem(notes.index, f"{n_left_out} measurement(s) are no numbers"))
    name, metadata = properties.get("name"), properties.get("metadata")
    children: tuple[PathObject, ...] = ()
    for key in CHILDREN:
        if isinstance(properties.get(key), list) and properties[key]:
            index = notes.index
            children += tuple(_parse_level(properties[key], notes, top=False))
            notes.index = index
    return sealed(
        PathObject(
            id=_id_of(feature, properties, notes),
            object_type=type_of(feature, properties) or "annotation",
            geometry=shape,
            is_ellipse=geometry.get("isEllipse") is True,
            plane=_plane(geometry.get("plane")),
            path_class=parse_class(properties.get("classification")),
            name=None if name is None else str(name),
            color=parse_color(properties.get("color")),
            measurements=measurements,
            is_locked=properties.get("isLocked") is True,
            metadata=_metadata(metadata) if metadata else {},
            nucleus=nucleus,
            children=children,
            raw=feature,
        )
    )


def _id_of(feature: dict[str, Any], properties: dict[str, Any], notes: _Notes) -> str:
    """Return the feature's UUID, wherever it is, or one that follows from file and place."""
    found = feature.get("id")
    if is_uuid(found):
        return str(found)
    moved = properties.get("id")  # where geopandas puts it
    return str(moved) if is_uuid(moved) else notes.new_id()


def _plane(value: Any) -> Plane:
    if not isinstance(value, dict):
        return _DEFAULT_PLANE
    numbers = [value.get(key) for key in ("c", "z", "t")]
    whole = [n if type(n) is int else d for n, d in zip(numbers, (-1, 0, 0), strict=True)]
    return Plane(*whole)


def _metadata(value: Any) -> dict[str, str]:
    """Return metadata as QuPath understands it: text only, numbers in words."""
    if not isinstance(value, dict):
        return {}
    plain = {k: v for k, v in value.items() if isinstance(v, str | int | float)}
    return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in plain.items()}
