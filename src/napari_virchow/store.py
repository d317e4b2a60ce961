"""EmbeddingStore: the embeddings of one slide by one encoder on one grid, kept on disk as zarr."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from napari_virchow.blocks import (
    BLOCK,
    PARTIAL,
    DamagedBlockError,
    Places,
    block_bytes,
    block_name,
    block_of,
    block_window,
    by_block,
    empty_block,
    peek_block,
    read_block,
    write_block,
)
from napari_virchow.layout import (
    StoreBusy,
    StoreError,
    create_array,
    lock_store,
    read_facts,
    store_folder,
    unwritable,
)
from napari_virchow.tiles import Tile, TileGrid

__all__ = ["EmbeddingStore", "StoreBusy", "StoreError"]

_log = logging.getLogger(__name__)
_LARGEST = float(np.finfo(np.float16).max)
_RECENT = 32  # blocks kept in memory while they fill: 10 MB at 2560 numbers per embedding


class EmbeddingStore:
    """The embeddings of one (slide, encoder, grid): a zarr v3 array (rows, cols, dim) of float16.

    It lies in ``<root>/<slide>/<encoder>/<grid>.zarr`` in blocks of 8 x 8 tiles, uncompressed and
    with a checksum each; NaN stands for "not computed". Blocks are replaced in one step, so that
    a killed process leaves whole blocks only. There is one writer and any number of readers.
    What is there is read off the blocks themselves: no index can go wrong. A damaged block is
    taken as not computed, and said so in the log. All methods are thread-safe.

    Use `open`, and close it (or use it as a context manager).
    """

    def __init__(self, path: Path, grid: TileGrid, dim: int, lock: FileLock | None) -> None:
        self.path = path
        self.grid = grid
        self.dim = dim
        self._file_lock = lock
        self._lock = threading.RLock()
        self._done = np.zeros(grid.shape, np.bool_)
        self._recent: OrderedDict[tuple[int, int], NDArray[np.float16]] = OrderedDict()
        self._verified: set[tuple[int, int]] = set()
        self._blocks: set[tuple[int, int]] = set()
        self.refresh()

    @classmethod
    def open(
        cls,
        root: Path,
        *,
        slide: str,
        encoder: str,
        grid: TileGrid,
        dim: int,
        writable: bool,
    ) -> EmbeddingStore:
        """Open a store; as a writer, make it if it is not there.

        Parameters
        ----------
        root : Path
            Folder of all stores.
        slide, encoder : str
            Identities: of the slide's content, and of encoder, weights and pooling.
        grid : TileGrid
            The grid.
        dim : int
            Numbers per embedding.
        writable : bool
            Open as the one writer; readers never wait for it.

        Raises
        ------
        StoreBusy
            If there is a writer already.
        StoreError
            If the folder cannot be written, or what is there does not fit or is from a newer
            version.
        FileNotFoundError
            If a reader finds no store.
        """
        path = store_folder(root, slide, encoder, grid)
        lock = lock_store(path, root) if writable else None
        try:
            if writable and not (path / "zarr.json").exists():
                try:
                    create_array(path, slide=slide, encoder=encoder, grid=grid, dim=dim)
                except OSError as error:
                    raise unwritable(root, error) from error
            facts = read_facts(path)
            if facts.dim != dim or facts.slide != slide or facts.encoder != encoder:
                raise StoreError(
                    f"{path} holds {facts.dim} numbers per tile by {facts.encoder}, not {dim} by "
                    f"{encoder}; move the folder away and embed again."
                )
            return cls(path, grid, dim, lock)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    def __enter__(self) -> EmbeddingStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def writable(self) -> bool:
        """Whether this is the writer."""
        return self._file_lock is not None

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which tiles have embeddings, shape (rows, cols); a copy, as of opening or `refresh`."""
        with self._lock:
            return self._done.copy()

    @property
    def n_tiles(self) -> int:
        """How many tiles have embeddings."""
        with self._lock:
            return int(np.count_nonzero(self._done))

    @property
    def nbytes(self) -> int:
        """Size on disk in bytes."""
        with self._lock:
            return len(self._blocks) * block_bytes(self.dim)

    def refresh(self) -> None:
        """Look again at what is on disk: another process may have written since."""
        with self._lock:
            self._done[:] = False
            self._blocks.clear()
            for name in _names(self.path):
                block = block_of(name)
                if block is not None:
                    self._look_at_block(block)
                elif name.endswith(PARTIAL) and self.writable:
                    (self.path / name).unlink(missing_ok=True)  # left by a killed writer

    def append(self, tiles: Sequence[Tile], embeddings: NDArray[np.floating[Any]]) -> None:
        """Write the embeddings of some tiles; when it returns they are safe from a killed process.

        Parameters
        ----------
        tiles : sequence of Tile
            In any order; a tile that is there already is replaced.
        embeddings : ndarray of shape (n, dim)
            Clipped to the range of float16.

        Raises
        ------
        ValueError
            If shapes do not fit, a tile is outside the grid, or an embedding is not finite;
            nothing is written then.
        StoreError
            If the store is open for reading only, was deleted, or the disk refuses (it is full,
            or not writable). Blocks written before that are kept.
        """
        places = self._places(tiles)
        if embeddings.shape != (len(places), self.dim):
            raise ValueError(f"embeddings {embeddings.shape} do not fit {(len(places), self.dim)}")
        finite = np.isfinite(embeddings).all(axis=1)
        if not finite.all():
            bad = Tile(*places[~finite][0].tolist())
            raise ValueError(f"The embedding of {bad} is not finite")
        if not self.writable:
            raise StoreError(f"{self.path} is open for reading only.")
        rows = np.clip(embeddings, -_LARGEST, _LARGEST).astype("<f2")
        with self._lock:
            if not (self.path / "zarr.json").exists():
                raise StoreError(f"{self.path} was deleted while it was in use.")
            for block, members in by_block(places):
                self._append_to_block(block, places[members], rows[members])

    def lookup(self, tiles: Sequence[Tile]) -> tuple[NDArray[np.bool_], NDArray[np.float16]]:
        """Return the embeddings of some tiles, as they are on disk now.

        Returns
        -------
        found : bool ndarray of shape (n,)
            Which tiles have one.
        embeddings : ndarray of shape (n, dim)
            NaN where there is none.

        Raises
        ------
        ValueError
            If a tile is outside the grid.
        """
        places = self._places(tiles)
        embeddings = np.full((len(places), self.dim), np.nan, np.float16)
        for block, members in by_block(places):
            data = self._read(block)
            if data is not None:
                inside = places[members] % BLOCK
                embeddings[members] = data[inside[:, 0], inside[:, 1]]
        found = ~np.isnan(embeddings[:, 0])
        return found, embeddings

    def matrix(self) -> tuple[Places, NDArray[np.float16]]:
        """Return all embeddings at once, block by block, at about the speed of memory.

        Returns
        -------
        tiles : ndarray of shape (n, 2)
            Row and column of each tile.
        embeddings : ndarray of shape (n, dim)
            One row per tile.
        """
        with self._lock:
            places = np.argwhere(self._done).astype(np.int32)
        members = list(by_block(places))
        order = np.concatenate([m for _, m in members]) if members else np.empty(0, np.intp)
        places = places[order]
        out = np.empty((len(places), self.dim), np.float16)
        jobs, start = [], 0
        for block, part in members:
            jobs.append((block, slice(start, start + part.size)))
            start += part.size

        # One thread: reading and summing up a block while it is in the processor's cache is faster
        # than two threads that wait for each other's turn.
        whole = [self._read_rows(block, places[rows], out[rows]) for block, rows in jobs]
        if all(whole):
            return places, out
        keep = np.ones(len(places), np.bool_)
        for (_, rows), fine in zip(jobs, whole, strict=True):
            keep[rows] = fine | ~np.isnan(out[rows, 0])
        return places[keep], out[keep]

    def check(self, tiles: Sequence[Tile] | Places) -> list[Tile]:
        """Verify the blocks of some tiles, each once; return the tiles that turn out damaged."""
        places = self._places(tiles)
        lost: list[Tile] = []
        for block, _ in by_block(places):
            with self._lock:
                known = block in self._verified or block not in self._blocks
                before = self._done[block_window(block)].copy()
            if not known and self._read(block) is None:
                top, left = block[0] * BLOCK, block[1] * BLOCK
                lost += [Tile(top + r, left + c) for r, c in np.argwhere(before).tolist()]
        return lost

    def repair(self) -> int:
        """Verify every block; return how many tiles were damaged and must be computed again."""
        with self._lock:
            self._verified.clear()
            places = np.argwhere(self._done).astype(np.int32)
        return len(self.check(places))

    def close(self) -> None:
        """Let others write. Safe to call twice."""
        lock, self._file_lock = self._file_lock, None
        if lock is not None:
            lock.release()

    def _places(self, tiles: Sequence[Tile] | Places) -> Places:
        """Return (n, 2) rows and columns, all inside the grid."""
        places = np.asarray(tiles, np.int32).reshape(-1, 2)
        outside = ((places < 0) | (places >= self.grid.shape)).any(axis=1)
        if outside.any():
            bad = Tile(*places[outside][0].tolist())
            raise ValueError(f"{bad} is outside the grid of {self.grid.shape}")
        return places

    def _look_at_block(self, block: tuple[int, int]) -> None:
        """Note which tiles a block holds."""
        window = self._done[block_window(block)]
        try:
            held = peek_block(self._file(block), self.dim)
        except FileNotFoundError:  # replaced or deleted in this very moment
            return
        except DamagedBlockError as error:
            self._drop(block, error)
            return
        window[:] = held[: window.shape[0], : window.shape[1]]
        self._blocks.add(block)

    def _append_to_block(
        self, block: tuple[int, int], places: Places, rows: NDArray[np.float16]
    ) -> None:
        data = self._recent.pop(block, None)
        if data is None and block in self._blocks:
            data = self._read(block)
        if data is None:
            data = empty_block(self.dim)
        inside = places % BLOCK
        data[inside[:, 0], inside[:, 1]] = rows
        try:
            write_block(self._file(block), data)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._done[places[:, 0], places[:, 1]] = True
        self._blocks.add(block)
        self._verified.add(block)
        self._recent[block] = data
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    def _read(self, block: tuple[int, int]) -> NDArray[np.float16] | None:
        """Return a verified block, or None if it is not there or damaged."""
        data = np.empty((BLOCK, BLOCK, self.dim), np.float16)
        try:
            read_block(self._file(block), data)
        except (FileNotFoundError, DamagedBlockError):
            if not self._drop_if_damaged(block, data):
                return None
        with self._lock:
            self._verified.add(block)
        return data

    def _read_rows(self, block: tuple[int, int], places: Places, out: NDArray[np.float16]) -> bool:
        """Read the rows of one block into `out`; NaN, and False, where they cannot be had."""
        if len(places) == BLOCK * BLOCK:  # a full block lies in the file as in the matrix
            try:
                read_block(self._file(block), out)
            except (FileNotFoundError, DamagedBlockError):
                data = self._read(block)
                out[:] = np.nan if data is None else data.reshape(-1, self.dim)
        else:
            data = self._read(block)
            inside = places % BLOCK
            out[:] = np.nan if data is None else data[inside[:, 0], inside[:, 1]]
        return not bool(np.isnan(out[:, 0]).any())

    def _drop_if_damaged(self, block: tuple[int, int], data: NDArray[np.float16]) -> bool:
        """Read again while nobody writes; drop the block if that fails too, else say True."""
        with self._lock:
            try:
                read_block(self._file(block), data)
            except FileNotFoundError as error:
                if block in self._blocks:
                    self._drop(block, error)
                return False
            except DamagedBlockError as error:
                self._drop(block, error)
                return False
        return True

    def _drop(self, block: tuple[int, int], error: Exception) -> None:
        """Take a block as not computed; the writer removes its file."""
        window = self._done[block_window(block)]
        _log.warning(
            "%s; the %d tiles known there will be computed again.",
            error,
            int(np.count_nonzero(window)),
        )
        window[:] = False
        self._blocks.discard(block)
        self._verified.discard(block)
        self._recent.pop(block, None)
        if self.writable:
            self._file(block).unlink(missing_ok=True)

    def _file(self, block: tuple[int, int]) -> Path:
        return self.path / block_name(*block)


def _names(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.name for entry in entries]
