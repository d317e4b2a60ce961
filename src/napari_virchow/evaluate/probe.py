"""What an encoder is asked: linear probe, nearest neighbours, few labels, retrieval, genes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_virchow.evaluate.folds import Fold, hold_out
from napari_virchow.evaluate.scores import confusion, weighted_f1

Codes = NDArray[np.intp]
Features = NDArray[np.float32]
# C of the logistic regression, the likely ones first: of equals the first is taken.
STRENGTHS = (1e-1, 1e-2, 1.0, 1e-3, 1e-4)
CHOOSING = 20_000  # training tiles at most while C is chosen
NEIGHBOURS = 20
TEMPERATURE = 0.07  # of the neighbours' votes, as in DINO
HITS = 10
QUERIES, GALLERY = 2_000, 20_000
_ITERATIONS = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A linear classifier of embeddings, with the scale of its training tiles."""

    predict: Callable[[Features], Codes]
    strength: float


def linear_probe(x: Features, y: Codes, fold: Fold, groups: NDArray[np.str_] | None) -> Probe:
    """Fit logistic regression on z-scored embeddings of the training tiles of a fold.

    C is the one that does best on the validation tiles; where none are published, on a fifth of
    the training tiles, whole patients or slides where they are known.
    """
    train, valid = fold.train, fold.valid
    if len(valid) == 0:
        train, valid = hold_out(train, y, groups)
    if len(train) > CHOOSING:
        train = np.random.default_rng(0).choice(train, CHOOSING, replace=False)
    strength = STRENGTHS[0]
    if len(valid) and len(np.unique(y[train])) > 1:
        results = [
            float(weighted_f1(confusion(y[valid], _fit(x[train], y[train], c)(x[valid]), _k(y))))
            for c in STRENGTHS
        ]
        strength = STRENGTHS[int(np.argmax(results))]
    return Probe(_fit(x[fold.train], y[fold.train], strength), strength)


def neighbours(x: Features, y: Codes, fold: Fold) -> Codes:
    """Predict the test tiles of a fold by their nearest training tiles, by cosine."""
    scores = _unit(x[fold.test]) @ _unit(x[fold.train]).T
    k = min(NEIGHBOURS, len(fold.train))
    nearest = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    close = np.take_along_axis(scores, nearest, axis=1)
    votes = np.exp((close - close.max(1, keepdims=True)) / TEMPERATURE)
    total = np.zeros((len(fold.test), _k(y)))
    np.add.at(total, (np.arange(len(fold.test))[:, None], y[fold.train][nearest]), votes)
    return np.asarray(total.argmax(1), np.intp)


def few_labels(x: Features, y: Codes, fold: Fold, n: int, seed: int) -> float | None:
    """Return the weighted F1 on the test tiles after training on `n` labels per class.

    Embeddings are z-scored with all training tiles, as click-to-label does with all tiles of a
    slide. None where a class has fewer than `n` training tiles.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for code in np.unique(y[fold.train]):
        members = fold.train[y[fold.train] == code]
        if len(members) < n:
            return None
        chosen.append(rng.choice(members, n, replace=False))
    train = np.concatenate(chosen)
    mean, std = _scale(x[fold.train])
    predict = _regression((x[train] - mean) / std, y[train], 1.0)
    return float(weighted_f1(confusion(y[fold.test], predict((x[fold.test] - mean) / std), _k(y))))


def retrieval(x: Features, y: Codes, fold: Fold) -> tuple[Features, Features]:
    """Search each test tile among the training tiles; return precision@10 and average precision.

    At most `QUERIES` test tiles are searched among at most `GALLERY` training tiles.
    """
    rng = np.random.default_rng(0)
    queries = rng.permutation(fold.test)[:QUERIES]
    gallery = rng.permutation(fold.train)[:GALLERY]
    order = np.argsort(-(_unit(x[queries]) @ _unit(x[gallery]).T), axis=1, kind="stable")
    hits = y[gallery][order] == y[queries][:, None]
    precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
    average = (precision * hits).sum(1) / np.maximum(hits.sum(1), 1)
    return hits[:, :HITS].mean(1).astype(np.float32), average.astype(np.float32)


def gene_correlation(x: Features, targets: Features, fold: Fold) -> float:
    """Predict genes with a random forest; return the mean Pearson r of the genes.

    Embeddings are reduced to at most 256 principal components first, as HEST does.
    """
    from sklearn.decomposition import PCA
    from sklearn.ensemble import RandomForestRegressor

    mean, std = _scale(x[fold.train])
    scaled = (x - mean) / std
    n = min(256, len(fold.train), x.shape[1])
    reduced = PCA(n, random_state=0).fit(scaled[fold.train]).transform(scaled)
    forest = RandomForestRegressor(70, max_features="sqrt", random_state=0, n_jobs=2)
    said = forest.fit(reduced[fold.train], targets[fold.train]).predict(reduced[fold.test])
    truth = targets[fold.test]
    said, truth = said - said.mean(0), truth - truth.mean(0)
    spread = np.sqrt((said**2).sum(0) * (truth**2).sum(0))
    r = (said * truth).sum(0) / np.where(spread > 0, spread, 1)
    return float(r.mean())


def _fit(x: Features, y: Codes, strength: float) -> Callable[[Features], Codes]:
    mean, std = _scale(x)
    predict = _regression((x - mean) / std, y, strength)
    return lambda other: predict((other - mean) / std)


def _regression(x: Features, y: Codes, strength: float) -> Callable[[Features], Codes]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(y)) == 1:
        return lambda other: np.full(len(other), y[0], np.intp)
    model = LogisticRegression(C=strength, max_iter=_ITERATIONS)
    with warnings.catch_warnings():
        # A weakly regularised fit may stop early; then another C wins the choice.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    return lambda other: np.asarray(model.predict(other), np.intp)


def _scale(x: Features) -> tuple[Features, Features]:
    std = x.std(0)
    return x.mean(0), np.where(std > 1e-6, std, 1).astype(np.float32)


def _unit(x: Features) -> Features:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.maximum(norm, 1e-12), np.float32)


def _k(y: Codes) -> int:
    return int(y.max()) + 1
