"""What a search found, on the slide and in the gallery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QObject, QTimer

from napari_virchow._napari.gallery import Place
from napari_virchow._napari.gallery_item import Mark
from napari_virchow._napari.layers import show_only
from napari_virchow._napari.search_layers import SearchLayers
from napari_virchow._napari.search_page import SearchPage
from napari_virchow.labels import LabelSet
from napari_virchow.search import Answer, Similarity
from napari_virchow.slide import Slide
from napari_virchow.tiles import Tile, TileGrid

SOON_MS = 10
ANSWER_MS = 120  # most answers are there by then, and bring the squares of the query along


class SearchResults(QObject):
    """Shows answers: it fills the gallery and draws layers, and asks for nothing.

    Parameters
    ----------
    viewer : napari.Viewer
    similarity : Similarity
        Whose query is drawn.
    page : SearchPage
    parent : QObject
        Ends with it.
    """

    def __init__(
        self, viewer: Any, similarity: Similarity, page: SearchPage, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._viewer, self._similarity, self._page = viewer, similarity, page
        self._slide: Slide | None = None
        self._grid: TileGrid | None = None
        self._all: dict[str, SearchLayers] = {}
        # Answers, choices and queries come in bursts: squares are drawn once for all of them
        self._due = QTimer(self)
        self._due.setSingleShot(True)
        self._due.timeout.connect(self._draw_squares)
        self._dragged: tuple[Sequence[Tile], bool] = ((), True)
        self.answer: Answer | None = None
        self.labels: LabelSet | None = None

    @property
    def layers(self) -> SearchLayers | None:
        """What draws on the slide that is shown."""
        return None if self._slide is None else self._all.get(self._slide.identity)

    def look_at(self, slide: Slide | None, layer: Layer | None) -> None:
        """Draw on this slide from now on, and bring it up where several lie in one place."""
        another = slide is not None and slide is not self._slide
        self._slide = slide
        if slide is None or layer is None:
            return
        known = self._all.get(slide.identity)
        if known is None or known.below is not layer:
            if known is not None:
                known.remove()
            made = self._all[slide.identity] = SearchLayers(self._viewer, slide, layer, self)
            for kind, box in self._page.show_box.boxes.items():
                made.set_visible(kind, box.isChecked())
        if another and len(self._page.slide_box.layers) > 1:
            show_only(self._viewer, slide.identity, tiles=None)
        for identity, layers in self._all.items():
            layers.raise_up(identity == slide.identity)

    def sweep(self) -> None:
        """Take away what was drawn on slides that were taken away."""
        below = set(self._page.slide_box.layers)
        for identity in [i for i, layers in self._all.items() if layers.below not in below]:
            layers = self._all.pop(identity)
            layers.remove()
            layers.deleteLater()

    def use_grid(self, grid: TileGrid | None) -> None:
        """Draw on the tiles of this grid from now on."""
        if grid != self._grid:
            self._grid = grid
            self.draw_squares()

    def show_answer(self, answer: Answer) -> None:
        """Take in an answer."""
        self.answer = answer
        self._page.show_answer(answer, self._similarity.kind)
        layers, grid, heat = self.layers, self._grid, answer.heat
        if layers is not None and grid is not None and self._slide is not None:
            mine = heat is not None and (heat.slide, heat.grid) == (self._slide.identity, grid)
            layers.show_scores(grid, heat.raster() if heat is not None and mine else None)
            layers.set_threshold(self._page.show_box.threshold)
        self.list_hits()

    def show_nothing(self, sentence: str) -> None:
        """Say why there is no answer."""
        self.answer = None
        self._page.show_nothing(sentence, self._similarity.kind)
        if self.layers is not None and self._grid is not None:
            self.layers.show_scores(self._grid, None)
        self.list_hits()

    def list_hits(self) -> None:
        """Fill the gallery, in the order that is asked for."""
        gallery = self._page.gallery
        if self.answer is None:
            gallery.show_tiles((), (), 0.0)
        else:
            hits, by = self.answer.hits, self._page.show_box.order.currentData()
            um = hits.slides[0].grid.tile_um if hits.slides else 0.0
            gallery.show_tiles(hits, hits.order(by), um)
        self.show_marks()
        self.draw_squares()

    def set_visible(self, kind: str, on: bool) -> None:
        """Show or hide a kind of layer on all slides."""
        for layers in self._all.values():
            layers.set_visible(kind, on)

    def set_threshold(self, threshold: float) -> None:
        """Mask from this score on."""
        for layers in self._all.values():
            layers.set_threshold(threshold)

    def choose_above(self) -> None:
        """Choose the hits that reach the threshold."""
        if self.answer is not None:
            hits = self.answer.hits
            first = (hits[n] for n in range(hits.above(self._page.show_box.threshold)))
            self._page.gallery.choose(Place(hit.slide, hit.tile) for hit in first)
            self._page.gallery.setFocus()

    def show_marks(self) -> None:
        """Mark in the gallery which hits are examples, and what is labelled."""
        marks: dict[Place, Mark] = {}
        if self.labels is not None and self.answer is not None:
            classes = {c.id: c for c in self.labels.classes}
            for slide in self.answer.hits.slides:
                said = self.labels.get(slide.identity, slide.grid.name)
                for tile, class_id in said.items():
                    one = classes[class_id]
                    marks[Place(slide.identity, tile)] = Mark(0, one.name, one.color)
        query = self._similarity.query
        for examples, sign in ((query.positives, 1), (query.negatives, -1)):
            for example in examples:
                at = Place(example.slide, example.tile)
                marks[at] = marks.get(at, Mark())._replace(sign=sign)
        self._page.gallery.set_marks(marks)

    def draw_squares(
        self, dragged: Sequence[Tile] = (), positive: bool = True, *, within_ms: int = SOON_MS
    ) -> None:
        """Draw hits, examples and what is being picked on the slide, in a moment."""
        self._dragged = dragged, positive
        if not self._due.isActive() or within_ms < self._due.remainingTime():
            self._due.start(within_ms)

    def _draw_squares(self) -> None:
        dragged, positive = self._dragged
        layers, grid, slide = self.layers, self._grid, self._slide
        if layers is None or grid is None or slide is None:
            return
        hits = np.empty((0, 2), np.int32)
        if self.answer is not None and self.answer.compared.kind.mpp == grid.mpp:
            hits = self.answer.hits.tiles[self.answer.hits.on(slide.identity)]
        query = self._similarity.query
        like, unlike = (
            [e.tile for e in some if e.slide == slide.identity and e.mpp in (0.0, grid.mpp)]
            for some in (query.positives, query.negatives)
        )
        (like if positive else unlike).extend(dragged)
        chosen = [h.tile for h in self._page.gallery.chosen if h.slide == slide.identity]
        layers.show_squares(grid, hits, like, unlike, chosen)
