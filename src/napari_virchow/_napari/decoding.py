"""Squares of a slide's levels, read in the background and kept ready to be drawn."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_virchow.slide import SlideLevel

Pixels = NDArray[np.uint8]
LIMIT = 192 << 20  # bytes; more than two windows full on the largest screens
WORKERS = 2  # each read decodes on all cores by itself
_log = logging.getLogger(__name__)


class Square(NamedTuple):
    """One chunk of one level: `level` counts from the finest, `row` and `col` in chunks."""

    level: int
    row: int
    col: int


class Squares:
    """Reads squares in the order they are wanted, newest wish first, and keeps what fits.

    May be used from any thread. Its threads end when there is nothing left to read.

    Parameters
    ----------
    levels : sequence of SlideLevel
        Finest first; they share one `chunks`.
    on_ready : callable
        Called from a worker thread after each square.
    limit : int
        Bytes to keep.
    """

    def __init__(
        self, levels: Sequence[SlideLevel], on_ready: Callable[[], None], *, limit: int = LIMIT
    ) -> None:
        self._levels = tuple(levels)
        self._on_ready = on_ready
        self._limit = limit
        self._kept: OrderedDict[Square, Pixels] = OrderedDict()
        self._size = 0
        self._failed: set[Square] = set()
        self._wanted: dict[int, list[Square]] = {}  # by level, next one last
        self._reading: set[Square] = set()
        self._threads = 0
        self._lock = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether anything is being read."""
        with self._lock:
            return self._threads > 0

    def get(self, square: Square) -> Pixels | None:
        """Return a square if it is there."""
        with self._lock:
            pixels = self._kept.get(square)
            if pixels is not None:
                self._kept.move_to_end(square)
            return pixels

    def failed(self, square: Square) -> bool:
        """Say whether a square could not be read; it is not tried again."""
        with self._lock:
            return square in self._failed

    def want(self, level: int, squares: Sequence[Square]) -> None:
        """Have squares of one level read, the first one first.

        What was wanted of that level before and is not begun yet is forgotten.
        """
        with self._lock:
            self._wanted.pop(level, None)
            self._wanted[level] = [s for s in reversed(squares) if s not in self._reading]
            idle = min(WORKERS, len(self._wanted[level])) - self._threads
            for _ in range(idle):
                self._threads += 1
                threading.Thread(target=self._work, name="virchow-view", daemon=True).start()

    def _work(self) -> None:
        while (square := self._next()) is not None:
            pixels = self._read(square)
            with self._lock:
                self._reading.discard(square)
                if pixels is None:
                    self._failed.add(square)
                else:
                    self._keep(square, pixels)
            self._on_ready()

    def _next(self) -> Square | None:
        with self._lock:
            while self._wanted:
                level = next(reversed(self._wanted))
                if not self._wanted[level]:
                    del self._wanted[level]
                    continue
                square = self._wanted[level].pop()
                if square not in self._kept and square not in self._failed:
                    self._reading.add(square)
                    return square
            self._threads -= 1
            return None

    def _read(self, square: Square) -> Pixels | None:
        level = self._levels[square.level]
        high, wide, _ = level.chunks
        y, x = square.row * high, square.col * wide
        try:
            return np.ascontiguousarray(level[y : y + high, x : x + wide])
        except Exception as error:  # noqa: BLE001  # a codec may raise anything, a closed file too
            _log.debug("not drawn: %s", error)
            return None

    def _keep(self, square: Square, pixels: Pixels) -> None:
        self._kept[square] = pixels
        self._size += pixels.nbytes
        while self._size > self._limit:
            self._size -= self._kept.popitem(last=False)[1].nbytes


class Backdrop:
    """The overview of a slide, enlarged to stand in for squares that are not there yet.

    Parameters
    ----------
    overview : ndarray of shape (h, w, 3), uint8
        The whole slide, small.
    """

    def __init__(self, overview: Pixels) -> None:
        from PIL import Image

        self._image: Any = Image.fromarray(overview)
        self._nearest = Image.Resampling.NEAREST

    def crop(self, shape: tuple[int, ...], y: int, x: int, height: int, width: int) -> Pixels:
        """Return a box of a level of `shape`, at that level's size."""
        down, across = self._image.height / shape[0], self._image.width / shape[1]
        box = (x * across, y * down, (x + width) * across, (y + height) * down)
        return np.asarray(self._image.resize((width, height), self._nearest, box=box))
