"""How good the classifier is, and which labels are worth a second look."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_virchow._napari.ask_box import AskBox
from napari_virchow._napari.confusion_table import ConfusionTable
from napari_virchow._napari.curve_plot import CurvePlot
from napari_virchow._napari.frames import cell_frames, suspect_frames
from napari_virchow._napari.parts import Note, heading
from napari_virchow._napari.thumbnails import Thumbnails
from napari_virchow.classification import Assessment
from napari_virchow.classification.facts import Place
from napari_virchow.classify.metrics import Evaluation
from napari_virchow.labels.edits import LabelClass

START = "Label tiles of two classes: then this says how good the classifier is."
_REVIEW = (
    ("Next (R)", "Go to the next label that is likely a mistake (key R)"),
    ("Agree (A)", "Relabel the tile with the class that the classifier gives it (key A)"),
    ("Keep (S)", "The label is right: do not ask about it again (key S)"),
    ("Erase", "Take the label away (key Delete)"),
)


class JudgeBox(QWidget):
    """Shows an assessment, and asks about labels: the suspicious ones, or those of a cell.

    Parameters
    ----------
    thumbnails : Thumbnails
    """

    def __init__(self, thumbnails: Thumbnails) -> None:
        super().__init__()
        self._found: Assessment | None = None
        self._classes: Sequence[LabelClass] = ()
        self._passed: Collection[Place] = ()
        self._cell: tuple[int, int] | None = None
        self.figures = Note(START)
        self.matrix = ConfusionTable()
        self.curve = CurvePlot()
        self.review = AskBox(thumbnails, "Labels to look at again", _REVIEW)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        parts = (heading("How good is it?"), self.figures, self.matrix, self.review, self.curve)
        for widget in parts:
            column.addWidget(widget)
        self.matrix.chosen.connect(self.show_cell)
        self.review.next.clicked.disconnect()
        self.review.next.clicked.connect(self.next_suspect)
        self._show_review()

    def show_assessment(
        self,
        found: Assessment | None,
        classes: Sequence[LabelClass],
        passed: Collection[Place] = (),
    ) -> None:
        """Show what is known now; None where there is nothing to tell.

        Parameters
        ----------
        passed : collection of (slide, grid name, tile)
            Labels not to be asked about: they were looked at.
        """
        self._found, self._classes, self._passed = found, classes, passed
        one = None if found is None else found.evaluation
        names = {c.id: c.name for c in classes}
        self.figures.say(START if one is None else figures_text(one, names))
        self.matrix.show_evaluation(one, names)
        self.curve.show_points(() if found is None else found.curve)
        if one is None or self._cell is None or not set(self._cell) <= set(one.classes.tolist()):
            self._cell = None
        self._show_review()

    def show_cell(self, true: int, predicted: int) -> None:
        """Ask about the labels of one class that are predicted as another, or as the same."""
        self._cell = true, predicted
        self.review.stop()
        self._show_review()
        if self.review.strip.frames:
            self.review.ask(0)

    def next_suspect(self) -> None:
        """Ask about the next label that is likely a mistake."""
        if self._cell is not None:
            self._cell = None
            self.review.stop()
            self._show_review()
        self.review.go_next()

    def _show_review(self) -> None:
        found, box = self._found, self.review
        suspects = [] if found is None else suspect_frames(found, self._classes, self._passed)
        if found is None or self._cell is None:
            box.title.setText("Labels to look at again")
            box.said.say(_suspects_text(found, len(suspects)))
            box.offer(suspects)
        else:
            frames = cell_frames(found, self._classes, *self._cell)
            names = {c.id: escape(c.name) for c in self._classes}
            said, predicted = (names.get(c, "?") for c in self._cell)
            box.title.setText(f"You said {said}, predicted {predicted}")
            n = len(frames)
            box.said.say(
                f"{n} tile{'' if n == 1 else 's'} in this cell." if n else "No tiles here."
            )
            box.offer(frames)
        box.next.setEnabled(bool(suspects))


def figures_text(one: Evaluation, names: dict[int, str]) -> str:
    """Say in rich text how good the classifier is, or that it cannot be told."""
    if one.reason is not None or one.balanced_accuracy is None or one.interval is None:
        return f"<b>Too few labels to tell.</b> {escape(one.reason or '')}".strip()
    low, high = one.interval
    apart = "slides" if one.plan.by == "slide" else "parts of the slide"
    lines = [
        f"<b>Balanced accuracy {one.balanced_accuracy:.2f}</b> "
        f"(95 %: {low:.2f} to {high:.2f}), tested on {apart} it was not trained on.",
        "F1: " + ", ".join(f"{escape(names.get(c, str(c)))} {f:.2f}" for c, f in one.f1.items()),
    ]
    if one.calibration_error is not None:
        lines.append(f"Probabilities are off by {100 * one.calibration_error:.0f} % on average.")
    return "<br>".join(lines)


def _suspects_text(found: Assessment | None, n: int) -> str:
    if found is None:
        return "Labels that look like mistakes are listed here."
    if found.evaluation.reason is not None:
        return "With more labels, those that look like mistakes are listed here."
    return f"{n} label{'s' if n > 1 else ''} may be mistaken." if n else "No label looks mistaken."
