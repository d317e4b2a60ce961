"""How good a classifier is, told honestly: no tile is judged by what its neighbours gave away.

Labels are clicked in clumps, and tiles side by side look alike. A random split puts one half of a
clump on either side and reports how well the classifier remembers. Here labels that lie close to
each other form a *block*; a block is trained on or tested on, never both, and whatever touches a
tested block is left out of training too. Where there are enough slides, whole slides take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_virchow.classify.folds import Index, Plan, blocks_per_class

Scores = NDArray[np.float64]
FitScore = Callable[[Index, Index], NDArray[np.floating[Any]]]
"""(rows to train on, rows to score) -> scores (n scored, n classes), columns in class order."""

_PRIOR_WIDTH: Final = 0.5  # of the logarithm of the temperature
UNTESTED: Final = -1
_ECE_BINS: Final = 10


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What blocked cross-validation found. Where `reason` is set, there are no figures.

    Parameters
    ----------
    reason : str or None
        Why there are too few labels to tell, as a sentence.
    classes : ndarray of shape (k,)
        Class ids in ascending order; the columns of everything with a k.
    y_true, y_pred : ndarray of shape (n,)
        Class id said by the user, and by a classifier that saw nothing near the tile; -1 for
        labels that could not be tested.
    probability : ndarray of shape (n, k), float64
        Of that classifier, calibrated on the other turns; 0 for labels not tested.
    confusion : ndarray of shape (k, k), int
        Labels by true class (rows) and predicted class (columns).
    balanced_accuracy : float or None
        Mean over the classes of the share found.
    interval : tuple of float or None
        95 % credible interval of it, counting blocks and not tiles.
    recall, precision, f1 : mapping of class id to float
    calibration_error : float or None
        Expected calibration error over ten bins of confidence.
    temperature : float
        What to divide the classifier's scores by; 1 where there is no figure.
    n_labels, n_blocks, n_folds : int
    by : str
        "block" or "slide": what took turns.
    plan : Plan
    """

    reason: str | None
    classes: Index
    y_true: Index
    y_pred: Index
    probability: Scores
    confusion: Index
    balanced_accuracy: float | None
    interval: tuple[float, float] | None
    recall: Mapping[int, float]
    precision: Mapping[int, float]
    f1: Mapping[int, float]
    calibration_error: float | None
    temperature: float
    plan: Plan

    @property
    def n_labels(self) -> int:
        """How many labels were given."""
        return len(self.y_true)

    def cell(self, true: int, predicted: int) -> Index:
        """Return the rows (numbers of labels) in one cell of the confusion matrix."""
        if self.reason is not None:
            return np.empty(0, np.intp)
        return np.flatnonzero((self.y_true == true) & (self.y_pred == predicted))

    def summary(self) -> dict[str, Any]:
        """Return the figures as plain values for JSON, or the `reason` why there are none."""
        counts = {
            "n_labels": self.n_labels,
            "n_blocks": self.plan.n_blocks,
            "validated_by": self.plan.by,
        }
        if self.reason is not None or self.interval is None:
            return {"reason": self.reason, **counts}
        return {
            "balanced_accuracy": self.balanced_accuracy,
            "interval_95": list(self.interval),
            "f1": {str(c): v for c, v in self.f1.items()},
            "recall": {str(c): v for c, v in self.recall.items()},
            "precision": {str(c): v for c, v in self.precision.items()},
            "calibration_error": self.calibration_error,
            "classes": self.classes.tolist(),
            "confusion": self.confusion.tolist(),
            **counts,
        }


def evaluate(y: ArrayLike, plan: Plan, fit_score: FitScore) -> Evaluation:
    """Cross-validate by a plan.

    Parameters
    ----------
    y : array of shape (n,)
        Class id of each label.
    plan : Plan
        From `plan_folds` for the same labels.
    fit_score : callable
        Gets the rows to train on and the rows to score, gives scores (before the softmax), one
        column per class of `y` in ascending order.
    """
    classes, target = np.unique(np.asarray(y), return_inverse=True)
    n, k = len(target), len(classes)
    if plan.reason is not None:
        nothing = np.zeros((n, 0)), np.zeros((k, k), np.intp)
        given = classes[target]
        return Evaluation(
            plan.reason,
            classes,
            given,
            given[:0],
            *nothing,
            None,
            None,
            {},
            {},
            {},
            None,
            1.0,
            plan,
        )
    scores, probability = np.zeros((n, k)), np.zeros((n, k))
    for train, test in plan.folds:
        scores[test] = fit_score(train, test)
    tested = np.sort(np.concatenate([test for _, test in plan.folds]))
    for _, test in plan.folds:
        others = np.setdiff1d(tested, test)
        shared = _temperature_for(scores, target, plan.blocks, others)
        probability[test] = softmax(scores[test] / shared)
    predicted = np.full(n, UNTESTED)
    predicted[tested] = classes[scores[tested].argmax(axis=1)]
    confusion = np.zeros((k, k), np.intp)
    np.add.at(confusion, (target[tested], scores[tested].argmax(axis=1)), 1)
    recall, precision, f1 = _rates(confusion)
    ids = [int(c) for c in classes]
    return Evaluation(
        None,
        classes,
        classes[target],
        predicted,
        probability,
        confusion,
        float(recall.mean()),
        _interval(recall, blocks_per_class(target[tested], plan.blocks[tested], k)),
        dict(zip(ids, recall.tolist(), strict=True)),
        dict(zip(ids, precision.tolist(), strict=True)),
        dict(zip(ids, f1.tolist(), strict=True)),
        calibration_error(probability[tested], target[tested]),
        _temperature_for(scores, target, plan.blocks, tested),
        plan,
    )


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One point of the learning curve: labels per class, mean accuracy and its range over draws."""

    per_class: int
    balanced_accuracy: float
    low: float
    high: float


def learning_curve(
    y: ArrayLike,
    plan: Plan,
    fit_score: FitScore,
    *,
    sizes: Sequence[int] = (1, 2, 5, 10, 20),
    draws: int = 3,
    seed: int = 0,
) -> tuple[CurvePoint, ...]:
    """Tell how good the classifier would be with fewer labels per class, by the same plan.

    Sizes that the rarest class does not reach in half of the turns are left out. Empty where `plan`
    has a `reason`.
    """
    classes, target = np.unique(np.asarray(y), return_inverse=True)
    if plan.reason is not None:
        return ()
    k = len(classes)
    most = int(np.median([np.bincount(target[t], minlength=k).min() for t, _ in plan.folds]))
    tested = np.concatenate([test for _, test in plan.folds])
    rng = np.random.default_rng(seed)
    points = []
    for size in [s for s in sizes if s <= most]:
        found = []
        for _ in range(draws):
            predicted = np.empty(len(target), np.intp)
            for train, test in plan.folds:
                mixed = rng.permutation(train)
                some = np.concatenate([mixed[target[mixed] == c][:size] for c in range(k)])
                predicted[test] = np.asarray(fit_score(np.sort(some), test)).argmax(axis=1)
            right = predicted[tested] == target[tested]
            found.append(np.mean([right[target[tested] == c].mean() for c in range(k)]))
        points.append(CurvePoint(size, float(np.mean(found)), float(min(found)), float(max(found))))
    return tuple(points)


def softmax(scores: Scores) -> Scores:
    """Return probabilities of scores, row by row."""
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: Scores = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def fit_temperature(scores: Scores, target: ArrayLike, *, weight: float = 1.0) -> float:
    """Find what to divide scores by so that probabilities mean what they say.

    The likelihood is weighed against a prior around 1 (log-normal, width 0.5): with few labels the
    temperature stays near 1, with many it goes where they point.

    Parameters
    ----------
    scores : ndarray of shape (n, k)
        Of tiles that were not trained on.
    target : array of shape (n,)
        Column of the true class.
    weight : float
        How much a row counts, below 1 where rows are not independent.
    """
    rows, columns = np.arange(len(scores)), np.asarray(target, np.intp)
    candidates = np.exp(np.linspace(-2.0, 2.0, 81))
    losses = 0.5 * (np.log(candidates) / _PRIOR_WIDTH) ** 2
    for i, temperature in enumerate(candidates):
        chance = softmax(scores / temperature)[rows, columns]
        losses[i] -= weight * np.log(np.maximum(chance, 1e-12)).sum()
    return float(candidates[losses.argmin()])


def calibration_error(probability: Scores, target: ArrayLike, *, n_bins: int = _ECE_BINS) -> float:
    """Return the expected calibration error: mean distance of confidence from the share right."""
    confidence = probability.max(axis=1)
    right = probability.argmax(axis=1) == np.asarray(target)
    bins = np.minimum((confidence * n_bins).astype(np.intp), n_bins - 1)
    gap = np.bincount(bins, weights=right - confidence, minlength=n_bins)
    return float(np.abs(gap).sum() / len(confidence))


def _temperature_for(scores: Scores, target: Index, blocks: Index, rows: Index) -> float:
    weight = len(np.unique(blocks[rows])) / max(len(rows), 1)
    return fit_temperature(scores[rows], target[rows], weight=weight)


def _rates(confusion: Index) -> tuple[Scores, Scores, Scores]:
    hits = np.diag(confusion).astype(np.float64)
    said, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    recall, precision = hits / np.maximum(said, 1), hits / np.maximum(predicted, 1)
    return recall, precision, 2 * hits / np.maximum(said + predicted, 1)


def _interval(recall: Scores, n_blocks: Sequence[int]) -> tuple[float, float]:
    """Jeffreys' interval of the mean recall, with blocks and not tiles for trials.

    A bootstrap would call 3 of 3 certain. How many trials the mean over the classes is worth
    follows from its variance.
    """
    from scipy.special import betaincinv

    trials = np.asarray(n_blocks, np.float64)
    careful = (recall * trials + 0.5) / (trials + 1)
    variance = (careful * (1 - careful) / trials).sum() / len(trials) ** 2
    worth = careful.mean() * (1 - careful.mean()) / variance
    mean = recall.mean()
    hits, misses = mean * worth + 0.5, (1 - mean) * worth + 0.5
    low = 0.0 if mean <= 0 else float(betaincinv(hits, misses, 0.025))
    high = 1.0 if mean >= 1 else float(betaincinv(hits, misses, 0.975))
    return low, high
