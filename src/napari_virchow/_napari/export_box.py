"""To QuPath: a file or the clipboard, after a look at what it will be."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from qtpy.QtCore import QMimeData, Signal
from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QProgressBar,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.grid_choice import GridChoice
from napari_virchow._napari.import_box import MIME, Here
from napari_virchow._napari.parts import Note, button
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.words import few_words, size_words
from napari_virchow.qupath.frame import Frame, in_words
from napari_virchow.qupath.gathering import Sources, What, gather
from napari_virchow.qupath.geojson import WriteReport, check_suffix, write_bytes
from napari_virchow.qupath.outgoing import Cancelled, Outgoing, encode
from napari_virchow.qupath.servers import frame_named

FILTER = "GeoJSON (*.geojson);;Packed GeoJSON (*.geojson.gz)"
_TOO_MUCH = 50_000_000  # bytes that no clipboard should be given


class ExportBox(QWidget):
    """The part of the dock that writes for QuPath. `told` follows with a sentence."""

    told = Signal(str)
    failed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.here: Here | None = None
        self.outgoing: Outgoing | None = None
        self._generation = 0
        self._stop = threading.Event()
        self._tasks = Tasks(self)
        self._build()
        self.bind(None)

    def _build(self) -> None:
        self.what = QComboBox()
        for what in What:
            self.what.addItem(what.value, what)
        self.what.setToolTip("What goes to QuPath")
        self.grid = GridChoice()
        self.frame = QComboBox()
        self.frame.setToolTip("How QuPath shows the slide: cropped to the scanned area or not")
        for combo in (self.what, self.frame):
            combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.preview = Note()
        self.alert = Note(alert=True)
        self.save = button("Save as…", "Write a file to drop onto the slide in QuPath", wide=True)
        self.copy = button("Copy", "Put it on the clipboard: paste it in QuPath with Ctrl+V")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.cancel = button("Cancel", "Stop; nothing is written")
        self._lay_out()
        for combo in (self.what, self.grid, self.frame):
            combo.currentIndexChanged.connect(self.refresh)
        self.save.clicked.connect(self._on_save)
        self.copy.clicked.connect(self._on_copy)
        self.cancel.clicked.connect(self._stop.set)

    def _lay_out(self) -> None:
        self.form = QFormLayout()
        self.form.setContentsMargins(0, 0, 0, 0)
        self.form.addRow("What", self.what)
        self.form.addRow("Tiles", self.grid)
        self.form.addRow("QuPath shows", self.frame)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.save, 1)
        row.addWidget(self.copy)
        self.progress = QWidget()
        running = QHBoxLayout(self.progress)
        running.setContentsMargins(0, 0, 0, 0)
        running.addWidget(self.bar, 1)
        running.addWidget(self.cancel)
        self.progress.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 6, 4, 4)
        column.setSpacing(4)
        column.addLayout(self.form)
        for widget in (self.preview, self.alert):
            column.addWidget(widget)
        column.addLayout(row)
        column.addWidget(self.progress)
        column.addStretch()

    def bind(self, here: Here | None) -> None:
        """Work on a slide from now on."""
        self.here = here
        if here is not None:
            encoder = here.session.encoder
            self.grid.fill(here.slide, encoder, here.session.labels, (0.25, 0.5, 1.0, 2.0))
            self.frame.blockSignals(True)
            self.frame.clear()
            for name in ("bounds", "whole") if here.box.bounds is not None else ("whole",):
                frame = frame_named(name, here.box)
                self.frame.addItem(f"{frame.name} ({in_words((frame.width, frame.height))})", frame)
            self.frame.blockSignals(False)
        self.form.setRowVisible(self.frame, self.frame.count() > 1)
        self.refresh()

    def refresh(self, *_: object) -> None:
        """Work out what would be written now, if it can be seen."""
        self._generation += 1
        self.outgoing = None
        self.alert.say("")
        for widget in (self.save, self.copy):
            widget.setEnabled(False)
        what, frame = self.what.currentData(), self.frame.currentData()
        self.form.setRowVisible(self.grid, what is What.LABELS)
        if self.here is None or not isinstance(frame, Frame) or not self.isVisible():
            self.preview.say("" if self.here is not None else "Open a slide first.")
            return
        generation, mpp = self._generation, self.grid.currentData()
        work = partial(_gathered, self.here, What(what), frame, mpp)
        self._tasks.run(
            work,
            done=lambda found: self._on_gathered(generation, *found),
            failed=lambda error: self._on_nothing(generation, error),
        )

    def showEvent(self, event: object) -> None:
        """Look again whenever the tab comes up: labels and annotations may be others by now."""
        super().showEvent(event)
        self.refresh()

    def _on_gathered(self, generation: int, outgoing: Outgoing, size: int) -> None:
        if generation != self._generation:
            return
        self.outgoing = outgoing
        each = few_words(f"{name} {n:,}" for name, n in outgoing.by_class.items())
        frame = outgoing.frame
        self.preview.say(
            f"{outgoing.n:,} objects: {each}\n"
            f"for an image of {in_words((frame.width, frame.height))} ({frame.name}), "
            f"about {size_words(size)}"
        )
        self.save.setEnabled(True)
        self.copy.setEnabled(size <= _TOO_MUCH)

    def _on_nothing(self, generation: int, error: Exception) -> None:
        if generation == self._generation:
            self.preview.say(str(error))

    # ---- writing

    def write(self, path: Path | str) -> None:
        """Write what is shown to a file, in a worker."""
        path = Path(path)
        if not path.suffix:
            path = path.with_suffix(".geojson")
        try:
            check_suffix(path)
        except ValueError as error:
            self.alert.say(str(error))
            return
        self._run(partial(_saved, path), lambda report: self._on_saved(path, report))

    def _on_save(self) -> None:
        if self.here is None:
            return
        stem = Path(self.here.slide.name).stem
        name, _ = QFileDialog.getSaveFileName(self, "Export to QuPath", f"{stem}.geojson", FILTER)
        if name:
            self.write(name)

    def _on_copy(self) -> None:
        self._run(_text, self._on_text)

    def _run(self, put: Callable[[bytes], object], done: Callable[..., object]) -> None:
        outgoing = self.outgoing
        if outgoing is None:
            return
        self._stop.clear()
        self.alert.say("")
        self.bar.setRange(0, max(1, outgoing.n))
        self.bar.setValue(0)
        self.progress.show()
        for widget in (self.save, self.copy):
            widget.setEnabled(False)
        teller = self._tasks.teller(lambda text: self.bar.setValue(int(text)))

        def work() -> tuple[object, WriteReport]:
            told = lambda done, _: teller(str(done))  # noqa: E731
            data, report = encode(outgoing, told=told, stop=self._stop.is_set)
            return put(data), report

        self._tasks.run(work, done=lambda both: self._finish(done, both), failed=self._on_stopped)

    def _finish(self, done: Callable[..., object], both: tuple[object, WriteReport]) -> None:
        self._ready()
        done(both)

    def _on_stopped(self, error: Exception) -> None:
        self._ready()
        if isinstance(error, Cancelled):
            self.told.emit("Stopped; nothing was written.")
        else:
            self.alert.say(str(error))

    def _ready(self) -> None:
        self.progress.hide()
        for widget in (self.save, self.copy):
            widget.setEnabled(True)

    def _on_saved(self, path: Path, both: tuple[object, WriteReport]) -> None:
        self.told.emit(f"{path.name} written: {_report_words(both[1])}")

    def _on_text(self, both: tuple[object, WriteReport]) -> None:
        text = str(both[0])
        data = QMimeData()
        data.setText(text)
        data.setData(MIME, text.encode())
        QApplication.clipboard().setMimeData(data)
        self.told.emit(f"Copied: {_report_words(both[1])} Paste it in QuPath.")


def _gathered(here: Here, what: What, frame: Frame, mpp: float | None) -> tuple[Outgoing, int]:
    """Return what would go out, and about how many bytes."""
    labels, grid, painted = None, None, None
    if what is not What.OBJECTS:
        labels = here.session.labels
        if mpp is not None and here.slide.mpp is not None:
            grid = here.slide.grid(mpp)
    if what in (What.PREDICTIONS, What.REGIONS):
        painted = here.session.classification.painted
    outgoing = gather(what, Sources(here.slide, here.kept, labels, grid, painted), frame)
    return outgoing, outgoing.about_bytes()


def _saved(path: Path, data: bytes) -> None:
    write_bytes(path, data)


def _text(data: bytes) -> str:
    return data.decode()


def _report_words(report: WriteReport) -> str:
    parts = [f"{report.written:,} objects"]
    if report.repaired:
        what = ", ".join(f"{n} × {name}" for name, n in report.repairs.items())
        parts.append(f"{report.repaired:,} repaired ({what})")
    if report.dropped:
        parts.append(f"{len(report.dropped):,} left out ({report.dropped[0].reason})")
    return ", ".join(parts) + "."
