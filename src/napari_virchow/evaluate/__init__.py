"""Evaluate encoders on labelled tiles with the tile-level protocol of the Virchow2 paper.

An encoder stays as it is; what is trained is a linear classifier of its embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_virchow.encoders import Encoder
from napari_virchow.evaluate.embed import embed_set
from napari_virchow.evaluate.folds import Fold, plan_folds
from napari_virchow.evaluate.probe import (
    Features,
    Probe,
    few_labels,
    gene_correlation,
    linear_probe,
    neighbours,
    retrieval,
)
from napari_virchow.evaluate.scores import (
    Score,
    balanced_accuracy,
    score_mean,
    score_predictions,
)
from napari_virchow.evaluate.tilesets import TileSet, TileSetError
from napari_virchow.evaluate.views import views_of

__all__ = ["Protocol", "Result", "TileSetError", "evaluate"]

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is measured.

    Parameters
    ----------
    shots : tuple of int
        Labels per class of the few-label figures.
    draws : int
        How often few labels are drawn.
    robust_tiles : int
        How many test tiles are altered and embedded again; 0 leaves robustness out.
    """

    shots: tuple[int, ...] = (1, 2, 5, 10, 20, 50)
    draws: int = 20
    robust_tiles: int = 200


class Robust(NamedTuple):
    """What an altered view does: weighted F1 there, and how alike the embeddings stay."""

    f1: Score
    cosine: float


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The figures of one encoder on one tile set.

    Parameters
    ----------
    tiles, title, task : str
        Of the tile set.
    encoder, encoder_title, pooling, licence : str
        Of the encoder.
    n, n_classes, n_groups : int
        Tiles, classes, and patients or slides (0: not known).
    split : str
        How it was split, in words.
    linear : Score
        Weighted F1 of the linear probe; Pearson r for a regression task.
    balanced, knn, precision, average_precision : Score or None
        Balanced accuracy of the probe, weighted F1 of the neighbours, precision@10, mAP.
    few : mapping of int to Score
        Weighted F1 by labels per class; the interval is that of the mean over draws.
    plain : Score or None
        Weighted F1 on the tiles that were altered, before they were.
    robust : mapping of str to Robust
        By view.
    """

    tiles: str
    title: str
    task: str
    encoder: str
    encoder_title: str
    pooling: str
    licence: str
    n: int
    n_classes: int
    n_groups: int
    split: str
    linear: Score
    balanced: Score | None = None
    knn: Score | None = None
    precision: Score | None = None
    average_precision: Score | None = None
    few: dict[int, Score] = field(default_factory=dict)
    plain: Score | None = None
    robust: dict[str, Robust] = field(default_factory=dict)


def evaluate(
    sets: Sequence[TileSet],
    encoders: Sequence[Encoder],
    store: Path,
    *,
    protocol: Protocol | None = None,
    tell: Tell = lambda _: None,
) -> Iterator[Result]:
    """Yield the figures of every encoder on every tile set, one by one.

    An encoder that pools class+mean gives a second result for its class token alone, with the
    linear probe only.

    Parameters
    ----------
    sets : sequence of TileSet
    encoders : sequence of Encoder
    store : Path
        Folder of the user's store, where embeddings are kept.
    protocol : Protocol, optional
    tell : callable
        Told what is going on, in a few words.

    Raises
    ------
    TileSetError
        If a tile set cannot be read or is too small.
    """
    chosen = protocol or Protocol()
    plans = [plan_folds(tiles) for tiles in sets]  # refuses what is too small before any work
    for tiles, (folds, words) in zip(sets, plans, strict=True):
        for encoder in encoders:
            yield from _Bench(tiles, folds, words, encoder, store, chosen, tell).results()


@dataclass(frozen=True, slots=True, eq=False)
class _Bench:
    """One encoder on one tile set."""

    tiles: TileSet
    folds: list[Fold]
    words: str
    encoder: Encoder
    store: Path
    protocol: Protocol
    tell: Tell

    def results(self) -> Iterator[Result]:
        x = self._embed()
        self.tell(f"{self._what}: fitting…")
        if self.tiles.targets is not None:
            r = [gene_correlation(x, self.tiles.targets, fold) for fold in self.folds]
            yield self._result(self.encoder.pooling, score_mean(np.array(r)))
            return
        yield self._classification(x)
        if self.encoder.pooling == "class+mean":
            token = x[:, : self.encoder.dim // 2]
            rows, said, _ = self._predict(token)
            yield self._result("class", self._score(rows, said))

    def _classification(self, x: Features) -> Result:
        y, folds = self.tiles.labels, self.folds
        rows, said, probes = self._predict(x)
        near = np.concatenate([neighbours(x, y, fold) for fold in folds])
        found = [retrieval(x, y, fold) for fold in folds]
        plain, robust = self._robustness(x, probes)
        return self._result(
            self.encoder.pooling,
            self._score(rows, said),
            balanced=self._score(rows, said, balanced=True),
            knn=self._score(rows, near),
            precision=score_mean(np.concatenate([each[0] for each in found])),
            average_precision=score_mean(np.concatenate([each[1] for each in found])),
            few=self._few(x),
            plain=plain,
            robust=robust,
        )

    def _predict(self, x: Features) -> tuple[NDArray[np.intp], NDArray[np.intp], list[Probe]]:
        """Return the tested rows, what the probes say of them, and the probes."""
        y, groups = self.tiles.labels, self.tiles.groups
        probes = [linear_probe(x, y, fold, groups) for fold in self.folds]
        said = [p.predict(x[f.test]) for p, f in zip(probes, self.folds, strict=True)]
        return np.concatenate([f.test for f in self.folds]), np.concatenate(said), probes

    def _few(self, x: Features) -> dict[int, Score]:
        scores = {}
        for n in self.protocol.shots:
            drawn = [
                few_labels(x, self.tiles.labels, self.folds[draw % len(self.folds)], n, draw)
                for draw in range(self.protocol.draws)
            ]
            known = [each for each in drawn if each is not None]
            if len(known) == len(drawn):
                scores[n] = score_mean(np.array(known))
        return scores

    def _robustness(
        self, x: Features, probes: list[Probe]
    ) -> tuple[Score | None, dict[str, Robust]]:
        if self.protocol.robust_tiles == 0:
            return None, {}
        tested = np.concatenate([fold.test for fold in self.folds])
        fold_of = np.repeat(np.arange(len(self.folds)), [len(fold.test) for fold in self.folds])
        rng = np.random.default_rng(0)
        chosen = np.sort(rng.permutation(len(tested))[: self.protocol.robust_tiles])
        rows, fold_of = tested[chosen], fold_of[chosen]

        def score(features: Features) -> Score:
            said = np.empty(len(rows), np.intp)
            for number, probe in enumerate(probes):
                mine = fold_of == number
                if mine.any():
                    said[mine] = probe.predict(features[mine])
            return self._score(rows, said)

        robust = {}
        for view in views_of(self.tiles.mpp):
            other = self._embed(rows, view)
            robust[view] = Robust(score(other), _mean_cosine(x[rows], other))
        return score(x[rows]), robust

    def _embed(self, rows: NDArray[np.intp] | None = None, view: str = "plain") -> Features:
        what = self._what if view == "plain" else f"{self._what}, {view}"

        def tell(done: int, n: int) -> None:
            self.tell(f"{what}: {done} of {n} tiles embedded")

        return embed_set(
            self.tiles, self.encoder, self.store, rows=rows, view=view, on_progress=tell
        )

    def _score(
        self, rows: NDArray[np.intp], said: NDArray[np.intp], *, balanced: bool = False
    ) -> Score:
        groups, k = self.tiles.groups, len(self.tiles.classes)
        picked = None if groups is None else groups[rows]
        if balanced:
            return score_predictions(
                self.tiles.labels[rows], said, k, groups=picked, figure=balanced_accuracy
            )
        return score_predictions(self.tiles.labels[rows], said, k, groups=picked)

    def _result(self, pooling: str, linear: Score, **figures: object) -> Result:
        tiles, spec = self.tiles, self.encoder.spec
        return Result(
            tiles=tiles.name,
            title=tiles.title,
            task=tiles.task,
            encoder=self.encoder.identity,
            encoder_title=spec.title + (", random weights" if self.encoder.random else ""),
            pooling=pooling,
            licence=spec.licence,
            n=len(tiles),
            n_classes=len(tiles.classes),
            n_groups=0 if tiles.groups is None else len(np.unique(tiles.groups)),
            split=self.words,
            linear=linear,
            **figures,  # type: ignore[arg-type]
        )

    @property
    def _what(self) -> str:
        return f"{self.tiles.title}, {self.encoder.spec.title}"


def _mean_cosine(a: Features, b: Features) -> float:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / np.maximum(norms, 1e-12)).mean())
