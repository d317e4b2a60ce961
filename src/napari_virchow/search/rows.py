"""The embeddings of one slide in memory, ready to be searched, and kept true to the disk."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_virchow.blocks import BLOCK, DamagedBlockError, block_name, by_block, peek_block
from napari_virchow.layout import read_facts
from napari_virchow.search.space import Probe, Space
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Tile

_TICK_NS = 50_000_000


class Snapshot(NamedTuple):
    """Tiles (n, 2) and their embeddings (n, dim) at one moment; later changes leave it alone."""

    tiles: NDArray[np.int32]
    rows: NDArray[np.float16]


class SlideRows:
    """All embeddings of one store, as they are on disk at the last `catch_up`.

    Every method may be called from any thread.

    Parameters
    ----------
    path : Path
        Folder of the store.

    Raises
    ------
    FileNotFoundError, StoreError
        If there is no store, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        facts = read_facts(path)
        self.path, self.slide, self.encoder = path, facts.slide, facts.encoder
        self.grid, self.dim = facts.grid, facts.dim
        self.stamp = 0  # of the folder when it was last looked at
        self._lock = threading.RLock()
        self._clear()

    def __len__(self) -> int:
        return self._n

    def _clear(self) -> None:
        self._n = 0
        self._tiles = np.empty((0, 2), np.int32)
        self._rows = np.empty((0, self.dim), np.float16)
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

    def snapshot(self) -> Snapshot:
        """Return all tiles and embeddings."""
        with self._lock:
            return Snapshot(self._tiles[: self._n], self._rows[: self._n])

    def row(self, tile: Tile) -> int:
        """Return the row of a tile, -1 if it is not embedded or beside the slide."""
        return int(self._place[tile.row, tile.col]) if self.grid.contains(tile) else -1

    def vector(self, tile: Tile) -> NDArray[np.float16] | None:
        """Return the embedding of a tile, None if it has none."""
        with self._lock:
            row = self.row(tile)
            return None if row < 0 else self._rows[row].copy()

    def near(self, tile: Tile, within: int) -> NDArray[np.intp]:
        """Return the rows of the tiles no farther than `within` rows and columns from a tile."""
        top, left = max(0, tile.row - within), max(0, tile.col - within)
        window = self._place[top : tile.row + within + 1, left : tile.col + within + 1]
        return window[window >= 0].astype(np.intp)

    def on_disk(self, tiles: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Say which tiles (n, 2) have an embedding in the store at this moment."""
        there = np.zeros(len(tiles), np.bool_)
        for (row, col), members in by_block(tiles):
            try:
                held = peek_block(self.path / block_name(row, col), self.dim)
            except (OSError, DamagedBlockError):
                continue
            inside = tiles[members] % BLOCK
            there[members] = held[inside[:, 0], inside[:, 1]]
        return there

    def norms(self, space: Space, n: int) -> NDArray[np.float32]:
        """Return `Space.norms` of the first `n` rows; kept, so that later calls are free."""
        with self._lock:
            known = self._norms.get(space.name, np.empty(0, np.float32))
            if len(known) < n:
                more = space.norms(self._rows[len(known) : n])
                known = self._norms[space.name] = np.concatenate([known, more])
            return known[:n]

    def forget_norms(self, name: str) -> None:
        """Drop norms in a space that was fitted anew."""
        with self._lock:
            self._norms.pop(name, None)

    def scores(self, probe: Probe) -> tuple[Snapshot, NDArray[np.float32]]:
        """Score every tile; the half-precision product is good to about three digits."""
        import torch

        with self._lock:
            now = self.snapshot()
            norms = self.norms(probe.space, len(now.rows))
        if len(now.rows) == 0:
            return now, np.empty(0, np.float32)
        product = torch.mv(torch.from_numpy(now.rows), probe.half()).float().numpy()
        scores = (product * np.float32(probe.length) + np.float32(probe.offset)) * norms
        return now, scores

    def _append(self, tiles: NDArray[np.int32], rows: NDArray[np.float16]) -> None:
        start, stop = self._n, self._n + len(tiles)
        if start == 0:
            self._tiles, self._rows = tiles, rows
        else:
            self._tiles = _grown(self._tiles, start, stop)
            self._rows = _grown(self._rows, start, stop)
            self._tiles[start:stop], self._rows[start:stop] = tiles, rows
        self._place[tiles[:, 0], tiles[:, 1]] = np.arange(start, stop)
        self._n = stop


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
