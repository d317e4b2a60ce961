"""What was said and what the classifier says, as layers over the slide: rasters of tiles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray
from qtpy.QtCore import QObject

from napari_virchow._napari.layers import over
from napari_virchow._napari.viewer import add_quietly
from napari_virchow.classification import Painted
from napari_virchow.classify.predictions import UNKNOWN_ABOVE
from napari_virchow.labels.edits import LabelClass
from napari_virchow.slide import Slide
from napari_virchow.tiles import Tile, TileGrid

RING = 6  # raster pixels per tile side for labels: a frame of one pixel leaves the tissue visible
NAMES = {
    "classes": "Classes",
    "probability": "Probability",
    "uncertainty": "Uncertainty",
    "labels": "Labels",
}
MAP_OPACITY = 0.45
_ASKED = 254, 255  # raster values of the dashes: black and white, seen on any tissue


class ClassLayers(QObject):
    """Draws labels, classes, one class's probability and uncertainty of one slide.

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
        self._viewer, self._slide, self._below = viewer, slide, below
        self._grid: TileGrid | None = None
        self._painted: Painted | None = None
        self._said: dict[Tile, int] = {}
        self._preview: tuple[frozenset[Tile], int | None] = (frozenset(), None)
        self._asked: Tile | None = None
        self._classes: tuple[LabelClass, ...] = ()
        self._rows: NDArray[np.int32] | None = None
        self._wanted = {"labels": True, "classes": True, "probability": False, "uncertainty": False}
        self._opacity, self._confidence, self._unknown = MAP_OPACITY, 0.0, UNKNOWN_ABOVE
        self._class_shown: int | None = None
        self.layers: dict[str, Layer] = {}

    # ---- what to show

    def set_classes(self, classes: Sequence[LabelClass]) -> None:
        """Take over names and colours."""
        if self._classes == tuple(classes):
            return
        self._classes = tuple(classes)
        for kind in ("labels", "classes"):
            if self._present(kind):
                self.layers[kind].colormap = self._colormap()
        self._draw_labels()
        self._draw_map()

    def show_labels(self, labels: Mapping[Tile, int], grid: TileGrid) -> None:
        """Draw what was said of the tiles of a grid."""
        if grid != self._grid:
            self._drop()
            self._grid, self._painted = grid, None
        self._said = dict(labels)
        self._draw_labels()

    def preview(self, tiles: Iterable[Tile], class_id: int | None) -> None:
        """Draw tiles as if they were labelled, until the next call."""
        self._preview = frozenset(tiles), class_id
        self._draw_labels()

    def ask(self, tile: Tile | None) -> None:
        """Draw a dashed frame around the tile that is asked about; None takes it away."""
        if tile != self._asked:
            self._asked = tile
            self._draw_labels()

    def show_painted(self, painted: Painted | None) -> None:
        """Draw the classifier's opinion; None takes it away."""
        if painted is not None and painted.grid != self._grid:
            return
        self._painted = painted
        self._rows = None
        if painted is not None:
            self._rows = np.full(painted.grid.shape, -1, np.int32)
            self._rows[painted.tiles[:, 0], painted.tiles[:, 1]] = np.arange(len(painted.tiles))
        self._draw_map()

    def configure(self, *, at_least: float, unknown_above: float, class_shown: int | None) -> None:
        """Choose below which probability and above which novelty a tile has no class, and the
        class whose probability is drawn."""
        wanted = at_least, unknown_above, class_shown
        if wanted != (self._confidence, self._unknown, self._class_shown):
            self._confidence, self._unknown, self._class_shown = wanted
            self._draw_map()

    def set_opacity(self, opacity: float) -> None:
        """Let more or less of the slide through the maps."""
        self._opacity = opacity
        for kind in ("classes", "probability", "uncertainty"):
            if self._present(kind):
                self.layers[kind].opacity = opacity

    def set_visible(self, kind: str, on: bool) -> None:
        """Show or hide one of the layers; one that was removed comes back."""
        self._wanted[kind] = on
        if self._present(kind):
            self.layers[kind].metadata["wanted"] = on
            self.layers[kind].visible = on
        if on:
            self._draw_labels()
            self._draw_map()

    def visible(self, kind: str) -> bool:
        """Say whether a layer is to be seen."""
        return self._wanted[kind]

    def hover_text(self, tile: Tile) -> str:
        """Return what is known of a tile, for the line under the cursor."""
        names = {c.id: c.name for c in self._classes}
        parts = []
        if tile in self._said:
            parts.append(f"you said {names.get(self._said[tile], '?')}")
        row = -1 if self._rows is None or self._painted is None else int(self._rows[tile])
        if self._painted is None or row < 0:
            return " · ".join([*parts, "not predicted"])
        found = self._painted.predictions
        best = int(found.probability[row].argmax())
        name, chance = names.get(int(found.classes[best]), "?"), found.probability[row, best]
        if found.kind == "similarity":
            parts.append(f"similarity to {name} {chance:.2f}")
        elif found.novelty[row] > self._unknown or found.class_id[row] == 0:
            parts.append(f"unknown: unlike anything labelled (nearest {name})")
        else:
            parts.append(f"{name} {chance:.2f}, margin {found.margin[row]:.2f}")
        return " · ".join(parts)

    def shown_classes(self) -> NDArray[np.uint8]:
        """Return the class map as it is drawn: places in the list of classes, from 1; 0 is none."""
        assert self._grid is not None
        raster = np.zeros(self._grid.shape, np.uint8)
        if self._painted is not None and self._painted.predictions.kind == "classes":
            found = self._painted.predictions
            ids = found.confident(unknown_above=self._unknown, at_least=self._confidence)
            tiles = self._painted.tiles
            raster[tiles[:, 0], tiles[:, 1]] = self._index()[ids]
        return raster

    def remove(self) -> None:
        """Take all layers away."""
        self._drop()

    # ---- drawing

    def _index(self) -> NDArray[np.uint8]:
        """Return class id -> raster value."""
        index = np.zeros(max((c.id for c in self._classes), default=0) + 1, np.uint8)
        for n, one in enumerate(self._classes):
            index[one.id] = n + 1
        return index

    def _colormap(self) -> DirectLabelColormap:
        colors: dict[int | None, Any] = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0)}
        colors |= {_ASKED[0]: (0, 0, 0, 1), _ASKED[1]: (1, 1, 1, 1)}
        for n, one in enumerate(self._classes):
            red, green, blue = (int(one.color[i : i + 2], 16) / 255 for i in (1, 3, 5))
            colors[n + 1] = (red, green, blue, 1.0)
        return DirectLabelColormap(color_dict=colors)

    def _draw_labels(self) -> None:
        if self._grid is None or not self._wanted["labels"]:
            return
        rows, cols = self._grid.shape
        raster = np.zeros((rows * RING, cols * RING), np.uint8)
        said = dict(self._said)
        tiles, class_id = self._preview
        for tile in tiles:
            if class_id is None:
                said.pop(tile, None)
            else:
                said[tile] = class_id
        index = self._index()
        for tile, one in said.items():
            top, left = tile.row * RING, tile.col * RING
            raster[top : top + RING, left : left + RING] = index[one] if one < len(index) else 0
            raster[top + 1 : top + RING - 1, left + 1 : left + RING - 1] = 0
        if self._asked is not None:
            _dash(raster, self._asked)
        self._put("labels", raster, RING)

    def _draw_map(self) -> None:
        if self._grid is None:
            return
        if self._wanted["classes"]:
            self._put("classes", self.shown_classes(), 1)
        if self._wanted["probability"]:
            self._put("probability", self._numbers("probability"), 1)
        if self._wanted["uncertainty"]:
            self._put("uncertainty", self._numbers("uncertainty"), 1)

    def _numbers(self, kind: str) -> NDArray[np.float32]:
        assert self._grid is not None
        raster = np.full(self._grid.shape, np.nan, np.float32)
        if self._painted is None:
            return raster
        found, tiles = self._painted.predictions, self._painted.tiles
        if kind == "uncertainty":
            values = 1 - found.margin
        else:
            columns = found.classes.tolist()
            wanted = self._class_shown if self._class_shown in columns else columns[0]
            values = found.probability[:, columns.index(wanted)]
        raster[tiles[:, 0], tiles[:, 1]] = values
        return raster

    def _present(self, kind: str) -> bool:
        return kind in self.layers and self.layers[kind] in self._viewer.layers

    def _put(self, kind: str, raster: NDArray[Any], per_tile: int) -> None:
        if self._present(kind):
            self.layers[kind].data = raster
            return
        assert self._grid is not None
        step_x, step_y = self._grid.step
        place = over(self._below, (step_x / per_tile, step_y / per_tile))
        common = {
            "name": f"{NAMES[kind]} · {self._slide.name}",
            "metadata": {"tiles_of": self._slide.identity, "wanted": True},
            "axis_labels": ("y", "x"),
            **place,
        }
        layer: Layer
        if kind in ("labels", "classes"):
            opacity = 1.0 if kind == "labels" else self._opacity
            layer = Labels(raster, colormap=self._colormap(), opacity=opacity, **common)
            layer.editable = False
        else:
            ramp = "viridis" if kind == "probability" else "magma"
            layer = Image(
                raster, colormap=ramp, contrast_limits=(0, 1), opacity=self._opacity, **common
            )
        self.layers[kind] = layer
        add_quietly(self._viewer, layer)
        self._lift_labels()

    def _lift_labels(self) -> None:
        """Keep what was said above what is predicted."""
        if self._present("labels"):
            at = self._viewer.layers.index(self.layers["labels"])
            if at != len(self._viewer.layers) - 1:
                self._viewer.layers.move(at, len(self._viewer.layers))

    def _drop(self) -> None:
        for kind in list(self.layers):
            layer = self.layers.pop(kind)
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)


def _dash(raster: NDArray[np.uint8], tile: Tile) -> None:
    """Draw a dashed frame just outside a tile, into a raster of `RING` pixels per tile."""
    top, left = tile.row * RING - 1, tile.col * RING - 1
    side = RING + 2
    rows, cols = np.mgrid[top : top + side, left : left + side]
    edge = np.zeros((side, side), bool)
    edge[[0, -1], :] = edge[:, [0, -1]] = True
    inside = (rows >= 0) & (cols >= 0) & (rows < raster.shape[0]) & (cols < raster.shape[1])
    rows, cols = rows[edge & inside], cols[edge & inside]
    raster[rows, cols] = np.where((rows + cols) // 2 % 2, *_ASKED)
