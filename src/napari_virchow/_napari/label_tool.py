"""The mouse as a pen: click, drag, box and lasso say which tiles are meant."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QObject, Signal
from skimage.measure import points_in_poly

from napari_virchow._napari.left_button import left_button
from napari_virchow.tiles import Rect, Tile, TileGrid


class LabelMode(StrEnum):
    """What a press of the left button does."""

    OFF = "Move"
    BRUSH = "Brush"
    BOX = "Box"
    LASSO = "Lasso"


class LabelTool(QObject):
    """Turns presses of the left button on the canvas into tiles.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose canvas is pressed on.
    parent : QObject
        Ends with it.
    """

    # Tiles of the stroke so far: `dragged` is drawn only, `ended` counts
    dragged = Signal(object)
    ended = Signal(object)
    hovered = Signal(object)  # the tile under the cursor, or None
    mode_changed = Signal(object)  # LabelMode; also when another tool took the button

    def __init__(self, viewer: Any, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.layer: Layer | None = None
        self.grid: TileGrid | None = None
        self.mode = LabelMode.OFF
        self._attached = False

    def attach(self) -> None:
        """Follow the mouse."""
        if not self._attached:
            self._attached = True
            self._viewer.mouse_drag_callbacks.append(self._on_press)
            self._viewer.mouse_move_callbacks.append(self._on_move)
            taken = left_button(self._viewer).owner is not None
            self.set_mode(LabelMode.OFF if taken else self.mode)

    def detach(self) -> None:
        """Leave the mouse to napari."""
        if self._attached:
            self._attached = False
            self._viewer.mouse_drag_callbacks.remove(self._on_press)
            self._viewer.mouse_move_callbacks.remove(self._on_move)
            left_button(self._viewer).release(self)

    def set_mode(self, mode: LabelMode) -> None:
        """Choose what the left button does; the wheel zooms all the same."""
        changed, self.mode = mode is not self.mode, mode
        if self._attached:
            button = left_button(self._viewer)
            (button.release if mode is LabelMode.OFF else button.claim)(self)
        if changed:
            self.mode_changed.emit(mode)

    def button_lost(self) -> None:
        """Stop labelling: another tool has the left button now."""
        self.set_mode(LabelMode.OFF)

    def point(self, position: Any) -> tuple[float, float] | None:
        """Return level-0 (x, y) of a place in the world."""
        if self.layer is None or self.layer not in self._viewer.layers:
            return None
        y, x = np.asarray(self.layer.world_to_data(position))[-2:] + 0.5
        return float(x), float(y)

    def tile(self, position: Any) -> Tile | None:
        """Return the tile at a place in the world."""
        at = self.point(position)
        return None if at is None or self.grid is None else self.grid.tile_at(*at)

    def _on_move(self, viewer: Any, event: Any) -> None:
        self.hovered.emit(self.tile(event.position))

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        if self.mode is LabelMode.OFF or event.button != 1 or event.modifiers or self.grid is None:
            return
        active = self._viewer.layers.selection.active
        if active is not None and not active.mouse_pan:  # the layer's own tool, painting say
            return
        start = self.point(event.position)
        if start is None:
            return
        self.hovered.emit(self.tile(event.position))
        path = [start]
        self.dragged.emit(self._tiles(path))
        yield
        while event.type == "mouse_move":
            at = self.point(event.position)
            if at is not None:
                path.append(at)
                self.dragged.emit(self._tiles(path))
            yield
        self.ended.emit(self._tiles(path))

    def _tiles(self, path: list[tuple[float, float]]) -> tuple[Tile, ...]:
        grid = self.grid
        assert grid is not None
        if self.mode is LabelMode.BRUSH or len(path) < 2:
            return self.under(grid, path)
        if self.mode is LabelMode.BOX:
            (x0, y0), (x1, y1) = path[0], path[-1]
            box = Rect(min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0))
            return tuple(grid.tiles_in(box)) or self.under(grid, path[:1])
        return self.inside(grid, np.array(path)) or self.under(grid, path[:1])

    @staticmethod
    def under(grid: TileGrid, path: list[tuple[float, float]]) -> tuple[Tile, ...]:
        """Return the tiles that a line touches, also where the mouse was faster than its events."""
        points = [path[0]]
        for (x0, y0), (x1, y1) in zip(path, path[1:], strict=False):
            n = int(np.ceil(max(abs(x1 - x0), abs(y1 - y0)) / (min(grid.step) / 4))) + 1
            points += list(zip(np.linspace(x0, x1, n), np.linspace(y0, y1, n), strict=True))
        found = (grid.tile_at(float(x), float(y)) for x, y in points)
        return tuple(dict.fromkeys(tile for tile in found if tile is not None))

    @staticmethod
    def inside(grid: TileGrid, path: Any) -> tuple[Tile, ...]:
        """Return the tiles whose centre a closed line goes around."""
        left, top = path.min(axis=0)
        right, bottom = path.max(axis=0)
        tiles = list(grid.tiles_in(Rect(left, top, right - left, bottom - top)))
        if not tiles:
            return ()
        step_x, step_y = grid.step
        centers = [((t.col + 0.5) * step_x, (t.row + 0.5) * step_y) for t in tiles]
        return tuple(t for t, on in zip(tiles, points_in_poly(centers, path), strict=True) if on)
