"""A project of QuPath to look through: its images with thumbnails, counts and classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QListView,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.open_slide import open_in_background
from napari_virchow._napari.parts import Note, button
from napari_virchow._napari.script_box import ScriptBox
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.words import few_words
from napari_virchow.qupath.project import Project, ProjectImage, read_project

FILTER = "QuPath project (*.qpproj);;All files (*)"
THUMBNAIL = QSize(96, 72)
_NUMBER = Qt.ItemDataRole.UserRole
Loaded = tuple[Project, list[QImage | None]]


class ProjectBox(QWidget):
    """The part of the dock that shows a project and opens its images; it never writes one.

    Parameters
    ----------
    viewer : napari.Viewer
        Where images are opened.
    """

    told = Signal(str)
    failed = Signal(object)

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self.project: Project | None = None
        self._tasks = Tasks(self)
        self.choose = button("Choose project…", "A project.qpproj of QuPath; it stays as it is")
        self.open = button("Open image", "Open the chosen image here")
        self.open.setEnabled(False)
        self.facts = Note("Look through a project of QuPath and open its images. It is only read.")
        self.alert = Note(alert=True)
        self.list = QListWidget()
        self.list.setIconSize(THUMBNAIL)
        self.list.setWordWrap(True)
        self.list.setLayoutMode(QListView.LayoutMode.Batched)
        self.list.setAccessibleName("Images of the project")
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.choose)
        row.addStretch()
        row.addWidget(self.open)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 6, 4, 4)
        column.setSpacing(4)
        column.addLayout(row)
        self.script = ScriptBox()
        for widget in (self.facts, self.alert, self.list, self.script):
            column.addWidget(widget)
        self.script.told.connect(self.told)
        self.script.failed.connect(self._on_unwritten)
        self.choose.clicked.connect(self._on_choose)
        self.open.clicked.connect(self._on_open)
        self.list.itemDoubleClicked.connect(lambda _: self._on_open())
        self.list.currentRowChanged.connect(self._on_chosen)

    def read(self, path: Path | str) -> None:
        """Read a project in a worker and show it."""
        self.facts.say(f"Reading {Path(path).name}…")
        self.alert.say("")
        self._tasks.run(_loaded, Path(path), done=self._on_read, failed=self._on_failed)

    def _on_read(self, loaded: Loaded) -> None:
        project, thumbnails = loaded
        self.project = project
        self.list.clear()
        self.script.show_project(project)
        for number, (image, picture) in enumerate(zip(project.images, thumbnails, strict=True)):
            item = QListWidgetItem(image_words(image))
            item.setData(_NUMBER, number)
            pixmap = QPixmap(THUMBNAIL)
            pixmap.fill(Qt.GlobalColor.transparent)
            item.setIcon(QIcon(pixmap if picture is None else QPixmap.fromImage(picture)))
            item.setToolTip(image.problem or image.location or "")
            self.list.addItem(item)
        n = len(project.images)
        kinds = few_words(one.name for one in project.classes)
        self.facts.say(
            f"{project.name}: {n:,} {'image' if n == 1 else 'images'}, QuPath {project.version}"
            + (f"\nClasses: {kinds}" if kinds else "")
        )
        self.alert.say("\n".join(project.problems[:3]))

    def _on_unwritten(self, error: Exception) -> None:
        self.alert.say(str(error))

    def _on_failed(self, error: Exception) -> None:
        self.facts.say("")
        self.alert.say(str(error))

    @property
    def chosen(self) -> ProjectImage | None:
        """The image that is chosen in the list."""
        item = self.list.currentItem()
        return (
            None
            if item is None or self.project is None
            else self.project.images[item.data(_NUMBER)]
        )

    def _on_chosen(self, _: int) -> None:
        image = self.chosen
        self.open.setEnabled(image is not None and image.location is not None)
        self.alert.say("" if image is None else image.problem)
        self.script.choose(image)

    def _on_open(self) -> None:
        image = self.chosen
        if image is not None and image.location is not None:
            self.told.emit(f"Opening {image.name}…")
            open_in_background(self._viewer, image.location)

    def _on_choose(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "QuPath project", "", FILTER)
        if name:
            self.read(name)


def image_words(image: ProjectImage) -> str:
    """Return an image's name, size and what is on it, in three lines at most."""
    size = (
        ""
        if image.width is None
        else f"{image.width:,} × {image.height:,} px".replace(",", "\u202f")
    )
    counts = ", ".join(f"{n:,} {kind.lower()}" for kind, n in image.counts.items() if n)
    kinds = few_words((f"{name} {n:,}" for name, n in image.annotation_classes.items()), 4)
    missing = "missing on this machine" if image.location is None else ""
    lines = [image.name, " · ".join(p for p in (size, counts) if p), kinds or "", missing]
    return "\n".join(line for line in lines if line)


def _loaded(path: Path) -> Loaded:
    """Return a project and the thumbnails of its images, small enough to show."""
    project = read_project(path)
    pictures: list[QImage | None] = []
    for image in project.images:
        picture = QImage() if image.thumbnail is None else QImage(str(image.thumbnail))
        small = picture.scaled(
            THUMBNAIL,
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )
        pictures.append(None if picture.isNull() else small)
    return project, pictures
