"""How good the classifier is, which labels look wrong, and which tile to label next."""

from __future__ import annotations

from html import escape

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.parts import Note, button, heading
from napari_virchow.classification import Assessment, Queued
from napari_virchow.labels.edits import LabelRow
from napari_virchow.tiles import Tile

_SHORT = 4  # letters over a column of the confusion matrix; all of them in its tooltip
START = "Label tiles of two classes: then this says how good the classifier is."


class JudgeBox(QWidget):
    """Shows an assessment; asks for tiles to be shown and labelled."""

    jump_wanted = Signal(str, object)  # slide identity, Tile
    accepted = Signal(object, int)  # Tile, class id
    rows_chosen = Signal(object)  # tuple of LabelRow

    def __init__(self) -> None:
        super().__init__()
        self._found: Assessment | None = None
        self._names: dict[int, str] = {}
        self._skipped: set[Tile] = set()
        self._suspect = -1
        self.figures = Note(START)
        self.curve = Note()
        self.matrix = QTableWidget()
        self.matrix.setToolTip(
            "Rows: what you said. Columns: what a classifier that saw nothing near the tile says. "
            "Click a cell to see its tiles"
        )
        self.matrix.setAccessibleName("Confusion matrix")
        self.matrix.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.matrix.hide()
        self.suspects = Note(alert=True)
        self.review = button("Review labels", "Go to the next label that is likely a mistake")
        self.review.hide()
        self.stop = Note()
        self.reason = Note()
        self.next = button("Next tile (N)", "Go to the tile whose label would teach most")
        self.accept = button("Accept (A)", "Label that tile with the class predicted for it")
        self.skip = button("Skip (S)", "Leave that tile and go to the next one")
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        for one in (self.next, self.accept, self.skip):
            one.setEnabled(False)
            row.addWidget(one)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(heading("Next tile"))
        for part in (self.stop, self.reason):
            column.addWidget(part)
        column.addLayout(row)
        column.addWidget(heading("How good is it?"))
        for widget in (self.figures, self.matrix, self.curve, self.suspects, self.review):
            column.addWidget(widget)
        self.current: Queued | None = None
        self.next.clicked.connect(self.go_next)
        self.accept.clicked.connect(self.accept_current)
        self.skip.clicked.connect(self.skip_current)
        self.review.clicked.connect(self._on_review)
        self.matrix.cellClicked.connect(self._on_cell)
        self.matrix.cellActivated.connect(self._on_cell)

    def show_assessment(self, found: Assessment | None, names: dict[int, str]) -> None:
        """Show what is known now; None where there is nothing to tell."""
        self._found, self._names, self._suspect = found, names, -1
        self.next.setEnabled(found is not None and bool(self._left()))
        if found is None:
            self.current = None
            self.figures.say(START)
            for note in (self.stop, self.reason, self.curve, self.suspects):
                note.say("")
            self.matrix.hide()
            self.review.hide()
        else:
            self.stop.say(found.stop.text)
            self._show_figures(found)
            n = len(found.suspects)
            self.review.setVisible(n > 0)
            self.suspects.say("" if n == 0 else f"{n} label{'s' if n > 1 else ''} may be mistaken.")
        self._show_current()

    def go_next(self) -> None:
        """Go to the tile that would teach most."""
        left = self._left()
        if left:
            self.current = left[0]
            self.jump_wanted.emit(left[0].slide, left[0].tile)
        self._show_current()

    def accept_current(self) -> None:
        """Label the current tile as predicted."""
        if self.current is not None and self.current.predicted:
            queued = self.current
            self._skipped.add(queued.tile)
            self.accepted.emit(queued.tile, queued.predicted)
            self.go_next()

    def skip_current(self) -> None:
        """Leave the current tile."""
        if self.current is not None:
            self._skipped.add(self.current.tile)
            self.current = None
            self.go_next()

    def _left(self) -> list[Queued]:
        return (
            []
            if self._found is None
            else [q for q in self._found.queue if q.tile not in self._skipped]
        )

    def _show_current(self) -> None:
        queued = self.current
        self.accept.setEnabled(queued is not None and bool(queued.predicted))
        self.skip.setEnabled(queued is not None)
        if queued is None:
            self.reason.say("")
            return
        said = self._names.get(queued.predicted, "no class")
        self.reason.say(f"Predicted: {said}. {queued.reason}")

    def _show_figures(self, found: Assessment) -> None:
        one = found.evaluation
        if one.reason is not None or one.balanced_accuracy is None or one.interval is None:
            self.figures.say(f"Too few labels to tell. {one.reason or ''}".strip())
            self.matrix.hide()
            self.curve.say("")
            return
        low, high = one.interval
        apart = "slides" if one.plan.by == "slide" else "parts of the slide"
        lines = [
            f"<b>Balanced accuracy {one.balanced_accuracy:.2f}</b> "
            f"(95 %: {low:.2f} to {high:.2f}), tested on {apart} it was not trained on.",
            "F1: "
            + ", ".join(f"{escape(self._names.get(c, str(c)))} {f:.2f}" for c, f in one.f1.items()),
        ]
        if one.calibration_error is not None:
            lines.append(
                f"Probabilities are off by {100 * one.calibration_error:.0f} % on average."
            )
        self.figures.say("<br>".join(lines))
        points = [f"{p.per_class}: {p.balanced_accuracy:.2f}" for p in found.curve]
        self.curve.say("By labels per class: " + ", ".join(points) if points else "")
        self._fill_matrix(found)

    def _fill_matrix(self, found: Assessment) -> None:
        one = found.evaluation
        ids = [int(c) for c in one.classes]
        names = [self._names.get(c, str(c)) for c in ids]
        self.matrix.setRowCount(len(ids))
        self.matrix.setColumnCount(len(ids))
        self.matrix.setHorizontalHeaderLabels([name[:_SHORT] for name in names])
        for col, name in enumerate(names):
            self.matrix.horizontalHeaderItem(col).setToolTip(f"Predicted: {name}")
        self.matrix.setVerticalHeaderLabels(names)
        for row in range(len(ids)):
            for col in range(len(ids)):
                item = QTableWidgetItem(str(int(one.confusion[row, col])))
                item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
                font = item.font()
                font.setBold(row == col)
                item.setFont(font)
                self.matrix.setItem(row, col, item)
        self.matrix.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.matrix.verticalHeader().setDefaultSectionSize(24)
        self.matrix.verticalHeader().setMaximumWidth(90)
        self.matrix.setFixedHeight(
            24 * len(ids) + self.matrix.horizontalHeader().sizeHint().height() + 4
        )
        self.matrix.show()

    def _on_cell(self, row: int, col: int) -> None:
        if self._found is None:
            return
        one = self._found.evaluation
        rows = one.cell(int(one.classes[row]), int(one.classes[col]))
        self.rows_chosen.emit(tuple(self._found.rows[n] for n in rows))

    def _on_review(self) -> None:
        if self._found is None or not self._found.suspects:
            return
        self._suspect = (self._suspect + 1) % len(self._found.suspects)
        suspect = self._found.suspects[self._suspect]
        row: LabelRow = self._found.rows[suspect.row]
        n = len(self._found.suspects)
        self.suspects.say(f"{self._suspect + 1} of {n}. {suspect.reason}")
        self.jump_wanted.emit(row.slide, row.tile)
