"""What is honestly known of a classifier, and which labels would make it better."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from napari_virchow.classification.examples import Training
from napari_virchow.classification.facts import Assessment, Painted, Place, Queued
from napari_virchow.classify import TileClassifier, evaluate_labels
from napari_virchow.classify.features import Matrix
from napari_virchow.classify.folds import TilePlaces, plan_folds
from napari_virchow.classify.learner import scorer
from napari_virchow.classify.metrics import learning_curve
from napari_virchow.classify.suggest import (
    Round,
    audit_labels,
    changed_share,
    stop_signal,
    suggest_tiles,
)
from napari_virchow.tiles import Tile

QUEUE: int = 12  # tiles offered at a time


class Trainings:
    """All trainings of a grid so far: how much each changed the map."""

    def __init__(self) -> None:
        self.rounds: list[Round] = []
        self._before: NDArray[np.int32] | None = None

    def add(self, painted: Painted) -> None:
        """Take in a map."""
        now = painted.predictions.class_id
        changed = 1.0 if self._before is None else changed_share(self._before, now)
        self._before = now
        self.rounds.append(Round(painted.n_labels, changed))


def assess(
    painted: Painted,
    classifier: TileClassifier,
    training: Training,
    compact: Matrix,
    trainings: Trainings,
    passed: Collection[Place] = (),
) -> Assessment:
    """Cross-validate, audit and look for the tiles worth labelling next.

    Parameters
    ----------
    compact : ndarray of shape (n, q), float32
        Compact features of the painted tiles.
    passed : collection of Place
        Not to be queued.
    """
    names = painted.names
    y, features = training.target, training.features
    plan = plan_folds(y, training.places, names=names)
    evaluation = evaluate_labels(features, y, plan)
    examples = classifier.projection.compact(features)
    trainings.add(painted)
    return Assessment(
        generation=painted.generation,
        slide=painted.slide,
        grid=painted.grid,
        evaluation=evaluation,
        curve=learning_curve(y, plan, scorer(features, y)),
        rows=training.rows,
        grids=training.grids,
        suspects=audit_labels(examples, evaluation, names=names),
        queue=_queue(painted, training, compact, frozenset(passed)),
        stop=stop_signal(
            trainings.rounds, dict(classifier.counts), evaluation=evaluation, names=names
        ),
    )


def _queue(
    painted: Painted,
    training: Training,
    compact: Matrix,
    passed: Collection[Place],
) -> tuple[Queued, ...]:
    if not training.here:
        return ()
    tiles = painted.tiles
    here = {p[2] for p in passed if p[:2] == (painted.slide, painted.grid.name)}
    skip = [n for n, at in enumerate(tiles.tolist()) if tuple(at) in here] if here else []
    found = suggest_tiles(
        compact,
        painted.predictions,
        training.here,
        TilePlaces([painted.slide] * len(tiles), tiles[:, 0], tiles[:, 1]),
        k=QUEUE,
        skip=skip,
        names=painted.names,
    )
    best = painted.predictions.probability.max(axis=1)
    return tuple(
        Queued(
            painted.slide,
            Tile(*tiles[s.row].tolist()),
            s.class_id,
            float(best[s.row]),
            s.reason,
            s.score,
        )
        for s in found
    )
