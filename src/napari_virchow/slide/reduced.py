"""Chunks made smaller by a whole factor right after decoding, so that less is copied and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from napari_virchow.slide.chunks import WHITE, Chunk, Level, Pixels, Source, Window
from napari_virchow.slide.imaging import shrink_by


class ReducedSource:
    """Another source's levels, each pixel the mean of `factor` x `factor` of its pixels.

    The means are those of `imaging.shrink` on a whole window, bit by bit, as long as no block
    straddles two chunks: `fits` tells. What hangs off a level counts as white.

    Parameters
    ----------
    source : Source
        Whose chunks are decoded.
    factor : int
        Pixels of the source per pixel, along x and along y; at least 1.
    peek : callable
        Gives a chunk of the source that is decoded already, or None.
    """

    def __init__(self, source: Source, factor: int, peek: Callable[[Chunk], Pixels | None]) -> None:
        self._source, self.factor, self._peek = source, factor, peek
        self.levels = tuple(
            Level(-(-one.width // factor), -(-one.height // factor), one.downsample * factor)
            for one in source.levels
        )

    def fits(self, windows: Sequence[Window], side: int) -> bool:
        """Say whether windows of the source that become `side` pixels can be had from chunks."""
        long = side * self.factor
        if any((window.width, window.height) != (long, long) for window in windows):
            return False
        sizes = [self._source.chunk_size(level) for level in {w.level for w in windows}]
        numbers = [at for w in windows for at in (w.x, w.y)] + [at for size in sizes for at in size]
        return not any(number % self.factor for number in numbers)

    def window(self, window: Window) -> Window:
        """Return a window of the source in reduced pixels."""
        x, y, wide, high = (
            number // self.factor for number in (window.x, window.y, window.width, window.height)
        )
        return Window(window.level, x, y, wide, high)

    def chunk_size(self, level: int) -> tuple[int, int]:
        """Return the (width, height) of the reduced chunks of a level."""
        wide, high = self._source.chunk_size(level)
        return wide // self.factor, high // self.factor

    def order(self, chunk: Chunk) -> int:
        """Return where the chunk lies in the file."""
        return self._source.order(chunk)

    def prepare(self, chunks: Sequence[Chunk]) -> None:
        """Let the source prepare for its chunks of the same places."""
        self._source.prepare(chunks)

    def decode(self, chunk: Chunk) -> Pixels:
        """Return the chunk's pixels, reduced; beyond the edge of the level is white."""
        pixels = self._peek(chunk)
        if pixels is None:
            pixels = self._source.decode(chunk)
        more = -pixels.shape[0] % self.factor, -pixels.shape[1] % self.factor
        if any(more):
            pixels = np.pad(pixels, ((0, more[0]), (0, more[1]), (0, 0)), constant_values=WHITE)
        return shrink_by(pixels, self.factor, self.factor)

    def close(self) -> None:
        """Leave the file to the source."""
