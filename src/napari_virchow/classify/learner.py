"""What is learned from labelled features: scores per class, and how far alike tiles lie apart."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_virchow.classify.features import Matrix
from napari_virchow.classify.folds import Index
from napari_virchow.classify.metrics import FitScore
from napari_virchow.classify.processors import one_thread

STRENGTH: Final = 30.0  # scikit-learn's C, for features of length 1
MAX_EXAMPLES: Final = 256
_MAX_ITERATIONS: Final = 1000
# What cosine distances between alike tiles are taken to be before labels tell: mean, width, and
# how many labels that guess is worth.
_GUESS_MEAN: Final = 0.4
_GUESS_WIDTH: Final = 0.18
_GUESS_WORTH: Final = 4.0
_MIN_WIDTH: Final = 0.02
_ABSENT: Final = -30.0  # score of a class that a turn of the cross-validation never saw


def fit_linear(
    features: Matrix, target: Index, n_classes: int, *, strength: float = STRENGTH
) -> tuple[Matrix, NDArray[np.float32], bool]:
    """Fit multinomial logistic regression in which each class weighs the same.

    Parameters
    ----------
    features : ndarray of shape (n, p), float32
        Rows of length 1.
    target : ndarray of shape (n,)
        Column of the class, each of 0 … n_classes - 1 at least once.
    n_classes : int
        With one, the weights are the mean direction of the rows.
    strength : float
        Inverse of the regularisation, scikit-learn's C.

    Returns
    -------
    weights : ndarray of shape (n_classes, p), float32
    bias : ndarray of shape (n_classes,), float32
    converged : bool
    """
    if n_classes == 1:
        mean = features.mean(axis=0, dtype=np.float64)
        unit = mean / max(float(np.linalg.norm(mean)), 1e-12)
        return unit[None].astype(np.float32), np.zeros(1, np.float32), True
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=_MAX_ITERATIONS)
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told by what is returned
        model.fit(features, target)
    weights, bias = model.coef_, model.intercept_
    if n_classes == 2:  # scikit-learn keeps one row for two classes
        weights, bias = np.vstack([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    converged = bool(np.max(model.n_iter_) < _MAX_ITERATIONS)
    # In rows, as a saved classifier has them: a product rounds otherwise in columns.
    return weights.astype(np.float32, order="C"), bias.astype(np.float32), converged


def scorer(features: Matrix, y: ArrayLike) -> FitScore:
    """Return what `evaluate` and `learning_curve` call: fit on some rows, score others."""
    classes, target = np.unique(np.asarray(y), return_inverse=True)

    def fit_score(train: Index, test: Index) -> NDArray[np.floating[Any]]:
        scores = np.full((len(test), len(classes)), _ABSENT)
        seen, columns = np.unique(target[train], return_inverse=True)
        if len(seen) == 1:
            scores[:, seen] = 0
        elif len(seen):
            weights, bias, _ = fit_linear(features[train], columns, len(seen))
            scores[:, seen] = features[test] @ weights.T + bias
        return scores

    return fit_score


def spread(compact: Matrix, target: Index, blocks: Index) -> tuple[float, float]:
    """Tell how far a labelled tile usually is from the nearest other one of its class.

    Parameters
    ----------
    compact : ndarray of shape (n, q), float32
        Rows of length 1.
    target, blocks : ndarray of shape (n,)
        Class and block of each; tiles of the same block are not compared.

    Returns
    -------
    mean, width : float
        Of the cosine distance; a guess where labels are too few to tell.
    """
    some = np.linspace(0, len(compact) - 1, min(len(compact), 1024)).astype(np.intp)
    rows, kind, block = compact[some], target[some], blocks[some]
    distance = 1 - rows @ rows.T
    distance[(kind[:, None] != kind) | (block[:, None] == block)] = np.inf
    nearest = distance.min(axis=1)
    found = nearest[np.isfinite(nearest)].astype(np.float64)
    worth = _GUESS_WORTH + len(found)
    mean = (_GUESS_WORTH * _GUESS_MEAN + found.sum()) / worth
    square = _GUESS_WORTH * _GUESS_WIDTH**2 + ((found - mean) ** 2).sum()
    return float(mean), max(float(np.sqrt(square / worth)), _MIN_WIDTH)


def examples(compact: Matrix, limit: int = MAX_EXAMPLES) -> Matrix:
    """Return at most `limit` rows that lie as far from one another as rows can."""
    if len(compact) <= limit:
        return compact.copy()
    chosen = np.zeros(limit, np.intp)
    closest = compact @ compact[0]
    for i in range(1, limit):
        chosen[i] = closest.argmin()
        np.maximum(closest, compact @ compact[chosen[i]], out=closest)
    return compact[chosen]
