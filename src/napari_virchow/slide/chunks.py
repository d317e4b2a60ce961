"""Compressed chunks of a slide: decode each one once, on all cores, and keep the latest."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
WHITE = 255


class Level(NamedTuple):
    """One level of a slide's pyramid: its size in its own pixels, and level-0 pixels per pixel."""

    width: int
    height: int
    downsample: float


class Chunk(NamedTuple):
    """Place of a chunk: its level, and its row and column there."""

    level: int
    row: int
    col: int


class Source(Protocol):
    """A slide as chunks of RGB pixels; every method may be called from any thread."""

    levels: tuple[Level, ...]

    def chunk_size(self, level: int) -> tuple[int, int]:
        """Return the (width, height) of the chunks of a level in its pixels."""
        ...

    def order(self, chunk: Chunk) -> int:
        """Return where the chunk lies in the file, for reading in order."""
        ...

    def prepare(self, chunks: Sequence[Chunk]) -> None:
        """Take note of chunks, in file order, that are about to be decoded; never fails."""
        ...

    def decode(self, chunk: Chunk) -> Pixels:
        """Return the chunk's pixels: (height, width, 3), smaller at the edges of the level."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


@dataclass(frozen=True, slots=True)
class Window:
    """A box of whole pixels of one level; may hang off the level."""

    level: int
    x: int
    y: int
    width: int
    height: int


class ChunkCache:
    """The latest decoded chunks, up to a number of bytes. Chunks in work are not decoded twice."""

    def __init__(self, source: Source, max_bytes: int) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self._bytes = 0
        self._lock = threading.Lock()
        self._done: OrderedDict[Chunk, Pixels] = OrderedDict()
        self._running: dict[Chunk, Future[Pixels]] = {}

    def peek(self, chunk: Chunk) -> Pixels | None:
        """Return a chunk that is decoded already, or None."""
        with self._lock:
            pixels = self._done.get(chunk)
            if pixels is not None:
                self._done.move_to_end(chunk)
            return pixels

    def get(self, chunk: Chunk) -> Pixels:
        """Return a chunk, decoding it in this thread if nobody is; raises what decoding raises."""
        with self._lock:
            pixels = self._done.get(chunk)
            if pixels is not None:
                self._done.move_to_end(chunk)
                return pixels
            running = self._running.get(chunk)
            if running is None:
                mine: Future[Pixels] = Future()
                self._running[chunk] = mine
        if running is not None:
            return running.result()
        try:
            pixels = self._source.decode(chunk)
        except BaseException as error:
            mine.set_exception(error)
            with self._lock:
                del self._running[chunk]
            raise
        with self._lock:
            del self._running[chunk]
            self._keep(chunk, pixels)
        mine.set_result(pixels)
        return pixels

    def _keep(self, chunk: Chunk, pixels: Pixels) -> None:
        self._done[chunk] = pixels
        self._bytes += pixels.nbytes
        while self._bytes > self._max_bytes and len(self._done) > 1:
            self._bytes -= self._done.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Forget all chunks."""
        with self._lock:
            self._done.clear()
            self._bytes = 0


def chunks_of(source: Source, window: Window) -> list[Chunk]:
    """List the chunks that a window touches, row by row; none where it misses the level."""
    level = source.levels[window.level]
    wide, high = source.chunk_size(window.level)
    x0, x1 = max(0, window.x), min(level.width, window.x + window.width)
    y0, y1 = max(0, window.y), min(level.height, window.y + window.height)
    if x0 >= x1 or y0 >= y1:
        return []
    return [
        Chunk(window.level, row, col)
        for row in range(y0 // high, -(-y1 // high))
        for col in range(x0 // wide, -(-x1 // wide))
    ]


def paste(source: Source, window: Window, chunk: Chunk, pixels: Pixels, out: Pixels) -> None:
    """Copy the part of a chunk that lies in a window to its place in `out`."""
    wide, high = source.chunk_size(chunk.level)
    left, top = chunk.col * wide, chunk.row * high
    x0, y0 = max(window.x, left), max(window.y, top)
    x1 = min(window.x + window.width, left + pixels.shape[1])
    y1 = min(window.y + window.height, top + pixels.shape[0])
    if x0 < x1 and y0 < y1:
        part = pixels[y0 - top : y1 - top, x0 - left : x1 - left]
        out[y0 - window.y : y1 - window.y, x0 - window.x : x1 - window.x] = part


def read_windows(
    source: Source,
    windows: Sequence[Window],
    outs: Sequence[Pixels],
    fetch: Callable[[Chunk], Pixels],
) -> dict[int, Exception]:
    """Fill every output with its window, fetching each chunk once, in file order, on all cores.

    Parameters
    ----------
    source : Source
        The slide.
    windows : sequence of Window
        What to read.
    outs : sequence of ndarray of shape (height, width, 3)
        Where to: one per window; what was in them is overwritten. White is what hangs off the
        level, and what could not be read.
    fetch : callable
        Gives the pixels of a chunk.

    Returns
    -------
    errors : dict
        The first error of each window (by its number) that could not be read whole.
    """
    users: dict[Chunk, list[int]] = {}
    for number, window in enumerate(windows):
        if not _inside(window, source.levels[window.level]):
            outs[number][...] = WHITE
        for chunk in chunks_of(source, window):
            users.setdefault(chunk, []).append(number)
    errors: dict[int, Exception] = {}

    def work(chunks: list[Chunk]) -> None:
        for chunk in chunks:
            try:
                pixels = fetch(chunk)
            except Exception as error:  # noqa: BLE001  # a codec may raise anything; told per window
                for number in users[chunk]:
                    errors.setdefault(number, error)
                pixels = _NOTHING
            size = _size(source, chunk)
            if pixels.shape[0] < size[0] or pixels.shape[1] < size[1]:  # damaged: the rest is white
                pixels = _padded(pixels, size)
            for number in users[chunk]:
                paste(source, windows[number], chunk, pixels, outs[number])

    ordered = sorted(users, key=source.order)
    source.prepare(ordered)
    run_all(work, _shares(ordered))
    return errors


_NOTHING: Pixels = np.empty((0, 0, 3), np.uint8)


def _inside(window: Window, level: Level) -> bool:
    right, bottom = window.x + window.width, window.y + window.height
    return window.x >= 0 and window.y >= 0 and right <= level.width and bottom <= level.height


def _size(source: Source, chunk: Chunk) -> tuple[int, int]:
    """Return the (height, width) of a chunk without what hangs off its level."""
    level, (wide, high) = source.levels[chunk.level], source.chunk_size(chunk.level)
    return min(high, level.height - chunk.row * high), min(wide, level.width - chunk.col * wide)


def _padded(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    out = np.full((*size, 3), WHITE, np.uint8)
    part = pixels[: size[0], : size[1]]
    out[: part.shape[0], : part.shape[1]] = part
    return out


def run_all(work: Callable[[list[Chunk]], None], shares: Iterable[list[Chunk]]) -> None:
    """Run work on all cores and wait for it; a single share runs here."""
    todo = list(shares)
    if len(todo) <= 1:
        for share in todo:
            work(share)
        return
    for future in [decoders().submit(work, share) for share in todo]:
        future.result()


def _shares(chunks: list[Chunk], size: int = 8) -> list[list[Chunk]]:
    """Cut a list into runs that are worth a thread switch, without leaving cores idle."""
    size = max(1, min(size, -(-len(chunks) // n_cores())))
    return [chunks[start : start + size] for start in range(0, len(chunks), size)]


def n_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def decoders() -> ThreadPoolExecutor:
    """Return the threads that decode. They never wait for one another."""
    return ThreadPoolExecutor(n_cores(), thread_name_prefix="decode")
