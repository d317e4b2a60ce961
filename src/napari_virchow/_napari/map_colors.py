"""What the points of the map are coloured by, worked out beside the GUI thread."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_virchow._napari.link import Links
from napari_virchow._napari.tasks import Tasks
from napari_virchow.classification import Classification, Painted
from napari_virchow.labels import LabelSet
from napari_virchow.labels.edits import LabelChange
from napari_virchow.mapping import Clusters, Mapped, coloring
from napari_virchow.mapping.coloring import Coloring
from napari_virchow.session import Session

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
        self._heat: Any = None
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
        elif mode == "Similarity" and self._heat is None:
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
            self._timer.start()

    def _on_predicted(self, painted: Painted) -> None:
        if self._mode == "Prediction":
            self._timer.start()

    def _follow_search(self) -> None:
        similarity = getattr(self._session, "similarity", None)
        if similarity is not None:
            self._heat = ()
            self._links.append(Links(self, (similarity.answered, self._on_answer)))

    def _on_answer(self, answer: Any) -> None:
        self._heat = () if answer.heat is None else (answer.heat,)
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
            known = [(heat.slide, heat.tiles, heat.scores) for heat in self._heat or ()]
            return generation, coloring.by_number(mapped, known)
        if mode == "Prediction" and labels is not None and painted is not None:
            return generation, _predicted(mapped, painted, labels)
        if mode == "Label" and labels is not None:
            return generation, coloring.by_label(mapped, labels)
        return generation, coloring.nothing(mapped)

    def _done(self, answer: tuple[int, Coloring | None]) -> None:
        generation, found = answer
        if generation == self._generation:
            self.shown = found
            self.changed.emit(found)


def _predicted(mapped: Mapped, painted: Painted, labels: LabelSet) -> Coloring:
    at = mapped.number(painted.slide)
    if at < 0 or painted.grid != mapped.slides[at].grid or painted.encoder != mapped.encoder:
        return coloring.nothing(mapped)
    return coloring.by_prediction(
        mapped, painted.slide, painted.tiles, painted.predictions.confident(), labels.classes
    )
