"""Which of a slide's stored embeddings."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtWidgets import QComboBox, QSizePolicy

from napari_virchow._napari.words import encoder_title, magnification_words
from napari_virchow.shelf import StoredInfo


class StoredChoice(QComboBox):
    """Offers what is stored of a slide, one line per encoder and magnification."""

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip("Embeddings of this slide that are kept on this computer")
        self.setAccessibleName("Embeddings")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def fill(self, infos: Sequence[StoredInfo]) -> None:
        """Offer what there is now; what was chosen stays chosen while it is there."""
        before: StoredInfo | None = self.currentData()
        self.blockSignals(True)
        self.clear()
        for info in infos:
            title = f"{encoder_title(info.encoder)}, {magnification_words(info.mpp)}"
            self.addItem(title, info)
            if before is not None and before.path == info.path:
                self.setCurrentIndex(self.count() - 1)
        self.blockSignals(False)
