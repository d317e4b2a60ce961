"""Tiles and grids: level-0 pixels ↔ µm ↔ (row, column)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

TILE_PX = 224


@dataclass(frozen=True, slots=True)
class Rect:
    """Axis-aligned box in level-0 pixels; the right and bottom edges are excluded."""

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        if not (self.width >= 0 and self.height >= 0):  # also catches NaN
            raise ValueError(f"Rect has a negative size: {self}")

    @property
    def right(self) -> float:
        """The x just beyond the box."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The y just beyond the box."""
        return self.y + self.height

    @property
    def center(self) -> tuple[float, float]:
        """The (x, y) middle of the box."""
        return self.x + self.width / 2, self.y + self.height / 2

    def intersect(self, other: Rect) -> Rect:
        """Return the part both boxes share; its size is zero where they only touch or miss."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        width = max(0.0, min(self.right, other.right) - x)
        height = max(0.0, min(self.bottom, other.bottom) - y)
        return Rect(x, y, width, height)

    def grow(self, dx: float, dy: float) -> Rect:
        """Return the box made larger by `dx` to the left and right, `dy` above and below."""
        return Rect(self.x - dx, self.y - dy, self.width + 2 * dx, self.height + 2 * dy)


class Tile(NamedTuple):
    """Place of a tile in its grid, counted from the slide's top left corner."""

    row: int
    col: int


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Square tiles side by side over a whole slide, defined in µm.

    A tile is `tile_px` pixels at `mpp` µm per pixel, whatever the slide's own resolution is, so
    that its side in level-0 pixels may be a fraction. Pixels are rounded once, where they are read.
    The last row and column may hang over the slide's edge.

    Parameters
    ----------
    width, height : int
        Size of the slide in level-0 pixels.
    slide_mpp : tuple of float
        (x, y) µm per level-0 pixel.
    mpp : float
        µm per pixel of the tiles.
    tile_px : int
        Side of a tile in pixels at `mpp`.

    Raises
    ------
    ValueError
        If a size or a resolution is not positive and finite.
    """

    width: int
    height: int
    slide_mpp: tuple[float, float]
    mpp: float = 0.5
    tile_px: int = TILE_PX

    def __post_init__(self) -> None:
        numbers = (self.width, self.height, *self.slide_mpp, self.mpp, self.tile_px)
        if not all(0 < number < math.inf for number in numbers):
            raise ValueError(f"TileGrid needs positive, finite numbers: {self}")

    @property
    def tile_um(self) -> float:
        """Side of a tile in µm."""
        return self.tile_px * self.mpp

    @property
    def step(self) -> tuple[float, float]:
        """(x, y) side of a tile in level-0 pixels."""
        return self.tile_um / self.slide_mpp[0], self.tile_um / self.slide_mpp[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the grid."""
        step_x, step_y = self.step
        return _count(self.height, step_y), _count(self.width, step_x)

    @property
    def name(self) -> str:
        """What tells this grid from others on the same slide, fit for a file name."""
        return f"{self.tile_px}px-{self.mpp:g}mpp"

    def rect(self, tile: Tile) -> Rect:
        """Return the box of a tile in level-0 pixels."""
        step_x, step_y = self.step
        return Rect(tile.col * step_x, tile.row * step_y, step_x, step_y)

    def rect_around(self, tiles: Iterable[Tile]) -> Rect:
        """Return the smallest box around some tiles, at least one, in level-0 pixels."""
        rows, cols = zip(*tiles, strict=True)
        step_x, step_y = self.step
        left, top = min(cols), min(rows)
        wide, high = max(cols) + 1 - left, max(rows) + 1 - top
        return Rect(left * step_x, top * step_y, wide * step_x, high * step_y)

    def contains(self, tile: Tile) -> bool:
        """Say whether the grid has this tile."""
        rows, cols = self.shape
        return 0 <= tile.row < rows and 0 <= tile.col < cols

    def tile_at(self, x: float, y: float) -> Tile | None:
        """Return the tile under a level-0 point, or None beside the slide."""
        step_x, step_y = self.step
        if not (0 <= x < self.width and 0 <= y < self.height):
            return None
        return Tile(int(y // step_y), int(x // step_x))

    def tiles_in(self, view: Rect) -> Iterator[Tile]:
        """Yield the tiles that share area with `view`, row by row."""
        step_x, step_y = self.step
        seen = view.intersect(Rect(0, 0, self.width, self.height))
        if seen.width == 0 or seen.height == 0:
            return
        rows, cols = self.shape
        for row in range(int(seen.y // step_y), min(rows, _ceil(seen.bottom / step_y))):
            for col in range(int(seen.x // step_x), min(cols, _ceil(seen.right / step_x))):
                yield Tile(row, col)


def _ceil(value: float) -> int:
    """Round up, but forgive the last digits of a float: 3.0000000001 is 3."""
    return math.ceil(value - 1e-6)


def _count(size: float, step: float) -> int:
    return max(1, _ceil(size / step))
