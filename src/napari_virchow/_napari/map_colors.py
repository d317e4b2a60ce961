"""What the points of the map are coloured by, worked out beside the GUI thread."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_virchow._napari.link import Links
from napari_virchow._napari.tasks import Tasks
from napari_virchow.classification import Classification, Painted
from napari_virchow.labels import LabelSet
from napari_virchow.labels.edits import LabelChange
from napari_virchow.mapping import Clusters, Mapped, coloring
from napari_virchow.mapping.coloring import Coloring
from napari_virchow.search import Answer
from napari_virchow.session import Session

_MISSING = {
    "Prediction": "Label tiles of two classes in the dock Tile classification to predict the rest.",
    "Similarity": "Pick a tile in the dock Similarity search, or Find similar below.",
    "Cluster": "Find clusters below.",
}
COALESCE_MS = 40  # a drag over tiles changes many labels; the map follows once


class MapColors(QObject):
    """Follows labels, predictions, similarity and clusters, and says the colours of a map.

    Parameters
    ----------
    session : Session
    parent : QObject
        Ends with it.
    """

    changed = Signal(object)  # Coloring
    failed = Signal(object)

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self._session = session
        self._tasks = Tasks(self)
        self._links: list[Links] = []
        self._generation = 0
        self._mode = "Label"
        self._mapped: Mapped | None = None
        self._clusters: Clusters | None = None
        self._slide: str | None = None
        self._found: Answer | None = None
        self._searching = False
        self.labels: LabelSet | None = None
        self.live: Classification | None = None
        self.shown: Coloring | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(COALESCE_MS)
        self._timer.timeout.connect(self._start)

    def set_labels(self, labels: LabelSet) -> None:
        """Colour by these labels, and follow them."""
        self.labels = labels
        self._links.append(Links(self, (labels.changed, self._on_labels)))
        self._timer.start()

    def ask(
        self, mode: str, mapped: Mapped | None, clusters: Clusters | None, slide: str | None
    ) -> None:
        """Colour the tiles of a map by `mode` from now on; `slide` is the one looked at."""
        self._mode, self._mapped, self._clusters, self._slide = mode, mapped, clusters, slide
        if mode == "Prediction" and self.live is None:
            self._tasks.run(
                lambda: self._session.classification, done=self._on_live, failed=self.failed.emit
            )
        elif mode == "Similarity" and not self._searching:
            self._follow_search()
        self._generation += 1
        self._timer.start()

    # ---- what is followed

    def _on_labels(self, change: LabelChange) -> None:
        if self._mode in ("Label", "Prediction"):
            self._timer.start()

    def _on_live(self, live: Classification) -> None:
        if self.live is None:
            self.live = live
            self._links.append(Links(self, (live.predicted, self._on_predicted)))
            slide = self._session.slides.get(self._slide or "")
            if live.painted is None and slide is not None and self._mapped is not None:
                live.look_at(slide, self._mapped.scope.mpp)
            self._timer.start()

    def _on_predicted(self, painted: Painted) -> None:
        if self._mode == "Prediction":
            self._timer.start()

    def _follow_search(self) -> None:
        similarity, self._searching = self._session.similarity, True
        self._found = similarity.answer
        self._links.append(Links(self, (similarity.answered, self._on_answer)))

    def _on_answer(self, answer: Answer) -> None:
        self._found = answer
        if self._mode == "Similarity":
            self._timer.start()

    # ---- working it out

    def _start(self) -> None:
        self._generation += 1
        if self._mapped is None:
            self._done((self._generation, None))
            return
        asked = self._generation, self._mode, self._mapped, self._clusters, self._slide
        self._tasks.run(self._work, *asked, done=self._done, failed=self.failed.emit)

    def _work(
        self,
        generation: int,
        mode: str,
        mapped: Mapped,
        clusters: Clusters | None,
        slide: str | None,
    ) -> tuple[int, Coloring]:
        """Work a colouring out; in a worker."""
        labels, painted = self.labels, None if self.live is None else self.live.painted
        if mode == "Slide":
            return generation, coloring.by_slide(mapped)
        if mode == "Cluster" and clusters is not None and len(clusters.cluster) == len(mapped):
            return generation, coloring.by_cluster(clusters)
        if mode == "Similarity":
            known = [] if self._found is None else _scores(self._found, mapped.scope.mpp)
            if known:
                return generation, coloring.by_number(mapped, known)
        if mode == "Prediction" and labels is not None and painted is not None:
            return generation, _predicted(mapped, painted, labels)
        if mode == "Label" and labels is not None:
            return generation, coloring.by_label(mapped, labels)
        return generation, coloring.nothing(mapped, _MISSING.get(mode, ""))

    def _done(self, answer: tuple[int, Coloring | None]) -> None:
        generation, found = answer
        if generation == self._generation:
            self.shown = found
            self.changed.emit(found)


def _scores(answer: Answer, mpp: float) -> list[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Return what is known of similarity: all tiles of one slide, and the hits on others."""
    heat, hits = answer.heat, answer.hits
    known: list[tuple[str, NDArray[Any], NDArray[Any]]] = []
    for number, slide in enumerate(hits.slides):
        mine = hits.of == number
        if slide.grid.mpp == mpp:
            known.append((slide.identity, hits.tiles[mine], hits.scores[mine]))
    if heat is not None and heat.grid.mpp == mpp:
        known.append((heat.slide, heat.tiles, heat.scores))
    return known


def _predicted(mapped: Mapped, painted: Painted, labels: LabelSet) -> Coloring:
    at = mapped.number(painted.slide)
    if at < 0 or painted.grid != mapped.slides[at].grid or painted.encoder != mapped.encoder:
        return coloring.nothing(mapped, "The predictions are of another slide or tile size.")
    if painted.predictions.kind != "classes":  # while one class is labelled: likeness to it
        return coloring.nothing(mapped, _MISSING["Prediction"])
    return coloring.by_prediction(
        mapped, painted.slide, painted.tiles, painted.predictions.confident(), labels.classes
    )
