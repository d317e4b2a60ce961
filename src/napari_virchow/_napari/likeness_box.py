"""The check box that colours tiles by likeness, and the layer it makes."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image, Layer
from numpy.typing import NDArray
from qtpy.QtWidgets import QCheckBox

from napari_virchow._napari.layers import over
from napari_virchow._napari.link import Links
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.viewer import add_quietly
from napari_virchow.likeness import likeness_raster
from napari_virchow.session import Session
from napari_virchow.slide import Slide
from napari_virchow.states import EngineState
from napari_virchow.tiles import TileGrid

OPACITY = 0.65
Answer = tuple[TileGrid, NDArray[np.uint8], int]


class LikenessBox(QCheckBox):
    """Colours the embedded tiles of a slide so that alike tiles have alike colours.

    The colours are worked out in a worker whenever the engine comes to rest; until then the old
    ones stay.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the layer goes.
    session : Session
        Whose embeddings are drawn.
    """

    def __init__(self, viewer: Any, session: Session) -> None:
        super().__init__("Colour by likeness")
        self.setToolTip(
            "Give tiles that the encoder sees as alike the same colour "
            "(the first three principal components of their embeddings)"
        )
        self._viewer, self._session = viewer, session
        self._slide: Slide | None = None
        self._below: Layer | None = None
        self._mpp: float | None = None
        self._generation = 0
        self.layer: Image | None = None
        self._tasks = Tasks(self)
        self._links = Links(
            self,
            (session.state_changed, self._on_state_changed),
            (session.encoder_changed, self._on_encoder_changed),
        )
        self.toggled.connect(self._on_toggled)

    def look_at(self, slide: Slide | None, below: Layer | None, mpp: float | None) -> None:
        """Say which slide, on which layer, at which magnification is to be coloured."""
        if (slide, mpp) == (self._slide, self._mpp):
            return
        if slide is not self._slide:
            self._remove()
        self._slide, self._below, self._mpp = slide, below, mpp
        self._refresh()

    def _refresh(self) -> None:
        """Work the colours out again, if they are to be seen."""
        self._generation += 1
        slide, mpp, generation = self._slide, self._mpp, self._generation
        if not self.isChecked() or slide is None or slide.mpp is None or mpp is None:
            return
        if self._session.encoder is None:
            return
        session = self._session

        def work() -> Answer:
            grid = slide.grid(mpp)
            return grid, likeness_raster(grid.shape, *session.embeddings(slide, mpp)), generation

        self._tasks.run(work, done=self._on_colored, failed=self._on_failed)

    def _on_colored(self, answer: Answer) -> None:
        grid, raster, generation = answer
        below = self._below
        if generation != self._generation or below is None or below not in self._viewer.layers:
            return
        place = over(below, grid.step)
        name = f"{below.name} likeness ({grid.mpp:g} µm/px)"
        if self.layer is not None and self.layer in self._viewer.layers:
            for attribute, value in place.items():
                setattr(self.layer, attribute, value)
            self.layer.data, self.layer.name = raster, name
            return
        self.layer = Image(
            raster,
            rgb=True,
            name=name,
            opacity=OPACITY,
            axis_labels=("y", "x"),
            metadata={"likeness_of": self._slide.identity if self._slide else None},
            **place,
        )
        add_quietly(self._viewer, self.layer)

    def _on_failed(self, error: Exception) -> None:
        self.setToolTip(f"The colours could not be worked out: {error}")

    def _on_toggled(self, on: bool) -> None:
        if on:
            self._refresh()
        else:
            self._generation += 1
            self._remove()

    def _on_state_changed(self, state: EngineState) -> None:
        if state is EngineState.IDLE:
            self._refresh()

    def _on_encoder_changed(self, encoder: object) -> None:
        self._generation += 1
        self._remove()

    def _remove(self) -> None:
        if self.layer is not None and self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)
        self.layer = None
