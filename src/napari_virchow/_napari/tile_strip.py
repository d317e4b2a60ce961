"""A few thumbnails in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QMouseEvent, QPixmap
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from napari_virchow._napari.thumbnails import Thumbnail, Thumbnails
from napari_virchow.mapping import MappedSlide
from napari_virchow.tiles import Tile


class StripTile(NamedTuple):
    """A tile of the strip: its row on the map, and where it is."""

    row: int
    slide: MappedSlide
    tile: Tile


class _Picture(QLabel):
    clicked = Signal()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self.clicked.emit()


class TileStrip(QWidget):
    """Shows some tiles; a click on one says which.

    Parameters
    ----------
    thumbnails : Thumbnails
    side_px : int
        Of each thumbnail.
    most : int
        How many fit.
    """

    clicked = Signal(int)  # the row of a tile

    def __init__(self, thumbnails: Thumbnails, *, side_px: int, most: int) -> None:
        super().__init__()
        self._thumbnails, self._side = thumbnails, side_px
        self._shown: list[StripTile] = []
        self.pictures: list[_Picture] = []
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(4)
        for number in range(most):
            picture = _Picture()
            picture.setFixedSize(side_px, side_px)
            picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
            picture.clicked.connect(lambda number=number: self._on_click(number))
            self.pictures.append(picture)
            line.addWidget(picture)
        line.addStretch()
        thumbnails.ready.connect(self._on_ready)

    def show_tiles(self, tiles: Sequence[StripTile]) -> None:
        """Show other tiles."""
        self._shown = list(tiles)[: len(self.pictures)]
        self._draw()

    def _draw(self) -> None:
        for number, picture in enumerate(self.pictures):
            if number >= len(self._shown):
                picture.clear()
                picture.setToolTip("")
                continue
            _, slide, tile = self._shown[number]
            image = self._thumbnails.get(slide.identity, slide.grid.rect(tile), self._side)
            if image is None:
                picture.setText("…")
            else:
                picture.setPixmap(QPixmap.fromImage(image))
            picture.setToolTip(f"{slide.name}, row {tile.row}, column {tile.col}")

    def _on_ready(self, key: Thumbnail) -> None:
        places = [(s.slide.identity, s.slide.grid.rect(s.tile)) for s in self._shown]
        if key.size_px == self._side and (key.slide, key.rect) in places:
            self._draw()

    def _on_click(self, number: int) -> None:
        if number < len(self._shown):
            self.clicked.emit(self._shown[number].row)
