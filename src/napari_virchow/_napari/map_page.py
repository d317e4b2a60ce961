"""What the dock "Embedding map" looks like; the dock connects it."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QSpinBox,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.cluster_page import ClusterPage
from napari_virchow._napari.grid_choice import GridChoice
from napari_virchow._napari.legend import Legend
from napari_virchow._napari.parts import MIN_WIDTH, Note, button
from napari_virchow._napari.scatter import Scatter, ScatterMode
from napari_virchow._napari.selection_page import SelectionPage
from napari_virchow._napari.slide_box import SlideBox
from napari_virchow._napari.task_row import TaskRow
from napari_virchow._napari.thumbnails import Thumbnails
from napari_virchow.mapping import Mapped
from napari_virchow.session import Session

SCOPES = {
    "slide": ("This slide", "Map the tiles of the slide chosen above"),
    "open": ("Open slides", "Map the tiles of all slides that are open in this viewer"),
    "chosen": ("Chosen slides…", "Choose among the slides that were ever embedded"),
    "store": ("All in the store", "Map the tiles of every slide that was ever embedded"),
}
COLORINGS = ("Label", "Prediction", "Slide", "Similarity", "Cluster")
ARRANGEMENTS = {
    "pca": ("PCA", "Principal components: there at once, shows the strongest differences"),
    "umap": ("UMAP", "Alike tiles close together; takes half a minute or more"),
}
_MODE_TIPS = {
    ScatterMode.LASSO: "Draw around points to select them; Shift adds, Ctrl takes away",
    ScatterMode.BOX: "Drag a box around points to select them; Shift adds, Ctrl takes away",
    ScatterMode.MOVE: "Drag to move the map; the right button always does, the wheel zooms",
}


class MapPage(QScrollArea):
    """All widgets of the dock, from top to bottom.

    Parameters
    ----------
    viewer : napari.Viewer
    session : Session
    thumbnails : Thumbnails
    """

    def __init__(self, viewer: Any, session: Session, thumbnails: Thumbnails) -> None:
        super().__init__()
        self.slide_box = SlideBox(viewer, session)
        self.scope = _combo("Which tiles are mapped", SCOPES)
        self.sizes = GridChoice()
        self.arrange_by = _combo("How the tiles are arranged", ARRANGEMENTS)
        self.color_by = _combo("What the colours mean", {name: (name, "") for name in COLORINGS})
        self.plot = Scatter()
        self.modes = {mode: button(mode.value, tip) for mode, tip in _MODE_TIPS.items()}
        self.fit = button("Fit", "Show all points (key F on the map)")
        self.count = Note()
        self.update = button("Update", "Map what was embedded since, too")
        self.update.hide()
        self.embed = button("Embed this slide", "Embed all its tissue, then map it", wide=True)
        self.embed.hide()
        self.legend = Legend()
        self.umap_row = TaskRow("UMAP")
        self.cluster_row = TaskRow("finding clusters")
        self.embed_row = TaskRow("embedding")
        self.alert = Note(alert=True)
        self.selection = SelectionPage(thumbnails)
        self.clusters = ClusterPage(thumbnails)
        self.neighbors, self.distance = QSpinBox(), QDoubleSpinBox()
        self.again = button("Arrange by UMAP", "Arrange the tiles with these numbers")
        self.tabs = QTabWidget()
        self.tabs.addTab(self.selection, "Selection")
        self.tabs.addTab(self.clusters, "Clusters")
        self.tabs.addTab(self._umap_page(), "UMAP")
        self._lay_out()

    def _lay_out(self) -> None:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 8, 8, 8)
        column.setSpacing(4)
        column.addWidget(self.slide_box)
        which = _row(self.scope, self.sizes)
        for n in (0, 1):
            which.setStretch(n, 1)
        column.addLayout(which)
        how = _row(QLabel("Arrange"), self.arrange_by, QLabel("Colour"), self.color_by)
        column.addLayout(how)
        column.addWidget(self.plot, 1)
        column.addWidget(self.embed)
        column.addLayout(self._tools())
        column.addWidget(self.legend)
        for part in (self.umap_row, self.cluster_row, self.embed_row, self.alert, self.tabs):
            column.addWidget(part)
        self.setWidget(inner)
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(MIN_WIDTH + 60)

    def _tools(self) -> QHBoxLayout:
        group = QButtonGroup(self)
        for mode, one in self.modes.items():
            one.setCheckable(True)
            one.setChecked(mode is self.plot.mode)
            group.addButton(one)
        line = _row(*self.modes.values(), self.fit, self.count, self.update)
        line.setStretchFactor(self.count, 1000)
        line.addStretch(1)  # keeps the buttons together while there is nothing to count
        return line

    def _umap_page(self) -> QWidget:
        self.neighbors.setRange(2, 200)
        self.neighbors.setValue(15)
        self.neighbors.setToolTip("Few neighbours show detail, many the large structure")
        self.distance.setRange(0.0, 1.0)
        self.distance.setSingleStep(0.05)
        self.distance.setValue(0.1)
        self.distance.setToolTip("How close to each other tiles may lie")
        page = QWidget()
        form = QFormLayout(page)
        form.setContentsMargins(0, 4, 0, 0)
        form.addRow("Neighbours", self.neighbors)
        form.addRow("Least distance", self.distance)
        form.addRow(self.again)
        form.addRow(
            Note(
                "UMAP shows which tiles are alike. How far apart groups lie, and how large they "
                "are, means little."
            )
        )
        return page


def _combo(tip: str, items: dict[str, tuple[str, str]]) -> QComboBox:
    made = QComboBox()
    made.setToolTip(tip)
    made.setAccessibleName(tip)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    made.setMinimumContentsLength(4)
    for key, (text, help_) in items.items():
        made.addItem(text, key)
        made.setItemData(made.count() - 1, help_ or None, Qt.ItemDataRole.ToolTipRole)
    return made


def _row(*widgets: QWidget) -> QHBoxLayout:
    line = QHBoxLayout()
    line.setContentsMargins(0, 0, 0, 0)
    line.setSpacing(4)
    for widget in widgets:
        line.addWidget(widget)
    return line


def count_words(mapped: Mapped) -> str:
    """Return how many tiles of how many slides are on a map, and whether that is all."""
    n = len(mapped.slides)
    where = "" if n == 1 else f", {n:,} slides"
    if len(mapped) == mapped.n_total:
        return f"{len(mapped):,} tiles{where}"
    return f"A sample: {len(mapped):,} of {mapped.n_total:,} tiles{where}"
