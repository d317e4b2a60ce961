"""The classifier on whole slides, and to and from files."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QGridLayout, QProgressBar, QVBoxLayout, QWidget

from napari_virchow._napari.parts import button, heading
from napari_virchow._napari.tasks import Tasks
from napari_virchow.classification import Applied, ApplyProgress, Classification
from napari_virchow.labels.agreement import export_csv
from napari_virchow.session import Session
from napari_virchow.slide import Slide


class ModelBox(QWidget):
    """Applies, saves, loads and exports; all of it in workers."""

    failed = Signal(object)
    told = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._live: Classification | None = None
        self._slide: Slide | None = None
        self._mpp: float | None = None
        self._cancelled = threading.Event()
        self._tasks = Tasks(self)
        self.slide = button("This slide", "Embed what is missing of this slide, classify all of it")
        self.all = button("All open slides", "The same for every slide that is open here")
        self.save = button("Save…", "Save the classifier, to use it here or on a server")
        self.load = button("Load…", "Paint with a saved classifier until the next label")
        self.labels = button("Labels…", "Export all labels as a CSV file")
        self.predictions = button("Predictions…", "Export every tile's prediction as a CSV file")
        self.metrics = button("Metrics…", "Export the figures as a JSON file")
        self.cancel = button("Cancel", "Let the running batch finish and stop")
        self.bar = QProgressBar()
        self.bar.hide()
        self.cancel.hide()
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        rows = (
            ("Apply to", (self.slide, self.all)),
            ("Classifier", (self.save, self.load)),
            ("Export", (self.labels, self.predictions, self.metrics)),
        )
        for n, (title, buttons) in enumerate(rows):
            grid.addWidget(heading(title), 2 * n, 0, 1, 3)
            for m, one in enumerate(buttons):
                grid.addWidget(one, 2 * n + 1, m)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(grid)
        column.addWidget(self.bar)
        column.addWidget(self.cancel)
        self.slide.clicked.connect(lambda: self.apply([self._slide] if self._slide else []))
        self.all.clicked.connect(lambda: self.apply(list(self._session.slides.values())))
        self.cancel.clicked.connect(self._cancelled.set)
        self.save.clicked.connect(self._on_save)
        self.load.clicked.connect(self._on_load)
        self.labels.clicked.connect(lambda: self._export("labels.csv", self._write_labels))
        self.predictions.clicked.connect(
            lambda: self._export("predictions.csv", self._write_predictions)
        )
        self.metrics.clicked.connect(lambda: self._export("metrics.json", self._write_metrics))

    def bind(self, live: Classification) -> None:
        """Work with this classification."""
        self._live = live

    def look_at(self, slide: Slide | None, mpp: float | None) -> None:
        """Apply to this slide, at this tile size."""
        self._slide, self._mpp = slide, mpp

    def apply(self, slides: list[Slide]) -> None:
        """Embed what is missing of slides and classify them, in a worker."""
        if self._live is None or self._mpp is None or not slides:
            return
        self._cancelled.clear()
        self.bar.setRange(0, 0)
        self.bar.show()
        self.cancel.show()
        self._tasks.run(
            self._live.apply,
            slides,
            self._mpp,
            on_progress=self._tasks.teller(self._on_progress),
            cancelled=self._cancelled.is_set,
            done=self._on_applied,
            failed=self._on_failed,
        )

    def _on_progress(self, progress: Any) -> None:
        told: ApplyProgress = progress
        self.bar.setRange(0, max(1, told.total))
        self.bar.setValue(told.done)
        self.told.emit(f"{told.text} {told.slide}: {told.done:,} of {told.total:,} tiles")

    def _on_applied(self, done: list[Applied]) -> None:
        self.bar.hide()
        self.cancel.hide()
        if self._cancelled.is_set():
            self.told.emit("Cancelled; what was embedded is kept.")
            return
        names = {} if self._live is None else {c.id: c.name for c in self._live.labels.classes}
        texts = []
        for one in done:
            shares = [
                f"{names.get(c, 'unknown')} {100 * n / max(1, one.n_tiles):.0f} %"
                for c, n in sorted(one.counts.items(), key=lambda item: -item[1])
            ]
            texts.append(f"{one.slide}: {one.n_tiles:,} tiles, {', '.join(shares)}")
        self.told.emit("\n".join(texts))

    def _on_failed(self, error: Exception) -> None:
        self.bar.hide()
        self.cancel.hide()
        self.failed.emit(error)

    def _on_save(self) -> None:
        folder, _ = QFileDialog.getSaveFileName(self, "Save the classifier as a folder", "model")
        if folder and self._live is not None:
            self._run(self._live.save, Path(folder), text=f"Saved in {folder}.")

    def _on_load(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of a saved classifier")
        if folder and self._live is not None:
            self._run(self._live.load, Path(folder), text=f"Painting with {Path(folder).name}.")

    def _export(self, name: str, write: Any) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export", name)
        if path:
            self._run(write, Path(path), text=f"Written to {path}.")

    def _run(self, function: Any, *args: Any, text: str) -> None:
        self._tasks.run(
            function, *args, done=lambda _: self.told.emit(text), failed=self.failed.emit
        )

    def _write_labels(self, path: Path) -> None:
        if self._live is not None:
            export_csv(self._live.labels, path)

    def _write_predictions(self, path: Path) -> None:
        if self._live is not None:
            self._live.export_predictions(path)

    def _write_metrics(self, path: Path) -> None:
        if self._live is not None:
            path.write_text(json.dumps(self._live.summary(), indent=1), "utf-8")
