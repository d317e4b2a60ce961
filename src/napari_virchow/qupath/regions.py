"""Between tiles and areas: tiles of a class become regions, annotations become labelled tiles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from napari_virchow.qupath.objects import ObjectType, PathObject, flatten
from napari_virchow.tiles import Tile, TileGrid

Rule = Literal["centre", "half"]
AREAS = ("Polygon", "MultiPolygon", "GeometryCollection")


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Tiles of one class that hang together by their sides.

    Attributes
    ----------
    class_id : int
        Of all its tiles.
    geometry : shapely Polygon
        In level-0 pixels, with holes.
    members : ndarray of shape (n,), intp
        Which of the tiles given are in it.
    """

    class_id: int
    geometry: BaseGeometry
    members: NDArray[np.intp]


def merge_tiles(
    grid: TileGrid,
    tiles: NDArray[np.integer[Any]],
    class_ids: NDArray[np.integer[Any]],
    *,
    simplify: float = 0.0,
    min_tiles: int = 1,
) -> list[Region]:
    """Merge tiles of a class that touch by their sides into one region each.

    Parameters
    ----------
    grid : TileGrid
        Where the tiles are.
    tiles : ndarray of shape (n, 2)
        Row and column; each once.
    class_ids : ndarray of shape (n,)
        0 (unknown) makes no region.
    simplify : float
        How far outlines may be smoothed, in sides of a tile (Visvalingam and Whyatt 1993);
        neighbours keep a common border. 0 keeps every corner.
    min_tiles : int
        Smaller regions are left out.

    Returns
    -------
    list of Region
        By class, then from top to bottom.
    """
    from skimage.measure import label

    tiles = np.asarray(tiles).reshape(-1, 2)
    known = np.flatnonzero(np.asarray(class_ids) > 0)
    if not len(known):
        return []
    rows, cols = tiles[known].T
    ids = np.asarray(class_ids)[known]
    raster = np.zeros((rows.max() + 1, cols.max() + 1), np.int64)
    raster[rows, cols] = ids
    number = label(raster, background=0, connectivity=1)[rows, cols]  # type: ignore[no-untyped-call]
    order = np.argsort(number, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    groups = [group for group in groups if len(group) >= min_tiles]
    groups.sort(key=lambda group: (ids[group[0]], rows[group].min(), cols[group[0]]))
    boxes = shapely.box(cols, rows, cols + 1, rows + 1)
    shapes = np.array([shapely.coverage_union_all(boxes[group]) for group in groups], dtype=object)
    if simplify > 0 and len(shapes):
        smooth = shapely.coverage_simplify(shapes, simplify)
        # At a corner where two regions only touch, smoothing can make an outline cross itself.
        shapes = np.where(shapely.is_valid(smooth) & ~shapely.is_empty(smooth), smooth, shapes)
    shapes = shapely.simplify(shapes, 0)  # corners on straight sides
    step = np.array(grid.step)
    shapes = shapely.transform(shapes, lambda points: points * step)
    return [
        Region(int(ids[group[0]]), shape, known[group])
        for group, shape in zip(groups, shapes, strict=True)
    ]


def tiles_in_annotations(
    objects: Iterable[PathObject],
    grid: TileGrid,
    rule: Rule = "centre",
    *,
    kinds: Sequence[ObjectType] = ("annotation",),
) -> dict[str, list[Tile]]:
    """Return the tiles that lie in objects of each class.

    Parameters
    ----------
    objects : iterable of PathObject
        In level-0 pixels of the slide; nested ones count too.
    grid : TileGrid
        Whose tiles.
    rule : str
        "centre": the middle of the tile is in an object, or on its outline. "half": half of the
        tile or more lies in the objects of a class together.
    kinds : sequence of str
        Types of objects that count.

    Returns
    -------
    dict of str to list of Tile
        Class name → tiles by row and column. Unclassified objects, ignored classes ("Ignore*")
        and points and lines give none. A tile in two classes is under both.

    Raises
    ------
    ValueError
        If there is no such rule.
    """
    if rule not in ("centre", "half"):
        raise ValueError(f"the rule is centre or half, got {rule!r}")
    by_class: dict[str, list[BaseGeometry]] = {}
    for one in classed_areas(objects, kinds):
        if one.path_class is not None:
            shape = one.shape if one.shape.is_valid else shapely.make_valid(one.shape)
            by_class.setdefault(one.path_class.name, []).append(shape)
    choose = _centred if rule == "centre" else _half_covered
    found: dict[str, list[Tile]] = {}
    for name, shapes in by_class.items():
        chosen = choose(shapes, grid)
        if len(chosen):
            found[name] = [Tile(row, col) for row, col in np.unique(chosen, axis=0).tolist()]
    return found


def tiles_of_objects(objects: Iterable[PathObject], grid: TileGrid) -> list[Tile]:
    """Return the tiles that objects mean, whatever their class; holes are left out.

    Parameters
    ----------
    objects : iterable of PathObject
        In level-0 pixels of the slide; those nested in them do not count.
    grid : TileGrid
        Whose tiles.

    Returns
    -------
    list of Tile
        By row and column: those whose middle is in an area, or on its outline, and the one at the
        heart of an area too small for that; those that a line or a point touches.
    """
    found: set[tuple[int, int]] = set()
    for one in objects:
        shape = one.shape if one.shape.is_valid else shapely.make_valid(one.shape)
        for part in [] if shape.is_empty else shapely.get_parts(shape).tolist():
            centred = _centred([part], grid)
            if part.area > 0 and not len(centred):
                part = part.representative_point()
            tiles = centred if part.area > 0 else _touched(part, grid)
            found.update((row, col) for row, col in tiles.tolist())
    return [Tile(row, col) for row, col in sorted(found)]


def classed_areas(
    objects: Iterable[PathObject], kinds: Sequence[ObjectType] = ("annotation",)
) -> list[PathObject]:
    """Return the objects that tiles can lie in: with an area, of a class that is not ignored."""
    return [
        one
        for one in flatten(objects)
        if one.object_type in kinds
        and one.path_class is not None
        and not one.path_class.is_ignored
        and one.geometry.geom_type in AREAS
        and not one.geometry.is_empty
    ]


def conflicts(found: Mapping[str, Sequence[Tile]]) -> dict[Tile, tuple[str, ...]]:
    """Return the tiles that lie in objects of several classes, with these."""
    names: dict[Tile, list[str]] = {}
    for name, tiles in found.items():
        for tile in tiles:
            names.setdefault(tile, []).append(name)
    return {tile: tuple(several) for tile, several in names.items() if len(several) > 1}


def _window(shape: BaseGeometry, grid: TileGrid) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns of the tiles that the box around a shape touches."""
    left, top, right, bottom = shape.bounds
    step_x, step_y = grid.step
    n_rows, n_cols = grid.shape
    first_row, last_row = max(0, int(top // step_y)), min(n_rows - 1, int(bottom // step_y))
    first_col, last_col = max(0, int(left // step_x)), min(n_cols - 1, int(right // step_x))
    down, across = np.arange(first_row, last_row + 1), np.arange(first_col, last_col + 1)
    return np.repeat(down, len(across)), np.tile(across, len(down))


def _centred(shapes: Sequence[BaseGeometry], grid: TileGrid) -> NDArray[np.intp]:
    step_x, step_y = grid.step
    found = [np.empty((0, 2), np.intp)]
    for shape in shapes:
        rows, cols = _window(shape, grid)
        shapely.prepare(shape)
        inside = shapely.intersects_xy(shape, (cols + 0.5) * step_x, (rows + 0.5) * step_y)
        found.append(np.column_stack([rows, cols])[inside])
    return np.concatenate(found)


def _touched(shape: BaseGeometry, grid: TileGrid) -> NDArray[np.intp]:
    step_x, step_y = grid.step
    rows, cols = _window(shape, grid)
    boxes = shapely.box(cols * step_x, rows * step_y, (cols + 1) * step_x, (rows + 1) * step_y)
    return np.asarray(np.column_stack([rows, cols])[shapely.intersects(boxes, shape)], np.intp)


def _half_covered(shapes: Sequence[BaseGeometry], grid: TileGrid) -> NDArray[np.intp]:
    step_x, step_y = grid.step
    found = [np.empty((0, 3))]
    # Together, so that two annotations of a class may share a tile; part by part, to keep it fast.
    for shape in shapely.get_parts(shapely.union_all(list(shapes))):
        rows, cols = _window(shape, grid)
        boxes = shapely.box(cols * step_x, rows * step_y, (cols + 1) * step_x, (rows + 1) * step_y)
        shapely.prepare(shape)
        share = shapely.covers(shape, boxes).astype(float)
        edge = (share == 0) & shapely.intersects(shape, boxes)
        share[edge] = shapely.area(shapely.intersection(boxes[edge], shape)) / (step_x * step_y)
        found.append(np.column_stack([rows, cols, share]))
    every = np.concatenate(found)
    if not len(every):
        return np.empty((0, 2), np.intp)
    places, where = np.unique(every[:, :2].astype(np.intp), axis=0, return_inverse=True)
    total = np.bincount(where.ravel(), weights=every[:, 2])
    return np.asarray(places[total >= 0.5 - 1e-9], np.intp)
