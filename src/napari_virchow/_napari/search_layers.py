"""What a search found, as layers over the slide: a heat map, a mask, and hollow squares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer, Points
from napari.utils.colormaps import Colormap, DirectLabelColormap, ensure_colormap
from napari.utils.colormaps.standardize_color import transform_color
from numpy.typing import NDArray
from qtpy.QtCore import QObject

from napari_virchow._napari.layers import over
from napari_virchow._napari.viewer import add_quietly
from napari_virchow.slide import Slide
from napari_virchow.tiles import Tile, TileGrid

NAMES = {"heat": "Similarity", "mask": "Mask", "hits": "Hits"}
OPACITY = {"heat": 0.5, "mask": 0.5, "hits": 1.0}
MOST_SQUARES = 500  # more are slow to draw; the heat map shows all
MASK = 1
# Okabe and Ito's yellow, green and vermilion, and black; sky blue for the mask.
HIT, POSITIVE, NEGATIVE, CHOSEN = "#f0e442", "#009e73", "#d55e00", "#000000"
_CLEAR = (0.0, 0.0, 0.0, 0.0)
_MASKS: dict[int | None, Any] = {None: _CLEAR, 0: _CLEAR, MASK: (0.34, 0.71, 0.91, 1.0)}
_LOW, _HIGH = 0.5, 0.999  # quantiles of the scores between which colours change
_SAMPLE = 20_000
_FAINTEST = 0.15  # what is unlike the examples lets the tissue through


def heat_colors() -> Colormap:
    """Return viridis, told apart with any kind of colour vision, the fainter the lower."""
    viridis = ensure_colormap("viridis").colors.copy()
    viridis[:, 3] = np.linspace(_FAINTEST, 1, len(viridis))
    return Colormap(viridis, name="virchow-similarity", display_name="similarity")


class SearchLayers(QObject):
    """Draws the answer to a search on one slide; rasters have a pixel per tile.

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
        self._squares: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self._drawn: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
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
        """Draw squares around tiles: hits (n, 2), best first, then examples and chosen hits."""
        self._use(grid)
        step_x, step_y = grid.step
        marked = ((positives, POSITIVE), (negatives, NEGATIVE), (chosen, CHOSEN))
        tiles = [hits[:MOST_SQUARES]]
        colors = [np.tile(transform_color(HIT), (len(tiles[0]), 1))]
        for some, color in marked:
            inside = [tile for tile in some if grid.contains(tile)]
            tiles.append(np.array(inside, np.int32).reshape(-1, 2))
            colors.append(np.tile(transform_color(color), (len(inside), 1)))
        places = (np.concatenate(tiles) + 0.5) * (step_y, step_x) - 0.5
        self._squares = places.astype(np.float32), np.concatenate(colors).astype(np.float32)
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
        limits = _limits(scores)
        present = self._present("heat")
        before = self._limits
        touched = (
            present
            and before is not None
            and not np.allclose(self.layers["heat"].contrast_limits, before)
        )
        if not self._put("heat", scores, self._grid.step) or touched:
            return  # the user's own limits stay
        if before is None or not present or not np.allclose(limits, before, atol=1e-3):
            self._limits = limits
            self.layers["heat"].contrast_limits = limits

    def _draw_mask(self) -> None:
        if self._grid is None or not self._wanted["mask"]:
            return
        mask = np.zeros(self._grid.shape, np.uint8)
        if self._scores is not None and self._threshold is not None:
            with np.errstate(invalid="ignore"):
                mask[self._scores >= self._threshold] = MASK
        self._put("mask", mask, self._grid.step)

    def _draw_squares(self) -> None:
        if self._grid is None or self._squares is None or not self._wanted["hits"]:
            return
        places, colors = self._squares
        drawn = self._drawn
        if drawn is not None and self._present("hits") and _same(drawn, self._squares):
            return
        self._drawn = self._squares
        if self._put("hits", places, (1.0, 1.0)) and len(places):
            self.layers["hits"].border_color = colors

    def _present(self, kind: str) -> bool:
        return kind in self.layers and self.layers[kind] in self._viewer.layers

    def _put(self, kind: str, data: NDArray[Any], step: tuple[float, float]) -> bool:
        """Give a layer other data, and make it if need be; say whether it is there now."""
        place = over(self.below, step)
        if not self._present(kind):
            self._adopt(kind, place)
        if self._present(kind):
            layer, visible = self.layers[kind], self._wanted[kind] and self._raised
            if kind != "hits" and layer.data.shape == data.shape:
                layer.data[:] = data  # much cheaper than another array
                layer.refresh(thumbnail=False, extent=False, highlight=False)
            else:
                # What lies on the slide leaves the viewer as large as it is. To find that out
                # takes napari longer than all else here.
                with layer.events.data.blocker():
                    layer.data = data
            if layer.visible != visible:
                layer.visible = visible
            return True
        if not np.any(np.isfinite(data) & (data != 0)):
            return False  # nothing to be seen
        layer = self.layers[kind] = self._made(kind, data, place)
        add_quietly(self._viewer, layer)
        self._lift_squares()
        return True

    def _made(self, kind: str, data: NDArray[Any], place: dict[str, Any]) -> Layer:
        assert self._grid is not None
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
            layer = Image(data.copy(), colormap=heat_colors(), contrast_limits=(0, 1), **common)
            layer.contrast_limits_range = (-1.0, 1.0)
            return layer
        if kind == "mask":
            layer = Labels(data, colormap=DirectLabelColormap(color_dict=_MASKS), **common)
        else:
            look = {"symbol": "square", "face_color": "transparent", "border_width": 0.05}
            layer = Points(data, size=float(np.mean(self._grid.step)), **look, **common)
        layer.editable = False
        return layer

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


def _limits(scores: NDArray[np.float32]) -> tuple[float, float]:
    """Return between which scores colours change; from some thousand of them."""
    known = scores[np.isfinite(scores)]
    if known.size == 0:
        return 0.0, 1.0
    some = known[:: max(1, known.size // _SAMPLE)]
    low, high = float(np.quantile(some, _LOW)), float(np.quantile(some, _HIGH))
    return low, max(high, low + 1e-3)


def _same(one: tuple[NDArray[Any], ...], other: tuple[NDArray[Any], ...]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
