"""Which tiles lie inside shapes that were drawn in napari."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Layer, Points, Shapes
from numpy.typing import NDArray

from napari_virchow._napari.label_tool import LabelTool
from napari_virchow.tiles import Tile, TileGrid

_LINES = ("line", "path")
_CORNERS = 64  # of the polygon that stands for an ellipse


def shapes_to_use(viewer: Any) -> Shapes | Points | None:
    """Return the layer of shapes that is meant: the active one, else the topmost with shapes.

    Points are meant where they are annotations of QuPath.
    """
    active = viewer.layers.selection.active
    annotated = isinstance(active, Points) and "objects_of" in active.metadata
    if (annotated or isinstance(active, Shapes)) and len(active.data):
        return active
    found = [layer for layer in viewer.layers if isinstance(layer, Shapes) and len(layer.data)]
    return found[-1] if found else None


def tiles_of_shapes(shapes: Shapes, below: Layer, grid: TileGrid) -> tuple[Tile, ...]:
    """Return the tiles whose middle is in a shape, or which a line touches.

    Parameters
    ----------
    shapes : Shapes
        The chosen shapes count, or all if none is chosen.
    below : Layer
        The slide's layer.
    grid : TileGrid
    """
    numbers = sorted(shapes.selected_data) or range(len(shapes.data))
    found: dict[Tile, None] = {}
    for number in numbers:
        kind, corners = shapes.shape_type[number], np.asarray(shapes.data[number])
        if kind == "ellipse":
            corners = _ellipse(corners)
        path = [_on_slide(shapes, below, corner) for corner in corners]
        if kind in _LINES:
            tiles = LabelTool.under(grid, path)
        else:
            middle = float(np.mean([x for x, _ in path])), float(np.mean([y for _, y in path]))
            tiles = LabelTool.inside(grid, np.array(path)) or LabelTool.under(grid, [middle])
        found |= dict.fromkeys(tiles)
    return tuple(found)


def _on_slide(shapes: Shapes, below: Layer, corner: NDArray[Any]) -> tuple[float, float]:
    """Return level-0 (x, y) of a corner of a shape."""
    y, x = np.asarray(below.world_to_data(shapes.data_to_world(corner)))[-2:] + 0.5
    return float(x), float(y)


def _ellipse(corners: NDArray[Any]) -> NDArray[Any]:
    """Return a polygon for the ellipse inside a box, which may be turned, of four corners."""
    middle = corners.mean(axis=0)
    one, other = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)[:, None]
    return np.asarray(middle + np.cos(angles) * one + np.sin(angles) * other)
