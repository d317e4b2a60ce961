"""What the dock "Similarity search" is made of, and what it says when there is nothing to show."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QStackedWidget, QVBoxLayout, QWidget

from napari_virchow._napari.empty_page import EmptyPage
from napari_virchow._napari.gallery import Gallery
from napari_virchow._napari.grid_choice import GridChoice
from napari_virchow._napari.label_hits import LabelHits
from napari_virchow._napari.parts import MIN_WIDTH, Note, button
from napari_virchow._napari.search_options import OptionsBox
from napari_virchow._napari.search_query import QueryBox
from napari_virchow._napari.search_show import ShowBox
from napari_virchow._napari.slide_box import SlideBox
from napari_virchow._napari.thumbnails import Thumbnails
from napari_virchow.search import Answer, Kind
from napari_virchow.session import Session
from napari_virchow.states import EngineState, Progress

HOW = (
    "Hold Shift and click a tile on the slide to find more like it; with Ctrl too it is a "
    "counter-example. Or press Tile above and click. Only embedded tiles can be found: what you "
    "look at is embedded as you go, the button above embeds the whole slide."
)


class SearchPage(QWidget):
    """The widgets of the dock, put together.

    Parameters
    ----------
    viewer : napari.Viewer
    session : Session
    thumbnails : Thumbnails
    dock : QWidget
        Gets them as its layout.
    """

    def __init__(
        self, viewer: Any, session: Session, thumbnails: Thumbnails, dock: QWidget
    ) -> None:
        super().__init__()
        self.slide_box = SlideBox(viewer, session)
        self.sizes = GridChoice()
        self.sizes.setToolTip("Size of the tiles that are embedded and searched")
        self.embed = button("Embed slide", "Embed every tissue tile, so that it can be found")
        self.whole = False  # whether the whole slide was asked for, and is not done
        self.query = QueryBox(thumbnails)
        self.options = OptionsBox()
        self.show_box = ShowBox()
        self.gallery = Gallery(thumbnails)
        self.nothing = Note(HOW)
        self.label_hits = LabelHits()
        self.export = button("Export", "Write the hits as a table, for QuPath, or as a picture")
        self.alert, self.said = Note(alert=True), Note()
        self.empty = EmptyPage()
        self.results = QStackedWidget()
        self.pages = QStackedWidget()
        self._build(dock)

    def _build(self, dock: QWidget) -> None:
        told = QWidget()
        around = QVBoxLayout(told)
        around.setContentsMargins(4, 8, 4, 4)
        around.addWidget(self.nothing)
        around.addStretch()
        self.nothing.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.results.addWidget(told)
        self.results.addWidget(self.gallery)
        self.results.setMinimumHeight(130)
        self.results.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        tiles, footer = QHBoxLayout(), QHBoxLayout()
        for row in (tiles, footer):
            row.setContentsMargins(0, 0, 0, 0)
            row.setSpacing(4)
        tiles.addWidget(QLabel("Tiles"))
        tiles.addWidget(self.sizes, 1)
        tiles.addWidget(self.embed)
        footer.addWidget(self.label_hits, 1)
        footer.addWidget(self.export)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.slide_box)
        column.addLayout(tiles)
        for widget in (self.query, self.options, self.show_box):
            column.addWidget(widget)
        column.addWidget(self.results, 1)
        column.addLayout(footer)
        column.addWidget(self.said)
        column.addWidget(self.alert)
        self.pages.addWidget(self.empty)
        self.pages.addWidget(self)
        outer = QVBoxLayout(dock)
        outer.setContentsMargins(8, 6, 8, 6)
        outer.addWidget(self.pages)
        self.setMinimumWidth(MIN_WIDTH + 20)

    def show_empty(self, on: bool) -> None:
        """Say that no slide is open, or show the search."""
        self.pages.setCurrentIndex(0 if on else 1)

    def show_answer(self, answer: Answer, kind: Kind | None) -> None:
        """Take in an answer; the gallery is filled by the dock."""
        self.options.show_compared(answer.compared, kind)
        self.show_box.show_answer(answer)
        if len(answer.hits):
            self.results.setCurrentIndex(1)
        else:
            self.show_nothing("Nothing else is embedded to compare with yet.", kind, answer)

    def show_nothing(self, sentence: str, kind: Kind | None, answer: Answer | None = None) -> None:
        """Say why there are no hits, and what to do."""
        if answer is None:
            self.options.show_compared(None, kind)
            self.show_box.show_answer(None)
        self.nothing.say(f"{sentence}\n\n{HOW}")
        self.results.setCurrentIndex(0)

    def show_progress(self, progress: Progress, state: EngineState) -> None:
        """Say how far embedding is, on the button that starts and stops it."""
        busy = (EngineState.RUNNING, EngineState.LOADING, EngineState.CANCELLING)
        self.whole = self.whole and state in busy
        running = self.whole and state is EngineState.RUNNING
        self.embed.setText(
            f"Stop ({progress.done:,} of {progress.wanted:,})" if running else "Embed slide"
        )
        self.embed.setEnabled(state not in (EngineState.LOADING, EngineState.CANCELLING))
