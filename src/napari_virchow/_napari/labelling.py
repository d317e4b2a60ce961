"""What the user says of tiles and classes, on its way from the dock to the session's labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_virchow.classification import Classification
from napari_virchow.labels import JournalError
from napari_virchow.slide import Slide, SlideError
from napari_virchow.tiles import Tile


class Labelling(QObject):
    """Sets and erases labels, edits classes, and takes both back.

    Until `live`, `slide` and `mpp` are set it does nothing.
    """

    refused = Signal(str)  # why something was not done, as a sentence; "" when it was
    class_added = Signal(int)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.live: Classification | None = None
        self.slide: Slide | None = None
        self.mpp: float | None = None

    def label(self, tiles: Iterable[Tile], class_id: int | None, slide: str | None = None) -> None:
        """Say what tiles are, or with None erase that.

        Parameters
        ----------
        slide : str, optional
            Identity of a slide that need not be open; the chosen one if it is not given.
        """
        live, here, mpp = self.live, self.slide, self.mpp
        if live is None or here is None or mpp is None:
            return
        try:
            if slide is None or slide == here.identity:
                live.label(here, mpp, tiles, class_id)
            else:  # tiles of one size have grids of one name on every slide
                live.labels.label(slide, here.grid(mpp).name, tiles, class_id)
        except (KeyError, ValueError, SlideError) as error:
            self.refused.emit(str(error))
        else:
            self.refused.emit("")

    def edit(self, verb: str, *args: Any) -> None:
        """Change the classes: `verb` is a method of `LabelSet`."""
        if self.live is None:
            return
        try:
            made = getattr(self.live.labels, verb)(*args)
        except (ValueError, KeyError) as error:
            self.refused.emit(str(error))
            return
        self.refused.emit("")
        if verb == "add_class":
            self.class_added.emit(made.id)

    def undo(self) -> None:
        """Take back the last change of labels or classes."""
        self._step("undo")

    def redo(self) -> None:
        """Do again what was taken back."""
        self._step("redo")

    def _step(self, verb: str) -> None:
        if self.live is not None:
            try:
                getattr(self.live.labels, verb)()
            except JournalError as error:
                self.refused.emit(str(error))
