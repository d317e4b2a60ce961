"""A plot of up to a million points that can be moved, pointed at and drawn around.

The points are painted by numpy into an image of the size of the widget: no graphics driver is
needed, and without a graphics card it is 9 to 200 times as fast as OpenGL
(`benchmarks/results/mapping.md`).
Beyond a slice of points the rest follows while the event loop is idle.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, QTimer, Signal
from qtpy.QtGui import (
    QColor,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPolygonF,
    QResizeEvent,
    QWheelEvent,
)
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_virchow._napari.raster import Raster

_REACH = 5  # px around the cursor in which a point is pointed at
_MARGIN = 0.06  # of the widget, around all points
_PAD = 4  # px; drags shorter than this are clicks
_CURSORS = {
    "Lasso": Qt.CursorShape.CrossCursor,
    "Box": Qt.CursorShape.CrossCursor,
    "Move": Qt.CursorShape.OpenHandCursor,
}


class ScatterMode(StrEnum):
    """What a drag with the left button does; the right and the middle one always move."""

    LASSO = "Lasso"
    BOX = "Box"
    MOVE = "Move"


class Scatter(QWidget):
    """Draws points and says what the mouse does with them. Rows are those of `show_points`."""

    hovered = Signal(int)  # a row, or -1
    activated = Signal(int)  # a row that was double-clicked
    selected = Signal(object, str)  # rows; "new", "more" or "less"
    key_pressed = Signal(str)  # "1" to "9"

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(240, 190)
        self.setAccessibleName("Map of embeddings")
        self.raster = Raster()
        self.mode = ScatterMode.LASSO
        self.sentence = ""
        self.mark = -1
        self._hover = -1
        self._path: list[QPointF] = []
        self._grip: tuple[QPointF, NDArray[np.float64]] | None = None
        self._center, self._scale = np.zeros(2), 1.0
        self._fitted = True  # as long as nobody moved or zoomed
        self._ink, self._paper = QColor("white"), QColor("black")
        self._image = QImage()
        self._more = QTimer(self)
        self._more.setSingleShot(True)
        self._more.timeout.connect(self._go_on)
        self.set_mode(self.mode)

    # ---- what is shown

    def show_points(self, xy: NDArray[np.float32]) -> None:
        """Show other points, (n, 2), and all of them; the colours and the selection stay if they
        are as many."""
        self.raster.set_points(xy)
        self.mark = self._hover = -1
        self.fit()

    def color_points(self, value: NDArray[np.uint16], palette: NDArray[np.uint8]) -> None:
        """Colour the points: `palette` (k, 3) at `value` (n,); 0 lies below all others."""
        self.raster.set_colors(value, palette)
        self._begin()

    def select(self, rows: NDArray[np.intp]) -> None:
        """Make some points stand out."""
        self.raster.set_selection(rows)
        self._compose()

    def set_mark(self, row: int) -> None:
        """Put a ring around a point; -1 for none."""
        if row != self.mark:
            self.mark = row
            self.update()

    def set_mode(self, mode: ScatterMode) -> None:
        """Choose what the left button does."""
        self.mode = mode
        self.setCursor(_CURSORS[mode])

    def set_colors(self, paper: QColor, ink: QColor) -> None:
        """Choose background and foreground."""
        self._paper, self._ink = paper, ink
        self.raster.paper = np.array([paper.red(), paper.green(), paper.blue()], np.float32)
        self.raster.ink = np.array([ink.red(), ink.green(), ink.blue()], np.float32)
        self._begin()

    def say(self, sentence: str) -> None:
        """Show a sentence in the place of points; "" for none."""
        self.sentence = sentence
        self.update()

    def fit(self) -> None:
        """Show all points."""
        xy = self.raster.xy
        if len(xy):
            low, high = xy.min(axis=0), xy.max(axis=0)
            room = np.array([self.width(), self.height()]) * (1 - 2 * _MARGIN)
            self._center = ((low + high) / 2).astype(float)
            self._scale = float((room / np.maximum(high - low, 1e-6)).min())
        self._fitted = True
        self._begin()

    def position(self, row: int) -> QPointF:
        """Return where a point is drawn."""
        x, y = (self.raster.xy[row] - self._center) * self._scale
        return QPointF(self.width() / 2 + float(x), self.height() / 2 - float(y))

    @property
    def complete(self) -> bool:
        """Whether all points have been drawn."""
        return self.raster.complete

    # ---- drawing

    def sizeHint(self) -> QSize:
        """Be about square in a dock."""
        return QSize(340, 240)

    def _begin(self) -> None:
        ratio = self.devicePixelRatioF()
        size = round(self.width() * ratio), round(self.height() * ratio)
        self.raster.begin(self._center, self._scale * ratio, size, ratio)
        self._go_on()

    def _go_on(self) -> None:
        self.raster.step()
        self._compose()
        if not self.raster.complete:
            self._more.start(0)

    def _compose(self) -> None:
        pixels = self.raster.pixels()
        high, wide = pixels.shape[:2]
        self._image = QImage(pixels.data, wide, high, 4 * wide, QImage.Format.Format_RGB32).copy()
        self._image.setDevicePixelRatio(self.devicePixelRatioF())
        self.update()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Draw in the new size."""
        super().resizeEvent(event)
        if self._fitted:
            self.fit()
        else:
            self._begin()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the points, and on them what is pointed at and the line that is drawn."""
        painter = QPainter(self)
        painter.drawImage(0, 0, self._image)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.sentence:
            self._write(painter)
        for row, width in ((self.mark, 3.0), (self._hover, 1.5)):
            if 0 <= row < len(self.raster.xy):
                for color, extra in ((self._paper, 2.0), (self._ink, 0.0)):
                    painter.setPen(QPen(color, width + extra))
                    painter.drawEllipse(self.position(row), 6, 6)
        if len(self._path) > 1:
            painter.setPen(QPen(self._ink, 1.2, Qt.PenStyle.DashLine))
            painter.setBrush(QColor(self._ink.red(), self._ink.green(), self._ink.blue(), 24))
            painter.drawPolygon(self._outline())

    def _write(self, painter: QPainter) -> None:
        painter.setPen(self._ink)
        room = QRectF(self.rect()).adjusted(24, 12, -24, -12)
        align = int(Qt.AlignmentFlag.AlignCenter) | int(Qt.TextFlag.TextWordWrap)
        painter.drawText(room, align, self.sentence)

    # ---- mouse and keys

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Begin to draw around points, or to move them."""
        if event.button() == Qt.MouseButton.LeftButton and self.mode is not ScatterMode.MOVE:
            self._path = [event.position()]
        else:
            self._grip = event.position(), self._center.copy()
            self.setCursor(Qt.CursorShape.ClosedHandCursor)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Go on drawing or moving; or point at what is under the cursor."""
        at = event.position()
        if self._path:
            self._path.append(at)
            self.update()
        elif self._grip is not None:
            start, center = self._grip
            moved = at - start
            self._fitted = False
            self._center = center - np.array([moved.x(), -moved.y()]) / self._scale
            self._begin()
        else:
            self._point_at(self.row_at(at))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Say what was drawn around."""
        path, self._path = self._path, self._path[:0]
        if self._grip is not None:
            self._grip = None
            self.setCursor(_CURSORS[self.mode])
        elif path:
            how = "new"
            if event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
                how = "more"
            elif event.modifiers() & Qt.KeyboardModifier.ControlModifier:
                how = "less"
            self.selected.emit(self._taken(path), how)
        self.update()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Say which point was double-clicked."""
        row = self.row_at(event.position())
        if row >= 0:
            self.activated.emit(row)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom where the cursor is."""
        factor = 1.2 ** (event.angleDelta().y() / 120)
        at = event.position()
        away = np.array([at.x() - self.width() / 2, self.height() / 2 - at.y()])
        self._center = self._center + away / self._scale * (1 - 1 / factor)
        self._scale *= factor
        self._fitted = False
        self._begin()
        event.accept()

    def leaveEvent(self, event: Any) -> None:
        """Point at nothing."""
        self._point_at(-1)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Fit with F, select nothing with Escape, and pass digits on."""
        if event.key() == Qt.Key.Key_F:
            self.fit()
        elif event.key() == Qt.Key.Key_Escape:
            self.selected.emit(np.zeros(0, np.intp), "new")
        elif event.text() and event.text() in "123456789":
            self.key_pressed.emit(event.text())
        else:
            super().keyPressEvent(event)

    def row_at(self, at: QPointF) -> int:
        """Return the point that is drawn nearest to a place, -1 if none is near."""
        ratio = self.devicePixelRatioF()
        return self.raster.row_at(at.x() * ratio, at.y() * ratio, round(_REACH * ratio))

    def _point_at(self, row: int) -> None:
        if row != self._hover:
            self._hover = row
            self.hovered.emit(row)
            self.update()

    def _outline(self) -> QPolygonF:
        if self.mode is ScatterMode.BOX:
            return QPolygonF(QRectF(self._path[0], self._path[-1]).normalized())
        return QPolygonF(self._path)

    def _taken(self, path: list[QPointF]) -> NDArray[np.intp]:
        """Return the rows inside what was drawn; the one under the cursor after a mere click."""
        self._path = path
        outline = self._outline()
        self._path = []
        box = outline.boundingRect()
        if max(box.width(), box.height()) < _PAD:
            row = self.row_at(path[0])
            return np.array([row] if row >= 0 else [], np.intp)
        ratio = self.devicePixelRatioF()
        wide, high = self.raster.size
        mask = QImage(wide, high, QImage.Format.Format_Grayscale8)
        mask.fill(0)
        painter = QPainter(mask)
        painter.scale(ratio, ratio)
        painter.setBrush(QColor("white"))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.drawPolygon(outline)
        painter.end()
        data = mask.constBits()
        data.setsize(mask.sizeInBytes())
        inside = np.frombuffer(data, np.uint8).reshape(high, mask.bytesPerLine())[:, :wide]
        return self.raster.rows_in(inside > 127)
