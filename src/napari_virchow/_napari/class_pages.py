"""What the dock "Tile classification" looks like: slide on top, four pages, and what is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.apply_box import ApplyBox
from napari_virchow._napari.grid_choice import GridChoice
from napari_virchow._napari.judge_box import JudgeBox
from napari_virchow._napari.label_box import HOVER, LabelBox
from napari_virchow._napari.map_box import MapBox
from napari_virchow._napari.model_box import ModelBox
from napari_virchow._napari.parts import MIN_WIDTH, Note
from napari_virchow._napari.queue_box import QueueBox
from napari_virchow._napari.slide_box import SlideBox
from napari_virchow._napari.thumbnails import Thumbnails
from napari_virchow.session import Session

_MARGIN = 8


class ClassPages(QWidget):
    """All parts of the dock, laid out; nothing is connected here.

    Parameters
    ----------
    viewer : napari.Viewer
    session : Session
    """

    def __init__(self, viewer: Any, session: Session) -> None:
        super().__init__()
        thumbnails = Thumbnails(session, self)
        self.slide_box = SlideBox(viewer, session)
        self.magnification = GridChoice()
        self.pen = LabelBox()
        self.queue = QueueBox(thumbnails)
        self.maps = MapBox()
        self.judge = JudgeBox(thumbnails)
        self.apply, self.model = ApplyBox(session), ModelBox()
        self.alert = Note(alert=True)
        self.said = Note()
        self.hover = Note(HOVER)
        self.tabs = QTabWidget()
        self.tabs.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        pages = (
            ("Label", "Classes, the pen, and the tile to label next", (self.pen, self.queue)),
            ("Map", "What is drawn on the slide, and how strictly", (self.maps,)),
            ("Judge", "How good it is, and labels to look at again", (self.judge,)),
            ("Apply", "Views, slides and files", (self.apply, self.model)),
        )
        for n, (title, tip, parts) in enumerate(pages):
            self.tabs.addTab(_page(parts), title)
            self.tabs.setTabToolTip(n, tip)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, _MARGIN, 0, _MARGIN)
        column.setSpacing(4)
        column.addWidget(_inset(self.slide_box, self._size_row()))
        column.addWidget(self.tabs, 1)
        column.addWidget(_inset(self.hover, self.said, self.alert))
        self.setMinimumWidth(MIN_WIDTH + 40)
        # takes the height there is: napari would put empty room below it otherwise
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def show_page(self, part: QWidget) -> None:
        """Turn to the page that holds this part."""
        for n in range(self.tabs.count()):
            if self.tabs.widget(n).isAncestorOf(part):
                self.tabs.setCurrentIndex(n)

    def _size_row(self) -> QWidget:
        row = QWidget()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        label = QLabel("Tile size")
        label.setBuddy(self.magnification)
        line.addWidget(label)
        line.addWidget(self.magnification, 1)
        return row


def _inset(*parts: QWidget) -> QWidget:
    """Stack parts that are always in sight."""
    box = QWidget()
    column = QVBoxLayout(box)
    column.setContentsMargins(_MARGIN, 0, _MARGIN, 0)
    column.setSpacing(4)
    for part in parts:
        column.addWidget(part)
    return box


def _page(parts: Sequence[QWidget]) -> QScrollArea:
    """Stack the parts of a page; it scrolls where the window is too low."""
    inner = QWidget()
    column = QVBoxLayout(inner)
    column.setContentsMargins(_MARGIN, 4, _MARGIN, 0)
    column.setSpacing(8)
    for part in parts:
        column.addWidget(part)
    column.addStretch()
    scroll = QScrollArea()
    scroll.setWidgetResizable(True)
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    scroll.setWidget(inner)
    return scroll
