"""What live classification says: plain frozen facts, passed along by signals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_virchow.classify.metrics import CurvePoint, Evaluation
from napari_virchow.classify.predictions import UNKNOWN_ABOVE, Predictions
from napari_virchow.classify.suggest import StopSignal, Suspect
from napari_virchow.labels.edits import LabelRow
from napari_virchow.tiles import Rect, Tile, TileGrid

Form = Literal["csv", "geojson"]
Place = tuple[str, str, Tile]
"""A tile of a slide: identity of the slide, name of the grid, tile."""


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """The classifier's opinion on every embedded tile of the grid in focus.

    Parameters
    ----------
    generation : int
        Of the request it answers; a later one is never followed by an earlier one.
    slide, encoder : str
        Identities.
    tiles : ndarray of shape (n, 2), int32
        Row and column of each tile.
    predictions : Predictions
        For the same n tiles; of kind "similarity" while only one class is labelled.
    names : dict of int to str
        Class names by id.
    n_labels : int
        How many labels it was trained on.
    seconds : float
        From taking up the request to the opinion.
    """

    generation: int
    slide: str
    grid: TileGrid
    encoder: str
    tiles: NDArray[np.int32]
    predictions: Predictions
    names: dict[int, str]
    n_labels: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Queued:
    """A tile worth labelling next: the class predicted (0 for none) and its probability, and why
    it is worth it."""

    slide: str
    tile: Tile
    predicted: int
    probability: float
    reason: str
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """What is honestly known of the classifier, and what would make it better.

    Parameters
    ----------
    rows : tuple of LabelRow
        The labels it was trained on; `Suspect.row` and `Evaluation.cell` count into it.
    grids : dict of str to TileGrid
        By the identity of each slide in `rows`: where its tiles lie.
    suspects : tuple of Suspect
        Labels that are likely mistakes, the most likely first.
    queue : tuple of Queued
        Tiles worth labelling, best first.
    """

    generation: int
    slide: str
    grid: TileGrid
    evaluation: Evaluation
    curve: tuple[CurvePoint, ...]
    rows: tuple[LabelRow, ...]
    grids: dict[str, TileGrid]
    suspects: tuple[Suspect, ...]
    queue: tuple[Queued, ...]
    stop: StopSignal


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """How a classifier is applied to slides.

    Parameters
    ----------
    form : {"csv", "geojson"}
        Of the files: tables, or tiles for QuPath.
    frame : str
        The image in QuPath that GeoJSON is for, as `frame_named` takes it.
    unknown_above : float
        Tiles of a larger novelty get no class.
    embed : bool
        False classifies only what is embedded already.
    weights : Path, str or None
        For the classifier's encoder, which is loaded if tiles are missing and the session has no
        encoder.
    view : Rect or None
        Only tiles in it, in level-0 pixels; None takes all of the slide.

    Raises
    ------
    ValueError
        If there is no such format, or `unknown_above` is not in [0, 1].
    """

    form: Form = "csv"
    frame: str = "bounds"
    unknown_above: float = UNKNOWN_ABOVE
    embed: bool = True
    weights: Path | str | None = None
    view: Rect | None = None

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise ValueError(f"form must be one of {get_args(Form)}, got {self.form!r}")
        if not 0 <= self.unknown_above <= 1:
            raise ValueError(f"unknown_above must be from 0 to 1, got {self.unknown_above}")


@dataclass(frozen=True, slots=True)
class ApplyProgress:
    """How far applying a classifier to a slide has come, in tiles, and what is being done."""

    slide: str
    done: int
    total: int
    text: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What a classifier said of one slide: tiles by class id (0: no class); `missing` tissue tiles
    are not embedded; `file` is what was written, if anything was."""

    slide: str
    path: str
    n_tiles: int
    counts: dict[int, int]
    missing: int
    file: str = ""
