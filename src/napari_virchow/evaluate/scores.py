"""Figures with intervals: weighted F1, balanced accuracy, and bootstraps over tiles or patients."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.intp]
Confusion = NDArray[np.float64]
RESAMPLES = 1000
MIN_GROUPS = 10  # fewer patients than this say nothing by being drawn again


class Score(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def confusion(truth: Codes, predicted: Codes, k: int) -> Confusion:
    """Return counts, (..., k, k): rows are the truth, columns what was predicted."""
    return np.bincount(truth * k + predicted, minlength=k * k).reshape(k, k).astype(np.float64)


def weighted_f1(counts: Confusion) -> NDArray[np.float64]:
    """Return the mean of the classes' F1, weighted with how often each is true.

    Parameters
    ----------
    counts : ndarray of shape (..., k, k)
        As `confusion` gives them.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    true, said = counts.sum(-1), counts.sum(-2)
    f1 = 2 * hits / np.maximum(true + said, 1e-12)
    return np.asarray((f1 * true).sum(-1) / np.maximum(true.sum(-1), 1e-12))


def balanced_accuracy(counts: Confusion) -> NDArray[np.float64]:
    """Return the mean recall of the classes that occur, of counts (..., k, k)."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    true = counts.sum(-1)
    recall = hits / np.maximum(true, 1e-12)
    return np.asarray((recall * (true > 0)).sum(-1) / np.maximum((true > 0).sum(-1), 1))


def score_predictions(
    truth: Codes,
    predicted: Codes,
    k: int,
    *,
    groups: NDArray[np.str_] | None = None,
    figure: Callable[[Confusion], NDArray[np.float64]] = weighted_f1,
    seed: int = 0,
) -> Score:
    """Return a figure of predictions with its bootstrap interval.

    Whole patients or slides are drawn where at least `MIN_GROUPS` are known, else tiles.

    Parameters
    ----------
    truth, predicted : ndarray of shape (n,), intp
        Class codes below `k`.
    k : int
        Number of classes.
    groups : ndarray of shape (n,), str, optional
        Patient or slide of each tile.
    figure : callable
        Of a stack of confusion matrices.
    seed : int
        Of the bootstrap.
    """
    if groups is not None and len(np.unique(groups)) >= MIN_GROUPS:
        unit = np.unique(groups, return_inverse=True)[1]
        n_units = int(unit.max()) + 1
        cells = unit * k * k + truth * k + predicted
        parts = np.bincount(cells, minlength=n_units * k * k).reshape(n_units, k * k)
        draws = _draw(n_units, np.ones(n_units), seed) @ parts
    else:
        counts = confusion(truth, predicted, k).reshape(-1)
        draws = _draw(len(truth), counts, seed)
    low, high = np.quantile(figure(draws.reshape(-1, k, k).astype(np.float64)), (0.025, 0.975))
    value = float(figure(confusion(truth, predicted, k)))
    return Score(value, float(low), float(high))


def score_mean(values: NDArray[np.float64], *, seed: int = 0) -> Score:
    """Return the mean of values, one per query or draw, with its bootstrap interval."""
    rng = np.random.default_rng(seed)
    draws = [float(rng.choice(values, len(values)).mean()) for _ in range(RESAMPLES)]
    low, high = np.quantile(draws, (0.025, 0.975))
    return Score(float(values.mean()), float(low), float(high))


def _draw(n: int, weights: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Draw `n` units with replacement `RESAMPLES` times: (RESAMPLES, len(weights)) counts."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, weights / weights.sum(), size=RESAMPLES)
