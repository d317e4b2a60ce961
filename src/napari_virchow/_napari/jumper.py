"""Going to a tile, on whatever slide it is, and back again."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QObject, Signal

from napari_virchow._napari.layers import LayerData, slide_layers
from napari_virchow._napari.slide_box import SlideBox
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.thumbnails import TileAt
from napari_virchow._napari.visits import Visit, Visits
from napari_virchow.slide import Slide, SlideError, open_slide
from napari_virchow.tiles import Rect

_TILE_PX = 160.0  # what a tile measures on the screen after a jump that had to zoom
_SMALLEST_PX, _LARGEST_PX = 60.0, 700.0


class _Goal(NamedTuple):
    slide: str
    path: str
    place: Rect | TileAt | Visit


class Jumper(QObject):
    """Moves the camera of a viewer to tiles; opens their slides when needed.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose camera.
    slide_box : SlideBox
        Chooses the slide. Its owner passes `ready` on to `on_slide`.
    parent : QObject
        Ends with it.
    """

    moved = Signal()
    failed = Signal(object)

    def __init__(self, viewer: Any, slide_box: SlideBox, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._slide_box = viewer, slide_box
        self._tasks = Tasks(self)
        self._slide: Slide | None = None
        self._layer: Layer | None = None
        self._goal: _Goal | None = None
        self.visits = Visits()

    def on_slide(self, slide: Slide | None, layer: Layer | None) -> None:
        """Take in which slide is looked at now, and finish a jump to it."""
        self._slide, self._layer = slide, layer
        goal = self._goal
        if goal is not None and slide is not None and slide.identity == goal.slide:
            self._arrive(goal)

    def jump(self, slide: str, path: str, place: Rect | TileAt) -> None:
        """Go to a place in level-0 pixels, or a tile, of a slide given by identity and path."""
        here = self._here()
        if here is not None:
            self.visits.leave(here)
        self._go(_Goal(slide, path, place))

    def back(self) -> None:
        """Go where the last jump started."""
        self._revisit(self.visits.back)

    def forward(self) -> None:
        """Undo `back`."""
        self._revisit(self.visits.forward)

    def _revisit(self, step: Any) -> None:
        here = self._here()
        visit = None if here is None else step(here)
        if visit is not None:
            self._go(_Goal(visit.slide, visit.path, visit))

    def _here(self) -> Visit | None:
        if self._slide is None:
            return None
        camera = self._viewer.scene.camera
        y, x = camera.center[-2:]
        return Visit(self._slide.identity, self._slide.path, (y, x), float(camera.zoom))

    def _go(self, goal: _Goal) -> None:
        self._goal = goal
        if self._slide is not None and self._slide.identity == goal.slide:
            self._arrive(goal)
            return
        for layer in self._slide_box.layers:
            slide = self._slide_box.slide_of(layer) or layer.metadata.get("slide")
            if slide is not None and slide.identity == goal.slide:
                self._slide_box.combo.value = layer  # `on_slide` follows
                return
        if not goal.path:
            self._fail(ValueError("It is not known where this slide lies: open it, then jump."))
            return
        self._tasks.run(partial(_read, goal.path, goal.slide), done=self._add, failed=self._fail)

    def _add(self, layers: list[LayerData]) -> None:
        for data, options, _ in layers:
            self._viewer.add_image(data, **options)

    def _fail(self, error: Exception) -> None:
        self._goal = None
        self.failed.emit(error)

    def _arrive(self, goal: _Goal) -> None:
        self._goal = None
        camera, layer, slide = self._viewer.scene.camera, self._layer, self._slide
        if layer is None or slide is None:
            return
        if isinstance(goal.place, Visit):
            camera.center, camera.zoom = goal.place.center, goal.place.zoom
            self.moved.emit()
            return
        try:
            rect = goal.place if isinstance(goal.place, Rect) else _rect(slide, goal.place)
        except SlideError as error:
            self._fail(error)
            return
        x, y = rect.center
        wide = rect.width * float(np.asarray(layer.scale)[-1])
        if not _SMALLEST_PX <= wide * camera.zoom <= _LARGEST_PX:
            camera.zoom = _TILE_PX / wide
        camera.center = tuple(layer.data_to_world((y - 0.5, x - 0.5)))[-2:]
        self.moved.emit()


def _rect(slide: Slide, place: TileAt) -> Rect:
    return slide.grid(place.mpp).rect(place.tile)


def _read(path: str, identity: str) -> list[LayerData]:
    slide = open_slide(path)
    if slide.identity != identity:
        slide.close()
        raise SlideError(f"Another slide lies at {path} now; open the right one, then jump.")
    return slide_layers(slide)
