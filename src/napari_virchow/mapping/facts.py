"""What a map of embeddings says: plain frozen facts, passed along by signals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_virchow.tiles import Tile, TileGrid

Task = Literal["map", "umap", "clusters"]
Method = Literal["k-means", "HDBSCAN"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which tiles are mapped: those at `mpp` µm per pixel of some slides, by identity; None: of
    all slides in the store."""

    mpp: float
    slides: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class MappedSlide:
    """A slide on the map; `path` is where it was last, empty if that is not known."""

    identity: str
    name: str
    path: str
    grid: TileGrid


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """The tiles of a map and where principal components put them.

    Tiles are in random order, so that the first of them are a fair sample of all.

    Parameters
    ----------
    generation : int
        Of the request it answers; arrangements and clusters of it carry the same one.
    encoder : str
        Identity.
    slide : ndarray of shape (n,), int32
        Place in `slides` of each tile.
    tiles : ndarray of shape (n, 2), int32
        Row and column of each tile.
    features : ndarray of shape (n, ≤ 32), float32
        What UMAP and clusters work on: half-whitened principal components, rows of length 1.
    xy : ndarray of shape (n, 2), float32
        The first two principal components.
    n_total : int
        How many tiles are stored; more than n where a sample had to do.
    seconds : float
        From taking up the request to the answer.
    """

    generation: int
    scope: Scope
    encoder: str
    slides: tuple[MappedSlide, ...]
    slide: NDArray[np.int32]
    tiles: NDArray[np.int32]
    features: NDArray[np.float32]
    xy: NDArray[np.float32]
    n_total: int
    seconds: float

    def __len__(self) -> int:
        return len(self.slide)

    def number(self, identity: str) -> int:
        """Return a slide's place in `slides`, -1 if it is not on the map."""
        return next((n for n, one in enumerate(self.slides) if one.identity == identity), -1)

    def tile(self, row: int) -> tuple[MappedSlide, Tile]:
        """Return slide and tile of a row."""
        return self.slides[self.slide[row]], Tile(*self.tiles[row].tolist())

    def rows_on(self, identity: str) -> NDArray[np.intp]:
        """Return the rows of one slide's tiles."""
        return np.flatnonzero(self.slide == self.number(identity))

    def raster(
        self, identity: str, values: NDArray[np.int32], empty: int = -1
    ) -> NDArray[np.int32]:
        """Lay values, one for each tile of the map, out as a slide's grid (rows, cols)."""
        out = np.full(self.slides[self.number(identity)].grid.shape, empty, np.int32)
        rows = self.rows_on(identity)
        out[self.tiles[rows, 0], self.tiles[rows, 1]] = values[rows]
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Arrangement:
    """Another place for every tile of a map, (n, 2) float32, by UMAP.

    Only `n_fitted` tiles were arranged where that is less than n; the others lie between the three
    of them that are most alike.
    """

    generation: int
    xy: NDArray[np.float32]
    n_fitted: int
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Groups of alike tiles.

    Parameters
    ----------
    cluster : ndarray of shape (n,), int32
        Of each tile on the map, from 1, the largest first; 0 where HDBSCAN found none.
    n_clusters : int
        How many there are.
    n_fitted : int
        How many tiles they were found on; the others joined the cluster of the most alike of them.
    """

    generation: int
    method: Method
    cluster: NDArray[np.int32]
    n_clusters: int
    n_fitted: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """A cluster as a class to be: its tiles, and a few rows of the map that stand for it."""

    cluster: int
    name: str
    n_tiles: int
    representatives: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MapProgress:
    """How far a task has come; `total` is 0 where that is not known."""

    task: Task
    done: int
    total: int
    text: str
