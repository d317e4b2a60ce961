"""The classifier on this view, this slide, or slides of choice; what is missing is embedded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.link import Links
from napari_virchow._napari.open_slide import FILTER
from napari_virchow._napari.parts import Bar, Note, button, heading
from napari_virchow._napari.tasks import Tasks
from napari_virchow.classification import Applied, ApplyProgress, Classification
from napari_virchow.classification.facts import ApplyOptions
from napari_virchow.classify.models import ModelError
from napari_virchow.layout import StoreError
from napari_virchow.session import Session
from napari_virchow.slide import Slide, SlideError
from napari_virchow.tiles import Rect

EMPTY = "Label tiles of two classes first: then the classifier can be applied here."
_IDENTITY = Qt.ItemDataRole.UserRole
_ROWS = 5


class Done(NamedTuple):
    """What came of each slide: an answer, or why there is none."""

    applied: list[Applied]
    problems: list[str]


class ApplyBox(QWidget):
    """Applies the classifier in a worker, with progress and a way to stop.

    Parameters
    ----------
    session : Session
        Its open slides are listed.
    """

    failed = Signal(object)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._live: Classification | None = None
        self._slide: Slide | None = None
        self._mpp: float | None = None
        self._cancelled = threading.Event()
        self._tasks = Tasks(self)
        self.view_of: Callable[[], Rect | None] = lambda: None  # the dock says what is looked at
        self.view = button("This view", "Embed what is missing of what you see, classify it")
        self.slide = button("This slide", "Embed what is missing of this slide, classify all of it")
        self.chosen = button("Checked slides", "The same for every slide that is checked below")
        self.list = QListWidget()
        self.list.setToolTip("Slides that are open here; check those to apply the classifier to")
        self.list.setAccessibleName("Slides to apply the classifier to")
        self.add = button("Add slides…", "Open more slide files, without showing them")
        self.tables = QCheckBox("Write a table per slide…")
        self.tables.setToolTip("Every tile's prediction as a CSV file, in a folder of your choice")
        self.bar = Bar()
        self.told = Note(EMPTY)
        self.cancel = button("Cancel", "Let the running batch finish and stop; it is kept")
        self._lay_out()
        self.view.clicked.connect(self._on_view)
        self.slide.clicked.connect(lambda: self.apply([self._slide] if self._slide else []))
        self.chosen.clicked.connect(lambda: self.apply(self.checked()))
        self.add.clicked.connect(self._on_add)
        self.list.itemChanged.connect(lambda _: self._enable())
        self.cancel.clicked.connect(self._on_cancel)
        self._links = Links(
            self,
            (session.slide_opened, self._on_slides),
            (session.slide_closed, self._on_slides),
        )
        self._running = False
        self._on_slides()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(heading("Apply the classifier to"))
        column.addLayout(_row(self.view, self.slide, self.chosen))
        column.addWidget(self.list)
        column.addLayout(_row(self.add, self.tables))
        column.addLayout(_row(self.bar, self.cancel))
        column.addWidget(self.told)
        # or the page would spread its parts over the height there is
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def bind(self, live: Classification) -> None:
        """Apply the classifier of this classification."""
        self._live = live

    def look_at(self, slide: Slide | None, mpp: float | None) -> None:
        """Say which slide is looked at, at which tile size."""
        self._slide, self._mpp = slide, mpp
        self._enable()

    def show_ready(self) -> None:
        """Take in whether there is a classifier now."""
        if self.told.text() == EMPTY and self._ready():
            self.told.say("")
        self._enable()

    def checked(self) -> list[Slide]:
        """The slides that are checked, in the order of the list."""
        slides = self._session.slides
        items = [self.list.item(n) for n in range(self.list.count())]
        on = [i.data(_IDENTITY) for i in items if i.checkState() == Qt.CheckState.Checked]
        return [slides[identity] for identity in on if identity in slides]

    def apply(self, slides: Sequence[Slide], view: Rect | None = None) -> None:
        """Embed what is missing of slides and classify them, in a worker."""
        live = self._live
        if live is None or not self._ready() or not slides or self._running:
            return
        out = None
        if self.tables.isChecked():
            folder = QFileDialog.getExistingDirectory(self, "Folder for the tables")
            if not folder:
                return
            out = Path(folder)
        self._cancelled.clear()
        self._running = True
        self._enable()
        self.bar.setRange(0, 0)
        self.told.say("Beginning…")
        self._tasks.run(
            apply_each,
            self._session,
            live,
            list(slides),
            out=out,
            how=ApplyOptions(unknown_above=live.unknown_above, view=view),
            on_progress=self._tasks.teller(self._on_progress),
            cancelled=self._cancelled.is_set,
            done=self._on_applied,
            failed=self._on_failed,
        )

    def _ready(self) -> bool:
        classifier = None if self._live is None else self._live.classifier
        return classifier is not None and classifier.kind == "classes"

    def _enable(self) -> None:
        free = self._ready() and not self._running and self._mpp is not None
        self.view.setEnabled(free and self._slide is not None)
        self.slide.setEnabled(free and self._slide is not None)
        self.chosen.setEnabled(free and bool(self.checked()))
        self.bar.setVisible(self._running)
        self.cancel.setVisible(self._running)
        self.cancel.setEnabled(not self._cancelled.is_set())

    def _on_slides(self, _: object = None) -> None:
        before = {slide.identity for slide in self.checked()}
        self.list.blockSignals(True)
        self.list.clear()
        for identity, slide in self._session.slides.items():
            item = QListWidgetItem(slide.name)
            item.setToolTip(str(slide.path))
            item.setData(_IDENTITY, identity)
            on = Qt.CheckState.Checked if identity in before else Qt.CheckState.Unchecked
            item.setCheckState(on)
            self.list.addItem(item)
        self.list.blockSignals(False)
        row = max(18, self.list.sizeHintForRow(0))
        self.list.setFixedHeight(row * min(_ROWS, max(1, self.list.count())) + 8)
        self._enable()

    def _on_add(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Add slides", "", FILTER)
        for name in names:
            self._tasks.run(
                self._session.open_slide, name, done=self._on_added, failed=self.failed.emit
            )

    def _on_added(self, slide: Slide) -> None:
        self._on_slides()
        for n in range(self.list.count()):
            if self.list.item(n).data(_IDENTITY) == slide.identity:
                self.list.item(n).setCheckState(Qt.CheckState.Checked)

    def _on_view(self) -> None:
        view = self.view_of()
        if self._slide is not None and view is not None:
            self.apply([self._slide], view)

    def _on_cancel(self) -> None:
        self._cancelled.set()
        self.told.say("Stopping after the running batch…")
        self._enable()

    def _on_progress(self, progress: Any) -> None:
        told: ApplyProgress = progress
        if self._running and not self._cancelled.is_set():
            self.bar.setRange(0, max(1, told.total))
            self.bar.setValue(told.done)
            self.told.say(f"{told.text} {told.slide}: {told.done:,} of {told.total:,} tiles")

    def _on_applied(self, done: Done) -> None:
        names = {} if self._live is None else {c.id: c.name for c in self._live.labels.classes}
        lines = [applied_words(one, names) for one in done.applied] + done.problems
        if self._cancelled.is_set():
            lines.append("Cancelled; what was embedded is kept.")
        self._end("\n".join(lines))

    def _on_failed(self, error: Exception) -> None:
        self._end("")
        self.failed.emit(error)

    def _end(self, text: str) -> None:
        self._running = False
        self._cancelled.clear()
        self.told.say(text)
        self._enable()


def apply_each(
    session: Session,
    live: Classification,
    slides: Sequence[Slide],
    *,
    how: ApplyOptions,
    out: Path | None,
    on_progress: Any,
    cancelled: Callable[[], bool],
) -> Done:
    """Apply the classifier of now to slides; one that cannot be done does not stop the others.

    Raises
    ------
    ValueError
        If there is no classifier.
    OSError
        If a table cannot be written.
    """
    classifier = live.classifier
    if classifier is None:
        raise ValueError(EMPTY)
    applied: list[Applied] = []
    problems: list[str] = []
    told = {"on_progress": on_progress, "cancelled": cancelled}
    for slide in slides:
        if cancelled():
            break
        try:
            applied += session.apply_classifier(classifier, [slide], how=how, out=out, **told)
        except (SlideError, StoreError, ModelError) as error:
            problems.append(f"{slide.name}: {error}")
    return Done(applied, problems)


def applied_words(one: Applied, names: dict[int, str]) -> str:
    """Say what came of a slide: how many tiles, and the share of each class."""
    shares = [
        f"{names.get(c, 'unknown')} {100 * n / max(1, one.n_tiles):.0f} %"
        for c, n in sorted(one.counts.items(), key=lambda item: -item[1])
    ]
    missing = f"; {one.missing:,} could not be embedded" if one.missing else ""
    return f"{one.slide}: {one.n_tiles:,} tiles, {', '.join(shares)}{missing}"


def _row(*parts: QWidget) -> QHBoxLayout:
    line = QHBoxLayout()
    line.setContentsMargins(0, 0, 0, 0)
    line.setSpacing(4)
    for part in parts:
        line.addWidget(part)
    line.addStretch()
    return line
