"""What is asked of a cohort and what becomes of it: plain values that travel between processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

State = Literal["waiting", "running", "done", "failed"]


class CohortError(Exception):
    """A cohort cannot be embedded as asked; one sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class CohortOptions:
    """How to embed every slide of a cohort.

    Parameters
    ----------
    encoder : str
        Name for `load_encoder`.
    weights : str or None
        Local weights that every worker can read.
    mpp : float
        µm per pixel of the tiles.
    slide_mpp : float or None
        µm per level-0 pixel of slides that do not say it.
    store : str
        Folder of the embeddings, which every worker can write.
    device : str
        Where workers compute.
    all_tiles : bool
        Embed glass too.
    compile : bool
        Whether each worker compiles the network.
    """

    encoder: str
    weights: str | None
    mpp: float
    slide_mpp: float | None
    store: str
    device: str = "auto"
    all_tiles: bool = False
    compile: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What a worker found out about a slide before it is cut into parts.

    Parameters
    ----------
    path, name, identity, encoder, grid, store : str
        Of the slide; identity of the encoder, name of the grid, folder of the embeddings.
    dim : int
        Numbers per embedding.
    n_tiles, n_glass, n_there : int
        Tiles of the grid, those left out as glass, and those that have an embedding already.
    todo : ndarray of shape (n, 2), int32
        Row and column of the tiles to embed, block by block.
    """

    path: str
    name: str
    identity: str
    encoder: str
    grid: str
    store: str
    dim: int
    n_tiles: int
    n_glass: int
    n_there: int
    todo: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class PartDone:
    """What became of one part: tiles embedded, tiles that cannot be read and why, and seconds."""

    n_new: int
    n_failed: int
    why: str
    reading_s: float
    encoding_s: float
    storing_s: float


@dataclass(slots=True)
class SlideState:
    """How far one slide of a cohort has come; what the run's record says of it."""

    path: str
    state: State = "waiting"
    identity: str = ""
    encoder: str = ""
    grid: str = ""
    n_tiles: int = 0
    n_glass: int = 0
    n_there: int = 0
    n_new: int = 0
    n_failed: int = 0
    tries: int = 0
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class CohortDone:
    """What embedding a cohort came to."""

    store: str
    record: Path
    slides: list[SlideState] = field(default_factory=list)
    seconds: float = 0.0
    n_workers: int = 0
    n_lost_workers: int = 0
    n_helped: int = 0  # parts that were slow, so that another worker began at their other end

    @property
    def failures(self) -> list[SlideState]:
        """The slides that could not be embedded, or not to their end."""
        return [slide for slide in self.slides if slide.state != "done"]
