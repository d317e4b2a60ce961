"""Very many objects as one picture: a pixel per tile where they are tiles, else their areas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from napari_virchow.qupath.drawing import color_of
from napari_virchow.qupath.objects import PathObject
from napari_virchow.qupath.shapes import bounds_of

LIMIT = 4096  # pixels along the longer side of a picture that is not of tiles


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """Objects as a picture.

    Attributes
    ----------
    values : ndarray of shape (rows, cols), uint8 or uint16
        0 where nothing is, else a key of `names`; what comes later lies above.
    origin, step : (float, float)
        x, y of the corner of pixel (0, 0), and the size of a pixel, in level-0 pixels.
    names, colors : mapping of int to str
        Class name ("" for none) and colour, "#rrggbb".
    of_tiles : bool
        Whether a pixel is a tile.
    """

    values: NDArray[np.unsignedinteger[Any]]
    origin: tuple[float, float]
    step: tuple[float, float]
    names: Mapping[int, str]
    colors: Mapping[int, str]
    of_tiles: bool


def picture_of(objects: Sequence[PathObject], *, limit: int = LIMIT) -> Picture | None:
    """Return a picture of objects, or None where there is nothing to see."""
    seen = [one for one in objects if not one.geometry.is_empty]
    if not seen:
        return None
    keys: dict[tuple[str, str], int] = {}
    ids = np.empty(len(seen), np.int64)
    for number, one in enumerate(seen):
        kind = "" if one.path_class is None else one.path_class.name, color_of(one)
        ids[number] = keys.setdefault(kind, len(keys) + 1)
    names = {key: name for (name, _), key in keys.items()}
    colors = {key: color for (_, color), key in keys.items()}
    kind_of = np.uint8 if len(keys) < 256 else np.uint16
    boxes = bounds_of([one.geometry for one in seen])
    lattice = _lattice(boxes)
    if lattice is not None:
        origin, step, rows, cols = lattice
        values = np.zeros((int(rows.max()) + 1, int(cols.max()) + 1), kind_of)
        values[rows, cols] = ids
        return Picture(values, origin, step, names, colors, of_tiles=True)
    left, top = (math.floor(v) for v in boxes[:, :2].min(axis=0))
    right, bottom = (math.ceil(v) for v in boxes[:, 2:].max(axis=0))
    size = max(1.0, (right - left) / limit, (bottom - top) / limit)
    shape = max(1, math.ceil((bottom - top) / size)), max(1, math.ceil((right - left) / size))
    values = _painted(seen, ids, (float(left), float(top)), size, shape).astype(kind_of)
    return Picture(values, (float(left), float(top)), (size, size), names, colors, of_tiles=False)


def _lattice(
    boxes: NDArray[np.float64],
) -> tuple[tuple[float, float], tuple[float, float], NDArray[np.intp], NDArray[np.intp]] | None:
    """Return corner, step, rows and columns of boxes side by side; None if they are not."""
    places, steps, corner = [], [], []
    for low, high in ((0, 2), (1, 3)):
        sizes = boxes[:, high] - boxes[:, low]
        size, start = float(np.median(sizes)), float(boxes[:, low].min())
        if len(boxes) < 2 or size <= 0 or np.abs(sizes - size).max() > 0.03 + 0.001 * size:
            return None
        offsets = boxes[:, low] - start
        numbers = np.rint(offsets / size)
        if numbers.any():  # two decimals per corner add up: the step follows from all of them
            size = float(offsets @ numbers / (numbers @ numbers))
            numbers = np.rint(offsets / size)
        if np.abs(offsets - numbers * size).max() > 0.05 * size:
            return None
        places.append(numbers.astype(np.intp))
        steps.append(size)
        corner.append(start)
    return (corner[0], corner[1]), (steps[0], steps[1]), places[1], places[0]


def _painted(
    objects: Sequence[PathObject],
    ids: NDArray[np.int64],
    origin: tuple[float, float],
    size: float,
    shape: tuple[int, int],
) -> NDArray[np.int32]:
    from PIL import Image, ImageDraw

    canvas = Image.new("I", shape[::-1])
    pen = ImageDraw.Draw(canvas)
    for one, key in zip(objects, ids.tolist(), strict=True):
        for part in shapely.get_parts(one.shape, return_index=False):
            points = (shapely.get_coordinates(part) - origin) / size - 0.5
            if part.geom_type == "Polygon" and len(part.interiors):
                _paint_around_holes(canvas, part, key, origin, size)
            elif part.geom_type == "Polygon" and len(points) > 1:
                pen.polygon(points.ravel().tolist(), fill=key, outline=key)
            elif part.geom_type == "LineString":
                pen.line(points.ravel().tolist(), fill=key)
            else:
                pen.point(points.ravel().tolist(), fill=key)
    return np.array(canvas, np.int32)


def _paint_around_holes(
    canvas: Any, part: BaseGeometry, key: int, origin: tuple[float, float], size: float
) -> None:
    """Fill a polygon and leave what is seen through its holes."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = np.floor((np.array(part.bounds) - [*origin, *origin]) / size)
    mask = Image.new("1", (int(right - left) + 2, int(bottom - top) + 2))
    pen = ImageDraw.Draw(mask)
    for number, ring in enumerate(shapely.get_rings(part)):
        points = (shapely.get_coordinates(ring) - origin) / size - 0.5 - (left, top)
        pen.polygon(points.ravel().tolist(), fill=int(number == 0))
    canvas.paste(key, (int(left), int(top)), mask)
