"""From examples to a direction, and from scores to hits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.search.products import dot

Matrix = NDArray[np.float32]
VARIED = 256  # hits that are put in order of variety; the rest follow by score
VARIETY = 0.5  # how much being unlike earlier hits counts against the score


def direction(positives: Matrix, negatives: Matrix, negative_weight: float) -> NDArray[np.float32]:
    """Return the direction to look in: Rocchio's formula on rows of length 1.

    q = mean(positives) - γ · mean(negatives), made length 1, so that the dot product with a tile's
    row is its score in [-1, 1]. With one positive and no negative it is the cosine similarity.
    (J. J. Rocchio, Relevance feedback in information retrieval, in: The SMART Retrieval System,
    1971; without his first term, as the first query is an example itself.)

    Parameters
    ----------
    positives, negatives : ndarray of shape (n, n_features)
        Rows of length 1; at least one positive.
    negative_weight : float
        γ.

    Raises
    ------
    ValueError
        If there is no positive, or nothing is left of it.
    """
    if len(positives) == 0:
        raise ValueError("A search needs a positive example.")
    found = positives.mean(axis=0)
    if len(negatives):
        found = found - negative_weight * negatives.mean(axis=0)
    norm = float(np.linalg.norm(found))
    if not norm > 1e-6:
        raise ValueError(
            "The examples cancel each other out: remove a negative example that equals a positive."
        )
    result: NDArray[np.float32] = (found / norm).astype(np.float32)
    return result


def best(scores: NDArray[np.floating[Any]], n: int) -> NDArray[np.intp]:
    """Return the rows of the `n` highest scores, best first; -inf is never among them."""
    n = min(n, len(scores))
    if n == 0:
        return np.empty(0, np.intp)
    top = np.argpartition(scores, len(scores) - n)[len(scores) - n :]
    top = top[np.lexsort((top, -scores[top]))]
    return top[scores[top] > -np.inf]


def apart(of: NDArray[np.integer[Any]], tiles: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Say which tiles, best first, do not touch a better one that was kept (also at a corner).

    Parameters
    ----------
    of : ndarray of shape (n,)
        Number of each tile's slide.
    tiles : ndarray of shape (n, 2)
        Row and column.
    """
    keep = np.zeros(len(tiles), np.bool_)
    taken: set[tuple[int, int, int]] = set()
    places = zip(of.tolist(), tiles[:, 0].tolist(), tiles[:, 1].tolist(), strict=True)
    for number, (slide, row, col) in enumerate(places):
        if (slide, row, col) in taken:
            continue
        keep[number] = True
        taken.update((slide, row + r, col + c) for r in (-1, 0, 1) for c in (-1, 0, 1))
    return keep


def varied(features: Matrix, scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """Order hits so that each is good and unlike those before it.

    Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998): next comes the hit with the
    highest score minus its highest similarity to a hit that is already placed, weighed equally.

    Parameters
    ----------
    features : ndarray of shape (n, n_features)
        Rows of length 1 of the first hits.
    scores : ndarray of shape (m,)
        Of all hits, m >= n; those without features follow in the order they have.

    Returns
    -------
    ndarray of shape (m,), intp
    """
    n = len(features)
    like = dot(features, features.T)
    nearest = np.full(n, -1.0, np.float32)
    value = (1 - VARIETY) * scores[:n]
    order = np.empty(len(scores), np.intp)
    for place in range(n):
        number = int(np.argmax(value - VARIETY * nearest))
        order[place], value[number] = number, -np.inf
        np.maximum(nearest, like[number], out=nearest)
    order[n:] = np.arange(n, len(scores))
    return order
