"""What the engine says about its work: plain frozen facts, passed along by signals."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np
from numpy.typing import NDArray

from napari_virchow.tiles import Tile, TileGrid


class TileState(IntEnum):
    """How far a tile has come; also the values of the raster that a viewer draws."""

    NONE = 0
    WAITING = 1
    EMBEDDED = 2
    GLASS = 3
    FAILED = 4


class EngineState(StrEnum):
    """What the engine is doing.

    STOPPED means idle after an error that ended the work; looking at a slide again tries again.
    """

    IDLE = "idle"
    LOADING = "loading"
    RUNNING = "running"
    CANCELLING = "cancelling"
    CLOSED = "closed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the present run has come; a run lasts from idle to idle.

    Parameters
    ----------
    done, wanted, failed : int
        Tiles embedded, asked for (embedded and failed ones included) and given up in this run.
        Tiles that were in the store already are in none of them.
    tiles_per_s : float
        Embedded tiles per second over the last seconds; 0 before the first batch.
    seconds_left : float or None
        Expected time to the end of the run, or None while no rate is known.
    share_reading, share_encoding, share_storing : float
        Parts of the run's busy time, adding up to 1 (or all 0 before the first batch). The three
        overlap, so they are not parts of the time on the clock.
    generation : int
        The last request the engine has taken up.
    """

    done: int = 0
    wanted: int = 0
    failed: int = 0
    tiles_per_s: float = 0.0
    seconds_left: float | None = None
    share_reading: float = 0.0
    share_encoding: float = 0.0
    share_storing: float = 0.0
    generation: int = 0


@dataclass(frozen=True, slots=True)
class TileUpdate:
    """Some tiles of one grid have a new state, the same for all of them."""

    slide: str
    grid: TileGrid
    encoder: str
    generation: int
    tiles: tuple[Tile, ...]
    state: TileState


@dataclass(frozen=True, slots=True, eq=False)
class GridStates:
    """The states of a whole grid at one moment: uint8 `TileState` values of shape (rows, cols)."""

    slide: str
    grid: TileGrid
    encoder: str
    states: NDArray[np.uint8]
