"""Turning hits of a search into labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qtpy.QtCore import Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QSizePolicy, QWidget

from napari_virchow._napari.parts import button
from napari_virchow.labels import LabelSet
from napari_virchow.labels.edits import LabelClass, name_key
from napari_virchow.tiles import Tile

Where = tuple[str, str, Tile]  # slide identity, name of the grid, tile


class LabelHits(QWidget):
    """Asks for a class, known or new, and says that the chosen hits are to get it."""

    wanted = Signal(str)  # the class's name

    def __init__(self) -> None:
        super().__init__()
        self.classes = QComboBox()
        self.classes.setEditable(True)
        self.classes.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.classes.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.classes.lineEdit().setPlaceholderText("Class, or a new name")
        self.classes.setToolTip("What the chosen hits are; a new name makes a new class")
        self.classes.setAccessibleName("Class for the chosen hits")
        self.label = button("Label", "Choose hits in the gallery first (Ctrl- or Shift-click)")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        row.addWidget(self.classes, 1)
        row.addWidget(self.label)
        self.label.clicked.connect(self._on_label)
        self.classes.lineEdit().returnPressed.connect(self._on_label)
        self.show_chosen(0)

    def show_classes(self, classes: Sequence[LabelClass]) -> None:
        """Offer these classes."""
        before = self.classes.currentText()
        self.classes.clear()
        for one in classes:
            swatch = QPixmap(14, 14)
            swatch.fill(QColor(one.color))
            self.classes.addItem(QIcon(swatch), one.name, one.id)
        self.classes.setCurrentIndex(self.classes.findText(before) if before else -1)
        self.classes.setEditText(before)

    def show_chosen(self, n: int) -> None:
        """Say how many hits are chosen."""
        self.label.setText(f"Label {n}" if n else "Label")
        self.label.setEnabled(n > 0)
        tip = "Choose hits in the gallery first (click, Ctrl- or Shift-click)"
        if n:
            tip = f"Label the {n} chosen hits; 1 to 9 in the gallery do the same for their class"
        self.label.setToolTip(tip)

    def _on_label(self) -> None:
        name = self.classes.currentText().strip()
        if name and self.label.isEnabled():
            self.wanted.emit(name)


def class_named(labels: LabelSet, name: str) -> LabelClass:
    """Return the class of this name, whatever its case; make it if there is none."""
    for one in labels.classes:
        if name_key(one.name) == name_key(name):
            return one
    return labels.add_class(name)


def label_tiles(labels: LabelSet, tiles: Iterable[Where], class_id: int) -> int:
    """Label tiles of any slides in one step of undo; returns how many labels changed."""
    grids: dict[tuple[str, str], list[Tile]] = {}
    for slide, grid, tile in tiles:
        grids.setdefault((slide, grid), []).append(tile)
    with labels.gesture():
        return sum(
            labels.label(slide, grid, members, class_id) for (slide, grid), members in grids.items()
        )
