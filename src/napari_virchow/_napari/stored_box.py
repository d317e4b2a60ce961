"""What is stored of a slide, how big it is, and how to get rid of it."""

from __future__ import annotations

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QMessageBox,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.parts import Note, button, heading
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.words import encoder_title, size_words
from napari_virchow.interop.stored import PREFIX, use_imported
from napari_virchow.session import Session
from napari_virchow.shelf import StoredInfo
from napari_virchow.slide import Slide

REFRESH_MS = 400
_INFO = Qt.ItemDataRole.UserRole


class StoredBox(QWidget):
    """The list of a slide's stored embeddings, one line per encoder and magnification.

    Parameters
    ----------
    session : Session
        Knows what is stored; asked in a worker, as the answer is on the disk.
    parent : QWidget
        The dock.
    """

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._slide: Slide | None = None
        self._tasks = Tasks(self)
        self.list = QTreeWidget()
        self.list.setColumnCount(4)
        self.list.setHeaderLabels(["Encoder", "µm/px", "Tiles", "Size"])
        self.list.setRootIsDecorated(False)
        self.list.setUniformRowHeights(True)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setFixedHeight(104)
        self.list.setToolTip("Embeddings of this slide that are kept on this computer")
        header = self.list.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.total = Note()
        self.delete = button("Delete…", "Delete the selected embeddings from the disk")
        self.delete.setEnabled(False)
        self.use = button("Use", "Label, classify and search with these embeddings from a file")
        self.use.hide()
        top = QHBoxLayout()
        top.setContentsMargins(0, 0, 0, 0)
        top.addWidget(heading("Stored for this slide"), 1)
        top.addWidget(self.use)
        top.addWidget(self.delete)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(top)
        column.addWidget(self.list)
        column.addWidget(self.total)
        self._timer = QTimer(self)  # many reasons to look again, at once only one is followed
        self._timer.setSingleShot(True)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self._look)
        self.list.itemSelectionChanged.connect(self._on_selected)
        self.delete.clicked.connect(self._on_delete)
        self.use.clicked.connect(self._on_use)

    def show_slide(self, slide: Slide | None) -> None:
        """List what is stored of another slide."""
        self._slide = slide
        self._on_listed([])
        self.refresh()

    def refresh(self) -> None:
        """Look on the disk again, soon."""
        if not self._timer.isActive():
            self._timer.start()

    def _look(self) -> None:
        slide = self._slide
        if slide is None:
            return
        self._tasks.run(
            self._session.stored,
            slide.identity,
            done=lambda infos: self._on_listed(infos) if slide is self._slide else None,
            failed=self._on_failed,
        )

    def _on_listed(self, infos: list[StoredInfo]) -> None:
        infos = [info for info in infos if info.n_tiles]
        self.list.setVisible(bool(infos))
        self.delete.setVisible(bool(infos))
        chosen = self._selected()
        self.list.clear()
        for info in infos:
            item = QTreeWidgetItem(
                [
                    encoder_title(info.encoder),
                    f"{info.mpp:g}",
                    f"{info.n_tiles:,}",
                    size_words(info.nbytes),
                ]
            )
            item.setData(0, _INFO, info)
            item.setToolTip(0, f"{info.encoder}\n{info.path}")
            for column in (1, 2, 3):
                item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
            self.list.addTopLevelItem(item)
            item.setSelected(chosen is not None and chosen.path == info.path)
        self.total.say("" if infos else "Nothing yet: what is embedded will be kept here.")

    def _on_failed(self, error: Exception) -> None:
        self.total.say(str(error))
        self._on_selected()

    def _selected(self) -> StoredInfo | None:
        items = self.list.selectedItems()
        return items[0].data(0, _INFO) if items else None

    def _on_selected(self) -> None:
        info = self._selected()
        self.delete.setEnabled(info is not None)
        # Others are used by loading their encoder; these have none that could be loaded.
        self.use.setVisible(info is not None and info.encoder.startswith(PREFIX))

    def _on_use(self) -> None:
        info = self._selected()
        if info is not None:
            self._tasks.run(
                use_imported, self._session, info, done=lambda _: None, failed=self._on_failed
            )

    def _on_delete(self) -> None:
        info = self._selected()
        if info is None:
            return
        question = QMessageBox(self)
        question.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        question.setWindowTitle("Delete embeddings?")
        question.setText(
            f"Delete {info.n_tiles:,} tiles by {encoder_title(info.encoder)} at {info.mpp:g} µm/px "
            f"({size_words(info.nbytes)})?"
        )
        question.setInformativeText(
            "They came from a file and can be imported again."
            if info.encoder.startswith(PREFIX)
            else "They can be computed again, which takes its time."
        )
        question.setStandardButtons(
            QMessageBox.StandardButton.Cancel | QMessageBox.StandardButton.Yes
        )
        question.button(QMessageBox.StandardButton.Yes).setText("Delete")
        question.setDefaultButton(QMessageBox.StandardButton.Cancel)
        question.accepted.connect(lambda: self._delete(info))
        question.open()

    def _delete(self, info: StoredInfo) -> None:
        self.delete.setEnabled(False)
        self._tasks.run(
            self._session.delete_stored,
            info,
            done=lambda _: self.refresh(),
            failed=self._on_failed,
        )
