"""Live classification: a label is set, and a moment later the whole slide has been painted anew."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from psygnal import Signal

from napari_virchow.classification.bank import Elsewhere, GridBank
from napari_virchow.classification.examples import Training, gather, train_live
from napari_virchow.classification.facts import (
    Applied,
    ApplyProgress,
    Assessment,
    Painted,
    Place,
    Queued,
)
from napari_virchow.classification.honest import Trainings, assess
from napari_virchow.classification.table import write_table
from napari_virchow.classify import TileClassifier
from napari_virchow.classify.features import Matrix, Projection
from napari_virchow.classify.predictions import UNKNOWN_ABOVE
from napari_virchow.labels import LabelSet
from napari_virchow.labels.edits import LabelChange
from napari_virchow.latest import Latest
from napari_virchow.qupath.export import SlideTiles
from napari_virchow.states import GridStates, TileState, TileUpdate
from napari_virchow.tiles import Tile

if TYPE_CHECKING:
    from napari_virchow.session import Session
    from napari_virchow.slide import Slide

__all__ = ["Applied", "ApplyProgress", "Assessment", "Classification", "Painted", "Queued"]

_STREAM_S = 0.3  # tiles that are being embedded are painted so often
_PAUSE_S = 0.4  # clicks pause for so long before the classifier is assessed
_CATCH_UP_S = 2.0  # it is assessed so often while more and more tiles are embedded


class _Focus(NamedTuple):
    slide: Slide
    mpp: float


class Classification:
    """A session's labels and the classifier that follows them.

    `look_at` says which grid is painted. From then on every change of a label, a class, the encoder
    or what is embedded leads to a new `predicted`, and, once the clicks pause, to a new `assessed`.
    The work is done by two threads of its own: training and prediction in one, and metrics, queue
    and audit in the other, so that a click never waits for them.

    Every method may be called from any thread; `save`, `load` and `export_predictions` block.
    Signals are emitted from the two threads. `Session.apply_classifier` takes `classifier` to
    other slides.

    Parameters
    ----------
    session : Session
        Where slides and embeddings come from.
    labels : LabelSet
        The caller closes it.
    """

    # A new opinion on the grid in focus
    predicted = Signal(Painted)
    # Metrics, queue and audit of the last opinion
    assessed = Signal(Assessment)
    # There is nothing to paint now: why, and what to do, as a sentence
    emptied = Signal(str)
    failed = Signal(Exception)

    unknown_above = UNKNOWN_ABOVE

    def __init__(self, session: Session, labels: LabelSet) -> None:
        self._session, self.labels = session, labels
        self._lock = threading.RLock()
        self._generation = 0
        self._focus: _Focus | None = None
        self._bank: GridBank | None = None
        self._arrived: list[Tile] = []
        self._awaited: set[Tile] = set()  # labelled in focus, not known to be embedded
        self._asked: set[Tile] = set()  # those of them that the session was asked for
        self._stale = False
        self._elsewhere = Elsewhere(session.store)
        self._trainings = Trainings()
        self._temperature = 1.0
        self._given: TileClassifier | None = None
        self.loaded: Path | None = None
        self.passed: set[Place] = set()  # looked at and passed over: not queued again
        self.classifier: TileClassifier | None = None
        self.painted: Painted | None = None
        self.assessment: Assessment | None = None
        self._painter = Latest("virchow-painter", self.failed.emit)
        self._assessor = Latest("virchow-assessor", self.failed.emit)
        labels.changed.connect(self._on_labels)
        session.tiles_changed.connect(self._on_tiles)
        session.states_reset.connect(self._on_states)
        session.encoder_changed.connect(self._on_encoder)

    @property
    def busy(self) -> bool:
        """Whether something is being trained, painted or assessed."""
        return self._painter.busy or self._assessor.busy

    def wait(self, timeout: float | None = None) -> bool:
        """Block until map and metrics are up to date; say whether that was reached in time."""
        return self._painter.wait(timeout) and self._assessor.wait(timeout)

    def look_at(self, slide: Slide, mpp: float) -> int:
        """Paint this grid from now on; returns the generation of the request at once.

        Raises
        ------
        SlideError
            If the slide has no pixel size, or is coarser than `mpp`.
        """
        slide.grid(mpp)
        with self._lock:
            if self._focus != (slide, mpp):
                self._focus, self._arrived = _Focus(slide, mpp), []
                self._awaited, self._asked = set(), set()
                self.painted = self.assessment = None
        return self.refresh()

    def label(self, slide: Slide, mpp: float, tiles: Iterable[Tile], class_id: int | None) -> int:
        """Say what tiles are, or with None erase that; what is not embedded yet is embedded next.

        Returns
        -------
        int
            How many tiles changed.

        Raises
        ------
        KeyError, ValueError, SlideError
            As `LabelSet.label` and `Slide.grid` do.
        """
        grid = slide.grid(mpp)
        asked = [Tile(int(row), int(col)) for row, col in tiles]
        with self._lock:
            if class_id is not None and self._focus == (slide, mpp):
                self._awaited.update(tile for tile in asked if grid.contains(tile))
        return self.labels.label(slide.identity, grid.name, asked, class_id)

    def refresh(self) -> int:
        """Train and paint anew; returns the generation of the request at once."""
        with self._lock:
            self._generation += 1
            generation = self._generation
        self._painter.put(self._paint)
        return generation

    def summary(self) -> dict[str, Any]:
        """Return the figures of the last assessment as plain values for JSON."""
        last, classifier = self.assessment, self.classifier
        if last is None or classifier is None:
            return {}
        return {
            "slide": last.slide,
            "grid": last.grid.name,
            "labels": {c.name: classifier.counts[c.id] for c in classifier.classes},
            "metrics": last.evaluation.summary(),
            "learning_curve": [[p.per_class, p.balanced_accuracy] for p in last.curve],
            "suspects": [s.reason for s in last.suspects],
            "next": last.stop.text,
        }

    def save(self, folder: Path) -> Path:
        """Write the classifier as a model folder; see `TileClassifier.save`.

        Raises
        ------
        ValueError
            If there is none yet, or of one class only.
        ModelError
            If the folder cannot be written.
        """
        classifier = self.classifier
        if classifier is None or classifier.kind != "classes":
            raise ValueError("There is no classifier to save yet: label tiles of two classes.")
        return classifier.save(folder)

    def load(self, folder: Path) -> None:
        """Paint with a saved classifier until the next label changes.

        Raises
        ------
        ModelError
            If it cannot be read, or was made for other embeddings than those in use.
        ValueError
            If no encoder is loaded, or no slide is looked at.
        """
        classifier = TileClassifier.load(folder)
        encoder, focus = self._session.encoder, self._focus
        if encoder is None or focus is None:
            raise ValueError("Open a slide and choose an encoder first, then load a classifier.")
        classifier.check_fits(encoder.identity, encoder.identity.rpartition("-")[2], focus.mpp)
        with self._lock:
            self._given, self.loaded = classifier, Path(folder)
        self.refresh()

    def export_predictions(self, path: Path) -> int:
        """Write a table of every tile of the grid in focus; returns the number of tiles.

        Raises
        ------
        ValueError
            If nothing is painted yet.
        OSError
            If the file cannot be written.
        """
        painted = self.painted
        if painted is None:
            raise ValueError("There are no predictions yet: label tiles of two classes first.")
        names = {c.id: c.name for c in self.labels.classes}
        labels = self.labels.get(painted.slide, painted.grid.name)
        return write_table(
            path,
            SlideTiles(painted.slide, painted.grid, painted.tiles),
            painted.predictions,
            painted.names,
            {tile: names[class_id] for tile, class_id in labels.items()},
            self.unknown_above,
        )

    def close(self) -> None:
        """Stop following, and join the threads. Safe to call twice."""
        session = self._session
        for signal, slot in (
            (self.labels.changed, self._on_labels),
            (session.tiles_changed, self._on_tiles),
            (session.states_reset, self._on_states),
            (session.encoder_changed, self._on_encoder),
        ):
            signal.disconnect(slot, missing_ok=True)
        self._painter.close()
        self._assessor.close()

    # ---- what leads to a new map

    def _on_labels(self, change: LabelChange) -> None:
        if change.kind == "labels":
            with self._lock:
                self._given = self.loaded = None
        self.refresh()

    def _on_encoder(self, _: object) -> None:
        self.refresh()

    def _on_tiles(self, update: TileUpdate) -> None:
        focus = self._focus
        if update.state != TileState.EMBEDDED:
            return
        if focus is None or (update.slide, update.grid.mpp) != (focus.slide.identity, focus.mpp):
            self._elsewhere.forget(update.slide)
            return
        with self._lock:
            self._arrived.extend(update.tiles)
            urgent = not self._awaited.isdisjoint(update.tiles)
        self._painter.put(self._paint, delay=0.0 if urgent else _STREAM_S)

    def _on_states(self, states: GridStates) -> None:
        """Notice that embeddings are gone, or that a grid was opened."""
        bank = self._bank
        if bank is None or states.slide != bank.slide.identity or states.grid != bank.grid:
            return
        if np.count_nonzero(states.states == TileState.EMBEDDED) != len(bank):
            self._stale = True
            self._painter.put(self._paint, delay=_STREAM_S)

    # ---- on the painter's thread

    def _paint(self) -> None:
        began = time.perf_counter()
        with self._lock:
            generation, focus, given = self._generation, self._focus, self._given
        encoder = self._session.encoder
        if focus is None or encoder is None:
            return self._empty(focus, "Choose a slide and an encoder to begin.")
        projection = None if given is None else given.projection
        bank = self._up_to_date_bank(focus, encoder.identity, projection)
        if len(bank) == 0:
            return self._empty(focus, "Nothing is embedded here yet: look at tissue for a moment.")
        training = gather(self.labels, bank, self._elsewhere)
        classifier = given or train_live(self.labels, bank, training, self._temperature)
        if classifier is None:
            return self._empty(focus, "Label a tile to see what looks like it.")
        _, features, compact = bank.snapshot()
        predictions = classifier.predict_features(features, compact, glass=bank.glass)
        names = {c.id: c.name for c in classifier.classes}
        seconds = time.perf_counter() - began
        painted = Painted(
            generation,
            focus.slide.identity,
            bank.grid,
            encoder.identity,
            bank.tiles,
            predictions,
            names,
            len(training.rows),
            seconds,
        )
        with self._lock:
            if self._focus != focus:
                return None
            asked = self.painted is None or self.painted.generation != generation
            self.classifier, self.painted = classifier, painted
        self.predicted.emit(painted)
        if given is None:
            again = (painted, classifier, training, compact)
            pause = _PAUSE_S if asked else _CATCH_UP_S
            self._assessor.put(lambda: self._assess(*again), delay=pause, push_back=asked)
        return None

    def _empty(self, focus: _Focus | None, sentence: str) -> None:
        with self._lock:
            if self._focus != focus:  # a map of another grid is on its way
                return
            self.painted = self.assessment = self.classifier = None
        self.emptied.emit(sentence)

    def _up_to_date_bank(
        self, focus: _Focus, encoder: str, projection: Projection | None
    ) -> GridBank:
        grid = focus.slide.grid(focus.mpp)
        with self._lock:
            arrived, self._arrived = self._arrived, []
            stale, self._stale = self._stale, False
        bank = self._bank
        if bank is None or stale or not bank.fits(focus.slide, grid, encoder, projection):
            bank = GridBank(self._session, focus.slide, grid, encoder, projection)
            self._bank, self._trainings = bank, Trainings()
        else:
            bank.add(arrived)
        self._embed_awaited(bank)
        return bank

    def _embed_awaited(self, bank: GridBank) -> None:
        """Have labelled tiles embedded before all others, then go back to the view."""
        with self._lock:
            before = self._asked
            self._awaited = {tile for tile in self._awaited if bank.row(tile) < 0}
            self._asked, new = set(self._awaited), sorted(self._awaited - before)
        if new:
            self._session.embed_next(bank.slide, new, mpp=bank.grid.mpp)
        elif before and not self._asked:
            self._session.look_again()

    # ---- on the assessor's thread

    def _assess(
        self, painted: Painted, classifier: TileClassifier, training: Training, compact: Matrix
    ) -> None:
        found = assess(painted, classifier, training, compact, self._trainings, self.passed)
        calibrated = classifier.calibrated(found.evaluation)
        with self._lock:
            if self.painted is None or self.painted.generation != painted.generation:
                return  # a map of other labels has its own assessment to come
            self.assessment, self.classifier = found, calibrated
            before, self._temperature = self._temperature, calibrated.temperature
        self.assessed.emit(found)
        if abs(np.log(self._temperature / before)) > 0.2:  # probabilities would look otherwise
            self.refresh()
