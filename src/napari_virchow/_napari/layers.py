"""Slides and tile states as napari layers: scale, units and half-pixel shifts in one place."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray
from qtpy.QtCore import QElapsedTimer, QObject, QTimer, Signal

from napari_virchow._napari.pixels import levels_of, view_levels
from napari_virchow.slide import Slide
from napari_virchow.states import GridStates, TileState, TileUpdate

LayerData = tuple[Any, dict[str, Any], str]
REFRESH_MS = 300  # a frame is dear where there is no graphics card, and then slows what it shows

# Okabe and Ito's colours, told apart with any kind of colour vision; all let the tissue through.
STATE_COLORS: dict[TileState, tuple[float, float, float, float]] = {
    TileState.WAITING: (0.94, 0.89, 0.26, 0.24),
    TileState.EMBEDDED: (0.00, 0.62, 0.45, 0.30),
    TileState.GLASS: (0.40, 0.40, 0.40, 0.10),
    TileState.FAILED: (0.84, 0.37, 0.00, 0.80),
}
# Every other tile, as on a chess board, is drawn a little fainter: one sees where tiles end.
# Raster values are `TileState` values, with this bit set where the tile is a fainter one.
FAINTER = 8
FAINTER_BY = 0.6
STATE_WORDS: dict[TileState, str] = {
    TileState.NONE: "not asked for yet",
    TileState.WAITING: "waiting to be embedded",
    TileState.EMBEDDED: "embedded and stored",
    TileState.GLASS: "glass, skipped",
    TileState.FAILED: "could not be read",
}


def spatial(mpp: tuple[float, float] | None, step: tuple[float, float] = (1, 1)) -> dict[str, Any]:
    """Return how a raster over the slide lies in napari's world.

    napari puts whole coordinates at the centres of pixels, so a pixel that is `step` slide pixels
    wide starts (step - 1) / 2 slide pixels to the right.

    Parameters
    ----------
    mpp : (float, float) or None
        (x, y) µm per slide pixel; None places it in pixels.
    step : (float, float)
        (x, y) size of a raster pixel in slide pixels.
    """
    mpp_x, mpp_y = mpp or (1.0, 1.0)
    step_x, step_y = step
    unit = "pixel" if mpp is None else "um"
    return {
        "scale": (step_y * mpp_y, step_x * mpp_x),
        "translate": ((step_y - 1) / 2 * mpp_y, (step_x - 1) / 2 * mpp_x),
        "units": (unit, unit),
    }


def slide_layers(slide: Slide, name: str | None = None) -> list[LayerData]:
    """Return a slide as layers for napari: an overview, and the slide itself on top of it.

    The overview fills what is not decoded yet while the view moves.

    Parameters
    ----------
    slide : Slide
        The layers hold on to it.
    name : str or None
        What to call the layer; the slide's own name if None.
    """
    name = slide.name if name is None else name
    overview, downsample = slide.overview()
    step = slide.width / overview.shape[1], slide.height / overview.shape[0]
    common = {"rgb": True, "axis_labels": ("y", "x")}
    below = {
        "name": f"{name} overview",
        "metadata": {"overview_of": slide.identity, "step": step},
        **spatial(slide.mpp, step),
        **common,
    }
    above = {
        "name": name,
        "multiscale": True,
        "contrast_limits": (0, 255),
        "metadata": {
            "slide": slide,
            "path": slide.path,
            "mpp": slide.mpp,
            "level_downsamples": tuple(level.downsample for level in slide.levels),
        },
        **spatial(slide.mpp),
        **common,
    }
    levels = view_levels(levels_of(slide), overview, slide.close)
    return [(overview, below, "image"), (levels, above, "image")]


def show_only(viewer: Any, identity: str, *, tiles: bool | None) -> None:
    """Show the layers of one slide and hide those of other slides, which lie in the same place.

    Parameters
    ----------
    viewer : napari.Viewer
        Layers that belong to no slide are left as they are.
    identity : str
        Of the slide to show.
    tiles : bool or None
        Whether to show the states of its tiles too; None leaves that as it is. What docks have
        drawn on it beside that is shown if it is wanted (its metadata "wanted").
    """
    for layer in viewer.layers:
        slide = layer.metadata.get("slide")
        owner = slide.identity if slide is not None else layer.metadata.get("overview_of")
        owner = layer.metadata.get("objects_of", owner)
        if owner is not None:
            layer.visible = owner == identity
        elif (owner := layer.metadata.get("tiles_of")) is not None:
            wanted = layer.metadata.get("wanted", layer.visible if tiles is None else tiles)
            layer.visible = owner == identity and wanted


def over(layer: Layer, step: tuple[float, float]) -> dict[str, Any]:
    """Return how a raster lies in the world that is to lie on a slide layer, whoever placed it.

    Parameters
    ----------
    layer : Layer
        The slide, pixel for pixel.
    step : (float, float)
        (x, y) size of a raster pixel in slide pixels.
    """
    scale, step_yx = np.asarray(layer.scale)[-2:], np.array(step[::-1])
    shift = np.asarray(layer.rotate) @ ((step_yx - 1) / 2 * scale)
    return {
        "scale": tuple(step_yx * scale),
        "translate": tuple(np.asarray(layer.translate)[-2:] + shift),
        "rotate": layer.rotate,
        "affine": layer.affine,
        "units": layer.units,
    }


def place_slide(viewer: Any, identity: str, mpp: tuple[float, float]) -> None:
    """Give the layers of a slide their size in µm, once it is known, and keep the view on it."""
    camera, ratio = viewer.scene.camera, None
    for layer in viewer.layers:
        slide = layer.metadata.get("slide")
        if slide is not None and slide.identity == identity:
            step = (1.0, 1.0)
            slide.set_mpp(mpp)
            layer.metadata["mpp"] = mpp
        elif layer.metadata.get("overview_of") == identity:
            step = layer.metadata["step"]
        else:
            continue
        place = spatial(mpp, step)
        ratio = place["scale"][1] / layer.scale[-1]
        layer.units = place["units"]
        layer.scale, layer.translate = place["scale"], place["translate"]
    if ratio is not None and abs(ratio - 1) > 1e-9:
        center, zoom = camera.center, camera.zoom
        camera.center = tuple(value * ratio for value in center)
        camera.zoom = zoom / ratio


class TileLayer(QObject):
    """Draws the tile states of one slide: a raster with a pixel per tile, over the slide layer.

    The first result is drawn at once; then they come in small batches, which are drawn together,
    every `REFRESH_MS` at most.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the layer goes.
    slide : Slide
        Whose tiles it shows.
    below : Layer
        The slide's layer, which it lies on.
    parent : QObject
        Ends with it.
    """

    visible_changed = Signal(bool)

    def __init__(self, viewer: Any, slide: Slide, below: Layer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._slide = slide
        self._below = below
        self.shown: GridStates | None = None
        self.layer: Labels | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._refresh)
        self._since = QElapsedTimer()  # results were drawn
        self._since.start()

    @property
    def present(self) -> bool:
        """Whether the layer is in the viewer; users may remove it."""
        return self.layer is not None and self.layer in self._viewer.layers

    def shows(self, states: GridStates) -> bool:
        """Say whether it draws this grid and encoder, and so keeps up with updates to them."""
        shown = self.shown
        return shown is not None and (shown.grid, shown.encoder) == (states.grid, states.encoder)

    def show(self, states: GridStates, title: str) -> None:
        """Draw a fresh picture; makes the layer if it is not there."""
        name = f"{self._below.name} tiles ({title}, {states.grid.mpp:g} µm/px)"
        place = over(self._below, states.grid.step)
        same = self.shows(states)
        self.shown = states
        data = raster_of(states.states)
        layer = self.layer
        if layer is None or not self.present:
            self._add(data, name, place)
            return
        if not same:
            for attribute, value in place.items():
                setattr(layer, attribute, value)
            layer.name = name
        layer.data = data

    def set_visible(self, on: bool) -> None:
        """Show or hide the layer, if it is there."""
        if self.layer is not None:
            self.layer.visible = on

    def update(self, update: TileUpdate) -> None:
        """Take in the new state of some tiles; nothing happens if they are of another grid."""
        shown = self.shown
        if shown is None or self.layer is None or not self.present:
            return
        if (update.grid, update.encoder) != (shown.grid, shown.encoder) or not update.tiles:
            return
        rows, cols = np.array(update.tiles).T
        self.layer.data[rows, cols] = update.state + FAINTER * ((rows + cols) % 2)
        waits = update.state is TileState.WAITING
        due = REFRESH_MS if waits else max(0, REFRESH_MS - self._since.elapsed())
        if not self._timer.isActive() or due < self._timer.remainingTime():
            self._timer.start(due)

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        self._timer.stop()
        if self.present:
            self._viewer.layers.remove(self.layer)
        self.layer = None

    def _add(self, data: NDArray[np.uint8], name: str, place: dict[str, Any]) -> None:
        self.layer = Labels(
            data,
            name=name,
            colormap=state_colormap(),
            features={
                "index": [state + bit for bit in (0, FAINTER) for state in STATE_WORDS],
                "tile": list(STATE_WORDS.values()) * 2,
            },
            axis_labels=("y", "x"),
            opacity=1.0,
            metadata={"tiles_of": self._slide.identity},
            **place,
        )
        self.layer.editable = False
        self.layer.events.visible.connect(self._on_visible)
        self._viewer.add_layer(self.layer)

    def _on_visible(self, event: object = None) -> None:
        if self.layer is not None:
            self.visible_changed.emit(self.layer.visible)

    def _refresh(self) -> None:
        self._since.restart()
        if self.layer is not None and self.present:
            self.layer.refresh(thumbnail=False, extent=False, highlight=False)


def raster_of(states: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what is drawn for tile states, an array of the same shape; see `FAINTER`."""
    rows, cols = np.arange(states.shape[0])[:, None], np.arange(states.shape[1])
    return (states + FAINTER * ((rows + cols) % 2)).astype(np.uint8)


def states_of(raster: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the tile states behind what is drawn; undoes `raster_of`."""
    return raster % FAINTER


def state_colormap() -> DirectLabelColormap:
    """Return the colours of tile states, for a Labels layer."""
    colors: dict[int | None, Any] = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0), FAINTER: (0, 0, 0, 0)}
    for state, (red, green, blue, alpha) in STATE_COLORS.items():
        colors[int(state)] = (red, green, blue, alpha)
        colors[state + FAINTER] = (red, green, blue, alpha * FAINTER_BY)
    return DirectLabelColormap(color_dict=colors)
