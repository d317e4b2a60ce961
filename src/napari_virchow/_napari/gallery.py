"""A gallery of tiles: any number of them, of which only those on the screen cost anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import (
    QAbstractListModel,
    QEvent,
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QPoint,
    QSize,
    Qt,
    Signal,
)
from qtpy.QtGui import QHideEvent, QKeyEvent, QMouseEvent
from qtpy.QtWidgets import QAbstractItemView, QListView

from napari_virchow._napari.gallery_item import SIZES, ContextWindow, GalleryDelegate, Mark
from napari_virchow._napari.thumbnails import Thumbnails
from napari_virchow.tiles import Rect, Tile

CONTEXT_PX = 320
CONTEXT = 1.5  # sides of the tile shown around it on hover


class Shown(Protocol):
    """What the gallery shows of a tile."""

    @property
    def slide(self) -> str:
        """Identity."""

    @property
    def slide_name(self) -> str:
        """File name, for people."""

    @property
    def tile(self) -> Tile:
        """Place in the grid."""

    @property
    def rect(self) -> Rect:
        """Place in level-0 pixels."""

    @property
    def score(self) -> float:
        """How alike."""


class Items(Protocol):
    """What the gallery is filled from; made one by one, when they come to be seen."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, number: int, /) -> Shown:
        """Return one."""


Order = Sequence[int] | NDArray[np.intp]


class Place(NamedTuple):
    """What tells one tile of a gallery from all others."""

    slide: str
    tile: Tile


class GalleryModel(QAbstractListModel):
    """The tiles of a gallery in their order; marks say what is known of some of them."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._items: Items = ()
        self._order: Order = ()
        self.tile_um = 0.0
        self.marks: Mapping[Place, Mark] = {}

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return how many tiles there are."""
        return 0 if parent is not None and parent.isValid() else len(self._order)

    def number(self, row: int) -> int:
        """Return which of the items is in a row."""
        return int(self._order[row])

    def item(self, row: int) -> Shown:
        """Return the tile in a row."""
        return self._items[self.number(row)]

    def place(self, row: int) -> Place:
        """Return what tells the tile in a row from all others."""
        item = self.item(row)
        return Place(item.slide, item.tile)

    def mark(self, row: int) -> Mark:
        """Return what is known of the tile in a row."""
        return self.marks.get(self.place(row), Mark())

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the words that a screen reader says."""
        if not index.isValid() or role not in (
            Qt.ItemDataRole.DisplayRole,
            Qt.ItemDataRole.AccessibleTextRole,
        ):
            return None
        item, mark = self.item(index.row()), self.mark(index.row())
        what = f", {mark.label}" if mark.label else ""
        return (
            f"{item.score:.3f} {item.slide_name} row {item.tile.row} column {item.tile.col}{what}"
        )

    def show(self, items: Items, order: Order, tile_um: float) -> None:
        """Show other tiles, or the same in another order, without laying all out again."""
        before, after = len(self._order), len(order)
        if after > before:
            self.beginInsertRows(QModelIndex(), before, after - 1)
        elif after < before:
            self.beginRemoveRows(QModelIndex(), after, before - 1)
        self._items, self._order, self.tile_um = items, order, tile_um
        if after > before:
            self.endInsertRows()
        elif after < before:
            self.endRemoveRows()
        self.changed()

    def changed(self) -> None:
        """Have everything drawn again."""
        if len(self._order):
            self.dataChanged.emit(self.index(0), self.index(len(self._order) - 1))


class Gallery(QListView):
    """Shows tiles with their scores; a click chooses one, keys do the rest.

    Parameters
    ----------
    thumbnails : Thumbnails
        Where the pictures come from.
    """

    jump_wanted = Signal(object)  # a tile (`Shown`) was clicked, or Enter pressed on it
    key_pressed = Signal(str)  # a letter, digit or sign that means something outside
    chosen_changed = Signal()

    def __init__(self, thumbnails: Thumbnails) -> None:
        super().__init__()
        self.setObjectName("virchow-gallery")
        self.setAccessibleName("Tiles found")
        self.thumbnails = thumbnails
        self.tiles = GalleryModel(self)
        self.setModel(self.tiles)
        self.delegate = GalleryDelegate(self.tiles, thumbnails, self)
        self.setItemDelegate(self.delegate)
        # Not the icon mode: its free placing is slow for thousands.
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(True)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setUniformItemSizes(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.setMouseTracking(True)
        self.verticalScrollBar().setSingleStep(40)
        self.context = ContextWindow(self)
        self._keys = frozenset("123456789PN+-")
        thumbnails.ready.connect(self._on_ready)
        self.verticalScrollBar().valueChanged.connect(self._on_scrolled)
        self.selectionModel().selectionChanged.connect(lambda *_: self.chosen_changed.emit())
        self.selectionModel().currentChanged.connect(self._on_current)

    # ---- what is shown

    def show_tiles(self, items: Items, order: Order, tile_um: float) -> None:
        """Show these; what was chosen stays chosen where it is still there."""
        kept = {Place(item.slide, item.tile) for item in self.chosen}
        self.thumbnails.forget_waiting()
        self.tiles.show(items, order, tile_um)
        if kept:
            self.choose(kept)
        self.viewport().update()

    def set_marks(self, marks: Mapping[Place, Mark]) -> None:
        """Say which tiles are examples, and which have labels."""
        self.tiles.marks = marks
        self.viewport().update()

    def set_size(self, size_px: int) -> None:
        """Make the thumbnails larger or smaller: one of `SIZES`."""
        self.delegate.size_px = min(SIZES, key=lambda size: abs(size - size_px))
        self.thumbnails.forget_waiting()
        self.delegate.sizeHintChanged.emit(QModelIndex())
        self.scheduleDelayedItemsLayout()

    @property
    def chosen(self) -> list[Shown]:
        """The chosen tiles, in their order."""
        return [self.tiles.item(row) for row in self._chosen_rows()]

    @property
    def chosen_numbers(self) -> NDArray[np.intp]:
        """Which of the items are chosen, in the order of the gallery."""
        return np.array([self.tiles.number(row) for row in self._chosen_rows()], np.intp)

    def choose(self, places: Iterable[Place]) -> None:
        """Choose these tiles and no others; those that are not shown are left out."""
        wanted, selection, start = set(places), QItemSelection(), None
        for row in range(self.tiles.rowCount() + 1):
            place = self.tiles.place(row) if wanted and row < self.tiles.rowCount() else None
            chosen = place in wanted
            wanted.discard(place)
            if chosen and start is None:
                start = row
            elif not chosen and start is not None:  # in runs: thousands of single rows are slow
                selection.select(self.tiles.index(start), self.tiles.index(row - 1))
                start = None
            if not wanted and start is None:
                break
        self.selectionModel().select(selection, QItemSelectionModel.SelectionFlag.ClearAndSelect)

    def choose_where(self, holds: Callable[[str, Tile], bool]) -> None:
        """Choose the tiles for which `holds(slide identity, tile)`, and no others."""
        places = (self.tiles.place(row) for row in range(self.tiles.rowCount()))
        self.choose(place for place in places if holds(place.slide, place.tile))

    # ---- mouse and keys

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Jump to a tile that was clicked without a key held."""
        super().mouseReleaseEvent(event)
        index = self.indexAt(event.pos())
        plain = event.modifiers() == Qt.KeyboardModifier.NoModifier
        if event.button() == Qt.MouseButton.LeftButton and plain and index.isValid():
            self.jump_wanted.emit(self.tiles.item(index.row()))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter jumps, space shows the surroundings, letters and digits are passed on."""
        index, key = self.currentIndex(), event.key()
        if key in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and index.isValid():
            self.jump_wanted.emit(self.tiles.item(index.row()))
        elif key == Qt.Key.Key_Space and index.isValid():
            if self.context.isVisible():
                self.context.hide()
            else:
                self._show_context(index)
        elif key == Qt.Key.Key_Escape and self.context.isVisible():
            self.context.hide()
        elif event.text().upper() in self._keys and not _has_control(event):
            shift = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            letter = event.text().upper()
            self.key_pressed.emit(f"Shift-{letter}" if shift and letter.isalpha() else letter)
        else:
            super().keyPressEvent(event)

    def viewportEvent(self, event: QEvent) -> bool:
        """Show the surroundings of the tile that the mouse rests on."""
        if event.type() == QEvent.Type.ToolTip:
            index = self.indexAt(event.pos())
            if index.isValid():
                self._show_context(index)
                return True
        if event.type() == QEvent.Type.Leave:
            self.context.hide()
        if event.type() == QEvent.Type.MouseMove and self.context.isVisible():
            index = self.indexAt(event.pos())
            if index.row() != self.context.row:
                self.context.hide()
        return bool(super().viewportEvent(event))

    def hideEvent(self, event: QHideEvent) -> None:
        """Take the surroundings away with the gallery."""
        self.context.hide()
        super().hideEvent(event)

    def sizeHint(self) -> QSize:
        """Ask for two rows and three columns."""
        cell = self.delegate.cell()
        return QSize(3 * cell.width() + 24, 2 * cell.height() + 8)

    def _chosen_rows(self) -> list[int]:
        return sorted(index.row() for index in self.selectionModel().selectedIndexes())

    def _show_context(self, index: QModelIndex) -> None:
        row = index.row()
        item = self.tiles.item(row)
        box = self.visualRect(index)
        self.context.row = row
        title = f"{item.slide_name} · {item.score:.3f}"
        side = CONTEXT_PX
        image = self.thumbnails.get(item.slide, item.rect, side, CONTEXT)
        um = self.tiles.tile_um * (1 + 2 * CONTEXT)
        words = f"{title}\n{um:.0f} µm wide" if um else title
        reason = self.thumbnails.reason(item.slide, item.rect, side, CONTEXT)
        self.context.show_picture(image, side, reason or words)
        left = self.viewport().mapToGlobal(box.topLeft()) - QPoint(self.context.width() + 6, 0)
        right = self.viewport().mapToGlobal(box.topRight()) + QPoint(6, 0)
        self.context.place(left, right)

    def _on_ready(self, key: object) -> None:
        self.viewport().update()
        if self.context.isVisible() and self.context.row < self.tiles.rowCount():
            self._show_context(self.tiles.index(self.context.row))

    def _on_scrolled(self, *_: object) -> None:
        self.context.hide()
        self.thumbnails.forget_waiting()  # what is to be seen is asked for when it is drawn

    def _on_current(self, index: QModelIndex, *_: object) -> None:
        if self.context.isVisible() and index.isValid():
            self._show_context(index)


def _has_control(event: QKeyEvent) -> bool:
    held = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier
    return bool(event.modifiers() & (held | Qt.KeyboardModifier.MetaModifier))
