"""How embeddings are compared: as they are, centred, whitened, or by their class token only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.classify.features import Projection
from napari_virchow.search.products import dot, single

if TYPE_CHECKING:
    from torch import Tensor

    from napari_virchow.search.axes import Axes
    from napari_virchow.search.facts import Options

    Half = tuple[Tensor, np.float32, np.float32]

Vector = NDArray[np.float32]
Matrix = NDArray[np.float32]
CLASS_AND_MEAN = "class+mean"
_CHUNK = 256  # rows converted to float32 at a time: they stay in the processor's cache
_TINY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """A linear view of embeddings x, f(x) = A (x - b), in which the cosine is taken.

    As it is linear, the scores of all tiles are one product of the stored numbers with one vector,
    whatever is chosen: no second copy of the embeddings is kept.

    Parameters
    ----------
    name : str
        Tells one space from another; norms are kept under it.
    mean : ndarray of shape (dim,), optional
        b; zero if left out.
    weights : ndarray of shape (dim, n), optional
        The transpose of A; the identity if left out.
    columns : int, optional
        Only so many leading numbers count.
    """

    name: str
    mean: Vector | None = None
    weights: Matrix | None = None
    columns: int | None = None

    def features(self, x: NDArray[np.floating[Any]]) -> Matrix:
        """Return f(x) of embeddings (n, dim), each of length 1, or 0 where it has no direction."""
        rows = self._raw(x)
        rows *= _inverse_lengths(rows)[:, None]
        return rows

    def norms(self, x: NDArray[np.floating[Any]]) -> Vector:
        """Return 1 / |f(x)| of each row, 0 where that has no direction."""
        out = np.empty(len(x), np.float32)
        for start in range(0, len(x), _CHUNK):
            out[start : start + _CHUNK] = _inverse_lengths(self._raw(x[start : start + _CHUNK]))
        return out

    def probe(self, direction: Vector, dim: int) -> Probe:
        """Return what scores embeddings of `dim` numbers by f(x) · direction / |f(x)|."""
        w = np.zeros(dim, np.float32)
        w[: self.columns] = direction if self.weights is None else dot(self.weights, direction)
        return Probe(self, direction, w, 0.0 if self.mean is None else -float(self.mean @ w))

    def _raw(self, x: NDArray[np.floating[Any]]) -> Matrix:
        rows = single(x[:, : self.columns])
        if self.mean is not None:
            rows -= self.mean[: self.columns]
        return rows if self.weights is None else dot(rows, self.weights)


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A direction of a space, ready to be multiplied with stored embeddings.

    Parameters
    ----------
    direction : ndarray of shape (n_features,)
        Of length 1, in the space.
    w : ndarray of shape (dim,)
        And `offset`: f(x) · direction = x · w + offset.
    """

    space: Space
    direction: Vector
    w: Vector
    offset: float
    _halves: dict[int, Half] = field(default_factory=dict, repr=False)

    def half(self, axes: Axes | None) -> Half:
        """Return (v, length, offset), v in half precision and of length 1, for quick products.

        f(x) · direction = length · (x · v) + offset; with axes, x is what `Axes.short` returns.
        """
        known = self._halves.get(id(axes))
        if known is not None:
            return known
        import torch

        w, offset = self.w, self.offset
        if axes is not None:
            w, offset = dot(axes.directions.T, w), offset + float(axes.mean @ w)
        length = max(float(np.linalg.norm(w)), _TINY)
        half = torch.from_numpy((w / length).astype(np.float16))
        made = self._halves[id(axes)] = half, np.float32(length), np.float32(offset)
        return made

    def exact(self, x: NDArray[np.floating[Any]]) -> Vector:
        """Return the scores of embeddings (n, dim) in single precision."""
        return dot(self.space.features(x), self.direction)


def make_space(options: Options, pooling: str, sample: NDArray[np.floating[Any]]) -> Space:
    """Return the space that options ask for.

    Parameters
    ----------
    options : Options
        `center`, `whiten` and `class_token_only` count.
    pooling : str
        Of the embeddings: "class+mean" has a class token to compare alone.
    sample : ndarray of shape (n, dim)
        Some embeddings of the store, to find mean and principal directions.

    Raises
    ------
    ValueError
        If only class tokens are wanted where embeddings have no such part.
    """
    name = space_name(options)
    columns = None
    if options.class_token_only and pooling != "class":
        if pooling != CLASS_AND_MEAN:
            raise ValueError(
                f"Embeddings of the kind {pooling} have no class token: switch off “class token "
                "only”."
            )
        columns = sample.shape[1] // 2
    if not (options.center or options.whiten) or len(sample) == 0:
        return Space(name, columns=columns)
    part = sample[:, :columns]
    mean = np.zeros(sample.shape[1], np.float32)
    mean[: part.shape[1]] = part.mean(axis=0, dtype=np.float64)
    if not options.whiten:
        return Space(name, mean, columns=columns)
    return Space(name, mean, whitening(part), columns)


def space_name(options: Options) -> str:
    """Return the name of the space that options ask for."""
    how = "white" if options.whiten else "centred" if options.center else "plain"
    return f"{how}-class" if options.class_token_only else how


def _inverse_lengths(rows: Matrix) -> Vector:
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return np.where(lengths > _TINY, 1 / np.maximum(lengths, _TINY), 0).astype(np.float32)


def whitening(sample: NDArray[np.floating[Any]]) -> Matrix | None:
    """Return weights (dim, n) that turn to principal directions of unit spread; None if too few."""
    projection = Projection.fit(sample)
    if projection.weights is None:
        return None
    turned = (sample.astype(np.float32) - projection.mean) @ projection.weights
    spread = turned.std(axis=0)
    # Shrunk, as directions of little spread are mostly noise: they must not count like the rest.
    weights: Matrix = projection.weights / np.sqrt(spread**2 + float(np.mean(spread**2)))
    return weights
