"""Searches with a name: saved, asked again, changed and deleted, in a window of their own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.parts import Note, button, heading, style
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.thumbnails import to_qimage
from napari_virchow._napari.words import encoder_title
from napari_virchow.search import Similarity
from napari_virchow.search.saved import SavedQuery

PICTURE_PX = 48
_STRIP = 3  # pictures side by side
_SAVED = Qt.ItemDataRole.UserRole
Pictures = NDArray[np.uint8]
Listed = list[tuple[SavedQuery, Pictures | None]]


class SavedDialog(QDialog):
    """Lists saved searches; `asked` is emitted once one of them is the present search.

    Parameters
    ----------
    similarity : Similarity
    picture : callable
        Makes the pictures (n, 48, 48, 3) of the present examples; called in a worker.
    theme : str
        Of napari.
    parent : QWidget
        Shown over it.
    """

    asked = Signal(object, object)  # SavedQuery, its pictures

    def __init__(
        self,
        similarity: Similarity,
        picture: Callable[[], Pictures],
        theme: str,
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self._similarity, self._picture = similarity, picture
        self._tasks = Tasks(self)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Saved searches")
        self.list = QListWidget()
        self.list.setIconSize(QSize(_STRIP * (PICTURE_PX + 2), PICTURE_PX))
        self.list.setAccessibleName("Saved searches")
        self.none = Note("No search is saved yet. Give the present one a name below.")
        self.name = QLineEdit()
        self.name.setPlaceholderText("for example Mitoses")
        self.notes = QPlainTextEdit()
        self.notes.setPlaceholderText("Notes")
        self.notes.setFixedHeight(60)
        self.notes.setTabChangesFocus(True)
        self.use = button("Search this", "Search like this on the slide that is shown")
        self.change = button("Save changes", "Keep the other name and notes of the chosen search")
        self.delete = button("Delete", "Delete the chosen search")
        self.save = button("Save present search", "Keep the present examples under this name")
        self.alert = Note(alert=True)
        self._build()
        style(self, theme)
        self.resize(460, 420)
        self._refresh()

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.addWidget(self.none)
        column.addWidget(self.list, 1)
        row = QHBoxLayout()
        for one in (self.use, self.change, self.delete):
            row.addWidget(one)
        row.addStretch()
        column.addLayout(row)
        column.addWidget(heading("Name and notes"))
        form = QFormLayout()
        form.addRow("Name", self.name)
        form.addRow("Notes", self.notes)
        column.addLayout(form)
        last = QHBoxLayout()
        last.addWidget(self.alert, 1)
        last.addStretch()
        last.addWidget(self.save)
        column.addLayout(last)
        self.list.currentItemChanged.connect(self._on_chosen)
        self.list.itemDoubleClicked.connect(self._on_use)
        self.use.clicked.connect(self._on_use)
        self.change.clicked.connect(self._on_change)
        self.delete.clicked.connect(self._on_delete)
        self.save.clicked.connect(self._on_save)
        self.name.textChanged.connect(self._on_typed)
        self._on_chosen()

    @property
    def chosen(self) -> SavedQuery | None:
        """The saved search that is chosen in the list."""
        item = self.list.currentItem()
        return None if item is None else item.data(_SAVED)[0]

    def _refresh(self, _: object = None) -> None:
        saved = self._similarity.saved

        def read() -> Listed:
            return [(one, saved.pictures(one)) for one in saved.all()]

        self._run(read, self._on_listed)

    def _run(self, function: Callable[[], object], done: Callable[..., object]) -> None:
        self.alert.say("")
        self._tasks.run(function, done=done, failed=lambda error: self.alert.say(str(error)))

    def _on_listed(self, listed: Listed) -> None:
        before = self.chosen
        self.list.clear()
        for one, pictures in listed:
            item = QListWidgetItem(self.list)
            item.setData(_SAVED, (one, pictures))
            first = one.notes.strip().splitlines()[:1]
            kind = f"{encoder_title(one.encoder)}, {one.mpp:g} µm/px"
            what = f"{one.n_positives} like" + f", {one.n_negatives} unlike" * bool(one.n_negatives)
            item.setText("\n".join([one.name, f"{what} · {kind}", *first]))
            item.setToolTip(f"{one.notes}\nSaved {one.created}".strip())
            if pictures is not None and len(pictures):
                item.setIcon(_strip(pictures))
            if before is not None and one.path == before.path:
                self.list.setCurrentItem(item)
        self.list.setVisible(bool(listed))
        self.none.setVisible(not listed)
        self._on_chosen()

    def _on_chosen(self, *_: object) -> None:
        chosen = self.chosen
        for one in (self.use, self.change, self.delete):
            one.setEnabled(chosen is not None)
        if chosen is not None:
            self.name.setText(chosen.name)
            self.notes.setPlainText(chosen.notes)
        self._on_typed()

    def _on_typed(self, *_: object) -> None:
        present = bool(self._similarity.query.positives)
        self.save.setEnabled(present and bool(self.name.text().strip()))
        tip = "Keep the present examples under this name" if present else "Pick a tile first"
        self.save.setToolTip(tip)

    def _on_use(self, *_: object) -> None:
        item = self.list.currentItem()
        if item is None:
            return
        saved, pictures = item.data(_SAVED)

        def done(_: object) -> None:
            self.asked.emit(saved, pictures)
            self.accept()

        self._run(lambda: self._similarity.load_query(saved), done)

    def _on_change(self) -> None:
        saved, name, notes = self.chosen, self.name.text(), self.notes.toPlainText()
        if saved is not None:
            self._run(lambda: self._similarity.saved.rename(saved, name, notes), self._refresh)

    def _on_delete(self) -> None:
        saved = self.chosen
        if saved is not None:
            self.list.setCurrentItem(None)
            self._run(lambda: self._similarity.saved.delete(saved), self._refresh)

    def _on_save(self) -> None:
        name, notes = self.name.text(), self.notes.toPlainText()
        self.list.setCurrentItem(None)

        def save() -> object:
            return self._similarity.save_query(name, notes, self._picture())

        self._run(save, self._refresh)


def _strip(pictures: Pictures) -> QIcon:
    icon = QPixmap(_STRIP * (PICTURE_PX + 2), PICTURE_PX)
    icon.fill(Qt.GlobalColor.transparent)
    painter = QPainter(icon)
    for number, one in enumerate(pictures[:_STRIP]):
        painter.drawImage(number * (PICTURE_PX + 2), 0, to_qimage(one))
    painter.end()
    return QIcon(icon)
