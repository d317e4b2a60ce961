"""The classifier, and what is known of tiles, to and from files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QGridLayout, QWidget

from napari_virchow._napari.parts import button, heading
from napari_virchow._napari.tasks import Tasks
from napari_virchow.classification import Classification
from napari_virchow.classification.export import export_all, export_figures
from napari_virchow.labels.agreement import export_csv


class ModelBox(QWidget):
    """Saves, loads and exports; all of it in workers."""

    failed = Signal(object)
    told = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._live: Classification | None = None
        self._tasks = Tasks(self)
        self.save = button("Save…", "Save the classifier, to use it here or on a server")
        self.load = button("Load…", "Paint with a saved classifier until the next label")
        self.all = button("Everything…", "Labels, predictions and figures as CSV, in one folder")
        self.labels = button("Labels…", "All labels as a CSV file")
        self.predictions = button("Predictions…", "Every painted tile's prediction as a CSV file")
        self.figures = button("Figures…", "The figures of the page Judge as a CSV file")
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        grid.setColumnStretch(2, 1)
        grid.addWidget(heading("Classifier"), 0, 0, 1, 3)
        grid.addWidget(self.save, 1, 0)
        grid.addWidget(self.load, 1, 1)
        grid.addWidget(heading("Export as CSV"), 2, 0, 1, 3)
        for n, one in enumerate((self.all, self.labels, self.predictions, self.figures)):
            grid.addWidget(one, 3 + n // 2, n % 2)
        self.save.clicked.connect(self._on_save)
        self.load.clicked.connect(self._on_load)
        self.all.clicked.connect(self._on_all)
        self.labels.clicked.connect(
            lambda: self._export("labels.csv", lambda live, path: export_csv(live.labels, path))
        )
        self.predictions.clicked.connect(
            lambda: self._export("predictions.csv", Classification.export_predictions)
        )
        self.figures.clicked.connect(lambda: self._export("figures.csv", export_figures))

    def bind(self, live: Classification) -> None:
        """Work with this classification."""
        self._live = live

    def _on_save(self) -> None:
        folder, _ = QFileDialog.getSaveFileName(self, "Save the classifier as a folder", "model")
        if folder and self._live is not None:
            self._run(self._live.save, Path(folder), text=f"Saved in {folder}.")

    def _on_load(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of a saved classifier")
        if folder and self._live is not None:
            self._run(self._live.load, Path(folder), text=f"Painting with {Path(folder).name}.")

    def _on_all(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for the tables")
        if folder and self._live is not None:
            self._run(export_all, self._live, Path(folder), text=f"Written to {folder}.")

    def _export(self, name: str, write: Callable[[Classification, Path], object]) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export", name)
        if path and self._live is not None:
            self._run(write, self._live, Path(path), text=f"Written to {path}.")

    def _run(self, function: Any, *args: Any, text: str) -> None:
        self._tasks.run(
            function, *args, done=lambda _: self.told.emit(text), failed=self.failed.emit
        )
