"""The annotations of a slide in a list, and what can be changed of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.object_layers import ObjectLayers
from napari_virchow._napari.parts import Note, button, swatch
from napari_virchow.qupath.classes import DEFAULT_COLORS, PathClass
from napari_virchow.qupath.drawing import color_of
from napari_virchow.qupath.objects import PathObject
from napari_virchow.qupath.scene import MAX_PIECES, words_of

NO_CLASS = "no class"
LISTED = 2000
_ID = Qt.ItemDataRole.UserRole
_TOOLS = {
    "polygon": ("add_polygon", "Draw a polygon: click its corners, double-click to end"),
    "ellipse": ("add_ellipse", "Draw an ellipse: drag"),
    "line": ("add_path", "Draw a line: click its corners, double-click to end"),
    "point": ("add_point", "Put points"),
}


class EditBox(QWidget):
    """The part of the dock where annotations are drawn, chosen, named, classed and removed."""

    failed = Signal(object)
    looked_for = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.layers: ObjectLayers | None = None
        self._known: tuple[PathClass, ...] = ()
        self._build()
        self.bind(None)

    def _build(self) -> None:
        self.tools = {}
        for name, (mode, tip) in _TOOLS.items():
            self.tools[name] = button(name.capitalize(), tip, wide=True)
            self.tools[name].clicked.connect(self._drawer(mode))
        self.corners = button("Move corners", "Drag the corners of annotations", wide=True)
        self.list = QListWidget()
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.list.setIconSize(QSize(10, 10))
        self.list.setUniformItemSizes(True)
        self.list.setToolTip("Click to mark it on the slide, double-click to go there")
        self.list.setAccessibleName("Annotations of this slide")
        self.facts = Note()
        self.kind = QComboBox()
        self.kind.setEditable(True)
        self.kind.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.kind.setToolTip("Class of what is chosen, and of what is drawn next")
        self.kind.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.name = QLineEdit()
        self.name.setPlaceholderText("none")
        self.name.setToolTip("Name of the chosen annotation; Enter takes it over")
        self.locked = QCheckBox("Locked")
        self.locked.setToolTip("Guard it from being moved, here and in QuPath")
        self.delete = button("Delete", "Take away what is chosen")
        self.undo = button("Undo", "Take back the last change of objects (Ctrl+Z on the layer)")
        self.redo = button("Redo", "Do again what was taken back")
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        for tool in self.tools.values():
            row.addWidget(tool)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Class", self.kind)
        form.addRow("Name", self.name)
        below = QGridLayout()
        below.setContentsMargins(0, 0, 0, 0)
        for n, widget in enumerate((self.locked, self.delete, self.undo, self.redo)):
            below.addWidget(widget, 0, n)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 6, 4, 4)
        column.setSpacing(4)
        column.addLayout(row)
        for widget in (self.corners, self.list, self.facts):
            column.addWidget(widget)
        column.addLayout(form)
        column.addLayout(below)

    def _connect(self) -> None:
        self.corners.clicked.connect(self._on_corners)
        self.list.itemSelectionChanged.connect(self._on_chosen)
        self.list.itemDoubleClicked.connect(lambda item: self.looked_for.emit(item.data(_ID)))
        self.kind.activated.connect(self._on_class)
        self.kind.lineEdit().returnPressed.connect(self._on_class)
        self.name.editingFinished.connect(self._on_name)
        self.locked.clicked.connect(self._on_locked)
        self.delete.clicked.connect(self._on_delete)
        self.undo.clicked.connect(self._on_undo)
        self.redo.clicked.connect(self._on_redo)

    def _drawer(self, mode: str) -> Callable[[], None]:
        def draw() -> None:
            if self.layers is not None:
                self.layers.new_class = self._typed_class()
                self.layers.draw(mode)

        return draw

    # ---- what is shown

    def bind(self, layers: ObjectLayers | None) -> None:
        """Work on the objects of a slide from now on."""
        if self.layers is not None:
            self.layers.selected.disconnect(self.choose)
        self.layers = layers
        if layers is not None:
            layers.selected.connect(self.choose)
        self.setEnabled(layers is not None)
        self.show_objects(self._known)

    def show_objects(self, classes: Iterable[PathClass]) -> None:
        """List what there is now; `classes` are offered beside QuPath's and those in use."""
        self._known = tuple(classes)
        kept = None if self.layers is None else self.layers.kept
        scene = None if self.layers is None else self.layers.scene
        objects = [] if kept is None or scene is None else [kept.get(d.id) for d in scene.drawn]
        shown = [one for one in objects if one is not None]
        chosen = set(self._ids())
        self.list.blockSignals(True)
        self.list.clear()
        for one in sorted(shown, key=_order)[:LISTED]:
            item = QListWidgetItem(
                swatch(color_of(one)), words_of(one).removesuffix(" · annotation")
            )
            item.setData(_ID, one.id)
            self.list.addItem(item)
            item.setSelected(one.id in chosen)
        self.list.blockSignals(False)
        self._fill_classes(shown)
        self.facts.say(self._facts())
        self._show_chosen()

    def choose(self, ids: tuple[str, ...]) -> None:
        """Mark objects in the list, which were chosen on the slide."""
        self.list.blockSignals(True)
        for n in range(self.list.count()):
            item = self.list.item(n)
            item.setSelected(item.data(_ID) in ids)
            if ids and item.data(_ID) == ids[0]:
                self.list.scrollToItem(item)
        self.list.blockSignals(False)
        self._show_chosen()

    def _facts(self) -> str:
        layers = self.layers
        if layers is None or layers.scene is None:
            return ""
        scene = layers.scene
        parts = []
        if scene.too_many:
            parts.append(
                f"{scene.too_many:,} annotations are shown as a picture: beyond {MAX_PIECES:,} "
                "outlines they cannot be edited fluently."
            )
        if rest := scene.pictured - scene.too_many:
            parts.append(f"{rest:,} detections and tiles are shown as a picture.")
        if not scene.drawn and not parts:
            parts.append("Nothing yet: import annotations, or draw one.")
        return " ".join(parts)

    def _fill_classes(self, objects: Iterable[PathObject]) -> None:
        classes = {name: PathClass.of(name, color) for name, color in DEFAULT_COLORS.items()}
        classes |= {one.name: one for one in self._known}
        classes |= {o.path_class.name: o.path_class for o in objects if o.path_class is not None}
        text = self.kind.currentText()
        self.kind.clear()
        self.kind.addItem(NO_CLASS, None)
        for name, one in classes.items():
            self.kind.addItem(swatch(one.hex_color), name, one)
        at = self.kind.findText(text)
        self.kind.setCurrentIndex(max(0, at))

    def _show_chosen(self) -> None:
        objects = self._chosen()
        self.delete.setEnabled(bool(objects))
        self.locked.setEnabled(bool(objects))
        self.name.setEnabled(len(objects) == 1)
        self.locked.setChecked(bool(objects) and all(one.is_locked for one in objects))
        self.name.setText(objects[0].name or "" if len(objects) == 1 else "")
        names = {NO_CLASS if o.path_class is None else o.path_class.name for o in objects}
        if len(names) == 1:
            self.kind.setCurrentIndex(max(0, self.kind.findText(names.pop())))
        kept = None if self.layers is None else self.layers.kept
        _offer(self.undo, "" if kept is None else kept.undo_text)
        _offer(self.redo, "" if kept is None else kept.redo_text)

    # ---- what is done

    def _on_undo(self) -> None:
        if self.layers is not None:
            self.layers.kept.undo()

    def _on_redo(self) -> None:
        if self.layers is not None:
            self.layers.kept.redo()

    def _on_corners(self) -> None:
        if self.layers is not None:
            self.layers.edit()

    def _ids(self) -> list[str]:
        return [item.data(_ID) for item in self.list.selectedItems()]

    def _chosen(self) -> list[PathObject]:
        if self.layers is None:
            return []
        found = [self.layers.kept.get(uid) for uid in self._ids()]
        return [one for one in found if one is not None]

    def _on_chosen(self) -> None:
        if self.layers is not None:
            self.layers.select(self._ids())
        self._show_chosen()

    def _typed_class(self) -> PathClass | None:
        text = self.kind.currentText().strip()
        at = self.kind.findText(text)
        if not text or text == NO_CLASS:
            return None
        known = self.kind.itemData(at) if at >= 0 else None
        return known if isinstance(known, PathClass) else PathClass.of(text)

    def _on_class(self, *_: object) -> None:
        try:
            kind = self._typed_class()
        except ValueError as error:
            self.failed.emit(error)
            return
        if self.layers is not None:
            self.layers.new_class = kind
        self._change("class", lambda one: replace(one, path_class=kind))

    def _on_name(self) -> None:
        name = self.name.text().strip() or None
        if [one.name for one in self._chosen()] != [name]:
            self._change("name", lambda one: replace(one, name=name))

    def _on_locked(self, on: bool) -> None:
        self._change("lock" if on else "unlock", lambda one: replace(one, is_locked=on))

    def _on_delete(self) -> None:
        self._change("remove", lambda _: None)

    def _change(self, verb: str, change: Callable[[PathObject], PathObject | None]) -> None:
        objects = self._chosen()
        if not objects or self.layers is None:
            return
        what = "annotation" if len(objects) == 1 else f"{len(objects)} annotations"
        self.layers.kept.update({one.id: change(one) for one in objects}, f"{verb} {what}")


def _order(one: PathObject) -> tuple[str, str, float]:
    kind = "~" if one.path_class is None else one.path_class.name
    return kind, one.name or "", -float(one.geometry.area)


def _offer(made: QPushButton, text: str) -> None:
    """Say what a button of undo would do, if anything."""
    made.setEnabled(bool(text))
    word = made.text()
    made.setToolTip(f"{word}: {text}" if text else f"Nothing to {word.lower()}")
