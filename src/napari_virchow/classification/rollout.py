"""A classifier applied to whole slides: what is missing is embedded first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_virchow.classification.facts import Applied, ApplyProgress
from napari_virchow.classification.table import write_table
from napari_virchow.classify import TileClassifier
from napari_virchow.labels import LabelSet
from napari_virchow.states import TileState

if TYPE_CHECKING:
    from napari_virchow.session import Session
    from napari_virchow.slide import Slide

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Rollout:
    """Applies one classifier; see `Classification.apply`."""

    session: Session
    classifier: TileClassifier
    labels: LabelSet
    on_progress: Callable[[ApplyProgress], object]
    cancelled: Callable[[], bool]

    def run(self, slides: Sequence[Slide], mpp: float, out: Path | None) -> list[Applied]:
        """Embed and classify slides one after another, until it is cancelled."""
        done: list[Applied] = []
        for slide in slides:
            missing = self._embed(slide, mpp)
            if self.cancelled():
                break
            done.append(self._classify(slide, mpp, missing, out))
        return done

    def _classify(self, slide: Slide, mpp: float, missing: int, out: Path | None) -> Applied:
        tiles, matrix = self.session.embeddings(slide, mpp)
        n = len(tiles)
        self.on_progress(ApplyProgress(slide.name, n, n, "Classifying"))
        grid = slide.grid(mpp)
        glass = ~self.session.tissue(slide, grid)[tiles[:, 0], tiles[:, 1]]
        predictions = self.classifier.predict(matrix, glass=glass)
        ids, counts = np.unique(predictions.confident(), return_counts=True)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            names = {c.id: c.name for c in self.labels.classes}
            names |= {c.id: c.name for c in self.classifier.classes}
            given = self.labels.get(slide.identity, grid.name)
            path = out / f"{Path(slide.name).stem}.csv"
            write_table(path, slide.identity, grid, tiles, predictions, names, given)
        by_class = dict(zip(ids.tolist(), counts.tolist(), strict=True))
        return Applied(slide.name, str(slide.path), n, by_class, missing)

    def _embed(self, slide: Slide, mpp: float) -> int:
        """Embed what is missing of a slide; returns how many tissue tiles are missing still."""
        self.session.embed_slide(slide, mpp=mpp)
        while not self.session.wait(_POLL_S):
            if self.cancelled():
                self.session.cancel()
            progress = self.session.progress
            self.on_progress(ApplyProgress(slide.name, progress.done, progress.wanted, "Embedding"))
        states = self.session.tile_states(slide, mpp)
        if states is None:
            return 0
        left = np.isin(states.states, (TileState.NONE, TileState.WAITING, TileState.FAILED))
        return int(np.count_nonzero(left))
