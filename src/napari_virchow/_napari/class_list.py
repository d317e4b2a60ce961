"""The classes: colour, name, count and key; added, renamed, recoloured and removed in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QMenu,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.parts import Note, button
from napari_virchow.labels.edits import LabelClass

_ID = Qt.ItemDataRole.UserRole
_ROW_PX = 21


class ClassList(QWidget):
    """Lists classes and asks for changes to them; it changes nothing itself."""

    add_wanted = Signal(str)
    rename_wanted = Signal(int, str)
    recolor_wanted = Signal(int, str)
    merge_wanted = Signal(int, int)
    delete_wanted = Signal(int)
    chosen = Signal(object)  # class id, or None

    def __init__(self) -> None:
        super().__init__()
        self._classes: tuple[LabelClass, ...] = ()
        self.tree = QTreeWidget()
        self.tree.setHeaderLabels(["Class", "Tiles", "Key"])
        self.tree.setRootIsDecorated(False)
        self.tree.setIconSize(QSize(14, 14))
        self.tree.setUniformRowHeights(True)
        self.tree.setToolTip(
            "Click a class to label with it, F2 or a double click renames it, "
            "a double click on its colour changes that; right click for more"
        )
        self.tree.setEditTriggers(QAbstractItemView.EditTrigger.EditKeyPressed)
        self.tree.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        head = self.tree.header()
        head.setStretchLastSection(False)
        head.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in (1, 2):
            head.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self.empty = Note("No classes yet: type a name below, for example Tumour, and press Enter.")
        self.name = QLineEdit()
        self.name.setPlaceholderText("New class…")
        self.name.setToolTip("Name of a new class; Enter adds it")
        self.name.setAccessibleName("Name of a new class")
        self.add = button("Add", "Add a class of this name, in the next colour")
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.name, 1)
        row.addWidget(self.add)
        column_box = QVBoxLayout(self)
        column_box.setContentsMargins(0, 0, 0, 0)
        column_box.setSpacing(4)
        column_box.addWidget(self.empty)
        column_box.addWidget(self.tree)
        column_box.addLayout(row)
        self.add.clicked.connect(self._on_add)
        self.name.returnPressed.connect(self._on_add)
        self.tree.itemDoubleClicked.connect(self._on_double_click)
        self.tree.itemChanged.connect(self._on_edited)
        self.tree.currentItemChanged.connect(lambda *_: self.chosen.emit(self.current))
        self.tree.customContextMenuRequested.connect(self._on_menu)
        self.show_classes((), {})

    @property
    def current(self) -> int | None:
        """Id of the class to label with."""
        item = self.tree.currentItem()
        return None if item is None else int(item.data(0, _ID))

    def choose(self, class_id: int) -> None:
        """Label with this class from now on."""
        for item in self._items():
            if item.data(0, _ID) == class_id:
                self.tree.setCurrentItem(item)

    def show_classes(self, classes: Sequence[LabelClass], counts: Mapping[int, int]) -> None:
        """List these classes, and how many tiles each has."""
        before = self.current
        self.tree.blockSignals(True)
        if [c.id for c in classes] != [c.id for c in self._classes]:
            self.tree.clear()
            for one in classes:
                item = QTreeWidgetItem(self.tree)
                item.setData(0, _ID, one.id)
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
        for item, one in zip(self._items(), classes, strict=True):
            item.setText(0, one.name)
            item.setText(1, str(counts.get(one.id, 0)))
            item.setText(2, one.hotkey or "")
            item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            swatch = QPixmap(14, 14)
            swatch.fill(QColor(one.color))
            icon = QIcon(swatch)
            icon.addPixmap(swatch, QIcon.Mode.Selected)  # Qt would tint the colour
            item.setIcon(0, icon)
        self._classes = tuple(classes)
        self.tree.blockSignals(False)
        ids = [c.id for c in classes]
        if ids:
            self.choose(before if before in ids else ids[-1])
        self.empty.setVisible(not classes)
        self.tree.setVisible(bool(classes))
        self.tree.setFixedHeight(
            self.tree.header().sizeHint().height() + _ROW_PX * min(8, len(ids)) + 6
        )

    def _items(self) -> list[QTreeWidgetItem]:
        return [self.tree.topLevelItem(n) for n in range(self.tree.topLevelItemCount())]

    def _on_add(self) -> None:
        name = self.name.text().strip()
        if name:
            self.name.clear()
            self.add_wanted.emit(name)

    def _on_double_click(self, item: QTreeWidgetItem, column: int) -> None:
        if column == 0:
            self.tree.editItem(item, 0)

    def _on_edited(self, item: QTreeWidgetItem, column: int) -> None:
        if column == 0:
            self.rename_wanted.emit(int(item.data(0, _ID)), item.text(0))

    def _on_menu(self, at: object) -> None:
        item = self.tree.itemAt(at)
        if item is not None:
            self.menu_for(int(item.data(0, _ID))).popup(self.tree.viewport().mapToGlobal(at))

    def menu_for(self, class_id: int) -> QMenu:
        """Return what can be done with a class."""
        menu = QMenu(self)
        menu.addAction("Rename", lambda: self._edit(class_id))
        menu.addAction("Colour…", lambda: self.pick_color(class_id))
        merge = menu.addMenu("Merge into")
        for one in self._classes:
            if one.id != class_id:
                merge.addAction(
                    one.name, lambda into=one.id: self.merge_wanted.emit(class_id, into)
                )
        menu.addAction("Delete class and its labels", lambda: self.delete_wanted.emit(class_id))
        return menu

    def _edit(self, class_id: int) -> None:
        self.choose(class_id)
        self.tree.editItem(self.tree.currentItem(), 0)

    def pick_color(self, class_id: int) -> None:
        """Ask for another colour."""
        before = next(c.color for c in self._classes if c.id == class_id)
        color = QColorDialog.getColor(QColor(before), self, "Colour of the class")
        if color.isValid():
            self.recolor_wanted.emit(class_id, color.name())
