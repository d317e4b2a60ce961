"""What a napari viewer shows, in the words of the core: its session, its slides, its view."""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image, Layer
from qtpy.QtCore import Qt

from napari_virchow._napari.pixels import forget_viewer, remember_viewer
from napari_virchow.session import Session
from napari_virchow.slide import Slide
from napari_virchow.tiles import Rect

_log = logging.getLogger(__name__)
_sessions: weakref.WeakKeyDictionary[Any, Session] = weakref.WeakKeyDictionary()


def plain(viewer: Any) -> Any:
    """Return the viewer itself where napari gives plugins a proxy of it.

    Only public attributes are used either way; a proxy makes every one of them dear, and two
    proxies of one layer are not the same object.
    """
    return getattr(viewer, "__wrapped__", viewer)


def session_of(viewer: Any, *, make: Callable[[], Session] = Session) -> Session:
    """Return the viewer's session, made on first use and closed with the viewer's window.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        A viewer without a window keeps its session until it is garbage.
    make : callable
        Makes the session.
    """
    viewer = plain(viewer)
    if viewer not in _sessions:
        session = _sessions[viewer] = make()
        remember_viewer(viewer)
        ending = _Ending(viewer, session)
        closing = weakref.finalize(viewer, ending.on_viewer_gone)  # keeps it until then
        if (window := main_window(viewer)) is not None:
            window.destroyed.connect(ending.on_window_gone)
            closing.atexit = True
    return _sessions[viewer]


def main_window(viewer: Any) -> Any:
    """Return the viewer's QMainWindow, or None where there is none (any more)."""
    window = getattr(viewer, "window", None)
    return None if window is None else window.main_menu.window()


def add_quietly(viewer: Any, layer: Layer) -> None:
    """Add a layer and leave chosen what was chosen: the slide's keys and controls stay at hand.

    A window that was shown and is closed now takes no layer any more; what was still on its way
    there is dropped.
    """
    window = main_window(viewer)
    shown_before = Qt.WidgetAttribute.WA_WState_ExplicitShowHide
    if window is not None and window.isHidden() and window.testAttribute(shown_before):
        return
    active = viewer.layers.selection.active
    viewer.add_layer(layer)
    if active is not None:
        viewer.layers.selection.active = active


class _Ending:
    """Closes a session with its viewer's window, or with the viewer where that has none.

    A closure over the viewer would keep it alive, and with it every layer; and Python may have
    let go of a closure's cells when Qt calls it.
    """

    def __init__(self, viewer: Any, session: Session) -> None:
        self._viewer, self._session = weakref.ref(viewer), session

    def on_viewer_gone(self) -> None:
        self._session.close()

    def on_window_gone(self, window: object = None) -> None:
        viewer = self._viewer()
        slides: list[Slide] = []
        if viewer is not None:
            _sessions.pop(viewer, None)
            forget_viewer(viewer)
            slides = [layer.metadata["slide"] for layer in viewer.layers if is_slide_layer(layer)]
        self._session.close()
        for slide in slides:
            slide.close()


def is_slide_layer(layer: Layer) -> bool:
    """Say whether our reader made this layer from a slide."""
    return isinstance(layer, Image) and isinstance(layer.metadata.get("slide"), Slide)


def slide_path(layer: Layer) -> str | None:
    """Return the file behind an image layer, by whatever reader, or None where it has none."""
    if not isinstance(layer, Image) or layer.metadata.get("overview_of") is not None:
        return None
    path = layer.metadata.get("path") or layer.source.path
    return None if path is None else str(path)


def may_be_slide(layer: Layer) -> bool:
    """Say whether a layer is worth trying as a slide: an RGB image that came from a file."""
    return isinstance(layer, Image) and layer.rgb and slide_path(layer) is not None


def shows_all_of(layer: Layer, slide: Slide) -> bool:
    """Say whether the layer's data is the slide's level 0, pixel for pixel."""
    data = layer.data[0] if layer.multiscale else layer.data
    return tuple(data.shape[:2]) == (slide.height, slide.width)


@dataclass(frozen=True, slots=True)
class SlideView:
    """The part of a slide that is on the screen.

    Parameters
    ----------
    rect : Rect
        In level-0 pixels; hangs off the slide where the window shows more than the slide.
    downsample : float
        Level-0 pixels per pixel on the screen.
    """

    rect: Rect
    downsample: float


def slide_view(viewer: Any, layer: Layer) -> SlideView | None:
    """Return what the viewer shows of a slide layer, or None in 3D or in a window without size.

    napari puts whole coordinates at the centres of pixels, the core at their corners.
    """
    height, width = viewer.canvas.viewbox_size(viewer.layers)  # smaller than the canvas in a grid
    camera = viewer.scene.camera
    if viewer.dims.ndisplay != 2 or not (height > 0 and width > 0 and camera.zoom > 0):
        return None
    center_y, center_x = camera.center[-2:]
    half_y, half_x = height / 2 / camera.zoom, width / 2 / camera.zoom
    corners = np.array(
        [
            layer.world_to_data((center_y + side_y * half_y, center_x + side_x * half_x))[-2:]
            for side_y in (-1, 1)
            for side_x in (-1, 1)
        ]
    )
    (top, left), (bottom, right) = corners.min(0) + 0.5, corners.max(0) + 0.5
    if not all(map(math.isfinite, (top, left, bottom, right))):
        return None
    rect = Rect(float(left), float(top), float(right - left), float(bottom - top))
    return SlideView(rect, rect.width / width)
