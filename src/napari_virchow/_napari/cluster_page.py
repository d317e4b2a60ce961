"""Clusters: finding them, and making classes of them."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QSpinBox,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.parts import Note, button
from napari_virchow._napari.thumbnails import Thumbnails
from napari_virchow._napari.tile_strip import StripTile, TileStrip
from napari_virchow.mapping import Clusters, Mapped, Proposal
from napari_virchow.mapping.coloring import cluster_colors
from napari_virchow.mapping.proposals import REPRESENTATIVES

_THUMB_PX = 44
_EMPTY = "Find clusters to see which kinds of tiles there are; each can become a class."


class ClusterPage(QWidget):
    """Asks for clusters, lists them, and asks to make classes of them; it changes nothing itself.

    Parameters
    ----------
    thumbnails : Thumbnails
        Of the tiles that stand for a cluster.
    """

    find_wanted = Signal(str, int)  # method; how many clusters, or the smallest size of one
    chosen = Signal(int)  # a cluster
    accept_wanted = Signal(object, str, str)  # Proposal, class name, "representatives" or "all"
    jump_wanted = Signal(int)  # a row of the map

    def __init__(self, thumbnails: Thumbnails) -> None:
        super().__init__()
        self._mapped: Mapped | None = None
        self._proposals: tuple[Proposal, ...] = ()
        self.method = QComboBox()
        self.method.addItem("k-means", "k-means")
        self.method.addItem("HDBSCAN", "HDBSCAN")
        self.method.setToolTip(
            "k-means: so many clusters, every tile is in one. HDBSCAN: it finds how many there "
            "are, and leaves out what is in none"
        )
        self.method.setAccessibleName("Method")
        self.number = QSpinBox()
        self.find = button("Find clusters", "Group the tiles of the map by what is alike")
        self.note = Note(_EMPTY)
        self.tree = self._make_tree()
        self.strip = TileStrip(thumbnails, side_px=_THUMB_PX, most=REPRESENTATIVES)
        self.name = QLineEdit()
        self.name.setPlaceholderText("Class name…")
        self.name.setToolTip("A new name makes a new class; that of a class adds to it")
        self.name.setAccessibleName("Class of this cluster")
        self.accept_few = button("Label these", "Label the tiles shown above as this class")
        self.accept_all = button("Label all", "Label every tile of the cluster as this class")
        self._lay_out()
        self.method.currentIndexChanged.connect(self._on_method)
        self.find.clicked.connect(self._on_find)
        self.tree.currentItemChanged.connect(lambda *_: self._on_chosen())
        self.strip.clicked.connect(self.jump_wanted)
        self.accept_few.clicked.connect(lambda: self._on_accept("representatives"))
        self.accept_all.clicked.connect(lambda: self._on_accept("all"))
        self._on_method()
        self.show_clusters(None, None, ())

    @property
    def current(self) -> Proposal | None:
        """The cluster that is chosen in the list."""
        at = self.tree.indexOfTopLevelItem(self.tree.currentItem())
        return self._proposals[at] if 0 <= at < len(self._proposals) else None

    def show_clusters(
        self, mapped: Mapped | None, clusters: Clusters | None, proposals: Sequence[Proposal]
    ) -> None:
        """List these clusters; None where there are none."""
        self._mapped, self._proposals = mapped, tuple(proposals)
        self.tree.blockSignals(True)
        self.tree.clear()
        for one, color in zip(proposals, cluster_colors(len(proposals)), strict=True):
            item = QTreeWidgetItem(self.tree, [one.name, f"{one.n_tiles:,}"])
            item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            swatch = QPixmap(14, 14)
            swatch.fill(QColor(color))
            item.setIcon(0, QIcon(swatch))
        self.tree.blockSignals(False)
        self.note.say(_EMPTY if clusters is None or mapped is None else _words(mapped, clusters))
        for widget in (self.tree, self.strip, self.name, self.accept_few, self.accept_all):
            widget.setVisible(bool(proposals))
        self._on_chosen()

    def _make_tree(self) -> QTreeWidget:
        tree = QTreeWidget()
        tree.setHeaderLabels(["Cluster", "Tiles"])
        tree.setRootIsDecorated(False)
        tree.setUniformRowHeights(True)
        tree.setIconSize(QSize(14, 14))
        tree.setFixedHeight(104)
        tree.setToolTip("Choose a cluster to see its tiles, on the map and on the slide")
        head = tree.header()
        head.setStretchLastSection(False)
        head.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        head.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        return tree

    def _lay_out(self) -> None:
        ask, accept = QHBoxLayout(), QHBoxLayout()
        for widget in (self.method, self.number, self.find):
            ask.addWidget(widget)
        ask.addStretch()
        for widget in (self.accept_few, self.accept_all):
            accept.addWidget(widget)
        accept.insertWidget(0, self.name, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.setSpacing(4)
        column.addLayout(ask)
        for part in (self.note, self.tree, self.strip):
            column.addWidget(part)
        column.addLayout(accept)
        column.addStretch()

    def _on_method(self, *_: object) -> None:
        if self.method.currentData() == "k-means":
            self.number.setRange(2, 99)
            self.number.setValue(8)
            self.number.setPrefix("k = ")
            self.number.setToolTip("How many clusters to make")
        else:
            self.number.setRange(5, 100_000)
            self.number.setValue(30)
            self.number.setPrefix("≥ ")
            self.number.setToolTip("How many tiles make a cluster at least")

    def _on_find(self) -> None:
        self.find_wanted.emit(self.method.currentData(), self.number.value())

    def _on_chosen(self) -> None:
        one, mapped = self.current, self._mapped
        for widget in (self.name, self.accept_few, self.accept_all):
            widget.setEnabled(one is not None)
        if one is None or mapped is None:
            self.strip.show_tiles([])
            self.name.setText("")
            return
        self.strip.show_tiles([StripTile(row, *mapped.tile(row)) for row in one.representatives])
        self.name.setText(one.name)
        self.accept_few.setText(f"Label these {len(one.representatives)}")
        self.accept_all.setText(f"Label all {one.n_tiles:,}")
        self.chosen.emit(one.cluster)

    def _on_accept(self, which: str) -> None:
        one = self.current
        if one is not None:
            self.accept_wanted.emit(one, self.name.text(), which)


def _words(mapped: Mapped, clusters: Clusters) -> str:
    if not clusters.n_clusters:
        return "No clusters of this size: allow smaller ones, or take k-means."
    text = f"{clusters.n_clusters} clusters by {clusters.method}"
    if clusters.n_fitted < len(mapped):
        text += f", found on {clusters.n_fitted:,} tiles; the others joined the most alike"
    return f"{text}. Choose one to see it."
