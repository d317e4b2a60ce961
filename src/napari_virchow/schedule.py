"""Which tiles of a slide come next: the view, a ring around it, then the rest. No threads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.blocks import BLOCK
from napari_virchow.states import TileState
from napari_virchow.tiles import Rect, Tile, TileGrid

RING_TILES = 8  # the ring around a view is at most this wide
LARGE_VIEW = 4096  # tiles; above it whole blocks are ordered, so that pixels are decoded once
_SUPER = 4  # blocks along a side of what the rest is ordered by, for the same reason

Indices = NDArray[np.intp]


class Want(IntEnum):
    """Why a tile is wanted; the lower, the sooner. NOT stands for not at all."""

    NOT = 0
    VIEW = 1
    RING = 2
    REST = 3


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Tiles handed out together, most wanted first; `indices` are row * columns + column."""

    indices: Indices
    want: Want


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What a new view did: tiles that wait now, and tiles that no longer do."""

    waiting: Indices
    dropped: Indices


class TileQueue:
    """The order in which the tiles of one grid are embedded, and the state of each.

    Every tile handed out by `take` must come back through `finish`, `fail` or `give_back`.
    Failed tiles are not handed out again until `want_all`. Not thread-safe.

    Parameters
    ----------
    grid : TileGrid
        The grid.
    done : bool ndarray of shape (rows, cols)
        Tiles that have embeddings already.
    tissue : bool ndarray of shape (rows, cols)
        Tiles that are not glass.

    Raises
    ------
    ValueError
        If `done` or `tissue` has not the grid's shape.
    """

    def __init__(self, grid: TileGrid, done: NDArray[np.bool_], tissue: NDArray[np.bool_]) -> None:
        if done.shape != grid.shape or tissue.shape != grid.shape:
            raise ValueError(f"{done.shape} and {tissue.shape} are not the grid's {grid.shape}")
        self.grid = grid
        self._glass = ~tissue.ravel()
        self._settled = np.where(self._glass, TileState.GLASS, TileState.NONE).astype(np.uint8)
        self._settled[done.ravel()] = TileState.EMBEDDED
        self._want = np.zeros(self._settled.size, np.uint8)
        self._running = np.zeros(self._settled.size, np.bool_)
        self._view: Indices = np.empty(0, np.intp)  # view and ring of the present view, in order
        self._next = 0  # place in _view
        self._center = (grid.shape[0] / 2, grid.shape[1] / 2)  # (row, col) the rest is ordered from
        self._rest_wanted = self._rest_all = False
        self._rest: Iterator[Indices] | None = None
        self._n_waiting = 0

    @property
    def n_waiting(self) -> int:
        """How many tiles are wanted and neither done nor given up, running ones included."""
        return self._n_waiting

    def states(self) -> NDArray[np.uint8]:
        """Return the `TileState` of every tile, shape (rows, cols); a copy."""
        return self.state_of(slice(None)).reshape(self.grid.shape)

    def tiles(self, indices: Indices) -> tuple[Tile, ...]:
        """Return the tiles behind indices."""
        return tuple(map(Tile, *(n.tolist() for n in np.divmod(indices, self.grid.shape[1]))))

    def indices(self, tiles: Sequence[Tile]) -> Indices:
        """Return the indices of tiles."""
        rows, cols = np.asarray(tiles, np.intp).reshape(-1, 2).T
        return np.asarray(rows * self.grid.shape[1] + cols)

    def set_view(
        self, view: Rect, *, all_tiles: bool = False, only: Indices | None = None
    ) -> Change:
        """Want `only` or else the tiles of `view` and a ring around it; not those of the last view.

        The ring is half a view wide, at most `RING_TILES` tiles. What was handed out already stays
        so; ask `wanted` before work on it goes on.
        """
        was_waiting = self._view[self._want[self._view] > 0]
        self._unwant_view()
        row, col, inner, outer = self._around(view)
        if inner is not None and outer is not None:
            self._center = (row, col)
            cols = self.grid.shape[1]
            shown = self._eligible(_box(inner, cols) if only is None else only, all_tiles=all_tiles)
            around = self._eligible(_box(outer, cols), all_tiles=all_tiles)
            around = around[~_inside(around, inner, cols)] if only is None else around[:0]
            shown, around = self._outwards(shown), self._outwards(around)
            new = np.concatenate([shown, around])
            self._n_waiting += int(np.count_nonzero((self._want[new] == 0) & ~self._running[new]))
            self._want[around] = Want.RING
            self._want[shown] = Want.VIEW
            self._view = new
        self._rest = None  # the rest follows from the new centre
        seen = np.zeros(self._want.size, np.bool_)
        seen[was_waiting] = True
        return Change(
            waiting=self._view[~seen[self._view]],
            dropped=was_waiting[(self._want[was_waiting] == 0) & ~self._running[was_waiting]],
        )

    def want_all(self, *, all_tiles: bool = False) -> None:
        """Want every tile that is not done, behind the view; failed ones get another try."""
        failed = self._settled == TileState.FAILED
        self._settled[failed] = np.where(self._glass[failed], TileState.GLASS, TileState.NONE)
        self._rest_all = all_tiles or (self._rest_wanted and self._rest_all)
        self._rest_wanted = True
        new = self._settled == TileState.NONE
        if self._rest_all:
            new |= self._settled == TileState.GLASS
        self._want[new & (self._want == 0)] = Want.REST
        self._rest = None
        self._count()

    def drop(self) -> None:
        """Want nothing any more; tiles that were handed out still come back."""
        self._want[:] = 0
        self._view, self._next = np.empty(0, np.intp), 0
        self._rest_wanted, self._rest = False, None
        self._count()

    def next_want(self) -> Want:
        """Say why the next tile to hand out is wanted; NOT if there is none."""
        while self._next < self._view.size:
            index = self._view[self._next]
            if self._want[index] in (Want.VIEW, Want.RING) and not self._running[index]:
                return Want(int(self._want[index]))
            self._next += 1
        return Want.REST if self._rest_wanted and self._peek_rest() is not None else Want.NOT

    def take(self, n: int) -> Batch | None:
        """Hand out up to `n` tiles that are wanted for one reason; None if there are none.

        Tiles of the rest come in block order, so that neighbours are read and stored together.
        """
        want = self.next_want()
        if want == Want.NOT:
            return None
        taken = self._take_rest(n) if want == Want.REST else self._take_view(n, want)
        self._running[taken] = True
        return Batch(taken, want)

    def state_of(self, indices: Indices | slice) -> NDArray[np.uint8]:
        """Return the `TileState` of some tiles."""
        waiting = (self._want[indices] > 0) | self._running[indices]
        return np.where(waiting, np.uint8(TileState.WAITING), self._settled[indices])

    def embedded(self, view: Rect | None = None) -> Indices:
        """Return the embedded tiles of the whole grid, or of a view and its ring."""
        if view is None:
            return np.flatnonzero(self._settled == TileState.EMBEDDED)
        outer = self._around(view)[3]
        near = _box(outer, self.grid.shape[1]) if outer is not None else np.empty(0, np.intp)
        embedded: Indices = near[self._settled[near] == TileState.EMBEDDED]
        return embedded

    def wanted(self, indices: Indices) -> NDArray[np.bool_]:
        """Say which tiles are wanted still, for whatever reason."""
        return self._want[indices] > 0

    def by_urgency(self, indices: Indices) -> Indices:
        """Return the order in which to do tiles that were handed out, as places in `indices`.

        View and ring from the centre outwards, then the rest as it is.
        """
        want = self._want[indices]
        rows, cols = np.divmod(indices, self.grid.shape[1])
        far = np.where(want < Want.REST, self._distance(rows + 0.5, cols + 0.5), 0)
        return np.lexsort((far, want))

    def reason(self, indices: Indices) -> Want:
        """Return the most urgent reason why any of these tiles is wanted."""
        wants = self._want[indices]
        wants = wants[wants > 0]
        return Want(int(wants.min())) if wants.size else Want.NOT

    def finish(self, indices: Indices) -> None:
        """Note that tiles are embedded and stored."""
        self._settle(indices, TileState.EMBEDDED)

    def fail(self, indices: Indices) -> None:
        """Note that tiles cannot be embedded."""
        self._settle(indices, TileState.FAILED)

    def give_back(self, indices: Indices) -> None:
        """Take tiles back without a result; those still wanted are handed out again."""
        again = indices[self._want[indices] > 0]
        self._n_waiting -= indices.size - again.size
        self._running[indices] = False
        if again.size:
            self._next, self._rest = 0, None

    def forget(self, indices: Indices) -> None:
        """Note that embedded tiles are not: what was stored is damaged or deleted."""
        indices = indices[self._settled[indices] == TileState.EMBEDDED]
        glass = self._glass[indices]
        self._settled[indices] = np.where(glass, TileState.GLASS, TileState.NONE)
        if self._rest_wanted:
            again = indices if self._rest_all else indices[~glass]
            self._want[again] = Want.REST
            self._n_waiting += again.size
            self._rest = None

    def _around(
        self, view: Rect
    ) -> tuple[float, float, tuple[int, int, int, int] | None, tuple[int, int, int, int] | None]:
        """Return the view's centre (row, col), and the boxes of the view and of its ring."""
        step_x, step_y = self.grid.step
        x, y = view.center
        inner = self._span(view)
        ring_x = min(view.width / 2, RING_TILES * step_x)
        ring_y = min(view.height / 2, RING_TILES * step_y)
        outer = self._span(view.grow(ring_x, ring_y)) if inner is not None else None
        return y / step_y, x / step_x, inner, outer

    def _span(self, view: Rect) -> tuple[int, int, int, int] | None:
        """Return (first row, end row, first column, end column), like `TileGrid.tiles_in`."""
        step_x, step_y = self.grid.step
        seen = view.intersect(Rect(0, 0, self.grid.width, self.grid.height))
        if seen.width == 0 or seen.height == 0:
            return None
        rows, cols = self.grid.shape
        return (
            int(seen.y // step_y),
            min(rows, math.ceil(seen.bottom / step_y - 1e-6)),
            int(seen.x // step_x),
            min(cols, math.ceil(seen.right / step_x - 1e-6)),
        )

    def _eligible(self, indices: Indices, *, all_tiles: bool) -> Indices:
        settled = self._settled[indices]
        keep = settled == TileState.NONE
        # Tiles that the whole slide wants anyway are wanted sooner, on glass or not.
        keep |= (settled == TileState.GLASS) & (all_tiles | (self._want[indices] > 0))
        return np.asarray(indices[keep])

    def _outwards(self, indices: Indices) -> Indices:
        """Order tiles by their distance from the centre; by that of their blocks if many."""
        rows, cols = np.divmod(indices, self.grid.shape[1])
        if indices.size > LARGE_VIEW:
            return indices[
                np.argsort(self._block_ranks()[rows // BLOCK, cols // BLOCK], kind="stable")
            ]
        return indices[np.argsort(self._distance(rows + 0.5, cols + 0.5), kind="stable")]

    def _block_ranks(self) -> NDArray[Any]:
        """Return the place of each block in the order of distance from the centre."""
        high, wide = (-(-n // BLOCK) for n in self.grid.shape)
        rows, cols = np.mgrid[:high, :wide] * BLOCK + BLOCK / 2
        order = np.argsort(self._distance(rows, cols), axis=None, kind="stable")
        # Small integers are sorted by counting, many times as fast.
        ranks = np.empty(order.size, np.uint16 if order.size < 1 << 16 else np.uint32)
        ranks[order] = np.arange(order.size)
        return ranks.reshape(high, wide)

    def _distance(self, rows: NDArray[Any], cols: NDArray[Any]) -> NDArray[np.float64]:
        """Return squared distances from the centre, in tiles."""
        far = (rows - self._center[0]) ** 2 + (cols - self._center[1]) ** 2
        return far.astype(np.float64, copy=False)

    def _unwant_view(self) -> None:
        """Forget the present view; the whole slide may want its tiles all the same."""
        old = self._view
        old = old[(self._want[old] == Want.VIEW) | (self._want[old] == Want.RING)]
        stays = np.zeros(old.size, np.bool_)
        if self._rest_wanted:
            stays = self._rest_all | ~self._glass[old]
        self._want[old] = np.where(stays, Want.REST, Want.NOT)
        self._n_waiting -= int(np.count_nonzero(~stays & ~self._running[old]))
        self._view, self._next = np.empty(0, np.intp), 0

    def _take_view(self, n: int, want: Want) -> Indices:
        """Take the next tiles of the view or ring; `next_want` has moved to the first."""
        # A window is enough: few tiles in it are done or running already.
        places = self._view[self._next : self._next + 4 * n]
        free = np.flatnonzero((self._want[places] == want) & ~self._running[places])
        taken: Indices = places[free[:n]]
        return taken

    def _peek_rest(self) -> Indices | None:
        """Return the free tiles of the next block of the rest, or None at the end."""
        if self._rest is None:
            self._rest = self._blocks()
            self._block: Indices = np.empty(0, np.intp)
        while True:
            free = (self._want[self._block] == Want.REST) & ~self._running[self._block]
            self._block = self._block[free]
            if self._block.size:
                return self._block
            block = next(self._rest, None)
            if block is None:
                return None
            self._block = block

    def _take_rest(self, n: int) -> Indices:
        taken: list[Indices] = []
        while n > 0 and (block := self._peek_rest()) is not None:
            taken.append(block[:n])
            n -= taken[-1].size
            self._block = block[taken[-1].size :]
        return np.concatenate(taken)

    def _blocks(self) -> Iterator[Indices]:
        """Yield the blocks that hold free tiles of the rest, those near the view first."""
        rows, cols = self.grid.shape
        high, wide = -(-rows // BLOCK), -(-cols // BLOCK)
        free = np.zeros((high * BLOCK, wide * BLOCK), np.bool_)
        free[:rows, :cols] = ((self._want == Want.REST) & ~self._running).reshape(rows, cols)
        holds = free.reshape(high, BLOCK, wide, BLOCK).any(axis=(1, 3))
        block_rows, block_cols = np.nonzero(holds)
        side = BLOCK * _SUPER
        super_rows, super_cols = block_rows // _SUPER, block_cols // _SUPER
        far = self._distance(super_rows * side + side / 2, super_cols * side + side / 2)
        order = np.lexsort((block_cols, block_rows, super_cols, super_rows, far))
        for row, col in zip(block_rows[order].tolist(), block_cols[order].tolist(), strict=True):
            top, left = row * BLOCK, col * BLOCK
            box = (top, min(rows, top + BLOCK), left, min(cols, left + BLOCK))
            yield _box(box, cols)

    def _settle(self, indices: Indices, state: TileState) -> None:
        counted = (self._want[indices] > 0) | self._running[indices]
        self._n_waiting -= int(np.count_nonzero(counted))
        self._settled[indices] = state
        self._want[indices] = Want.NOT
        self._running[indices] = False

    def _count(self) -> None:
        self._n_waiting = int(np.count_nonzero((self._want > 0) | self._running))


def snap_mpp(wanted: float, allowed: Sequence[float], finest: float) -> float:
    """Return the allowed magnification nearest to the wanted one, on a log scale.

    Parameters
    ----------
    wanted : float
        µm per pixel on the screen.
    allowed : sequence of float
        µm per pixel that the encoder works at.
    finest : float
        The slide's own µm per pixel; nothing finer than 0.9 of it is returned, unless all of
        `allowed` is: then the coarsest is.

    Raises
    ------
    ValueError
        If `allowed` is empty, or `wanted` is not positive and finite.
    """
    if not allowed:
        raise ValueError("allowed is empty: the encoder works at no magnification")
    if not 0 < wanted < math.inf:
        raise ValueError(f"wanted must be positive and finite, got {wanted}")
    possible = [mpp for mpp in allowed if mpp >= 0.9 * finest] or [max(allowed)]
    return min(possible, key=lambda mpp: (abs(math.log(mpp / wanted)), mpp))


def _box(box: tuple[int, int, int, int], cols: int) -> Indices:
    """Return the indices in a box (first row, end row, first column, end column), row by row."""
    top, bottom, left, right = box
    return (np.arange(top, bottom)[:, None] * cols + np.arange(left, right)).ravel()


def _inside(indices: Indices, box: tuple[int, int, int, int], cols: int) -> NDArray[np.bool_]:
    top, bottom, left, right = box
    rows, columns = np.divmod(indices, cols)
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
