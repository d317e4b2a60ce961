"""Objects between the pixels of QuPath and those of the slide, all at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from napari_virchow.qupath.frame import Frame, moved_geometries
from napari_virchow.qupath.objects import EDITABLE, PathObject, flatten

_SHAPES = (EDITABLE.index("geometry"), EDITABLE.index("nucleus"))


def to_slide(objects: Iterable[PathObject], frame: Frame) -> list[PathObject]:
    """Return objects of a file in level-0 pixels of the slide; `to_qupath` takes them back."""
    return _placed(list(objects), frame, forth=True)


def to_qupath(objects: Iterable[PathObject], frame: Frame) -> list[PathObject]:
    """Return objects on the slide in QuPath's pixels.

    What came through the same frame and was not touched is exactly as it was read.
    """
    return _placed(list(objects), frame, forth=False)


def _placed(objects: list[PathObject], frame: Frame, *, forth: bool) -> list[PathObject]:
    every = list(flatten(objects))
    shapes: list[BaseGeometry | None] = [one.geometry for one in every]
    shapes += [one.nucleus for one in every]
    moved = moved_geometries(shapes, frame.matrix if forth else frame.inverse)
    places = {id(one): number for number, one in enumerate(every)}

    def place(one: PathObject) -> PathObject:
        number = places[id(one)]
        pair = moved[number], moved[number + len(every)]
        children = tuple(place(child) for child in one.children)
        return _forth(one, frame, pair, children) if forth else _back(one, frame, pair, children)

    return [place(one) for one in objects]


def _forth(
    one: PathObject,
    frame: Frame,
    pair: tuple[BaseGeometry, BaseGeometry | None],
    children: tuple[PathObject, ...],
) -> PathObject:
    geometry, is_ellipse = _ellipse(one, frame, pair[0], forth=True)
    was: tuple[object, ...] = ()
    if one.as_read:
        # Remembered as placed, so that what is edited shows; the file's own stay in `frame`.
        values = list(one.as_read)
        for place, name, new in zip(_SHAPES, ("geometry", "nucleus"), pair, strict=True):
            if name not in one.edited:
                values[place] = new
        if is_ellipse != one.is_ellipse and "geometry" not in one.edited:
            values[_SHAPES[0]] = geometry
            values[EDITABLE.index("is_ellipse")] = is_ellipse
        was = tuple(values)
    return replace(
        one,
        geometry=geometry,
        nucleus=pair[1],
        is_ellipse=is_ellipse,
        children=children,
        as_read=was,
        frame=(frame, one.as_read, one.frame),
    )


def _back(
    one: PathObject,
    frame: Frame,
    pair: tuple[BaseGeometry, BaseGeometry | None],
    children: tuple[PathObject, ...],
) -> PathObject:
    came, original, before = one.frame or (None, (), None)
    geometry, is_ellipse = _ellipse(one, frame, pair[0], forth=False)
    values = {"geometry": geometry, "nucleus": pair[1], "is_ellipse": is_ellipse}
    if came == frame and original:
        edited = one.edited
        for name in values.keys() - edited:
            values[name] = original[EDITABLE.index(name)]
        return replace(one, **values, children=children, as_read=original, frame=before)
    if one.as_read and (came is not None or not frame.is_identity):
        # Read through another frame: where it lies is new, all the rest is as in the file.
        lost = [*one.as_read]
        for place in _SHAPES:
            lost[place] = None
        return replace(one, **values, children=children, as_read=tuple(lost), frame=None)
    return replace(one, **values, children=children, frame=None)


def _ellipse(
    one: PathObject, frame: Frame, moved: BaseGeometry, *, forth: bool
) -> tuple[BaseGeometry, bool]:
    """Return the moved geometry; an ellipse that is turned askew becomes a polygon."""
    if not one.is_ellipse or frame.keeps_boxes:
        return moved, one.is_ellipse
    matrix = frame.matrix if forth else frame.inverse
    [shape] = moved_geometries(np.array([one.shape], dtype=object), matrix)  # type: ignore[arg-type]
    return shapely.force_2d(shape), False
