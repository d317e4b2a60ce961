"""The embeddings that live classification works on: the grid in focus, and labels elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_virchow.classify.features import FeatureBank, Matrix, Projection
from napari_virchow.labels.edits import LabelRow
from napari_virchow.tiles import Tile, TileGrid
from napari_virchow.training import TrainingError, stored_of

if TYPE_CHECKING:
    from napari_virchow.slide import Slide


class Source(Protocol):
    """Where embeddings come from: a `Session`."""

    def embeddings(
        self, slide: Slide, mpp: float, tiles: Sequence[Tile] | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float16]]: ...

    def tissue(self, slide: Slide, grid: TileGrid) -> NDArray[np.bool_]: ...


class GridBank:
    """The features of all embedded tiles of one grid, and where each of them is.

    Parameters
    ----------
    projection : Projection or None
        Use this one, a loaded classifier's; None fits one to what is embedded.
    """

    def __init__(
        self,
        source: Source,
        slide: Slide,
        grid: TileGrid,
        encoder: str,
        projection: Projection | None = None,
    ) -> None:
        self._source, self.slide, self.grid, self.encoder = source, slide, grid, encoder
        self._given = projection
        self._bank = FeatureBank()
        self._place = np.full(grid.shape, -1, np.int32)
        self.tiles = np.empty((0, 2), np.int32)
        self.glass = np.empty(0, np.bool_)
        self._tissue = source.tissue(slide, grid)
        self.load()

    def __len__(self) -> int:
        return len(self.tiles)

    def fits(self, slide: Slide, grid: TileGrid, encoder: str, given: Projection | None) -> bool:
        """Say whether it is of this grid, encoder and given projection."""
        mine = (self.slide, self.grid, self.encoder)
        return mine == (slide, grid, encoder) and self._given is given

    def load(self) -> None:
        """Begin anew with all that is embedded now."""
        tiles, matrix = self._source.embeddings(self.slide, self.grid.mpp)
        finite = np.isfinite(matrix[:, 0])  # a damaged block reads as NaN until it is repaired
        if not finite.all():  # else a copy: of 5 GB for a million tiles
            tiles, matrix = tiles[finite], matrix[finite]
        if len(tiles):
            self._bank.fit(matrix, projection=self._given)
        self._take(tiles, first=True)

    def add(self, tiles: Iterable[Tile]) -> None:
        """Take in tiles that were embedded since; all anew where the projection is outgrown."""
        new = [t for t in dict.fromkeys(tiles) if self._place[t.row, t.col] < 0]
        if not new:
            return
        if len(self) == 0 or (self._given is None and self._bank.outgrown):
            self.load()
            return
        at, matrix = self._source.embeddings(self.slide, self.grid.mpp, new)
        self._bank.append(matrix)
        self._take(at, first=False)

    def snapshot(self) -> tuple[Projection, Matrix, Matrix]:
        """Return projection, features and compact features of `tiles`."""
        return self._bank.snapshot()

    def row(self, tile: Tile) -> int:
        """Return the row of a tile, -1 if it is not embedded."""
        inside = tile.row < self.grid.shape[0] and tile.col < self.grid.shape[1]
        return int(self._place[tile.row, tile.col]) if inside else -1

    def _take(self, tiles: NDArray[np.int32], *, first: bool) -> None:
        if first:
            self._place[:] = -1
        old = self.tiles[:0] if first else self.tiles
        self.tiles = np.concatenate([old, tiles])
        self._place[tiles[:, 0], tiles[:, 1]] = np.arange(len(old), len(self.tiles))
        self.glass = ~self._tissue[self.tiles[:, 0], self.tiles[:, 1]]


class Elsewhere:
    """Embeddings of labelled tiles on slides that are not in focus, read once each."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._known: dict[tuple[str, str, str, Tile], NDArray[np.float16]] = {}
        self._tried: set[tuple[str, str, str, Tile]] = set()
        self.grids: dict[tuple[str, str], TileGrid] = {}  # of slides and grid names found so far

    def forget(self, slide: str) -> None:
        """Look again at a slide, as more of it is embedded now."""
        self._tried = {key for key in self._tried if key[0] != slide}

    def find(self, rows: Sequence[LabelRow], encoder: str) -> dict[int, NDArray[np.float16]]:
        """Return the embeddings of those rows that have one, by their number."""
        keys = [(row.slide, row.grid, encoder, row.tile) for row in rows]
        new = [key for key in keys if key not in self._tried]
        for slide, grid in sorted({key[:2] for key in new}):
            try:
                stored = stored_of(self._store, slide, encoder, grid)
            except TrainingError:  # not embedded by this encoder: those labels wait
                continue
            self.grids[slide, grid] = stored.grid
            place = {Tile(*at): n for n, at in enumerate(stored.tiles.tolist())}
            for key in (key for key in new if key[:2] == (slide, grid) and key[3] in place):
                self._known[key] = stored.matrix[place[key[3]]].copy()
        self._tried.update(new)
        return {n: self._known[key] for n, key in enumerate(keys) if key in self._known}
