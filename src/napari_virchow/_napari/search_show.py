"""What of an answer is drawn on the slide, from which score on, and in which order it is listed."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.gallery_item import SIZES
from napari_virchow._napari.parts import button
from napari_virchow.search.facts import Answer, Order

STEPS = 1000
BOXES = {
    "heat": ("Heat map", "Colour every embedded tile by its similarity, purple to yellow"),
    "hits": ("Hits", "Squares: yellow around the best hits, green and orange around examples"),
    "mask": ("Mask", "Fill all tiles that score at least the threshold"),
}
ORDERS: dict[Order, str] = {
    "score": "Best first",
    "slide": "By slide",
    "diversity": "Most varied first",
}


class ShowBox(QWidget):
    """Layers, threshold, order and size of the gallery; it changes nothing itself."""

    visible_wanted = Signal(str, bool)
    threshold_changed = Signal(float)
    order_changed = Signal(object)
    size_changed = Signal(int)
    back_wanted = Signal()
    forward_wanted = Signal()
    choose_above_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._answer: Answer | None = None
        self._range = 0.0, 1.0
        self._touched = False
        self.boxes: dict[str, QCheckBox] = {}
        layers, cut, listing = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        for kind, (words, tip) in BOXES.items():
            box = self.boxes[kind] = QCheckBox(words)
            box.setToolTip(tip)
            box.setChecked(kind != "mask")
            box.toggled.connect(lambda on, kind=kind: self.visible_wanted.emit(kind, on))
            layers.addWidget(box)
        layers.addStretch()
        self.slider = _slider(
            STEPS, "Threshold: tiles that score at least this are counted and masked"
        )
        self.count = QLabel()
        self.above = button("Choose", "Choose all hits in the gallery that reach the threshold")
        for widget in (QLabel("At least"), self.slider, self.count, self.above):
            cut.addWidget(widget)
        cut.setStretch(1, 1)
        self.back = _tool("◀", "Back to where I was before the jump (Alt+Left)")
        self.forward = _tool("▶", "Forward again (Alt+Right)")
        self.order = QComboBox()
        self.order.setToolTip("Order of the gallery")
        self.order.setAccessibleName("Order of the gallery")
        for order, words in ORDERS.items():
            self.order.addItem(words, order)
        self.size = _slider(len(SIZES) - 1, "Size of the thumbnails")
        self.size.setValue(SIZES.index(88))
        for widget in (self.back, self.forward, self.order, self.size):
            listing.addWidget(widget)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        for row in (layers, cut, listing):
            row.setContentsMargins(0, 0, 0, 0)
            row.setSpacing(6)
            column.addLayout(row)
        self._connect()
        self.show_visits(back=False, forward=False)
        self.show_answer(None)

    def _connect(self) -> None:
        self.slider.valueChanged.connect(self._on_slider)
        self.slider.sliderMoved.connect(self._on_touched)
        self.slider.actionTriggered.connect(self._on_touched)
        self.order.currentIndexChanged.connect(
            lambda _: self.order_changed.emit(self.order.currentData())
        )
        self.size.valueChanged.connect(lambda n: self.size_changed.emit(SIZES[n]))
        self.back.clicked.connect(self.back_wanted)
        self.forward.clicked.connect(self.forward_wanted)
        self.above.clicked.connect(self.choose_above_wanted)

    @property
    def threshold(self) -> float:
        """The score from which on tiles count."""
        low, high = self._range
        return low + (high - low) * self.slider.value() / STEPS

    def show_answer(self, answer: Answer | None) -> None:
        """Take in the scores of an answer; a threshold that the user set stays."""
        before = self.threshold
        self._answer = answer
        hits = None if answer is None else answer.hits
        if answer is not None and hits is not None and len(hits):
            scores = answer.heat.scores if answer.heat is not None else hits.scores
            self._range = float(scores.min()), float(max(scores.max(), hits.scores.max()))
            wanted = before if self._touched else float(hits.scores.min())
            low, high = self._range
            at = 0.0 if high <= low else (wanted - low) / (high - low)
            self.slider.blockSignals(True)
            self.slider.setValue(round(STEPS * min(1.0, max(0.0, at))))
            self.slider.blockSignals(False)
        for widget in (self.slider, self.above):
            widget.setEnabled(hits is not None and len(hits) > 0)
        self._say()

    def show_visits(self, *, back: bool, forward: bool) -> None:
        """Say whether there is a way back and forth."""
        self.back.setEnabled(back)
        self.forward.setEnabled(forward)

    def set_box(self, kind: str, on: bool) -> None:
        """Tick or untick a box, without a signal."""
        self.boxes[kind].blockSignals(True)
        self.boxes[kind].setChecked(on)
        self.boxes[kind].blockSignals(False)

    def _say(self) -> None:
        answer = self._answer
        if answer is None or not len(answer.hits):
            self.count.setText("")
            return
        cut = self.threshold
        if answer.heat is not None:
            n, where = answer.heat.above(cut), "tiles on this slide"
        else:
            n, where = answer.hits.above(cut), "hits"
        self.count.setText(f"{cut:.3f}: {n:,}")
        self.count.setToolTip(
            f"{n:,} {where} score at least {cut:.3f}; {answer.hits.above(cut):,} of the "
            f"{len(answer.hits):,} hits listed do"
        )

    def _on_touched(self, *_: object) -> None:
        self._touched = True

    def _on_slider(self, *_: object) -> None:
        self._touched = True
        self._say()
        self.threshold_changed.emit(self.threshold)


def _slider(most: int, tip: str) -> QSlider:
    made = QSlider(Qt.Orientation.Horizontal)
    made.setRange(0, most)
    made.setToolTip(tip)
    made.setAccessibleName(tip)
    return made


def _tool(text: str, tip: str) -> QToolButton:
    made = QToolButton()
    made.setText(text)
    made.setToolTip(tip)
    made.setAccessibleName(tip)
    return made
