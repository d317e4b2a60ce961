"""The demonstration: napari on the sample slide, with the dock, embedding what is in view."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import QEventLoop, QTimer

from napari_virchow._napari.embedding import EmbeddingWidget
from napari_virchow._napari.layers import states_of
from napari_virchow._napari.open_slide import PLUGIN
from napari_virchow._napari.pixels import redraw_of
from napari_virchow._napari.viewer import slide_view
from napari_virchow.states import EngineState, TileState

WINDOW = (1280, 720)
MPP = 0.5
# Where to look: the middle of the view as fractions of the slide's height and width, and how much
# of its width is in view.
CENTER = (0.33, 0.33)
WIDTH = 0.40
PATIENCE_S = 180.0
_log = logging.getLogger(__name__)


def run_demo(screenshot: Path | None = None) -> int:
    """Open napari on the sample slide with everything working, or take a picture of that.

    Parameters
    ----------
    screenshot : Path or None
        Where to write a picture of the whole window once every tile in view is embedded; napari
        is closed then. None leaves napari to the user and returns when it is closed.

    Returns
    -------
    int
        0, or 1 if the tiles in view were not embedded in `PATIENCE_S`.
    """
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*WINDOW)
    layer = viewer.open_sample(PLUGIN, "synthetic-he")[-1]
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Embeddings")
    viewer.window.resize(*WINDOW)
    widget.magnification.setCurrentIndex(widget.magnification.findData(MPP))
    viewer.canvas.overlays.scale_bar.visible = True
    _wait(lambda: False, 0.3)  # the layout settles: only now the canvas has its size
    _look(viewer, layer)
    if screenshot is None:
        napari.run()
        return 0
    done = _wait(lambda: _all_done(viewer, widget, layer), PATIENCE_S)
    if not done:
        _log.warning("Not every tile in view was embedded within %.0f s", PATIENCE_S)
    _wait(lambda: False, 1.0)  # the list of what is stored, and the last frame
    screenshot.parent.mkdir(parents=True, exist_ok=True)
    viewer.screenshot(str(screenshot), canvas_only=False, flash=False)
    viewer.close()
    _wait(lambda: widget.session.state is EngineState.CLOSED, 10)
    return 0 if done else 1


def _look(viewer: Any, layer: Any) -> None:
    """Bring the telling part of the slide into view."""
    height, width = layer.data[0].shape[:2]
    center = layer.data_to_world((CENTER[0] * height, CENTER[1] * width))
    viewer.scene.camera.center = tuple(center[-2:])
    _, canvas_width = viewer.canvas.size
    viewer.scene.camera.zoom = canvas_width / (WIDTH * width * layer.scale[-1])


def _all_done(viewer: Any, widget: EmbeddingWidget, layer: Any) -> bool:
    """Say whether every tile in view is embedded, or glass, and drawn."""
    tiles, view = widget.tile_layer, slide_view(viewer, layer)
    redraw = redraw_of(layer)
    if tiles is None or tiles.shown is None or tiles.layer is None or view is None:
        return False
    if widget.session.state is not EngineState.IDLE or (redraw is not None and redraw.busy):
        return False
    states = states_of(tiles.layer.data)
    unfinished = (TileState.NONE, TileState.WAITING)
    return all(states[tile] not in unfinished for tile in tiles.shown.grid.tiles_in(view.rect))


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Run Qt's event loop until a condition holds; say whether it did in time."""
    loop, timer = QEventLoop(), QTimer()
    end = time.monotonic() + seconds

    def look() -> None:
        if condition() or time.monotonic() > end:
            loop.quit()

    timer.timeout.connect(look)
    timer.start(30)
    loop.exec()
    timer.stop()
    return condition()
