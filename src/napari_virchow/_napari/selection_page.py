"""What is selected on the map, what is known of a tile, and labels for both."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QButtonGroup,
    QGridLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.label_tool import LabelMode
from napari_virchow._napari.parts import Note, button
from napari_virchow._napari.thumbnails import Thumbnails
from napari_virchow._napari.tile_strip import StripTile, TileStrip
from napari_virchow.labels.edits import LabelClass

_THUMB_PX = 56
_COLUMNS = 3
_HOVER = "Point at a tile, on the map or on the slide, to see it."
_NONE = "Nothing is selected: draw around points on the map, or on the slide (below)."
_PICK_TIPS = {
    LabelMode.BOX: "Drag a box on the slide: its tiles are selected on the map",
    LabelMode.LASSO: "Draw around tiles on the slide: they are selected on the map",
}


class SelectionPage(QWidget):
    """Shows the tile that is pointed at and how many are selected, and asks to label them.

    Parameters
    ----------
    thumbnails : Thumbnails
    """

    label_wanted = Signal(int)  # class id
    new_class_wanted = Signal(str)
    clear_wanted = Signal()
    undo_wanted = Signal()
    pick_wanted = Signal(object)  # LabelMode
    alike_wanted = Signal()

    def __init__(self, thumbnails: Thumbnails) -> None:
        super().__init__()
        self.picture = TileStrip(thumbnails, side_px=_THUMB_PX, most=1)
        self.about = Note(_HOVER)
        self.count = Note(_NONE)
        self.clear = button("Clear", "Select nothing (Escape on the map)")
        self.undo = button("Undo", "Take back the last labels")
        self.alike = button(
            "Find similar", "Search for tiles like the selected ones (25 of them at most)"
        )
        self.name = QLineEdit()
        self.name.setPlaceholderText("New class for the selected tiles…")
        self.name.setToolTip("Type a name and press Enter: the selected tiles become that class")
        self.name.setAccessibleName("New class")
        self.buttons: dict[int, QPushButton] = {}
        self._grid = QGridLayout()
        self._grid.setSpacing(4)
        for column in range(_COLUMNS):
            self._grid.setColumnStretch(column, 1)
        self.picks: dict[LabelMode, QPushButton] = {}
        self._lay_out()
        self.clear.clicked.connect(self.clear_wanted)
        self.undo.clicked.connect(self.undo_wanted)
        self.alike.clicked.connect(self.alike_wanted)
        self.name.returnPressed.connect(self._on_name)
        self.show_selection(0, 0)

    def _lay_out(self) -> None:
        known, back, pick = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        known.addWidget(self.picture)
        known.addWidget(self.about, 1)
        back.addWidget(self.count, 1)
        for widget in (self.clear, self.undo):
            back.addWidget(widget)
        pick.addWidget(Note("On the slide:"), 1)
        group = QButtonGroup(self)
        group.setExclusive(False)
        for mode, tip in _PICK_TIPS.items():
            one = button(mode.value, tip)
            one.setCheckable(True)
            one.clicked.connect(
                lambda on, mode=mode: self.pick_wanted.emit(mode if on else LabelMode.OFF)
            )
            group.addButton(one)
            self.picks[mode] = one
            pick.addWidget(one)
        pick.addWidget(self.alike)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.setSpacing(4)
        for row in (known, back, self._grid):
            column.addLayout(row)
        column.addWidget(self.name)
        column.addLayout(pick)
        column.addStretch()

    def show_tile(self, tile: StripTile | None, text: str) -> None:
        """Show the tile that is pointed at, and what is known of it; the last one stays."""
        if tile is not None:
            self.picture.show_tiles([tile])
        self.about.say(text or self.about.text() or _HOVER)

    def show_selection(self, n_tiles: int, n_slides: int) -> None:
        """Say how much is selected."""
        where = "" if n_slides < 2 else f" on {n_slides} slides"
        plural = "tile" if n_tiles == 1 else "tiles"
        self.count.say(f"{n_tiles:,} {plural} selected{where}." if n_tiles else _NONE)
        for widget in (self.clear, self.name, self.alike, *self.buttons.values()):
            widget.setEnabled(n_tiles > 0)

    def show_classes(self, classes: Sequence[LabelClass], undo: str | None) -> None:
        """Offer a button for each class; `undo` is what can be taken back."""
        enabled = self.clear.isEnabled()
        for old in self.buttons.values():
            self._grid.removeWidget(old)
            old.deleteLater()
        self.buttons = {}
        for n, one in enumerate(classes):
            key = f"{one.hotkey}  " if one.hotkey else ""
            made = button(f"{key}{one.name}", f"Label the selected tiles as {one.name}", wide=True)
            made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            swatch = QPixmap(12, 12)
            swatch.fill(QColor(one.color))
            made.setIcon(QIcon(swatch))
            made.clicked.connect(lambda _=False, i=one.id: self.label_wanted.emit(i))
            made.setEnabled(enabled)
            self._grid.addWidget(made, n // _COLUMNS, n % _COLUMNS)
            self.buttons[one.id] = made
        self.undo.setEnabled(undo is not None)
        self.undo.setToolTip("Nothing to undo" if undo is None else f"Undo: {undo}")

    def show_mode(self, mode: LabelMode) -> None:
        """Show what the left button does on the slide."""
        for one, pick in self.picks.items():
            pick.setChecked(one is mode)

    def _on_name(self) -> None:
        name = self.name.text().strip()
        if name:
            self.name.clear()
            self.new_class_wanted.emit(name)
