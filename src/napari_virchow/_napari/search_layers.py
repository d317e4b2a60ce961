"""What a search found, as layers over the slide: a heat map, a mask, and hollow squares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray
from qtpy.QtCore import QObject

from napari_virchow._napari.layers import over
from napari_virchow.slide import Slide
from napari_virchow.tiles import Tile, TileGrid

NAMES = {"heat": "Similarity", "mask": "Above the threshold", "hits": "Hits"}
OPACITY = {"heat": 0.55, "mask": 0.5, "hits": 1.0}
RING = 8  # raster pixels per tile side for squares: a line of one pixel leaves the tissue visible
HIT, POSITIVE, NEGATIVE, CHOSEN = 1, 2, 3, 4
MASK = 1
_CLEAR = (0.0, 0.0, 0.0, 0.0)
# Okabe and Ito's yellow, green, vermilion and black; sky blue for the mask.
_RINGS: dict[int | None, Any] = {
    None: _CLEAR,
    0: _CLEAR,
    HIT: (0.94, 0.89, 0.26, 1.0),
    POSITIVE: (0.00, 0.62, 0.45, 1.0),
    NEGATIVE: (0.84, 0.37, 0.00, 1.0),
    CHOSEN: (0.0, 0.0, 0.0, 1.0),
}
_MASKS: dict[int | None, Any] = {None: _CLEAR, 0: _CLEAR, MASK: (0.34, 0.71, 0.91, 1.0)}
_LOW, _HIGH = 0.5, 0.999  # quantiles of the scores between which colours change


class SearchLayers(QObject):
    """Draws the answer to a search on one slide; every raster has a pixel per tile, or a few.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the layers go.
    slide : Slide
    below : Layer
        The slide's layer, which they lie on.
    parent : QObject
        Ends with it.
    """

    def __init__(self, viewer: Any, slide: Slide, below: Layer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._slide, self.below = viewer, slide, below
        self._grid: TileGrid | None = None
        self._scores: NDArray[np.float32] | None = None
        self._squares: NDArray[np.uint8] | None = None
        self._threshold: float | None = None
        self._limits: tuple[float, float] | None = None
        self._wanted = {"heat": True, "mask": False, "hits": True}
        self._raised = True
        self.layers: dict[str, Layer] = {}

    # ---- what to show

    def show_scores(self, grid: TileGrid, scores: NDArray[np.float32] | None) -> None:
        """Draw scores of shape (rows, cols), NaN where nothing is known; None takes them away."""
        self._use(grid)
        self._scores = scores
        self._draw_heat()
        self._draw_mask()

    def show_squares(
        self,
        grid: TileGrid,
        hits: NDArray[np.int32],
        positives: Iterable[Tile] = (),
        negatives: Iterable[Tile] = (),
        chosen: Iterable[Tile] = (),
    ) -> None:
        """Draw squares around tiles: hits of shape (n, 2), and on top examples and chosen hits."""
        self._use(grid)
        squares = np.zeros(grid.shape, np.uint8)
        squares[hits[:, 0], hits[:, 1]] = HIT
        marked = ((positives, POSITIVE), (negatives, NEGATIVE), (chosen, CHOSEN))
        for tiles, value in marked:
            for tile in tiles:
                if grid.contains(tile):
                    squares[tile] = value
        self._squares = squares
        self._draw_squares()

    def set_threshold(self, threshold: float | None) -> None:
        """Mask the tiles that score at least so much; None masks none."""
        if threshold != self._threshold:
            self._threshold = threshold
            self._draw_mask()

    def set_visible(self, kind: str, on: bool) -> None:
        """Show or hide "heat", "mask" or "hits"; one that was removed comes back."""
        self._wanted[kind] = on
        if self._present(kind):
            self.layers[kind].visible = on and self._raised
        if on:
            {"heat": self._draw_heat, "mask": self._draw_mask, "hits": self._draw_squares}[kind]()

    def raise_up(self, on: bool) -> None:
        """Show what is wanted, or nothing while another slide is looked at."""
        self._raised = on
        for kind in self.layers:
            if self._present(kind):
                self.layers[kind].visible = on and self._wanted[kind]

    def remove(self) -> None:
        """Take all layers away."""
        for kind in list(self.layers):
            layer = self.layers.pop(kind)
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self._limits = None

    # ---- drawing

    def _use(self, grid: TileGrid) -> None:
        if grid != self._grid:
            self.remove()
            self._grid, self._scores, self._squares = grid, None, None

    def _draw_heat(self) -> None:
        if self._grid is None or not self._wanted["heat"]:
            return
        scores = self._scores
        if scores is None:
            scores = np.full(self._grid.shape, np.nan, np.float32)
        known = scores[np.isfinite(scores)]
        if known.size:
            low, high = (float(v) for v in np.quantile(known, (_LOW, _HIGH)))
            limits = low, max(high, low + 1e-3)
        else:
            limits = 0.0, 1.0
        touched = (
            self._present("heat")
            and self._limits is not None
            and not np.allclose(self.layers["heat"].contrast_limits, self._limits)
        )
        self._put("heat", scores, 1, limits)
        if not touched:  # the user's own limits stay
            self._limits = limits
            self.layers["heat"].contrast_limits_range = (-1.0, 1.0)
            self.layers["heat"].contrast_limits = limits

    def _draw_mask(self) -> None:
        if self._grid is None or not self._wanted["mask"]:
            return
        mask = np.zeros(self._grid.shape, np.uint8)
        if self._scores is not None and self._threshold is not None:
            with np.errstate(invalid="ignore"):
                mask[self._scores >= self._threshold] = MASK
        self._put("mask", mask, 1)

    def _draw_squares(self) -> None:
        if self._grid is None or self._squares is None or not self._wanted["hits"]:
            return
        rows, cols = self._grid.shape
        raster = np.zeros((rows, RING, cols, RING), np.uint8)
        raster[:, (0, -1), :, :] = self._squares[:, None, :, None]
        raster[:, :, :, (0, -1)] = self._squares[:, None, :, None]
        self._put("hits", raster.reshape(rows * RING, cols * RING), RING)

    def _present(self, kind: str) -> bool:
        return kind in self.layers and self.layers[kind] in self._viewer.layers

    def _put(
        self, kind: str, raster: NDArray[Any], per_tile: int, limits: tuple[float, float] = (0, 1)
    ) -> None:
        assert self._grid is not None
        step_x, step_y = self._grid.step
        place = over(self.below, (step_x / per_tile, step_y / per_tile))
        if not self._present(kind):
            self._adopt(kind, place)
        if self._present(kind):
            self.layers[kind].data = raster
            self.layers[kind].visible = self._wanted[kind] and self._raised
            return
        common = {
            "name": f"{NAMES[kind]} · {self._slide.name}",
            "metadata": {"tiles_of": self._slide.identity, "kind": kind},
            "axis_labels": ("y", "x"),
            "opacity": OPACITY[kind],
            "visible": self._wanted[kind] and self._raised,
            **place,
        }
        layer: Layer
        if kind == "heat":
            layer = Image(raster, colormap="viridis", contrast_limits=limits, **common)
        else:
            colors = _MASKS if kind == "mask" else _RINGS
            layer = Labels(raster, colormap=DirectLabelColormap(color_dict=colors), **common)
            layer.editable = False
        active = self._viewer.layers.selection.active
        self.layers[kind] = layer
        self._viewer.add_layer(layer)
        self._lift_squares()
        if active is not None:
            self._viewer.layers.selection.active = active

    def _adopt(self, kind: str, place: dict[str, Any]) -> None:
        """Take over the layer that a dock before this one left."""
        mine = self._slide.identity, kind
        for layer in self._viewer.layers:
            if (layer.metadata.get("tiles_of"), layer.metadata.get("kind")) == mine:
                for attribute, value in place.items():
                    setattr(layer, attribute, value)
                self.layers[kind] = layer

    def _lift_squares(self) -> None:
        """Keep the squares above heat map and mask."""
        if self._present("hits"):
            at = self._viewer.layers.index(self.layers["hits"])
            if at != len(self._viewer.layers) - 1:
                self._viewer.layers.move(at, len(self._viewer.layers))
