"""A script for QuPath: which image of a project gets which file, and the Groovy that does it."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from napari_virchow._napari.parts import Note, button
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.words import few_words
from napari_virchow.qupath.frame import Frame
from napari_virchow.qupath.groovy import project_script
from napari_virchow.qupath.project import Project, ProjectImage

FILES = "QuPath objects (*.geojson *.json *.geojson.gz *.json.gz *.zip);;All files (*)"
SCRIPTS = "Groovy script (*.groovy)"


class ScriptBox(QWidget):
    """Pairs images with GeoJSON files. `told` follows with a sentence once a script is written."""

    told = Signal(str)
    failed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.project: Project | None = None
        self.image: ProjectImage | None = None
        self.files: dict[str, Path] = {}  # entry of an image → its file
        self._exported: dict[str, tuple[Path, Frame]] = {}  # path of a slide → the last file of it
        self._tasks = Tasks(self)
        self.add = button("Add file…", "Choose the GeoJSON file that the image gets in QuPath")
        self.remove = button("Remove", "The image gets no file")
        self.make = button("Script for QuPath…", "Write a script that takes the files over there")
        self.note = Note()
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.add)
        row.addWidget(self.remove)
        row.addStretch()
        row.addWidget(self.make)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.note)
        column.addLayout(row)
        self.add.clicked.connect(self._on_add)
        self.remove.clicked.connect(self._on_remove)
        self.make.clicked.connect(self._on_make)
        self._refresh()

    def show_project(self, project: Project | None) -> None:
        """Work on a project from now on; what was exported of its images is proposed."""
        self.project, self.image = project, None
        self.files = {}
        for slide, (path, frame) in self._exported.items():
            self._propose(slide, path, frame)
        self._refresh()

    def choose(self, image: ProjectImage | None) -> None:
        """Say which image the buttons are about."""
        self.image = image
        self._refresh()

    def take_file(self, path: Path | str) -> None:
        """Let the chosen image get a file."""
        if self.image is not None:
            self.files[self.image.entry] = Path(path)
            self._refresh()

    def exported(self, slide: str, path: Path, frame: Frame) -> None:
        """Propose a file that was written here for the image that is this slide.

        Parameters
        ----------
        slide : str
            `Slide.path`.
        path : Path
            The GeoJSON file.
        frame : Frame
            Of the image that it was written for.
        """
        self._exported[slide] = (path, frame)
        self._propose(slide, path, frame)
        self._refresh()

    def write(self, path: Path | str) -> None:
        """Write the script, in a worker."""
        project, path = self.project, Path(path)
        if project is None or not self.files:
            return
        if not path.suffix:
            path = path.with_suffix(".groovy")
        files = dict(self.files)

        def work() -> Path:
            path.write_text(project_script(project, files), "utf-8")
            return path

        self._tasks.run(work, done=self._on_written, failed=self.failed.emit)

    def _propose(self, slide: str, path: Path, frame: Frame) -> None:
        """Let the images that are this slide, shown as the file has it, get the file."""
        for image in () if self.project is None else self.project.images:
            if image.location == slide and (image.width, image.height) in (
                (frame.width, frame.height),
                (None, None),
            ):
                self.files[image.entry] = path

    def _refresh(self) -> None:
        chosen = None if self.image is None else self.files.get(self.image.entry)
        self.add.setEnabled(self.image is not None)
        self.remove.setEnabled(chosen is not None)
        self.make.setEnabled(bool(self.files))
        self.setVisible(self.project is not None)
        if self.project is None:
            return
        pairs = [
            f"{image.name} ← {self.files[image.entry].name}"
            for image in self.project.images
            if image.entry in self.files
        ]
        if pairs:
            n = len(pairs)
            count = "1 image gets a file" if n == 1 else f"{n:,} images get a file"
            self.note.say(f"{count}: {few_words(pairs, 3)}.")
        else:
            self.note.say("To take files over in QuPath: choose an image, and add its GeoJSON.")

    def _on_written(self, path: Path) -> None:
        self.told.emit(
            f"{path.name} written. In QuPath, with this project open: Automate › Script editor, "
            "open it there, then Run › Run for project."
        )

    def _on_add(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "File for this image", "", FILES)
        if name:
            self.take_file(name)

    def _on_remove(self) -> None:
        if self.image is not None:
            self.files.pop(self.image.entry, None)
            self._refresh()

    def _on_make(self) -> None:
        name, _ = QFileDialog.getSaveFileName(self, "Script for QuPath", "take.groovy", SCRIPTS)
        if name:
            self.write(name)
