"""What travels through the engine: targets, requests, jobs, and the meter that times them."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.schedule import Indices, TileQueue
from napari_virchow.states import GridStates, Progress, TileState, TileUpdate
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Rect, Tile, TileGrid

if TYPE_CHECKING:
    from napari_virchow.slide import Slide

Key = tuple[str, TileGrid]  # slide identity, grid

_WINDOW_S = 20.0  # how far back the rate looks
_WINDOW_BATCHES = 8  # but at least over so many batches


@dataclass(slots=True, eq=False)
class Target:
    """One grid of one slide under the present encoder, open for embedding."""

    slide: Slide
    grid: TileGrid
    encoder: str
    store: EmbeddingStore
    queue: TileQueue
    generation: int = 0
    looked_at: Request | None = None  # the view that its slide has at this grid, if any
    in_flight: int = 0  # batches between being handed out and being stored
    dropped: bool = False  # no more work; the store closes once nothing is in flight
    n_bad: int = 0  # tiles that failed one after another
    n_view_jobs: int = 0  # jobs read for the present view
    has_begun: bool = False  # whether tiles of the present view went to the encoder

    @property
    def key(self) -> Key:
        """What tells this target from others."""
        return self.slide.identity, self.grid

    def picture(self) -> GridStates:
        """Return the states of the whole grid."""
        return GridStates(self.slide.identity, self.grid, self.encoder, self.queue.states())

    def update(self, indices: Indices, state: TileState) -> TileUpdate:
        """Say that tiles have a new state."""
        tiles = self.queue.tiles(indices)
        return TileUpdate(
            self.slide.identity, self.grid, self.encoder, self.generation, tiles, state
        )


@dataclass(slots=True, eq=False)
class Request:
    """Something the user asked for: a view, some tiles in it, or all where `view` is None."""

    slide: Slide
    grid: TileGrid
    generation: int
    all_tiles: bool
    view: Rect | None
    only: tuple[Tile, ...] | None = None
    void: bool = False  # overtaken by something else while it was being taken up

    @property
    def key(self) -> Key:
        """Key of the target it is about."""
        return self.slide.identity, self.grid


@dataclass(slots=True, eq=False)
class Piece:
    """Tiles to encode together: rows of the pixels that were read, shape (n, 224, 224, 3)."""

    target: Target
    indices: Indices
    rows: Indices
    source: NDArray[np.uint8]

    def pixels(self) -> NDArray[np.uint8]:
        """Return the tiles' pixels, without a copy if they lie side by side."""
        first, last = int(self.rows[0]), int(self.rows[-1])
        if last - first + 1 == self.rows.size and (np.diff(self.rows) == 1).all():
            return self.source[first : last + 1]
        return self.source[self.rows]


@dataclass(slots=True, eq=False)
class Job:
    """Tiles that have been read and wait to be encoded; `rows` are their places in `pixels`."""

    target: Target
    indices: Indices
    rows: Indices
    pixels: NDArray[np.uint8]

    def pick(self, chosen: NDArray[Any]) -> None:
        """Keep only the chosen tiles (a mask), or put all in another order (their places)."""
        self.indices, self.rows = self.indices[chosen], self.rows[chosen]

    def split(self, n: int) -> Piece:
        """Take the first `n` tiles out."""
        piece = Piece(self.target, self.indices[:n], self.rows[:n], self.pixels)
        self.indices, self.rows = self.indices[n:], self.rows[n:]
        return piece


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Tiles that have been encoded and wait to be stored."""

    target: Target
    indices: Indices
    embeddings: NDArray[np.float32]


@dataclass(slots=True)
class Meter:
    """Counts and times one run."""

    done: int = 0
    failed: int = 0
    reading_s: float = 0.0
    encoding_s: float = 0.0
    storing_s: float = 0.0
    _recent: deque[tuple[float, int]] = field(default_factory=deque)

    def note_read(self, seconds: float) -> None:
        """Take the reading of a batch into account, which ended just now."""
        if not self._recent:
            self._recent.append((time.perf_counter() - seconds, 0))
        self.reading_s += seconds

    def note_done(self, n: int) -> None:
        """Count tiles that were stored just now."""
        now = time.perf_counter()
        self.done += n
        self._recent.append((now, n))
        while len(self._recent) > _WINDOW_BATCHES and now - self._recent[0][0] > _WINDOW_S:
            self._recent.popleft()

    def progress(self, n_waiting: int, generation: int) -> Progress:
        """Return the run's progress, given how many tiles still wait."""
        rate = 0.0
        if len(self._recent) > 1:
            first, last = self._recent[0][0], self._recent[-1][0]
            rate = sum(n for _, n in list(self._recent)[1:]) / max(last - first, 1e-6)
        busy = self.reading_s + self.encoding_s + self.storing_s or 1.0
        return Progress(
            done=self.done,
            wanted=self.done + self.failed + n_waiting,
            failed=self.failed,
            tiles_per_s=rate,
            seconds_left=n_waiting / rate if rate else None,
            share_reading=self.reading_s / busy,
            share_encoding=self.encoding_s / busy,
            share_storing=self.storing_s / busy,
            generation=generation,
        )
