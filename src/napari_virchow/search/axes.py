"""The leading directions of embeddings: what is kept in memory where not all of them fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.blocks import BLOCK, DamagedBlockError, block_name, block_of, read_rows
from napari_virchow.search.products import dot, single

N_AXES = 192
SAMPLE = 8192
_SAMPLE_BLOCKS = 1024  # blocks that are looked into: many, as neighbours look alike
_CHUNK = 8192


@dataclass(frozen=True, slots=True, eq=False)
class Axes:
    """A mean and directions, found on a sample of the stores.

    Parameters
    ----------
    mean : ndarray of shape (dim,), float32
        Of the sample.
    directions : ndarray of shape (dim, n_axes), float32
        Orthonormal, those of most spread first.
    n_bytes : int
        Size of the stores that the sample is of.
    """

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    n_bytes: int

    @classmethod
    def fit(cls, sample: NDArray[np.floating[Any]], n_bytes: int) -> Axes:
        """Find the axes of some embeddings (n, dim), n >= 2."""
        from sklearn.decomposition import PCA

        n = min(N_AXES, sample.shape[1], len(sample) - 1)
        pca = PCA(n, svd_solver="randomized", random_state=0)
        pca.fit(sample.astype(np.float32))
        directions = np.ascontiguousarray(pca.components_.T, np.float32)
        return cls(pca.mean_.astype(np.float32), directions, n_bytes)

    def short(self, rows: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
        """Return the coordinates of embeddings (n, dim) on the axes: (n, n_axes), float16."""
        out = np.empty((len(rows), self.directions.shape[1]), np.float16)
        for start in range(0, len(rows), _CHUNK):
            chunk = single(rows[start : start + _CHUNK])
            chunk -= self.mean
            out[start : start + _CHUNK] = dot(chunk, self.directions)
        return out

    def long(self, short: NDArray[np.float16]) -> NDArray[np.float32]:
        """Return the embeddings that `short` made short, as nearly as they are known: (n, dim)."""
        rows = dot(single(short), self.directions.T)
        rows += self.mean
        return rows


def sample_stores(paths: Sequence[Path], dim: int) -> NDArray[np.float16]:
    """Return up to 8,192 embeddings, spread evenly over the blocks of some stores."""
    blocks = [(path, block) for path in paths for block in blocks_of(path)]
    chosen = np.linspace(0, len(blocks) - 1, min(len(blocks), _SAMPLE_BLOCKS)).astype(np.intp)
    n_rows = min(BLOCK * BLOCK, -(-SAMPLE // max(1, len(chosen))))
    within = np.linspace(0, BLOCK * BLOCK - 1, n_rows).astype(np.intp)
    places = np.stack([within // BLOCK, within % BLOCK], 1)
    parts = [np.empty((0, dim), np.float16)]
    for number in chosen.tolist():
        path, block = blocks[number]
        try:
            rows = read_rows(path / block_name(*block), places, dim)
        except (OSError, DamagedBlockError):
            continue
        parts.append(rows[~np.isnan(rows[:, 0])])
    return np.concatenate(parts)


def stored_bytes(paths: Sequence[Path], dim: int) -> int:
    """Return about how large the embeddings of some stores are."""
    return sum(len(blocks_of(path)) for path in paths) * BLOCK * BLOCK * dim * 2


def blocks_of(path: Path) -> list[tuple[int, int]]:
    """List the blocks of a store, in order."""
    found = (block_of(file.name) for file in path.iterdir())
    return sorted(block for block in found if block is not None)
