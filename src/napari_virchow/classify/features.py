"""Embeddings made small and comparable, so that a classifier answers between two clicks.

An embedding has up to 2560 half-precision numbers; 100,000 of them are half a gigabyte, which no
processor reads between two frames. A `Projection` standardises each number with the statistics of
*all* embedded tiles (not only of the few labelled ones), keeps the leading principal directions and
gives every row the length 1. It is fitted once in the background and used for every click after.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_virchow.classify.processors import one_thread

Matrix = NDArray[np.float32]

N_FEATURES: Final = 256
N_COMPACT: Final = 32
FIT_ROWS: Final = 8192  # more rows change the leading directions less than they cost
MIN_ROWS: Final = 16  # below, neither means nor directions are worth anything
_CHUNK: Final = 4096
_TINY: Final = 1e-12


def as_rows(x: ArrayLike, *, dim: int | None = None, name: str = "X") -> NDArray[np.floating[Any]]:
    """Return `x` as a matrix of floats with one tile per row.

    Raises
    ------
    ValueError
        If `x` has not two axes, or not `dim` columns.
    """
    rows: NDArray[np.floating[Any]] = np.asarray(x)
    if rows.dtype.kind != "f":
        rows = rows.astype(np.float32)
    if rows.ndim != 2 or (dim is not None and rows.shape[1] != dim):
        wanted = "(n tiles, n features)" if dim is None else f"(n tiles, {dim})"
        raise ValueError(f"{name} should have the shape {wanted}, not {rows.shape}")
    return rows


@dataclass(frozen=True, eq=False, slots=True)
class Projection:
    """A fixed way from embeddings to features: standardise, turn, cut, give length 1.

    Parameters
    ----------
    mean : ndarray of shape (dim,), float32
        What is subtracted from each number.
    weights : ndarray of shape (dim, n_features), float32, or None
        Standardisation and principal directions in one. None keeps all numbers as they are, which
        is what fewer than 16 tiles allow.
    compact_scale : ndarray of shape (n_compact,), float32
        Scale of the leading features in `compact`.
    n_rows : int
        How many tiles it was fitted on.
    """

    mean: Matrix
    weights: Matrix | None
    compact_scale: Matrix
    n_rows: int

    @classmethod
    def fit(cls, x: ArrayLike, *, n_features: int = N_FEATURES, seed: int = 0) -> Self:
        """Fit to the embeddings of all tiles there are.

        Up to 8192 of the rows are used, evenly spread. The same rows give the same result.

        Parameters
        ----------
        x : array of shape (n, dim)
            Embeddings, float16 or float32; at least one row.
        n_features : int
            How many features to keep; fewer come back where there are fewer rows or numbers. With
            fewer rows than that nothing is lost for these rows: they span all the directions kept.
        seed : int
            For the random start of the search for directions.

        Raises
        ------
        ValueError
            If `x` is no matrix, has no rows or is not finite, or `n_features` is below 1.
        """
        rows = as_rows(x)
        if len(rows) == 0:
            raise ValueError("a projection needs at least one embedding, got none")
        if n_features < 1:
            raise ValueError(f"n_features must be at least 1, got {n_features}")
        n_total, dim = rows.shape
        some = rows[np.linspace(0, n_total - 1, min(n_total, FIT_ROWS)).astype(np.intp)]
        some = some.astype(np.float32)
        _check_finite(some)
        if n_total < MIN_ROWS:
            ones = np.ones(min(N_COMPACT, dim), np.float32)
            return cls(np.zeros(dim, np.float32), None, ones, n_total)
        mean, scale = _statistics(some)
        some -= mean
        some *= scale
        with one_thread():
            directions, spread = _principal(some, min(n_features, dim, len(some) - 1), seed)
        compact = 1 / np.sqrt(np.maximum(spread[:N_COMPACT], max(1e-3 * spread[0], _TINY)))
        weights = np.ascontiguousarray(scale[:, None] * directions)
        return cls(mean, weights, compact.astype(np.float32), n_total)

    @property
    def dim(self) -> int:
        """Numbers per embedding."""
        return len(self.mean)

    @property
    def n_features(self) -> int:
        """Features per tile."""
        return self.dim if self.weights is None else self.weights.shape[1]

    @property
    def identity(self) -> str:
        """Twelve hexadecimal digits that differ between different projections."""
        digest = hashlib.sha256(self.mean.tobytes())
        digest.update(b"" if self.weights is None else self.weights.tobytes())
        return digest.hexdigest()[:12]

    def transform(self, x: ArrayLike) -> Matrix:
        """Return the features of embeddings, (n, n_features) float32, each row of length 1.

        Raises
        ------
        ValueError
            If the rows have another length than `dim`, or are not finite.
        """
        rows = as_rows(x, dim=self.dim)
        out = np.empty((len(rows), self.n_features), np.float32)
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK].astype(np.float32)
            chunk -= self.mean
            into = out[start : start + _CHUNK]
            if self.weights is None:
                into[:] = chunk
            else:
                np.matmul(chunk, self.weights, out=into)
            _check_finite(into, first=start)
            _to_unit(into)
        return out

    def compact(self, features: Matrix) -> Matrix:
        """Return a shorter, half-whitened form of features, (n, ≤ 32) float32, rows of length 1.

        Distances between tiles are taken here: it finds classes that nobody labelled better than
        the features themselves do (`benchmarks/results/classify.md`), at an eighth of the cost.
        """
        out: Matrix = features[:, : len(self.compact_scale)] * self.compact_scale
        _to_unit(out)
        return out

    def outgrown(self, n_rows: int) -> bool:
        """Return True if there are now so many tiles that it is worth fitting anew.

        That is: twice as many as it was fitted on, as long as it was fitted on fewer than 8192.
        """
        return self.n_rows < FIT_ROWS and n_rows >= 2 * max(self.n_rows, MIN_ROWS // 2)


class FeatureBank:
    """The features of all embedded tiles of one slide, in the order they were appended.

    The projection never changes behind the caller: tiles that arrive are projected with the
    one there is. When `outgrown` turns true, call `fit` with all embeddings, in a worker; until it
    returns, the old features stay readable. Several slides share a projection by being given it.

    Every method may be called from any thread.

    Parameters
    ----------
    x : array of shape (n, dim), optional
        Embeddings to begin with.
    projection : Projection, optional
        Use this one; otherwise the first embeddings decide.
    n_features : int
        Features per tile, where a projection is fitted here.
    """

    def __init__(
        self,
        x: ArrayLike | None = None,
        *,
        projection: Projection | None = None,
        n_features: int = N_FEATURES,
    ) -> None:
        self._n_features = n_features
        self._lock = threading.Lock()
        self._n = 0
        self._projection = projection
        self._features, self._compact = _buffers(0, projection)
        if x is not None:
            self.append(x)

    def __len__(self) -> int:
        return self._n

    @property
    def projection(self) -> Projection | None:
        """The projection in use; None before the first embedding."""
        return self._projection

    @property
    def features(self) -> Matrix:
        """(n, n_features) float32, rows of length 1; a view that later calls leave unchanged."""
        with self._lock:
            return self._features[: self._n]

    @property
    def compact(self) -> Matrix:
        """(n, ≤ 32) float32, rows of length 1: see `Projection.compact`; a view."""
        with self._lock:
            return self._compact[: self._n]

    @property
    def outgrown(self) -> bool:
        """True if there are now so many tiles that `fit` should be called; see `Projection`."""
        return self._projection is not None and self._projection.outgrown(self._n)

    def snapshot(self) -> tuple[Projection, Matrix, Matrix]:
        """Return projection, features and compact features that belong together.

        Raises
        ------
        ValueError
            If nothing was appended yet.
        """
        with self._lock:
            if self._projection is None:
                raise ValueError("the bank is empty: append embeddings first")
            return self._projection, self._features[: self._n], self._compact[: self._n]

    def fit(self, x: ArrayLike, *, projection: Projection | None = None) -> Projection:
        """Begin anew: fit a projection to all embeddings (or take the given one), project them.

        `x` holds all rows of the bank, in their order; rows appended meanwhile must be in it or be
        appended again. Takes about a second per 100,000 rows of 2560.

        Raises
        ------
        ValueError
            As `Projection.fit` and `Projection.transform` do; the bank is then as it was before.
        """
        new = projection or Projection.fit(x, n_features=self._n_features)
        features = new.transform(x)
        compact = new.compact(features)
        with self._lock:
            self._projection, self._n = new, len(features)
            self._features, self._compact = features, compact
        return new

    def append(self, x: ArrayLike) -> slice:
        """Add the embeddings of more tiles; returns the rows they have got.

        Raises
        ------
        ValueError
            If `x` does not fit what is there or is not finite; nothing is added then.
        """
        rows = as_rows(x)
        if len(rows) == 0:
            return slice(self._n, self._n)
        projection = self._projection
        if projection is None:
            projection = Projection.fit(rows, n_features=self._n_features)
        features = projection.transform(rows)
        compact = projection.compact(features)
        with self._lock:
            if self._projection not in (None, projection):
                raise ValueError("the bank was fitted anew meanwhile: append these rows again")
            if self._projection is None:
                self._projection = projection
                self._features, self._compact = _buffers(0, projection)
            start, stop = self._n, self._n + len(features)
            self._features = _grown(self._features, start, stop)
            self._compact = _grown(self._compact, start, stop)
            self._features[start:stop] = features
            self._compact[start:stop] = compact
            self._n = stop
        return slice(start, stop)


def _buffers(n: int, projection: Projection | None) -> tuple[Matrix, Matrix]:
    wide = 0 if projection is None else projection.n_features
    small = 0 if projection is None else len(projection.compact_scale)
    return np.empty((n, wide), np.float32), np.empty((n, small), np.float32)


def _grown(buffer: Matrix, used: int, wanted: int) -> Matrix:
    if wanted <= len(buffer):
        return buffer
    larger = np.empty((max(wanted, 2 * len(buffer), 256), buffer.shape[1]), np.float32)
    larger[:used] = buffer[:used]
    return larger


def _check_finite(rows: Matrix, *, first: int = 0) -> None:
    total = rows.sum(axis=1)  # a NaN or an infinity anywhere in a row shows in its sum
    if not np.isfinite(total).all():
        row = first + int(np.flatnonzero(~np.isfinite(total))[0])
        raise ValueError(f"embedding {row} is not finite (a tile that was not computed?)")


def _to_unit(rows: Matrix) -> None:
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    rows /= np.maximum(norms, _TINY)[:, None]


def _statistics(rows: Matrix) -> tuple[Matrix, Matrix]:
    """Mean and one over the standard deviation of each column; 0 for columns that never change."""
    mean = rows.mean(axis=0, dtype=np.float64)
    deviation = rows.std(axis=0, dtype=np.float64)
    alive = deviation > 1e-6 * (np.abs(mean) + 1e-3)
    scale = np.where(alive, 1 / np.where(alive, deviation, 1), 0)
    return mean.astype(np.float32), scale.astype(np.float32)


def _principal(rows: Matrix, n: int, seed: int) -> tuple[Matrix, Matrix]:
    """Leading directions (dim, n) of centred rows and the spread along each, largest first.

    A randomised search (Halko, Martinsson & Tropp, 2011): three passes over the rows instead of a
    decomposition that grows with the cube of `dim`.
    """
    if min(rows.shape) <= 2 * n:
        _, spread, directions = np.linalg.svd(rows, full_matrices=False)
    else:
        start = np.random.default_rng(seed).standard_normal((rows.shape[1], n + 16))
        basis = rows @ start.astype(np.float32)
        for _ in range(2):
            basis = rows @ (rows.T @ np.linalg.qr(basis)[0])
        basis = np.linalg.qr(basis)[0]
        _, spread, directions = np.linalg.svd(basis.T @ rows, full_matrices=False)
    spread = spread[:n] / np.sqrt(len(rows))
    kept = np.maximum(1, np.count_nonzero(spread > 1e-5 * spread[0]))
    directions = directions[:kept].T
    # The sign of a direction is arbitrary: fix it, so that machines agree.
    sign = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(kept)])
    return (directions * np.where(sign == 0, 1, sign)).astype(np.float32), spread[:kept]
