"""The embeddings of one slide in memory, ready to be searched, and kept true to the disk."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.blocks import BLOCK, DamagedBlockError, block_name, by_block, read_rows
from napari_virchow.layout import read_facts
from napari_virchow.search.axes import Axes
from napari_virchow.search.space import CLASS_AND_MEAN, Probe, Space
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Tile

_TICK_NS = 50_000_000


class SlideRows:
    """All embeddings of one store, as they are on disk at the last `catch_up`.

    Every method may be called from any thread.

    Parameters
    ----------
    path : Path
        Folder of the store.
    axes : Axes, optional
        Keep the coordinates on these in memory and not the embeddings, which are read from the
        store where they are needed.

    Raises
    ------
    FileNotFoundError, StoreError
        If there is no store, or it cannot be read.
    """

    def __init__(self, path: Path, axes: Axes | None = None) -> None:
        facts = read_facts(path)
        self.path, self.slide, self.encoder = path, facts.slide, facts.encoder
        self.grid, self.dim, self.axes = facts.grid, facts.dim, axes
        self.stamp = 0  # of the folder when it was last looked at
        self._lock = threading.RLock()
        self._clear()

    def __len__(self) -> int:
        return self._n

    def _clear(self) -> None:
        self._n = 0
        self._tiles = np.empty((0, 2), np.int32)
        wide = self.dim if self.axes is None else self.axes.directions.shape[1]
        self._rows = np.empty((0, wide), np.float16)
        self._norms: dict[str, NDArray[np.float32]] = {}
        self._place = np.full(self.grid.shape, -1, np.int32)

    @property
    def is_fresh(self) -> bool:
        """Whether nothing was written to, or deleted from, the folder since it was looked at."""
        return folder_stamp(self.path) == self.stamp

    def catch_up(self) -> bool:
        """Take in what was embedded since, forget what is gone; returns whether anything changed.

        Raises
        ------
        FileNotFoundError, StoreError
            If the store is gone, or cannot be read.
        """
        with self._lock:
            stamp = folder_stamp(self.path)
            if stamp == self.stamp:
                return False
            if read_facts(self.path).grid != self.grid:
                raise FileNotFoundError(f"{self.path} was replaced")
            with EmbeddingStore(self.path, self.grid, self.dim, None) as store:
                done = store.done
                gone = bool((~done & (self._place >= 0)).any())
                if gone:
                    self._clear()
                new = np.argwhere(done & (self._place < 0)).astype(np.int32)
                if len(self) == 0:
                    self._append(*store.matrix())
                elif len(new):
                    found, rows = store.lookup(new)  # type: ignore[arg-type]
                    self._append(new[found], rows[found])
            # Clocks of file systems are coarse: what follows within a tick would go unnoticed.
            self.stamp = stamp if time.time_ns() - stamp > _TICK_NS else 0
            return gone or bool(len(new))

    @property
    def tiles(self) -> NDArray[np.int32]:
        """Row and column of each tile, (n, 2)."""
        return self._tiles[: self._n]

    @property
    def nbytes(self) -> int:
        """Memory that is used, in bytes."""
        norms = sum(part.nbytes for part in self._norms.values())
        return self._rows.nbytes + self._tiles.nbytes + self._place.nbytes + norms

    def sample(self, step: int) -> NDArray[np.float32]:
        """Return every `step`-th embedding, as well as it is known here."""
        with self._lock:
            rows = self._rows[: self._n : step]
        return rows.astype(np.float32) if self.axes is None else self.axes.long(rows)

    def row(self, tile: Tile) -> int:
        """Return the row of a tile, -1 if it is not embedded or beside the slide."""
        return int(self._place[tile.row, tile.col]) if self.grid.contains(tile) else -1

    def vector(self, tile: Tile) -> NDArray[np.float16] | None:
        """Return the embedding of a tile, None if it has none."""
        row = self.row(tile)
        if row < 0:
            return None
        rows, there = self.gather(np.array([tile], np.int32))
        return rows[0] if there[0] else None

    def near(self, tile: Tile, within: int) -> NDArray[np.intp]:
        """Return the rows of the tiles no farther than `within` rows and columns from a tile."""
        top, left = max(0, tile.row - within), max(0, tile.col - within)
        window = self._place[top : tile.row + within + 1, left : tile.col + within + 1]
        return window[window >= 0].astype(np.intp)

    def gather(self, tiles: NDArray[np.int32]) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Return the embeddings of tiles, and which of them the store still has at this moment.

        They come from memory where they are there and nothing was written to the store since.

        Parameters
        ----------
        tiles : ndarray of shape (n, 2)
            Inside the grid.
        """
        with self._lock:
            at = self._place[tiles[:, 0], tiles[:, 1]]
            if self.axes is None and self.is_fresh:
                return self._rows[np.maximum(at, 0)], at >= 0
        rows = np.full((len(tiles), self.dim), np.nan, np.float16)
        for (row, col), members in by_block(tiles):
            try:
                inside = tiles[members] % BLOCK
                rows[members] = read_rows(self.path / block_name(row, col), inside, self.dim)
            except (OSError, DamagedBlockError):
                continue
        return rows, ~np.isnan(rows[:, 0])

    def norms(self, space: Space, n: int) -> NDArray[np.float32]:
        """Return `Space.norms` of the first `n` rows; kept, so that later calls are free."""
        with self._lock:
            known = self._norms.get(space.name, np.empty(0, np.float32))
            if len(known) < n:
                rows = self._rows[len(known) : n]
                more = space.norms(rows if self.axes is None else self.axes.long(rows))
                known = self._norms[space.name] = np.concatenate([known, more])
            return known[:n]

    def forget_norms(self, name: str) -> None:
        """Drop norms in a space that was fitted anew."""
        with self._lock:
            self._norms.pop(name, None)

    def scores(self, probe: Probe) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the tiles there are, (n, 2), and their scores, as well as half precision tells.

        They are good to about three digits; with axes only as good as those tell tiles apart.
        """
        import torch

        with self._lock:
            n = self._n
            tiles, rows = self._tiles[:n], self._rows[:n]
            norms = self.norms(probe.space, n)
        if n == 0:
            return tiles, np.empty(0, np.float32)
        half, length, offset = probe.half(self.axes)
        product = torch.mv(torch.from_numpy(rows), half).numpy().astype(np.float32)
        product *= length
        product += offset
        product *= norms
        return tiles, product

    def _append(self, tiles: NDArray[np.int32], full: NDArray[np.float16]) -> None:
        start, stop = self._n, self._n + len(tiles)
        rows = full
        if self.axes is not None:
            rows = self.axes.short(full)
            for space in self._exact_spaces(self.axes):  # later the embeddings are not at hand
                known = self._norms.get(space.name, np.empty(0, np.float32))
                self._norms[space.name] = np.concatenate([known, space.norms(full)])
        if start == 0:
            self._tiles, self._rows = tiles, rows
        else:
            self._tiles = _grown(self._tiles, start, stop)
            self._rows = _grown(self._rows, start, stop)
            self._tiles[start:stop], self._rows[start:stop] = tiles, rows
        self._place[tiles[:, 0], tiles[:, 1]] = np.arange(start, stop)
        self._n = stop

    def _exact_spaces(self, axes: Axes) -> list[Space]:
        """Return the spaces whose norms are found while embeddings are at hand."""
        spaces = [Space("plain"), Space("centred", axes.mean)]
        if self.encoder.endswith(f"-{CLASS_AND_MEAN}"):
            spaces.append(Space("plain-class", columns=self.dim // 2))
        return spaces


def folder_stamp(path: Path) -> int:
    """Return a number that changes when a file appears in, or vanishes from, a folder; -1: none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def _grown(buffer: NDArray[Any], used: int, wanted: int) -> NDArray[Any]:
    if wanted <= len(buffer):
        return buffer
    larger = np.empty((max(wanted, 2 * len(buffer), 256), *buffer.shape[1:]), buffer.dtype)
    larger[:used] = buffer[:used]
    return larger
