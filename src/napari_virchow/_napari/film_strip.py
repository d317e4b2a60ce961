"""A row of tiles to look at one after another, as a strip of film."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from qtpy.QtCore import QAbstractListModel, QModelIndex, QObject, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import QFrame, QListView, QStyledItemDelegate, QWidget

from napari_virchow._napari.thumbnails import Thumbnail, Thumbnails
from napari_virchow.tiles import Rect, Tile

SIDE_PX = 58  # of a picture: five of them fit the dock
CONTEXT = 0.25  # of a tile's side is shown around it
_BAR_PX = 4
_GAP_PX = 3
_LINES = 2


class Frame(NamedTuple):
    """A tile in the strip.

    Parameters
    ----------
    slide, tile, rect
        Identity of the slide, the tile, and its place in level-0 pixels.
    said : int
        Class id the user gave it; 0 for none.
    predicted : int
        Class id that the classifier gives it; 0 for none.
    title, note : str
        The two lines under the picture.
    color : str
        Of the bar between picture and title; "" for none.
    reason : str
        Why it is in the strip, as a sentence.
    """

    slide: str
    tile: Tile
    rect: Rect
    said: int
    predicted: int
    title: str
    note: str
    color: str
    reason: str

    @property
    def place(self) -> tuple[str, Tile]:
        """Which tile of which slide it is."""
        return self.slide, self.tile


class FrameModel(QAbstractListModel):
    """The tiles of a strip; their pictures come when they have been read."""

    def __init__(self, thumbnails: Thumbnails, parent: QObject) -> None:
        super().__init__(parent)
        self._thumbnails = thumbnails
        self.frames: tuple[Frame, ...] = ()
        thumbnails.ready.connect(self._on_ready)

    def put(self, frames: Sequence[Frame]) -> None:
        """Show other tiles."""
        self.beginResetModel()
        self.frames = tuple(frames)
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return how many tiles there are."""
        return 0 if parent is not None and parent.isValid() else len(self.frames)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return picture, words or the frame itself."""
        if not index.isValid() or index.row() >= len(self.frames):
            return None
        frame = self.frames[index.row()]
        if role == Qt.ItemDataRole.UserRole:
            return frame
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return f"{frame.title} {frame.note}".strip()
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{frame.title} {frame.note}\n{frame.reason}".strip()
        if role == Qt.ItemDataRole.DecorationRole:
            return self._thumbnails.get(frame.slide, frame.rect, SIDE_PX, CONTEXT)
        return None

    def _on_ready(self, key: Thumbnail) -> None:
        for row, frame in enumerate(self.frames):
            if (frame.slide, frame.rect) == (key.slide, key.rect):
                self.dataChanged.emit(self.index(row), self.index(row))


class _Painter(QStyledItemDelegate):
    """Draws a tile: picture, a bar of the class's colour, two lines."""

    def sizeHint(self, option: Any, index: QModelIndex) -> QSize:
        text = _LINES * option.fontMetrics.height()
        return QSize(SIDE_PX + 2 * _GAP_PX, SIDE_PX + _BAR_PX + text + 2 * _GAP_PX)

    def paint(self, painter: QPainter, option: Any, index: QModelIndex) -> None:
        frame: Frame = index.data(Qt.ItemDataRole.UserRole)
        box = option.rect.adjusted(_GAP_PX, _GAP_PX, -_GAP_PX, -_GAP_PX)
        picture = QRect(box.left(), box.top(), SIDE_PX, SIDE_PX)
        image = index.data(Qt.ItemDataRole.DecorationRole)
        painter.save()
        if image is None:
            painter.fillRect(picture, option.palette.mid())
        else:
            painter.drawImage(picture, image)
        if frame.color:
            bar = QRect(box.left(), picture.bottom() + 1, SIDE_PX, _BAR_PX)
            painter.fillRect(bar, QColor(frame.color))
        metrics = option.fontMetrics
        painter.setPen(option.palette.text().color())
        for n, text in enumerate((frame.title, frame.note)):
            top = picture.bottom() + 1 + _BAR_PX + n * metrics.height()
            line = QRect(box.left(), top, SIDE_PX, metrics.height())
            short = metrics.elidedText(text, Qt.TextElideMode.ElideRight, SIDE_PX)
            painter.drawText(line, Qt.AlignmentFlag.AlignHCenter, short)
        if index == self.parent().currentIndex():
            painter.setPen(QPen(option.palette.text().color(), 2))
            painter.drawRect(option.rect.adjusted(1, 1, -1, -1))
        painter.restore()


class FilmStrip(QListView):
    """Tiles side by side; a click, or Enter on one, asks for it to be shown on the slide.

    Parameters
    ----------
    thumbnails : Thumbnails
        Where its pictures come from.
    name : str
        For screen readers.
    """

    wanted = Signal(int)  # number of the frame

    def __init__(self, thumbnails: Thumbnails, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._frames = FrameModel(thumbnails, self)
        self.setModel(self._frames)
        self.setItemDelegate(_Painter(self))
        self.setAccessibleName(name)
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(False)
        self.setUniformItemSizes(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setStyleSheet("QListView { font-size: 10px; }")  # napari's sheet hides `setFont`
        self.clicked.connect(lambda index: self.wanted.emit(index.row()))
        self.activated.connect(lambda index: self.wanted.emit(index.row()))
        self.hide()

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The tiles shown."""
        return self._frames.frames

    def show_frames(self, frames: Sequence[Frame]) -> None:
        """Show these tiles, none of them marked; an empty strip takes no room."""
        if tuple(frames) != self.frames:
            self._frames.put(frames)
        self.setVisible(bool(frames))
        if frames:
            hint = self.itemDelegate().sizeHint(self._option(), self._frames.index(0))
            scroll = self.horizontalScrollBar().sizeHint().height()
            self.setFixedHeight(hint.height() + scroll + 2)

    def mark(self, row: int) -> None:
        """Draw a frame around one tile, and have it in sight; -1 for none."""
        index = self._frames.index(row) if row >= 0 else QModelIndex()
        self.setCurrentIndex(index)
        if index.isValid():
            self.scrollTo(index)
        self.viewport().update()

    def _option(self) -> Any:
        from qtpy.QtWidgets import QStyleOptionViewItem

        option = QStyleOptionViewItem()
        self.initViewItemOption(option)
        option.font = self.font()
        option.fontMetrics = self.fontMetrics()
        return option
