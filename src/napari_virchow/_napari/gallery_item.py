"""How one tile of a gallery is drawn, and its surroundings in a window of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from qtpy.QtCore import QModelIndex, QPoint, QRect, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPalette, QPen, QPixmap
from qtpy.QtWidgets import (
    QFrame,
    QLabel,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.thumbnails import Thumbnails

if TYPE_CHECKING:
    from napari_virchow._napari.gallery import GalleryModel

SIZES = (64, 88, 112, 144, 176, 224)  # px; few, so that pictures are read once each
_MARGIN = 4
_GRADES_UM = (5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
POSITIVE, NEGATIVE = "#009e73", "#d55e00"  # Okabe and Ito's green and vermilion


class Mark(NamedTuple):
    """What is known of a tile: +1 for an example, -1 for a counter-example; its label."""

    sign: int = 0
    label: str = ""
    color: str = ""


class GalleryDelegate(QStyledItemDelegate):
    """Draws a thumbnail with its scale, and below it score and slide.

    Parameters
    ----------
    model : GalleryModel
    thumbnails : Thumbnails
    view : QWidget
        Whose font is used.
    """

    def __init__(self, model: GalleryModel, thumbnails: Thumbnails, view: QWidget) -> None:
        super().__init__(view)
        self._model, self._thumbnails, self._view = model, thumbnails, view
        self.size_px = 88

    def cell(self) -> QSize:
        """Return the size of a thumbnail with its line of text."""
        line = self._view.fontMetrics().height()
        return QSize(self.size_px + 2 * _MARGIN, self.size_px + line + 2 * _MARGIN + 2)

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        """Return the same size for all."""
        return self.cell()

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Draw a tile."""
        item, mark = self._model.item(index.row()), self._model.mark(index.row())
        box, palette = QRect(option.rect), option.palette
        picture = QRect(box.left() + _MARGIN, box.top() + _MARGIN, self.size_px, self.size_px)
        selected = bool(option.state & QStyle.StateFlag.State_Selected)
        painter.save()
        if selected:
            painter.fillRect(
                box.adjusted(1, 1, -1, -1), palette.brush(QPalette.ColorRole.Highlight)
            )
        image = self._thumbnails.get(item.slide, item.rect, self.size_px)
        if image is None:
            painter.fillRect(picture, QColor(128, 128, 128, 60))
        else:
            painter.drawImage(picture, image)
            if self._thumbnails.reason(item.slide, item.rect, self.size_px) is None:
                draw_scale(painter, picture, self._model.tile_um)
        if mark.sign or mark.color:
            draw_mark(painter, picture, mark)
        if selected:
            painter.setPen(QPen(palette.color(QPalette.ColorRole.Text), 2))
            painter.drawRect(picture.adjusted(-2, -2, 1, 1))
        elif option.state & QStyle.StateFlag.State_HasFocus:
            painter.setPen(QPen(palette.color(QPalette.ColorRole.Text), 1, Qt.PenStyle.DotLine))
            painter.drawRect(box.adjusted(1, 1, -2, -2))
        role = QPalette.ColorRole.HighlightedText if selected else QPalette.ColorRole.Text
        painter.setPen(palette.color(role))
        text = QRect(
            picture.left(), picture.bottom() + 2, self.size_px, box.bottom() - picture.bottom()
        )
        words = f"{item.score:.2f} {item.slide_name}"
        metrics = painter.fontMetrics()
        elided = metrics.elidedText(words, Qt.TextElideMode.ElideRight, self.size_px)
        painter.drawText(text, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop, elided)
        painter.restore()


def draw_scale(painter: QPainter, picture: QRect, tile_um: float) -> None:
    """Draw a bar of a round length in µm into a picture of a tile."""
    if tile_um <= 0:
        return
    fitting = [um for um in _GRADES_UM if um <= tile_um / 2] or [_GRADES_UM[0]]
    um = fitting[-1]
    length = round(picture.width() * um / tile_um)
    left, bottom = picture.left() + 4, picture.bottom() - 4
    painter.fillRect(QRect(left - 1, bottom - 3, length + 2, 4), QColor(255, 255, 255, 200))
    painter.fillRect(QRect(left, bottom - 2, length, 2), QColor("black"))
    if picture.width() >= 80:
        font = painter.font()
        small = painter.font()
        small.setPixelSize(9)
        painter.setFont(small)
        words = f"{um:g} µm"
        wide = painter.fontMetrics().horizontalAdvance(words) + 4
        place = QRect(left - 1, bottom - 15, wide, 11)
        painter.fillRect(place, QColor(255, 255, 255, 170))
        painter.setPen(QColor("black"))
        painter.drawText(place, Qt.AlignmentFlag.AlignCenter, words)
        painter.setFont(font)


def draw_mark(painter: QPainter, picture: QRect, mark: Mark) -> None:
    """Draw a class as a frame, and an example as a disc with its sign."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    if mark.color:
        painter.setPen(QPen(QColor(mark.color), 4))
        painter.drawRect(QRectF(picture).adjusted(2, 2, -2, -2))
    if mark.sign:
        disc = QRect(picture.right() - 17, picture.top() + 3, 15, 15)
        painter.setPen(QPen(QColor("white"), 1.5))
        painter.setBrush(QColor(POSITIVE if mark.sign > 0 else NEGATIVE))
        painter.drawEllipse(disc)
        center = disc.center()
        painter.drawLine(center - QPoint(3, 0), center + QPoint(4, 0))
        if mark.sign > 0:
            painter.drawLine(center - QPoint(0, 3), center + QPoint(0, 4))
        painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)


class ContextWindow(QFrame):
    """A picture beside the mouse that takes no focus.

    Parameters
    ----------
    parent : QWidget
        Ends with it.
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.ToolTip)
        self.row = -1
        self.picture, self.words = QLabel(), QLabel()
        self.words.setWordWrap(True)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 4)
        column.setSpacing(2)
        column.addWidget(self.picture)
        column.addWidget(self.words)

    def show_picture(self, image: QImage | None, side: int, words: str) -> None:
        """Show a picture, or grey until it has come."""
        if image is None:
            pixmap = QPixmap(side, side)
            pixmap.fill(QColor("#808080"))
        else:
            pixmap = QPixmap.fromImage(image)
        self.picture.setFixedSize(side, side)
        self.picture.setPixmap(pixmap)
        self.words.setFixedWidth(side)
        self.words.setText(words)
        self.adjustSize()

    def place(self, left: QPoint, right: QPoint) -> None:
        """Show it with its top left corner at `left`, or at `right` if that is off the screen."""
        screen: Any = self.parentWidget().screen().availableGeometry()
        at = left if left.x() >= screen.left() else right
        at.setY(max(screen.top(), min(at.y(), screen.bottom() - self.height())))
        self.move(at)
        self.show()
