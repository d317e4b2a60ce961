"""What is chosen on the map of embeddings, and its clusters, as layers over the slide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray
from qtpy.QtCore import QObject

from napari_virchow._napari.layers import over
from napari_virchow._napari.viewer import add_quietly
from napari_virchow.slide import Slide
from napari_virchow.tiles import TileGrid

RING = 8  # raster pixels per tile side, for an outline that leaves the tissue visible
NAMES = {"selection": "On the map", "clusters": "Clusters"}
_OPACITY = {"selection": 1.0, "clusters": 0.45}
_OUTLINE = ("#000000", "#ffffff")  # one in the other: one of them is seen on any tissue


class MapLayers(QObject):
    """Draws on the slide that is looked at; layers without anything to show are taken away.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the layers go.
    parent : QObject
        Ends with it.
    """

    def __init__(self, viewer: Any, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._slide: Slide | None = None
        self._below: Layer | None = None
        self.layers: dict[str, Labels] = {}

    def look_at(self, slide: Slide | None, below: Layer | None) -> None:
        """Draw on this slide and its layer from now on."""
        if below is not self._below:
            self.clear()
            self._slide, self._below = slide, below

    def show_selection(self, grid: TileGrid, tiles: NDArray[np.int32]) -> None:
        """Put an outline around tiles, (n, 2)."""
        if not len(tiles):
            self._drop("selection")
            return
        mask = np.zeros(grid.shape, np.bool_)
        mask[tiles[:, 0], tiles[:, 1]] = True
        fine = mask.repeat(RING, axis=0).repeat(RING, axis=1)
        inside = _shrunk(fine)
        outline = (fine & ~inside) + 2 * (inside & ~_shrunk(inside)).astype(np.uint8)
        self._put("selection", outline, grid, RING, _OUTLINE)

    def show_clusters(
        self, grid: TileGrid, raster: NDArray[np.int32], colors: Sequence[str]
    ) -> None:
        """Paint the clusters of a slide's tiles, (rows, cols): 0 for none, else from 1."""
        drawn = raster.astype(np.uint8 if len(colors) < 256 else np.uint16)
        self._put("clusters", drawn, grid, 1, colors)

    @property
    def has_clusters(self) -> bool:
        """Whether clusters are drawn; users may remove the layer."""
        return self.layers.get("clusters") in self._viewer.layers

    def hide_clusters(self) -> None:
        """Take the clusters away."""
        self._drop("clusters")

    def clear(self) -> None:
        """Take everything away."""
        for kind in list(self.layers):
            self._drop(kind)

    def _put(
        self,
        kind: str,
        raster: NDArray[Any],
        grid: TileGrid,
        per_tile: int,
        colors: Sequence[str],
    ) -> None:
        slide, below = self._slide, self._below
        if slide is None or below is None or below not in self._viewer.layers:
            return
        old = self.layers.get(kind)
        if old is not None and old in self._viewer.layers and old.data.shape == raster.shape:
            old.data = raster
            old.colormap = _colormap(colors)
            return
        self._drop(kind)
        step_x, step_y = grid.step
        layer = Labels(
            raster,
            name=f"{NAMES[kind]} · {slide.name}",
            colormap=_colormap(colors),
            opacity=_OPACITY[kind],
            metadata={"tiles_of": slide.identity, "kind": f"map {kind}"},
            axis_labels=("y", "x"),
            **over(below, (step_x / per_tile, step_y / per_tile)),
        )
        layer.editable = False
        add_quietly(self._viewer, layer)
        self.layers[kind] = layer

    def _drop(self, kind: str) -> None:
        """Take a layer away, also one that a dock before this one has left."""
        self.layers.pop(kind, None)
        for layer in list(self._viewer.layers):
            if layer.metadata.get("kind") == f"map {kind}":
                self._viewer.layers.remove(layer)


def _colormap(colors: Sequence[str]) -> DirectLabelColormap:
    table: dict[int | None, Any] = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0)}
    table |= {n + 1: color for n, color in enumerate(colors)}
    return DirectLabelColormap(color_dict=table)


def _shrunk(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Take the outermost pixels of what is True away."""
    padded = np.pad(mask, 1)
    across = padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & across & padded[:-2, 1:-1] & padded[2:, 1:-1]
