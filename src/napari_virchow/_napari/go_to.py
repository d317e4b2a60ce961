"""Brings a tile into view, wherever it lies: another slide is chosen, or opened first."""

from __future__ import annotations

from typing import Any

from napari.layers import Layer
from qtpy.QtCore import QObject, Signal

from napari_virchow._napari.open_slide import open_in_background
from napari_virchow._napari.slide_box import SlideBox
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.viewer import is_slide_layer
from napari_virchow.memory import SlideMemory, recall_slide
from napari_virchow.session import Session
from napari_virchow.tiles import Rect

SMALLEST_PX = 96  # a tile that is shown is at least so large on the screen


class GoTo(QObject):
    """Moves the camera to places on slides.

    Parameters
    ----------
    viewer : napari.Viewer
    session : Session
        Where it is remembered which file a slide is.
    slides : SlideBox
        Where another slide is chosen.
    parent : QObject
        Ends with it.
    """

    failed = Signal(object)

    def __init__(self, viewer: Any, session: Session, slides: SlideBox, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._session, self._slides = viewer, session, slides
        self._tasks = Tasks(self)
        self._wanted: tuple[str, Rect] | None = None

    def go(self, slide: str, rect: Rect) -> None:
        """Show a place of a slide, by its identity; opening a file takes a moment."""
        self._wanted = slide, rect
        layers = [y for y in self._slides.layers if self._identity(y) == slide]
        chosen = self._slides.combo.value
        if chosen in layers:
            self.arrive(slide, chosen)
        elif layers:
            self._slides.combo.value = layers[-1]  # `arrive` is called once it is there
        else:
            self._tasks.run(
                recall_slide,
                self._session.store,
                slide,
                done=self._on_recalled,
                failed=self.failed.emit,
            )

    def arrive(self, slide: str, layer: Layer | None) -> bool:
        """Take up a chosen slide: if it is the one to go to, show the place and return True."""
        if self._wanted is None or self._wanted[0] != slide or layer is None:
            return False
        rect = self._wanted[1]
        self._wanted = None
        data = rect.y + rect.height / 2 - 0.5, rect.x + rect.width / 2 - 0.5
        camera = self._viewer.scene.camera
        side = rect.height * float(layer.scale[-2])
        camera.zoom = max(camera.zoom, SMALLEST_PX / side)
        camera.center = tuple(layer.data_to_world(data))[-2:]
        return True

    def _on_recalled(self, known: SlideMemory) -> None:
        if not known.path:
            self.failed.emit(
                ValueError("It is not known where that slide lies: open its file above.")
            )
            return
        open_in_background(self._viewer, known.path)

    def _identity(self, layer: Layer) -> str | None:
        if is_slide_layer(layer):
            return str(layer.metadata["slide"].identity)
        slide = self._slides.slide_of(layer)
        return None if slide is None else slide.identity
