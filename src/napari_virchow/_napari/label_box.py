"""Classes and the pen: what is labelled with, how, and the way back."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QCheckBox, QHBoxLayout, QVBoxLayout, QWidget

from napari_virchow._napari.class_list import ClassList
from napari_virchow._napari.label_keys import MODE_KEYS
from napari_virchow._napari.label_tool import LabelMode
from napari_virchow._napari.parts import button, heading

MODE_TIPS = {
    LabelMode.OFF: "The left button moves the slide",
    LabelMode.BRUSH: "Click a tile, or drag over several, to label them; the wheel zooms",
    LabelMode.BOX: "Drag a box: all tiles it touches are labelled",
    LabelMode.LASSO: "Draw around tiles: all whose centre is inside are labelled",
}
HOVER = "Move over a tile to see what is known of it."


class LabelBox(QWidget):
    """The part of the dock that labels are made with."""

    mode_wanted = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.classes = ClassList()
        self.group = QButtonGroup(self)
        self.buttons = {}
        for mode in LabelMode:
            one = button(mode.value, f"{MODE_TIPS[mode]} (key {MODE_KEYS[mode]})")
            one.setCheckable(True)
            one.setChecked(mode is LabelMode.OFF)
            one.clicked.connect(partial(self._on_mode, mode))
            self.group.addButton(one)
            self.buttons[mode] = one
        self.erase = QCheckBox("Erase")
        self.erase.setToolTip("Take labels away instead of setting them (key E)")
        self.undo = button("Undo", "Nothing to undo")
        self.redo = button("Redo", "Nothing to redo")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(heading("Classes"))
        column.addWidget(self.classes)
        back, modes = QHBoxLayout(), QHBoxLayout()
        back.addWidget(heading("Left button"), 1)
        for one in (self.undo, self.redo):
            back.addWidget(one)
        for one in self.buttons.values():
            modes.addWidget(one)
        modes.addStretch()
        modes.addWidget(self.erase)
        for row in (back, modes):
            row.setContentsMargins(0, 0, 0, 0)
            row.setSpacing(4)
            column.addLayout(row)
        self.show_history(None, None)

    def show_mode(self, mode: LabelMode) -> None:
        """Press the button of this mode."""
        self.buttons[mode].setChecked(True)

    def show_history(self, undo: str | None, redo: str | None) -> None:
        """Say what undo and redo would do; None where there is nothing."""
        for one, text, keys in (
            (self.undo, undo, "Ctrl+Z"),
            (self.redo, redo, "Ctrl+Shift+Z"),
        ):
            one.setEnabled(text is not None)
            word = one.text()
            known = f"Nothing to {word.lower()}" if text is None else f"{word}: {text}"
            one.setToolTip(f"{known} ({keys})")

    def _on_mode(self, mode: LabelMode, *_: object) -> None:
        self.mode_wanted.emit(mode)
