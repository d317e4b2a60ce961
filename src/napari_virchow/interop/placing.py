"""Tiles of another tool find their places on a grid of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.interop.table import InteropError, TileTable
from napari_virchow.tiles import TILE_PX, Tile, TileGrid

if TYPE_CHECKING:
    from napari_virchow.slide import Slide

CLOSE = 0.01  # of a tile: how far off a tile may lie and still be called the same


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Where the tiles of a table are on a slide.

    Attributes
    ----------
    grid : TileGrid
        Of tiles as large as those of the file.
    tiles : ndarray of shape (m, 2)
        Row and column, each once.
    rows : ndarray of shape (m,)
        Which rows of the table they are.
    shifts : ndarray of shape (m,)
        How far each lies from where the file has it, in level-0 pixels: the larger of x and y.
    left_out : int
        Tiles whose place on the grid another one is nearer to.
    """

    grid: TileGrid
    tiles: NDArray[np.int32]
    rows: NDArray[np.intp]
    shifts: NDArray[np.float64]
    left_out: int

    @property
    def exact(self) -> NDArray[np.bool_]:
        """Which tiles lie where the file has them, to 1 pixel or 1 % of a tile."""
        return self.shifts <= _tolerance(self.grid)

    def tile_list(self) -> list[Tile]:
        """The tiles one by one."""
        return [Tile(*at) for at in self.tiles.tolist()]


def place_tiles(
    table: TileTable, slide: Slide, *, side: float | None = None, snap: bool = False
) -> Placed:
    """Find out which tiles of a grid those of a file are.

    The grid starts in the slide's corner and has tiles of the file's size, counted as 224 pixels
    each whatever the other tool counted: what it is called says its pixel size.

    Parameters
    ----------
    table : TileTable
        From a reader.
    slide : Slide
        With a pixel size.
    side : float, optional
        Side of a tile in level-0 pixels, for files that do not say it.
    snap : bool
        Take tiles that lie between those of the grid as the nearest one, at most half a tile off.

    Raises
    ------
    InteropError
        If the size of a tile or of the slide's pixels is not known; the slide is another one (both
        sizes are named); or tiles lie between the grid's and `snap` is not set.
    """
    _check_size(table, slide)
    grid = _grid(table, slide, side)
    step = np.array(grid.step)
    places = np.rint(table.corners / step).astype(np.int64)
    shifts = np.abs(table.corners - places * step).max(axis=1, initial=0)
    rows, cols = grid.shape
    beside = (table.corners + step <= 0) | (table.corners >= (slide.width, slide.height))
    n_beside = int(np.count_nonzero(beside.any(axis=1)))
    if n_beside:
        raise InteropError(
            f"{n_beside} of the {len(table)} tiles in {table.path} lie beside the slide of "
            f"{slide.width} × {slide.height} pixels; it is of another slide, or its tiles are of "
            "another size."
        )
    off = int(np.count_nonzero(shifts > _tolerance(grid)))
    if off and not snap:
        raise InteropError(
            f"{off} of the {len(table)} tiles in {table.path} lie between the tiles of a grid, by "
            f"up to {shifts.max():.0f} pixels; say --snap to take each as the nearest tile."
        )
    places = np.clip(places, 0, (cols - 1, rows - 1))
    order = np.argsort(shifts, kind="stable")
    _, first = np.unique(places[order] @ (1, cols), return_index=True)
    kept = np.sort(order[first])
    return Placed(
        grid,
        places[kept][:, ::-1].astype(np.int32),
        kept,
        shifts[kept],
        len(table) - len(kept),
    )


def _tolerance(grid: TileGrid) -> float:
    return max(1.0, CLOSE * max(grid.step))


def _check_size(table: TileTable, slide: Slide) -> None:
    if table.size is not None and table.size != (slide.width, slide.height):
        raise InteropError(
            f"{table.path} is of a slide of {table.size[0]} × {table.size[1]} pixels, but "
            f"{slide.name} has {slide.width} × {slide.height}; it is another slide."
        )


def _grid(table: TileTable, slide: Slide, side: float | None) -> TileGrid:
    """Return the grid with tiles of the file's size; a file of ours says it to the last digit."""
    pixel = _pixel_size(slide)
    said = table.block.get("grid") if table.block is not None else None
    if isinstance(said, Mapping) and side is None and _same_pixels(said, pixel):
        mpp, tile_px = float(said["mpp"]), int(said["tile_px"])
        return TileGrid(slide.width, slide.height, pixel, mpp, tile_px)
    side = side or table.side
    if side is None:
        raise InteropError(
            f"{table.path} does not say how large its tiles are: give their side in pixels of "
            "level 0 as --tile-size."
        )
    if not 0 < side < math.inf:
        raise InteropError(f"A tile needs a side above 0, got {side:g}.")
    return TileGrid(slide.width, slide.height, pixel, side * pixel[0] / TILE_PX)


def _pixel_size(slide: Slide) -> tuple[float, float]:
    if slide.mpp is None:
        raise InteropError(
            f"The size of the pixels of {slide.name} is not known: say it as --slide-mpp."
        )
    return slide.mpp


def _same_pixels(said: Mapping[str, Any], pixel: tuple[float, float]) -> bool:
    """Say whether a file of ours was made with the pixel size that the slide has now."""
    try:
        x, y = said["slide_mpp"]
        float(said["mpp"]), int(said["tile_px"])
        return math.isclose(x, pixel[0], rel_tol=1e-6) and math.isclose(y, pixel[1], rel_tol=1e-6)
    except (KeyError, TypeError, ValueError):
        return False
