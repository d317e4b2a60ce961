"""Which tiles of a slide are labelled, and where it was looked at last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtWidgets import QComboBox, QSizePolicy

from napari_virchow._napari.words import magnification_words
from napari_virchow.encoders import Encoder
from napari_virchow.labels import LabelSet
from napari_virchow.slide import Slide, SlideError
from napari_virchow.tiles import TileGrid

_FINEST = 0.9  # tiles may ask for this much more than the slide has, as in `Slide.grid`
_DEFAULT_MPP = 0.5


class GridChoice(QComboBox):
    """Offers the tile sizes that slide and encoder allow; first that with the most labels."""

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip("Labels belong to tiles of one size: choose it once")
        self.setAccessibleName("Tile size")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._of: str | None = None

    def fill(
        self,
        slide: Slide | None,
        encoder: Encoder | None,
        labels: LabelSet | None,
        otherwise: Sequence[float] = (),
    ) -> None:
        """Offer what there is now, `otherwise` (µm/px) without an encoder; what was chosen for
        this slide stays chosen."""
        before = self.currentData() if slide is not None and slide.identity == self._of else None
        self._of = None if slide is None else slide.identity
        sizes: list[float] = []
        if slide is not None and slide.mpp is not None:
            coarsest = max(slide.mpp)
            allowed = otherwise if encoder is None else encoder.spec.allowed_mpp
            sizes = [m for m in allowed if m >= _FINEST * coarsest]
        if before is None and labels is not None and slide is not None:
            counts = {m: len(labels.get(slide.identity, slide.grid(m).name)) for m in sizes}
            before = max(counts, key=lambda m: counts[m]) if any(counts.values()) else None
        self.blockSignals(True)
        self.clear()
        for mpp in sizes:
            self.addItem(magnification_words(mpp), mpp)
        self.setCurrentIndex(max(0, self.findData(before or _DEFAULT_MPP)) if sizes else -1)
        self.blockSignals(False)


def grid_at(slide: Slide | None, mpp: float | None) -> TileGrid | None:
    """Return the grid of a slide at a tile size, or None where one is missing or does not fit."""
    if slide is None or slide.mpp is None or mpp is None:
        return None
    try:
        return slide.grid(mpp)
    except SlideError:
        return None


def remember_view(labels: LabelSet, slide: str, viewer: Any, mpp: float) -> None:
    """Keep where a slide is looked at beside its labels."""
    camera = viewer.scene.camera
    place = {"center": [float(v) for v in camera.center[-2:]], "zoom": float(camera.zoom)}
    labels.set_view(slide, {**place, "mpp": mpp})


def restore_view(labels: LabelSet, slide: str, viewer: Any) -> None:
    """Look at a slide as it was looked at last, if it ever was."""
    view = labels.view(slide)
    if view is not None and "center" in view and "zoom" in view:
        viewer.scene.camera.center = tuple(view["center"])
        viewer.scene.camera.zoom = view["zoom"]
