"""Shift-click on the canvas: one tile is meant, whatever tool has the left button."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_virchow.tiles import Tile

_STILL_PX = 5.0  # a press that moves farther is a drag, not a click


class ShiftClick(QObject):
    """Tells which tile was Shift-clicked, and whether Ctrl was held too.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose canvas is pressed on.
    tile_at : callable
        From a place in the world to the tile there, or None.
    parent : QObject
        Ends with it.
    """

    clicked = Signal(object, bool)  # Tile, whether it is an example (not a counter-example)

    def __init__(self, viewer: Any, tile_at: Callable[[Any], Tile | None], parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._tile_at = viewer, tile_at
        self._attached = False

    def attach(self) -> None:
        """Follow the mouse."""
        if not self._attached:
            self._attached = True
            self._viewer.mouse_drag_callbacks.append(self._on_press)

    def detach(self) -> None:
        """Leave the mouse alone."""
        if self._attached:
            self._attached = False
            self._viewer.mouse_drag_callbacks.remove(self._on_press)

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        held = set(event.modifiers)
        if event.button != 1 or "Shift" not in held or held - {"Shift", "Control"}:
            return
        active = self._viewer.layers.selection.active
        if active is not None and not active.mouse_pan and "tiles_of" not in active.metadata:
            mode = str(getattr(active, "mode", "pan_zoom"))
            if mode != "pan_zoom":  # the layer's own tool, painting say
                return
        tile, start = self._tile_at(event.position), np.array(event.pos, float)
        yield
        moved = 0.0
        while event.type == "mouse_move":
            moved = max(moved, float(np.abs(np.array(event.pos) - start).max()))
            yield
        if tile is not None and moved < _STILL_PX:
            self.clicked.emit(tile, "Control" not in held)
