"""To QuPath and other tools: a file or the clipboard, after a look at what it will be."""

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
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.export_forms import FORMS, Form, embedded, gathered, other
from napari_virchow._napari.grid_choice import GridChoice
from napari_virchow._napari.import_box import MIME, Here
from napari_virchow._napari.parts import Bar, Note, button
from napari_virchow._napari.stored_choice import StoredChoice
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.words import few_words, size_words
from napari_virchow.interop.going import EMBEDDINGS, Going
from napari_virchow.qupath.frame import Frame, in_words
from napari_virchow.qupath.gathering import What
from napari_virchow.qupath.geojson import WriteReport, check_suffix, write_bytes
from napari_virchow.qupath.outgoing import Cancelled, Outgoing, encode
from napari_virchow.qupath.servers import frame_named
from napari_virchow.shelf import StoredInfo

_TOO_MUCH = 50_000_000  # bytes that no clipboard should be given


class ExportBox(QWidget):
    """The part of the dock that writes files. `told` follows with a sentence.

    `saved` follows with the slide's path, the file and its frame, if it is one for QuPath.
    """

    told = Signal(str)
    saved = Signal(str, object, object)
    saved = Signal(object, object, object)  # slide, path, frame
    failed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.here: Here | None = None
        self.outgoing: Outgoing | None = None
        self.going: Going | None = None
        self._generation = 0
        self._stop = threading.Event()
        self._tasks = Tasks(self)
        self._build()
        self.bind(None)

    def _build(self) -> None:
        self.format = QComboBox()
        for form in FORMS:
            self.format.addItem(form.title, form)
        self.format.setToolTip("For which tool the file is")
        self.format.setAccessibleName("Format")
        self.stored = StoredChoice()
        self.what = QComboBox()
        for what in What:
            self.what.addItem(what.value, what)
        self.what.setToolTip("What is written")
        self.grid = GridChoice()
        self.frame = QComboBox()
        self.frame.setToolTip("How QuPath shows the slide: cropped to the scanned area or not")
        for combo in (self.format, self.what, self.frame):
            combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.preview = Note()
        self.alert = Note(alert=True)
        self.save = button("Save as…", "Write it to a file", wide=True)
        self.copy = button("Copy", "Put it on the clipboard: paste it in QuPath with Ctrl+V")
        self.bar = Bar()
        self.bar.setTextVisible(False)
        self.cancel = button("Cancel", "Stop; nothing is written")
        self._lay_out()
        for combo in (self.format, self.what, self.stored, self.grid, self.frame):
            combo.currentIndexChanged.connect(self.refresh)
        self.save.clicked.connect(self._on_save)
        self.copy.clicked.connect(self._on_copy)
        self.cancel.clicked.connect(self._stop.set)

    def _lay_out(self) -> None:
        self.form = QFormLayout()
        self.form.setContentsMargins(0, 0, 0, 0)
        self.form.addRow("Format", self.format)
        self.form.addRow("What", self.what)
        self.form.addRow("What", self.stored)
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
        self.refresh()

    def refresh(self, *_: object) -> None:
        """Work out what would be written now, if it can be seen."""
        self._generation += 1
        self.outgoing = self.going = None
        self.alert.say("")
        for widget in (self.save, self.copy):
            widget.setEnabled(False)
        form = self.form_now.name
        what, frame = self.what.currentData(), self.frame.currentData()
        self._show_rows(form, what)
        if self.here is None or not isinstance(frame, Frame) or not self.isVisible():
            self.preview.say("" if self.here is not None else "Open a slide first.")
            return
        mpp = self.grid.currentData()
        if form == "geojson":
            self._look(partial(gathered, self.here, What(what), frame, mpp), self._on_gathered)
        elif form in EMBEDDINGS:
            work = partial(embedded, self.here, form, self.stored.currentData())
            self._look(work, self._on_embedded)
        else:
            self._look(partial(other, self.here, form, What(what), mpp), self._on_going)

    @property
    def form_now(self) -> Form:
        """The format that is chosen."""
        form: Form = self.format.currentData()
        return form

    def _show_rows(self, form: str, what: What) -> None:
        """Show what has to be chosen for a format."""
        for widget, needed in (
            (self.what, form not in EMBEDDINGS),
            (self.stored, form in EMBEDDINGS),
            (self.grid, form not in EMBEDDINGS and what is What.LABELS),
            (self.frame, form == "geojson" and self.frame.count() > 1),
        ):
            self.form.setRowVisible(widget, needed)
        self.copy.setVisible(form == "geojson")

    def _look(self, work: Callable[[], object], done: Callable[..., object]) -> None:
        generation = self._generation
        self._tasks.run(
            work,
            done=lambda found: done(found) if generation == self._generation else None,
            failed=lambda error: self._on_nothing(generation, error),
        )

    def showEvent(self, event: object) -> None:
        """Look again whenever the tab comes up: labels and annotations may be others by now."""
        super().showEvent(event)
        self.refresh()

    def _on_going(self, going: Going) -> None:
        self.going = going
        self.preview.say(going.said)
        self.save.setEnabled(True)

    def _on_embedded(self, found: tuple[list[StoredInfo], Going | None]) -> None:
        infos, going = found
        self.stored.fill(infos)
        self.form.setRowVisible(self.stored, bool(infos))
        if going is not None:
            self._on_going(going)
        else:
            self.preview.say("Nothing of this slide is embedded yet: do so in the dock Embeddings.")

    def _on_gathered(self, found: tuple[Outgoing, int]) -> None:
        outgoing, size = found
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
        path, form = Path(path), self.form_now
        if not path.suffix:
            path = path.with_suffix(form.suffix)
        if form.name != "geojson":
            self._write_going(path)
            return
        try:
            check_suffix(path)
        except ValueError as error:
            self.alert.say(str(error))
            return
        here, outgoing = self.here, self.outgoing
        if here is not None and outgoing is not None:
            done = partial(self._on_saved, here.slide.path, path, outgoing.frame)
            self._run(partial(_saved, path), done)

    def _write_going(self, path: Path) -> None:
        going = self.going
        if going is None:
            return
        self._begin(0)
        self.cancel.hide()
        self._tasks.run(going.write, path, done=self._on_written, failed=self._on_stopped)

    def _on_written(self, sentence: str) -> None:
        self._ready()
        self.told.emit(sentence)

    def _on_save(self) -> None:
        if self.here is None:
            return
        form = self.form_now
        stem = Path(self.here.slide.name).stem + form.suffix
        name, _ = QFileDialog.getSaveFileName(self, "Export", stem, form.filter)
        if name:
            self.write(name)

    def _on_copy(self) -> None:
        self._run(_text, self._on_text)

    def _run(self, put: Callable[[bytes], object], done: Callable[..., object]) -> None:
        outgoing = self.outgoing
        if outgoing is None:
            return
        self._begin(max(1, outgoing.n))
        teller = self._tasks.teller(lambda text: self.bar.setValue(int(text)))

        def work() -> tuple[object, WriteReport]:
            told = lambda done, _: teller(str(done))  # noqa: E731
            data, report = encode(outgoing, told=told, stop=self._stop.is_set)
            return put(data), report

        self._tasks.run(work, done=lambda both: self._finish(done, both), failed=self._on_stopped)

    def _begin(self, n: int) -> None:
        self._stop.clear()
        self.alert.say("")
        self.bar.setRange(0, n)  # one to 0 is busy without an end
        self.bar.setValue(0)
        self.cancel.show()
        self.progress.show()
        for widget in (self.save, self.copy):
            widget.setEnabled(False)

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

    def _on_saved(
        self, slide: str, path: Path, frame: Frame, both: tuple[object, WriteReport]
    ) -> None:
        self.told.emit(f"{path.name} written: {_report_words(both[1])}")
        self.saved.emit(slide, path, frame)

    def _on_text(self, both: tuple[object, WriteReport]) -> None:
        text = str(both[0])
        data = QMimeData()
        data.setText(text)
        data.setData(MIME, text.encode())
        QApplication.clipboard().setMimeData(data)
        self.told.emit(f"Copied: {_report_words(both[1])} Paste it in QuPath.")


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
