"""The objects of QuPath: what is drawn and detected, with its class and measurements."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from napari_virchow.qupath.classes import PathClass, Rgb

ObjectType = Literal["annotation", "detection", "tile", "cell", "tmaCore", "root"]
OBJECT_TYPES: tuple[ObjectType, ...] = (
    "annotation",
    "detection",
    "tile",
    "cell",
    "tmaCore",
    "root",
)
# Ours, for uuid5: the same tile gets the same id on every run and every machine.
NAMESPACE = uuid.UUID("2c4f7a52-59cc-5d3f-9f0e-6b5a4c1f8e01")
EDITABLE = (
    *("object_type", "geometry", "is_ellipse", "plane", "path_class", "name", "color"),
    *("measurements", "is_locked", "metadata", "nucleus"),
)


@dataclass(frozen=True, slots=True)
class Plane:
    """Where an object lies in a stack: channel (-1 is all), z and time."""

    c: int = -1
    z: int = 0
    t: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class PathObject:
    """One object, as a file or QuPath has it; edit it with `dataclasses.replace`.

    Parameters
    ----------
    id : str
        UUID.
    object_type : str
        One of `OBJECT_TYPES`.
    geometry : shapely geometry
        In pixels: of the image as QuPath shows it after reading a file, of level 0 after
        `frame.to_slide`. For an ellipse, any polygon with the same bounding box.
    is_ellipse : bool
        Whether the object is the ellipse in the bounding box of `geometry`; see `shape`.
    plane : Plane
        Channel, z and time.
    path_class : PathClass or None
        None if unclassified.
    name : str or None
        Shown beside it.
    color : (int, int, int) or None
        Its own colour, which overrides that of its class.
    measurements : mapping of str to float
        NaN and infinities included, where the file has them.
    is_locked : bool
        Whether QuPath guards it from being moved.
    metadata : mapping of str to str
        Free text.
    nucleus : shapely geometry or None
        Of a cell.
    children : tuple of PathObject
        Objects nested in this one.
    raw : dict or None
        The feature as it was read; what is unknown in there survives.
    """

    id: str
    object_type: ObjectType
    geometry: BaseGeometry
    is_ellipse: bool = False
    plane: Plane = Plane()
    path_class: PathClass | None = None
    name: str | None = None
    color: Rgb | None = None
    measurements: Mapping[str, float] = field(default_factory=dict)
    is_locked: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    nucleus: BaseGeometry | None = None
    children: tuple[PathObject, ...] = ()
    raw: dict[str, Any] | None = None
    # What the fields were when it was read, and the frame its geometry has been brought into
    as_read: tuple[Any, ...] = ()
    frame: Any = None

    @property
    def shape(self) -> BaseGeometry:
        """What the object covers: for an ellipse, a polygon of 128 corners on it."""
        if not self.is_ellipse or self.geometry.is_empty:
            return self.geometry
        left, top, right, bottom = self.geometry.bounds
        angle = np.linspace(0, 2 * np.pi, 128, endpoint=False)
        x = (left + right) / 2 + (right - left) / 2 * np.cos(angle)
        y = (top + bottom) / 2 + (bottom - top) / 2 * np.sin(angle)
        return shapely.polygons(np.column_stack([x, y]))

    @property
    def edited(self) -> frozenset[str]:
        """Names of the fields that are no longer as they were read; all, if it was not read."""
        if not self.as_read:
            return frozenset(EDITABLE)
        pairs = zip(EDITABLE, self.as_read, strict=True)
        return frozenset(name for name, old in pairs if not _same(getattr(self, name), old))


def sealed(one: PathObject) -> PathObject:
    """Return the object with its fields remembered as what the file says."""
    return replace(one, as_read=tuple(getattr(one, name) for name in EDITABLE))


def flatten(objects: Iterable[PathObject]) -> Iterator[PathObject]:
    """Yield all objects, each parent before its children."""
    for one in objects:
        yield one
        yield from flatten(one.children)


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, BaseGeometry) and isinstance(other, BaseGeometry):
        return bool(shapely.equals_identical(one, other))
    return bool(one == other)
