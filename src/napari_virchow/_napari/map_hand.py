"""What a person does with the tiles of the map: point at them, select, label, look for more."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_virchow._napari.gallery import Place
from napari_virchow._napari.map_colors import MapColors
from napari_virchow._napari.map_layers import MapLayers
from napari_virchow._napari.map_page import MapPage
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.tile_strip import StripTile
from napari_virchow.labels import LabelSet
from napari_virchow.labels.edits import name_key
from napari_virchow.mapping import Clusters, Mapped
from napari_virchow.mapping.coloring import cluster_colors
from napari_virchow.session import Session
from napari_virchow.slide import SlideError
from napari_virchow.tiles import Tile

NOTHING = np.zeros(0, np.intp)
MOST_EXAMPLES = 25  # tiles of a selection that a search is asked for


class MapHand(QObject):
    """Keeps the selection, and shows it on the map, in words and on the slide.

    Parameters
    ----------
    session : Session
    page : MapPage
        Where it is shown.
    layers : MapLayers
        Where it is shown on the slide.
    colors : MapColors
        Knows labels and predictions.
    """

    failed = Signal(object)
    selected = Signal()
    search_wanted = Signal()

    def __init__(
        self, session: Session, page: MapPage, layers: MapLayers, colors: MapColors, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._session, self._page, self._layers, self._colors = session, page, layers, colors
        self._tasks = Tasks(self)
        self._places: dict[str, NDArray[np.int32]] = {}
        self._slide: str | None = None
        self.mapped: Mapped | None = None
        self.clusters: Clusters | None = None
        self._drawn: tuple[Clusters | None, str | None] = None, None
        self.rows: NDArray[np.intp] = NOTHING
        self._held: NDArray[np.bool_] | None = None  # which rows are selected, when asked for
        page.plot.selected.connect(self.select)
        page.plot.hovered.connect(self.point_at)
        page.plot.key_pressed.connect(self._on_key)
        page.legend.chosen.connect(self._on_legend)
        page.clusters.chosen.connect(self._on_cluster)
        chosen = page.selection
        chosen.label_wanted.connect(self.label)
        chosen.new_class_wanted.connect(self._on_new_class)
        chosen.clear_wanted.connect(lambda: self.select(NOTHING, "new"))
        chosen.undo_wanted.connect(self._on_undo)
        chosen.alike_wanted.connect(self._on_alike)

    def take(self, mapped: Mapped | None, clusters: Clusters | None) -> None:
        """Work on another map; the selection goes with the old one."""
        if mapped is not self.mapped:
            self.mapped, self._places = mapped, {}
            self.clusters = None
            self.select(NOTHING, "new")
        self.clusters = clusters
        self.show_on_slide()

    def look_at(self, slide: str | None) -> None:
        """Show the selection on this slide."""
        self._slide = slide
        self.show_on_slide()

    # ---- selecting

    def select(self, rows: NDArray[np.intp], how: str) -> None:
        """Select rows: "new" ones, "more", or "less" by these."""
        if how == "more":
            rows = np.union1d(self.rows, rows)
        elif how == "less":
            rows = np.setdiff1d(self.rows, rows)
        self.rows = rows
        self._page.plot.select(rows)
        n_slides = 0 if self.mapped is None else len(np.unique(self.mapped.slide[rows]))
        self._page.selection.show_selection(len(rows), n_slides)
        self.show_on_slide()
        self._held = None
        self.selected.emit()

    def holds(self, slide: str, tile: Tile) -> bool:
        """Say whether a tile is selected."""
        if self._held is None:
            self._held = np.zeros(0 if self.mapped is None else len(self.mapped), np.bool_)
            self._held[self.rows] = True
        row = self._row(slide, tile)
        return row >= 0 and bool(self._held[row])

    def show_places(self, places: Iterable[Place]) -> None:
        """Select tiles of any slide; those that are not on the map are left out."""
        rows = {self._row(place.slide, place.tile) for place in places} - {-1}
        self.select(np.array(sorted(rows), np.intp), "new")

    def pick(self, tiles: Iterable[Tile], how: str = "new") -> None:
        """Select tiles of the slide that is looked at; the next key labels them."""
        rows = [row for tile in tiles if (row := self.row_of(tile)) >= 0]
        self.select(np.array(sorted(rows), np.intp), how)
        self._page.plot.setFocus()

    def row_of(self, tile: Tile) -> int:
        """Return the row of a tile of the slide that is looked at, -1 if it is not on the map."""
        return -1 if self._slide is None else self._row(self._slide, tile)

    def _row(self, slide: str, tile: Tile) -> int:
        mapped = self.mapped
        if mapped is None or mapped.number(slide) < 0:
            return -1
        if slide not in self._places:
            self._places[slide] = mapped.raster(slide, np.arange(len(mapped), dtype=np.int32))
        place = self._places[slide]
        inside = tile.row < place.shape[0] and tile.col < place.shape[1]
        return int(place[tile]) if inside else -1

    def show_on_slide(self) -> None:
        """Draw selection and clusters on the slide that is looked at."""
        mapped, slide = self.mapped, self._slide
        at = -1 if mapped is None or slide is None else mapped.number(slide)
        if mapped is None or at < 0:
            self._layers.clear()
            return
        grid, clusters = mapped.slides[at].grid, self.clusters
        if clusters is None or slide is None:
            self._layers.hide_clusters()
        elif (clusters, slide) != self._drawn or not self._layers.has_clusters:
            raster = mapped.raster(slide, clusters.cluster, empty=0)
            self._layers.show_clusters(grid, raster, cluster_colors(clusters.n_clusters))
        self._drawn = clusters, slide
        mine = self.rows[mapped.slide[self.rows] == at]
        self._layers.show_selection(grid, mapped.tiles[mine])

    def _on_legend(self, value: int) -> None:
        shown = self._colors.shown
        if shown is not None and self.mapped is not None and len(shown.value) == len(self.mapped):
            self.select(np.flatnonzero(shown.value == value), "new")

    def _on_cluster(self, cluster: int) -> None:
        if self.clusters is not None:
            self.select(np.flatnonzero(self.clusters.cluster == cluster), "new")

    # ---- pointing

    def point_at(self, row: int) -> None:
        """Show what is known of a tile."""
        if row >= 0 and self.mapped is not None:
            slide, tile = self.mapped.tile(row)
            self._page.selection.show_tile(StripTile(row, slide, tile), self._about(row))

    def hover(self, tile: Tile | None) -> None:
        """Mark a tile of the slide on the map, and show what is known of it."""
        row = -1 if tile is None else self.row_of(tile)
        self._page.plot.set_mark(row)
        self.point_at(row)

    def _about(self, row: int) -> str:
        mapped, labels = self.mapped, self._colors.labels
        assert mapped is not None
        slide, tile = mapped.tile(row)
        parts = [f"{slide.name}", f"row {tile.row}, column {tile.col}"]
        names = {} if labels is None else {c.id: c.name for c in labels.classes}
        said = None if labels is None else labels.label_at(slide.identity, slide.grid.name, tile)
        parts.append("no label" if said is None else f"labelled {names.get(said.class_id, '?')}")
        if self.clusters is not None:
            cluster = int(self.clusters.cluster[row])
            parts.append(f"cluster {cluster}" if cluster else "in no cluster")
        shown = self._colors.shown
        if shown is not None and self._page.color_by.currentText() == "Prediction":
            text = next((e.text for e in shown.entries if e.value == shown.value[row]), "")
            parts.append(f"predicted: {text}")
        return " · ".join(parts)

    # ---- labelling

    def label(self, class_id: int) -> None:
        """Give the selected tiles a class, in one step of undo."""
        labels, mapped, rows = self._colors.labels, self.mapped, self.rows
        if labels is not None and mapped is not None and len(rows):
            work = partial(label_rows, labels, mapped, rows, class_id)
            self._tasks.run(work, done=lambda _: None, failed=self.failed.emit)

    def _on_key(self, key: str) -> None:
        labels = self._colors.labels
        for one in () if labels is None else labels.classes:
            if one.hotkey == key:
                self.label(one.id)

    def _on_new_class(self, name: str) -> None:
        labels = self._colors.labels
        if labels is None:
            return
        try:
            same = [c for c in labels.classes if name_key(c.name) == name_key(name)]
            self.label((same[0] if same else labels.add_class(name)).id)
        except ValueError as error:
            self.failed.emit(error)

    def _on_undo(self) -> None:
        labels = self._colors.labels
        if labels is not None:
            self._tasks.run(labels.undo, done=lambda _: None, failed=self.failed.emit)

    # ---- similarity search

    def _on_alike(self) -> None:
        """Ask the similarity search for more like the selected tiles."""
        mapped, similarity = self.mapped, self._session.similarity
        if mapped is None or not len(self.rows):
            return
        rows = np.random.default_rng(0).permutation(self.rows)[:MOST_EXAMPLES]
        shown = self._session.slides.get(self._slide or "")
        try:
            if shown is not None:
                similarity.look_at(shown, mapped.scope.mpp)
            similarity.clear()
            for number in np.unique(mapped.slide[rows]).tolist():
                tiles = mapped.tiles[rows[mapped.slide[rows] == number]].tolist()
                similarity.add_tiles(mapped.slides[number].identity, [Tile(*t) for t in tiles])
        except SlideError as error:
            self.failed.emit(error)
            return
        self.search_wanted.emit()


def label_rows(labels: LabelSet, mapped: Mapped, rows: NDArray[np.intp], class_id: int) -> int:
    """Label the tiles of a map's rows, on whatever slide, in one step of undo; returns how many
    labels changed."""
    changed = 0
    with labels.gesture():
        for number in np.unique(mapped.slide[rows]).tolist():
            slide = mapped.slides[number]
            tiles = mapped.tiles[rows[mapped.slide[rows] == number]]
            changed += labels.label(slide.identity, slide.grid.name, tiles, class_id)
    return changed
