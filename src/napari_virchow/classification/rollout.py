"""A classifier applied to whole slides: what is missing is embedded first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_virchow.classification.facts import Applied, ApplyOptions, ApplyProgress
from napari_virchow.classification.table import write_table
from napari_virchow.classify import TileClassifier
from napari_virchow.classify.predictions import Predictions
from napari_virchow.labels import LabelSet
from napari_virchow.qupath.export import SlideTiles, write_predictions
from napari_virchow.qupath.frame import SlideBox
from napari_virchow.qupath.servers import frame_named
from napari_virchow.shelf import load_stored
from napari_virchow.states import EngineState
from napari_virchow.tiles import Tile, TileGrid
from napari_virchow.training import encoder_name

if TYPE_CHECKING:
    from napari_virchow.session import Session
    from napari_virchow.slide import Slide

_POLL_S = 0.1


class _Stored(NamedTuple):
    grid: TileGrid
    tiles: NDArray[np.int32]
    matrix: NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Rollout:
    """Applies one classifier; see `Session.apply_classifier`.

    Parameters
    ----------
    labels : LabelSet or None
        Whose labels of a slide are written beside the predictions.
    """

    session: Session
    classifier: TileClassifier
    labels: LabelSet | None
    how: ApplyOptions = ApplyOptions()
    on_progress: Callable[[ApplyProgress], object] = lambda _: None
    cancelled: Callable[[], bool] = lambda: False

    def run(self, slides: Sequence[Slide], mpp: float, out: Path | None) -> list[Applied]:
        """Embed and classify slides one after another, until it is cancelled."""
        done: list[Applied] = []
        for slide in slides:
            stored = self._stored(slide, mpp)
            if self.how.embed and self._missing(slide, stored):
                self._embed(slide, mpp)
                stored = self._stored(slide, mpp)
            if self.cancelled():
                break
            done.append(self._classify(slide, stored, out))
        return done

    def predict(self, slide: Slide, mpp: float) -> tuple[NDArray[np.int32], Predictions]:
        """Return the embedded tiles (n, 2), and what the classifier says of them."""
        stored = self._stored(slide, mpp)
        return stored.tiles, self._predict(slide, stored)

    def _predict(self, slide: Slide, stored: _Stored) -> Predictions:
        at = stored.tiles
        glass = ~self.session.tissue(slide, stored.grid)[at[:, 0], at[:, 1]]
        return self.classifier.predict(stored.matrix, glass=glass)

    def _classify(self, slide: Slide, stored: _Stored, out: Path | None) -> Applied:
        n = len(stored.tiles)
        self.on_progress(ApplyProgress(slide.name, n, n, "Classifying"))
        predictions = self._predict(slide, stored)
        ids, counts = np.unique(
            predictions.confident(unknown_above=self.how.unknown_above), return_counts=True
        )
        by_class = dict(zip(ids.tolist(), counts.tolist(), strict=True))
        missing = self._missing(slide, stored)
        path = "" if out is None else str(self._write(slide, stored, predictions, out))
        return Applied(slide.name, str(slide.path), n, by_class, missing, path)

    def _write(self, slide: Slide, stored: _Stored, predictions: Predictions, out: Path) -> Path:
        out.mkdir(parents=True, exist_ok=True)
        # Slides of several folders may share a name, so part of the identity is in there.
        path = out / f"{Path(slide.name).stem}-{slide.identity[:8]}.{self.how.form}"
        frame = frame_named(self.how.frame, SlideBox.of(slide))
        where = SlideTiles(slide.identity, stored.grid, stored.tiles, frame)
        classes, unknown_above = self.classifier.classes, self.how.unknown_above
        if self.how.form == "geojson":
            write_predictions(path, where, predictions, classes, unknown_above=unknown_above)
            return path
        names = {c.id: c.name for c in classes}
        write_table(path, where, predictions, names, self._labels_of(where), unknown_above)
        return path

    def _labels_of(self, where: SlideTiles) -> dict[Tile, str]:
        if self.labels is None:
            return {}
        names = {c.id: c.name for c in self.labels.classes}
        given = self.labels.get(where.slide, where.grid.name)
        return {tile: names[class_id] for tile, class_id in given.items()}

    def _stored(self, slide: Slide, mpp: float) -> _Stored:
        """Return what is embedded by the classifier's encoder, whether that is loaded or not."""
        card, encoder, grid = self.classifier.card, self.session.encoder, slide.grid(mpp)
        if encoder is not None and encoder.identity == card.encoder:
            tiles, matrix = self.session.embeddings(slide, mpp)
        else:
            dim = self.classifier.projection.dim
            tiles, matrix = load_stored(self.session.store, slide.identity, card.encoder, grid, dim)
        use = np.isfinite(matrix[:, 0])  # a damaged block reads as NaN until it is repaired
        use &= self._asked(grid)[tiles[:, 0], tiles[:, 1]]
        return _Stored(grid, tiles[use], matrix[use])

    def _asked(self, grid: TileGrid) -> NDArray[np.bool_]:
        """Say which tiles of a grid it is about, (rows, cols)."""
        view = self.how.view
        asked = np.full(grid.shape, view is None)
        for tile in () if view is None else grid.tiles_in(view):
            asked[tile] = True
        return asked

    def _missing(self, slide: Slide, stored: _Stored) -> int:
        """Count the tissue tiles that are not embedded."""
        wanted = self.session.tissue(slide, stored.grid) & self._asked(stored.grid)
        wanted[stored.tiles[:, 0], stored.tiles[:, 1]] = False
        return int(np.count_nonzero(wanted))

    def _embed(self, slide: Slide, mpp: float) -> None:
        """Embed what is missing of a slide; raises the error that ended it before its end."""
        session, errors = self.session, list[Exception]()
        if session.encoder is None:
            card = self.classifier.card
            options = {"weights": self.how.weights, "pooling": card.pooling}
            session.load_encoder(encoder_name(card.encoder), **options)
        if (encoder := session.encoder) is not None:
            pooling = encoder.identity.rpartition("-")[2]
            self.classifier.check_fits(encoder.identity, pooling, mpp)
        session.failed.connect(errors.append)
        try:
            if self.how.view is None:
                session.embed_slide(slide, mpp=mpp)
            else:
                session.look_at(slide, self.how.view, mpp=mpp)
            while not session.wait(_POLL_S):
                if self.cancelled():
                    session.cancel()
                now = session.progress
                self.on_progress(ApplyProgress(slide.name, now.done, now.wanted, "Embedding"))
        finally:
            session.failed.disconnect(errors.append)
        if errors and session.state == EngineState.STOPPED:
            raise errors[0]
