"""The examples of a search, pinned in a row with a cross each, and how to add more."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtCore import QPoint, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QFrame,
    QHBoxLayout,
    QMenu,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.gallery_item import NEGATIVE, POSITIVE, Mark, draw_mark
from napari_virchow._napari.label_tool import LabelMode
from napari_virchow._napari.parts import Note, button, heading
from napari_virchow._napari.thumbnails import Thumbnails, TileAt
from napari_virchow.search.facts import Example, Query

PIN_PX = 48
MOST_PINS = 60
_CROSS_PX = 15
MODES = {
    LabelMode.BRUSH: (
        "Tile",
        "Click a tile, or drag over several (key T); Shift-click always works",
    ),
    LabelMode.BOX: ("Box", "Drag a box: all tiles it touches become examples"),
    LabelMode.LASSO: ("Lasso", "Draw around tiles: all whose middle is inside become examples"),
}
EMPTY = "Nothing is searched for yet."


class Pin(QFrame):
    """One example: its picture, its sign, and a cross that takes it out.

    Parameters
    ----------
    example : Example
    positive : bool
    box : QueryBox
        Has the pictures.
    """

    def __init__(self, example: Example, positive: bool, box: QueryBox) -> None:
        super().__init__()
        self.example, self.positive, self._box = example, positive, box
        self.setFixedSize(QSize(PIN_PX + 6, PIN_PX + 6))
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        what = "Like" if positive else "Unlike"
        where = f" · row {example.tile.row}, column {example.tile.col}" if example.slide else ""
        self.setToolTip(f"{what} {example.name}{where}\nClick: go there. Cross: take it out")
        self.setAccessibleName(f"{what} {example.name}{where}")

    @property
    def cross(self) -> QRect:
        """Where the cross is."""
        return QRect(self.width() - _CROSS_PX - 1, 1, _CROSS_PX, _CROSS_PX)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw picture, sign and cross."""
        painter = QPainter(self)
        picture = QRect(3, 3, PIN_PX, PIN_PX)
        image = self._box.picture(self.example)
        if image is None:
            painter.fillRect(picture, QColor(128, 128, 128, 90))
        else:
            painter.drawImage(picture, image)
        color = QColor(POSITIVE if self.positive else NEGATIVE)
        painter.setPen(QPen(color, 3))
        painter.drawRect(picture)
        sign = QRect(0, PIN_PX - 15, 20, 20)
        draw_mark(painter, sign, Mark(1 if self.positive else -1))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(30, 30, 30, 210))
        painter.drawEllipse(self.cross)
        painter.setPen(QPen(QColor("white"), 1.6))
        middle, arm = self.cross.center(), 3
        painter.drawLine(middle - QPoint(arm, arm), middle + QPoint(arm + 1, arm + 1))
        painter.drawLine(middle + QPoint(-arm, arm + 1), middle + QPoint(arm + 1, -arm))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Take the example out, or go there."""
        if event.button() != Qt.MouseButton.LeftButton:
            return
        if self.cross.adjusted(-2, -2, 2, 2).contains(event.pos()):
            self._box.remove_wanted.emit(self.example)
        elif self.rect().contains(event.pos()) and self.example.slide:
            self._box.jump_wanted.emit(self.example)


class QueryBox(QWidget):
    """The part of the dock that says what is searched for; it changes nothing itself.

    Parameters
    ----------
    thumbnails : Thumbnails
        Where the pictures of examples come from.
    """

    remove_wanted = Signal(object)  # Example
    jump_wanted = Signal(object)  # Example
    mode_wanted = Signal(object)  # LabelMode

    def __init__(self, thumbnails: Thumbnails) -> None:
        super().__init__()
        self._thumbnails = thumbnails
        self._mpp = 0.0
        self.images: Mapping[str, QImage] = {}  # pictures of image files, by name
        self.pins: list[Pin] = []
        self.modes: dict[LabelMode, QPushButton] = {}
        self.unlike = QCheckBox("Not like this")
        self.unlike.setToolTip(
            "What is picked now is a counter-example (Ctrl+Shift-click, or key Shift+P on a tile)"
        )
        self.undo = _small("↶", "Undo the last change of the search (Ctrl+Z)")
        self.redo = _small("↷", "Do it again (Ctrl+Shift+Z)")
        self.clear = _small("Clear", "Take all examples out")
        self.more = _small("More", "An image file, a drawn shape, or a saved search")
        self.menu = QMenu(self)
        self.more.setMenu(self.menu)
        self.none = Note(EMPTY)
        self._row = QHBoxLayout()
        self._build()
        thumbnails.ready.connect(self.redraw)
        self.show_query(Query(), 0.0)

    def _build(self) -> None:
        head, picks = QHBoxLayout(), QHBoxLayout()
        head.addWidget(heading("Find tiles like"), 1)
        for widget in (self.undo, self.redo, self.clear, self.more):
            head.addWidget(widget)
        for mode, (word, tip) in MODES.items():
            one = self.modes[mode] = _small(word, tip)
            one.setCheckable(True)
            one.clicked.connect(lambda on, mode=mode: self._on_mode(mode, on))
            picks.addWidget(one)
        picks.addWidget(self.unlike)
        picks.addStretch()
        inner = QWidget()
        inner.setLayout(self._row)
        self._row.setSizeConstraint(QHBoxLayout.SizeConstraint.SetMinAndMaxSize)
        self.scroll = QScrollArea()
        self.scroll.setWidget(inner)
        self.scroll.setFrameShape(QFrame.Shape.NoFrame)
        self.scroll.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        for row in (head, picks, self._row):
            row.setContentsMargins(0, 0, 0, 0)
            row.setSpacing(4)
        column.addLayout(head)
        column.addLayout(picks)
        column.addWidget(self.none)
        column.addWidget(self.scroll)

    def show_query(self, query: Query, mpp: float) -> None:
        """Pin these examples; `mpp` is the magnification of those that do not say theirs."""
        wanted = [(e, True) for e in query.positives] + [(e, False) for e in query.negatives]
        shown = wanted[:MOST_PINS]
        self._mpp = mpp
        if [(pin.example, pin.positive) for pin in self.pins] != shown:
            for pin in self.pins:
                self._row.removeWidget(pin)
                pin.hide()
                pin.deleteLater()
            self.pins = [Pin(example, positive, self) for example, positive in shown]
            for pin in self.pins:
                self._row.addWidget(pin)
        left = len(wanted) - len(shown)
        self.none.say(EMPTY if not wanted else f"… and {left} more tiles." if left else "")
        self.scroll.setVisible(bool(wanted))
        self._fit()
        self.clear.setEnabled(bool(wanted))

    def show_history(self, *, can_undo: bool, can_redo: bool) -> None:
        """Say whether there is a way back and forth."""
        self.undo.setEnabled(can_undo)
        self.redo.setEnabled(can_redo)

    def show_mode(self, mode: LabelMode) -> None:
        """Say what the left button does on the slide."""
        for one, widget in self.modes.items():
            widget.setChecked(one is mode)

    def picture(self, example: Example) -> QImage | None:
        """Return the picture of an example, or None until it has come."""
        if not example.slide:
            return self.images.get(example.name)
        at = TileAt(example.tile, example.mpp or self._mpp)
        if at.mpp <= 0:
            return None
        return self._thumbnails.get(example.slide, at, PIN_PX)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Make room for the scroll bar where one is needed."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        scrolls = len(self.pins) * (PIN_PX + 10) > self.width()
        bar = self.scroll.horizontalScrollBar().sizeHint().height() if scrolls else 0
        self.scroll.setFixedHeight(PIN_PX + 8 + bar)

    def _on_mode(self, mode: LabelMode, on: bool) -> None:
        self.mode_wanted.emit(mode if on else LabelMode.OFF)

    def redraw(self, _: object = None) -> None:
        """Draw the pins again: a picture has come."""
        for pin in self.pins:
            pin.update()


def _small(text: str, tooltip: str) -> QPushButton:
    made = button(text, tooltip)
    made.setAccessibleName(tooltip)
    return made
