"""Files of 8 x 8 embeddings, each one uncompressed zarr v3 chunk that ends in its CRC32C."""

from __future__ import annotations

import mmap
import os
import re
import uuid
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

BLOCK = 8  # tiles along a side of what is read and stored together
PARTIAL = ".partial"  # how the name of a file that is still being written ends
_DTYPE = np.dtype("<f2")
_CRC_BYTES = 4
Places = NDArray[np.int32]  # (n, 2) rows and columns of tiles
_NAME = re.compile(r"c\.(\d+)\.(\d+)\.0")


class DamagedBlockError(Exception):
    """A block is cut short, too long, or differs from its checksum."""


def block_bytes(dim: int) -> int:
    """Return the size of a block's file."""
    return BLOCK * BLOCK * dim * _DTYPE.itemsize + _CRC_BYTES


def block_name(row: int, col: int) -> str:
    """Return the file name of a block, counted in blocks."""
    return f"c.{row}.{col}.0"


def block_of(name: str) -> tuple[int, int] | None:
    """Return the (row, column) of a block from its file name; None for any other file."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def by_block(places: Places) -> list[tuple[tuple[int, int], NDArray[np.intp]]]:
    """Group places by block: ((row, col) of the block, members), blocks in order."""
    if not len(places):
        return []
    blocks = places // BLOCK
    order = np.lexsort((blocks[:, 1], blocks[:, 0]))
    ordered = blocks[order]
    starts = np.flatnonzero((ordered[1:] != ordered[:-1]).any(axis=1)) + 1
    firsts = ordered[np.concatenate([[0], starts])].tolist()
    return [((r, c), part) for (r, c), part in zip(firsts, np.split(order, starts), strict=True)]


def block_window(block: tuple[int, int]) -> tuple[slice, slice]:
    """Return where a block lies in a raster of tiles."""
    top, left = block[0] * BLOCK, block[1] * BLOCK
    return slice(top, top + BLOCK), slice(left, left + BLOCK)


def empty_block(dim: int) -> NDArray[np.float16]:
    """Return a block without embeddings: NaN, shape (8, 8, dim)."""
    return np.full((BLOCK, BLOCK, dim), np.nan, _DTYPE)


def peek_block(path: Path, dim: int) -> NDArray[np.bool_]:
    """Say which tiles of a block have embeddings, from a glance at each; shape (8, 8).

    The checksum is not verified: that needs every byte.

    Raises
    ------
    DamagedBlockError
        If the file has the wrong size.
    OSError
        If it cannot be read.
    """
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        size = os.fstat(file).st_size
        if size != block_bytes(dim):
            raise DamagedBlockError(f"{path} has {size} bytes, not {block_bytes(dim)}")
        with mmap.mmap(file, size, access=mmap.ACCESS_READ) as data:
            first = np.ndarray((BLOCK, BLOCK), _DTYPE, data, 0, _strides(dim)).copy()
    finally:
        os.close(file)
    done: NDArray[np.bool_] = ~np.isnan(first)
    return done


def read_rows(path: Path, inside: NDArray[np.integer[Any]], dim: int) -> NDArray[np.float16]:
    """Read some tiles of a block, without the rest of it; the checksum is not verified.

    Parameters
    ----------
    inside : ndarray of shape (n, 2)
        Row and column in the block.

    Returns
    -------
    ndarray of shape (n, dim)
        NaN where a tile has no embedding.

    Raises
    ------
    DamagedBlockError
        If the file has the wrong size.
    OSError
        If it cannot be read.
    """
    rows = np.empty((len(inside), dim), _DTYPE)
    stride = rows.strides[0]
    with path.open("rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size != block_bytes(dim):
            raise DamagedBlockError(f"{path} has not the size of a block")
        for row, (r, c) in zip(rows, inside.tolist(), strict=True):
            file.seek((r * BLOCK + c) * stride)
            if file.readinto(row.view(np.uint8).data) != stride:
                raise DamagedBlockError(f"{path} is cut short")
    return rows


def read_block(path: Path, out: NDArray[np.float16]) -> None:
    """Read a block into `out`, contiguous and of 64 · dim numbers, and verify its checksum.

    Raises
    ------
    DamagedBlockError
        If the file has the wrong size or checksum; `out` is spoilt then.
    OSError
        If it cannot be read.
    """
    flat = out.reshape(-1).view(np.uint8)
    target = flat.data
    with path.open("rb", buffering=0) as file:
        n_read = file.readinto(target)
        while 0 < n_read < len(target):  # only ever on odd file systems
            more = file.readinto(target[n_read:])
            if not more:
                break
            n_read += more
        tail = file.read(_CRC_BYTES + 1)
    if n_read != len(target) or len(tail) != _CRC_BYTES:
        raise DamagedBlockError(f"{path} has not the size of a block")
    if google_crc32c.value(flat) != int.from_bytes(tail, "little"):
        raise DamagedBlockError(f"{path} differs from its checksum")


def write_block(path: Path, block: NDArray[np.float16]) -> None:
    """Write a block in one step: whoever reads meets the old file or the new one, never a part.

    There is no fsync: a process killed at any moment loses nothing, as the system keeps what was
    written; after a power cut the checksum tells which blocks did not reach the disk.

    Raises
    ------
    OSError
        If it cannot be written; the old file stays as it was.
    """
    data = np.ascontiguousarray(block, _DTYPE).reshape(-1).view(np.uint8)
    crc = int(google_crc32c.value(data)).to_bytes(_CRC_BYTES, "little")
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        with partial.open("wb", buffering=0) as file:
            _write_all(file.fileno(), data.data)
            _write_all(file.fileno(), memoryview(crc))
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _write_all(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]


def _strides(dim: int) -> tuple[int, int]:
    return BLOCK * dim * _DTYPE.itemsize, dim * _DTYPE.itemsize
