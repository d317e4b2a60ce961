"""A classifier's opinion on tiles, and how it is computed for many of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from napari_virchow.classify.features import Matrix

Kind = Literal["classes", "similarity"]

UNKNOWN: Final = 0  # class id of tiles that get no class
# Finds twice as many tiles of classes nobody labelled as 0.95, for 3 to 5 % more false alarms
# (benchmarks/results/classify.md).
UNKNOWN_ABOVE: Final = 0.9


@dataclass(frozen=True, eq=False, slots=True)
class Predictions:
    """A classifier's opinion on n tiles.

    Parameters
    ----------
    kind : str
        "classes"; or "similarity" where only one class was labelled: then `probability` is the
        cosine similarity to it, cut at 0, `class_id` is 0 everywhere and `margin` is 0.
    classes : ndarray of shape (k,)
        Class id of each column of `probability`.
    class_id : ndarray of shape (n,), int32
        The most probable class; 0 for tiles that were said to be glass.
    probability : ndarray of shape (n, k), float32
        Calibrated; 0 for glass.
    margin : ndarray of shape (n,), float32
        Most probable minus second most probable; near 0 means undecided.
    novelty : ndarray of shape (n,), float32
        How far a tile is from everything labelled, as the share of labelled tiles that are nearer
        to another of their own class: 0.5 is as near as usual, near 1 is unlike anything labelled.
    """

    kind: Kind
    classes: NDArray[np.intp]
    class_id: NDArray[np.int32]
    probability: Matrix
    margin: NDArray[np.float32]
    novelty: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.class_id)

    def confident(
        self, *, unknown_above: float = UNKNOWN_ABOVE, at_least: float = 0.0
    ) -> NDArray[np.int32]:
        """Return class ids, (n,) int32, with 0 (unknown) where there is no ground for one.

        Parameters
        ----------
        unknown_above : float
            Tiles of a larger novelty are unknown; 1 lets all pass.
        at_least : float
            Tiles whose best probability is smaller are unknown.
        """
        best = self.probability.max(axis=1)
        known = (self.novelty <= unknown_above) & (best >= at_least)
        return np.where(known, self.class_id, UNKNOWN).astype(np.int32)


def decide(
    scores: Matrix,
    temperature: float,
    chance: Matrix,
    best: NDArray[np.intp],
    margin: NDArray[np.float32],
) -> None:
    """Turn scores of k ≥ 2 classes into probabilities, first choice and margin, in place.

    Parameters
    ----------
    scores : ndarray of shape (k, n), float32
        Spoilt on return.
    temperature : float
        What scores are divided by.
    chance, best, margin : ndarray of shape (k, n), (n,) and (n,)
        Where the probabilities, the row of the highest and the distance to the second go.
    """
    np.argmax(scores, axis=0, out=best)
    scores -= scores.max(axis=0)
    scores *= 1 / temperature
    np.exp(scores, out=chance)
    chance /= chance.sum(axis=0)
    first = chance[0].copy()
    second = np.zeros_like(first)
    for row in chance[1:]:  # cheaper than sorting each column
        np.maximum(second, np.minimum(first, row), out=second)
        np.maximum(first, row, out=first)
    np.subtract(first, second, out=margin)
