"""A set of slides as a list with thumbnails: its model, and how a slide is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QAbstractListModel, QModelIndex, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPalette
from qtpy.QtWidgets import (
    QAbstractItemView,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)

from napari_virchow._napari.thumbnails import Thumbnails
from napari_virchow._napari.words import encoder_title
from napari_virchow.catalog import Listed
from napari_virchow.tiles import Rect

THUMB_PX = 120
_MARGIN = 5
DONE, NOTHING, BROKEN = "#009e73", "#8a8a8a", "#d55e00"  # colours that the colour-blind tell apart


def state_words(one: Listed) -> str:
    """Return what is stored of a slide in a few words."""
    if one.reason:
        return "unreadable"
    if not one.stored:
        return "not embedded"
    best = max(one.stored, key=lambda info: info.n_tiles)
    more = f" +{len(one.stored) - 1}" if len(one.stored) > 1 else ""
    return f"{best.n_tiles:,} tiles at {best.mpp:g}{more}"


def tip_of(one: Listed) -> str:
    """Return all that is known of a slide, for a tooltip."""
    if one.reason:
        return f"{one.path}\n{one.reason}"
    size = "pixel size not known" if one.mpp is None else f"{one.mpp[0]:.4g} µm/px"
    lines = [one.path, f"{one.width:,} × {one.height:,} px, {size}"]
    lines += [
        f"{encoder_title(info.encoder)}: {info.n_tiles:,} tiles at {info.mpp:g} µm/px"
        for info in one.stored
    ]
    return "\n".join(lines if one.stored else [*lines, "Nothing is embedded yet"])


class ShelfModel(QAbstractListModel):
    """The slides of a set, those that fit a filter."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._all: dict[str, Listed] = {}
        self._shown: list[str] = []
        self._filter = ""

    @property
    def paths(self) -> list[str]:
        """The paths of the whole set."""
        return list(self._all)

    @property
    def slides(self) -> list[Listed]:
        """The slides that are shown."""
        return [self._all[path] for path in self._shown]

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return how many slides are shown."""
        return 0 if parent is not None and parent.isValid() else len(self._shown)

    def slide(self, row: int) -> Listed:
        """Return the slide in a row."""
        return self._all[self._shown[row]]

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return name, tooltip, and the words that a screen reader says."""
        if not index.isValid():
            return None
        one = self.slide(index.row())
        if role == Qt.ItemDataRole.DisplayRole:
            return one.name
        if role == Qt.ItemDataRole.ToolTipRole:
            return tip_of(one)
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{one.name}, {state_words(one)}"
        return None

    def take(self, slides: Sequence[Listed]) -> None:
        """Add slides, or say anew what is known of them."""
        self.beginResetModel()
        self._all |= {one.path: one for one in slides}
        self._fill()
        self.endResetModel()

    def change(self, one: Listed) -> None:
        """Say anew what is known of a slide that is there."""
        self._all[one.path] = one
        if one.path in self._shown:
            at = self.index(self._shown.index(one.path), 0)
            self.dataChanged.emit(at, at)

    def remove(self, paths: Sequence[str]) -> None:
        """Take slides out of the set; nothing on disk changes."""
        self.beginResetModel()
        for path in paths:
            self._all.pop(path, None)
        self._fill()
        self.endResetModel()

    def filter(self, text: str) -> None:
        """Show the slides whose name or state holds this text."""
        self.beginResetModel()
        self._filter = text.strip().lower()
        self._fill()
        self.endResetModel()

    def _fill(self) -> None:
        self._shown = [
            path
            for path, one in self._all.items()
            if self._filter in f"{one.name} {state_words(one)}".lower()
        ]


class ShelfDelegate(QStyledItemDelegate):
    """Draws a slide: a thumbnail of all of it, its name, and what is stored of it."""

    def __init__(self, model: ShelfModel, thumbnails: Thumbnails, view: QWidget) -> None:
        super().__init__(view)
        self._model, self._thumbnails, self._view = model, thumbnails, view

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        """Return the same size for all."""
        line = self._view.fontMetrics().height()
        return QSize(THUMB_PX + 2 * _MARGIN, THUMB_PX + 2 * line + 2 * _MARGIN + 6)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Draw a slide."""
        one, box, palette = self._model.slide(index.row()), QRect(option.rect), option.palette
        picture = QRect(box.left() + _MARGIN, box.top() + _MARGIN, THUMB_PX, THUMB_PX)
        painter.save()
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(
                box.adjusted(1, 1, -1, -1), palette.brush(QPalette.ColorRole.Highlight)
            )
        image = None
        if one.identity:
            whole = Rect(0, 0, one.width, one.height)
            image = self._thumbnails.get(one.identity, whole, THUMB_PX)
        if image is None:
            painter.fillRect(picture, QColor(128, 128, 128, 50))
        else:
            left = picture.left() + (THUMB_PX - image.width()) // 2
            painter.drawImage(left, picture.top() + (THUMB_PX - image.height()) // 2, image)
        self._write(painter, picture, one, palette)
        painter.restore()

    def _write(self, painter: QPainter, picture: QRect, one: Listed, palette: QPalette) -> None:
        fonts = self._view.fontMetrics()
        line, top = fonts.height(), picture.bottom() + 4
        row = QRect(picture.left(), top, THUMB_PX, line)
        painter.setPen(palette.color(QPalette.ColorRole.Text))
        name = fonts.elidedText(one.name, Qt.TextElideMode.ElideMiddle, THUMB_PX)
        painter.drawText(row, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, name)
        dot = 8
        below = row.translated(0, line + 1)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setBrush(QColor(BROKEN if one.reason else DONE if one.stored else NOTHING))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.drawEllipse(below.left(), below.center().y() - dot // 2 + 1, dot, dot)
        painter.setPen(palette.color(QPalette.ColorRole.Text))
        words = fonts.elidedText(state_words(one), Qt.TextElideMode.ElideRight, THUMB_PX - dot - 5)
        painter.drawText(
            below.adjusted(dot + 5, 0, 0, 0),
            Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter,
            words,
        )


class Shelf(QListView):
    """The list; double click or Enter asks to open what is chosen."""

    open_wanted = Signal()

    def __init__(self, model: ShelfModel, thumbnails: Thumbnails) -> None:
        super().__init__()
        self.setModel(model)
        self.setItemDelegate(ShelfDelegate(model, thumbnails, self))
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setMovement(QListView.Movement.Static)
        self.setUniformItemSizes(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setSpacing(2)
        self.setAccessibleName("Slides of the set")
        self.activated.connect(lambda _: self.open_wanted.emit())
        thumbnails.ready.connect(self._on_ready)

    @property
    def chosen(self) -> list[Listed]:
        """The selected slides, in their order."""
        model: Any = self.model()
        rows = sorted(index.row() for index in self.selectedIndexes())
        return [model.slide(row) for row in rows]

    def _on_ready(self, _: object) -> None:
        self.viewport().update()
