"""The viewer's camera and QuPath's view, one after the other."""

from __future__ import annotations

from typing import Any

from napari.layers import Layer
from qtpy.QtCore import QObject

from napari_virchow._napari.camera import CameraFollower
from napari_virchow._napari.link import Links
from napari_virchow._napari.viewer import slide_view
from napari_virchow.qupath.live import LiveLink
from napari_virchow.qupath.live_facts import LinkView
from napari_virchow.slide import Slide


class LiveView(QObject):
    """Tells the link where the viewer looks, and moves it where QuPath looks.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose camera.
    live : LiveLink
        Decides what goes across.
    parent : QObject
        Ends with it.
    """

    def __init__(self, viewer: Any, live: LiveLink, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._live = viewer, live
        self.slide: Slide | None = None
        self.layer: Layer | None = None
        self.camera = CameraFollower(viewer, self)
        self.camera.settled.connect(self._on_settled)
        self._links = Links(self, (live.view_moved, self._on_moved))

    def _on_settled(self) -> None:
        slide, layer = self.slide, self.layer
        view = None if layer is None else slide_view(self._viewer, layer)
        if slide is not None and view is not None:
            x, y = view.rect.center
            self._live.look(LinkView(slide.identity, x, y, view.downsample))

    def _on_moved(self, view: LinkView) -> None:
        slide, layer = self.slide, self.layer
        if slide is None or layer is None or slide.identity != view.slide:
            return
        camera = self._viewer.scene.camera
        camera.center = tuple(layer.data_to_world((view.y - 0.5, view.x - 0.5)))[-2:]
        camera.zoom = 1 / (view.downsample * float(layer.scale[-1]))
