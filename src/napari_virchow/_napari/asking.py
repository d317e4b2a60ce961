"""One question at a time, whichever strip it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QWidget

from napari_virchow._napari.ask_box import AskBox
from napari_virchow._napari.film_strip import Frame


class Asking(QObject):
    """Knows which tile is asked about, and takes keys to the strip that asks.

    Parameters
    ----------
    boxes : iterable of AskBox
    parent : QObject
        Ends with it.
    """

    asked = Signal(QWidget, object)  # AskBox, Frame
    changed = Signal()  # another tile, or none, is asked about

    def __init__(self, boxes: Iterable[AskBox], parent: QObject) -> None:
        super().__init__(parent)
        self._box: AskBox | None = None
        for box in boxes:
            box.asked.connect(partial(self._on_asked, box))

    @property
    def frame(self) -> Frame | None:
        """The tile that is asked about."""
        return None if self._box is None else self._box.current

    def answer(self, class_id: int | None) -> bool:
        """Say what the tile is; False where none is asked about."""
        if self._box is None or self._box.current is None:
            return False
        self._box.answer(class_id)
        return True

    def accept(self) -> None:
        """Say that the classifier is right about the tile."""
        if self._box is not None:
            self._box.accept_current()

    def pass_over(self) -> None:
        """Leave the tile as it is."""
        if self._box is not None:
            self._box.pass_current()

    def stop(self) -> None:
        """Ask nothing."""
        if self._box is not None:
            self._box.stop()
        self.changed.emit()

    def _on_asked(self, box: AskBox, frame: Frame) -> None:
        if self._box is not None and self._box is not box:
            self._box.stop()
        self._box = box
        self.asked.emit(box, frame)
        self.changed.emit()
