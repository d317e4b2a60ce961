"""Tiles as files have them: those of another tool, and ours on their way out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.tiles import TileGrid
from napari_virchow.training import encoder_name

if TYPE_CHECKING:
    from napari_virchow.slide import Slide
    from napari_virchow.training import Stored

OURS = "napari_virchow"  # the attribute by which a file of ours says its grid exactly


class InteropError(ValueError):
    """A file cannot be read or written; one sentence that names it and says what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class TileTable:
    """Tiles of one slide as a file has them.

    Parameters
    ----------
    form : str
        The format: "trident", "clam", "anndata", "spatialdata" or "wsinfer".
    path : Path
        The file.
    corners : ndarray of shape (n, 2)
        x and y of each tile's top left corner in level-0 pixels.
    side : float or None
        Side of a tile in level-0 pixels; None where the file does not say it.
    embeddings : ndarray of shape (n, dim) or None
        One row per tile.
    encoder : str or None
        What the file calls the encoder; None where it does not say it.
    size : (int, int) or None
        Width and height of the slide, where the file says them.
    columns : mapping of str to ndarray of shape (n,)
        More numbers, such as probabilities.
    block : mapping or None
        What a file of ours says beside that: see `SlideEmbeddings.block`.

    Raises
    ------
    InteropError
        If the shapes do not fit each other, or a number is not finite.
    """

    form: str
    path: Path
    corners: NDArray[np.float64]
    side: float | None = None
    embeddings: NDArray[np.float32] | None = None
    encoder: str | None = None
    size: tuple[int, int] | None = None
    columns: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    block: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        n = len(self.corners)
        if self.corners.shape != (n, 2) or not np.isfinite(self.corners).all():
            raise InteropError(f"{self.path}: the places of its tiles are damaged; make it anew.")
        rows = self.embeddings
        if rows is not None and (rows.ndim != 2 or len(rows) != n):
            raise InteropError(
                f"{self.path} has {n} tiles but embeddings of shape {rows.shape}; make it anew."
            )
        if self.side is not None and not self.side > 0:
            raise InteropError(f"{self.path} says that a tile is {self.side} pixels wide.")

    def __len__(self) -> int:
        return len(self.corners)


@dataclass(frozen=True, eq=False)
class SlideEmbeddings:
    """Our embeddings of one slide, to be written to a file; in raster order.

    Parameters
    ----------
    name : str
        Of the slide, without the ending of its file.
    slide, encoder : str
        Identities.
    grid : TileGrid
        Where the tiles are.
    tiles : ndarray of shape (n, 2)
        Row and column of each.
    embeddings : ndarray of shape (n, dim)
        One row per tile.
    magnification : float or None
        Of level 0; worked out from the pixel size if None.
    """

    name: str
    slide: str
    encoder: str
    grid: TileGrid
    tiles: NDArray[np.int32]
    embeddings: NDArray[np.floating[Any]]
    magnification: float | None = None

    @classmethod
    def of(cls, slide: Slide, stored: Stored) -> SlideEmbeddings:
        """Take what `training.stored_of` returned for a slide; raises InteropError if that is none.

        Damaged blocks, which read as NaN, are left out.
        """
        order = np.lexsort(stored.tiles.T[::-1])
        order = order[np.isfinite(stored.matrix[order, 0])]
        if not len(order):
            raise InteropError(f"There are no embeddings of {slide.name} by {stored.info.encoder}.")
        return cls(
            Path(slide.name).stem,
            slide.identity,
            stored.info.encoder,
            stored.grid,
            stored.tiles[order],
            stored.matrix[order],
            slide.magnification,
        )

    def __len__(self) -> int:
        return len(self.tiles)

    @property
    def dim(self) -> int:
        """Numbers per embedding."""
        return int(self.embeddings.shape[1])

    @cached_property
    def corners(self) -> NDArray[np.float64]:
        """(n, 2) x and y of each tile's top left corner, in level-0 pixels."""
        corners: NDArray[np.float64] = self.tiles[:, ::-1] * np.array(self.grid.step)
        return corners

    @property
    def side(self) -> int:
        """Side of a tile in whole level-0 pixels, as other tools count."""
        return round(self.grid.step[0])

    @property
    def encoder_name(self) -> str:
        """The encoder without its weights and pooling: "virchow2"."""
        return encoder_name(self.encoder)

    @property
    def block(self) -> str:
        """What only we read, as JSON: slide, encoder and the exact grid."""
        grid = self.grid
        numbers = {"mpp": grid.mpp, "tile_px": grid.tile_px, "slide_mpp": list(grid.slide_mpp)}
        return json.dumps({"slide": self.slide, "encoder": self.encoder, "grid": numbers})


def read_block(text: object) -> Mapping[str, Any] | None:
    """Return the block of a file of ours; None if it is none, or damaged."""
    try:
        block = json.loads(text) if isinstance(text, str | bytes) else None
    except ValueError:
        return None
    return block if isinstance(block, dict) else None


def corners_of(values: object, path: Path) -> NDArray[np.float64]:
    """Return places as (n, 2) floats; InteropError if they are none."""
    corners = np.asarray(values)
    if corners.ndim != 2 or corners.shape[1] != 2 or corners.dtype.kind not in "iuf":
        raise InteropError(
            f"{path}: the places of its tiles have shape {corners.shape}, not (n, 2); make it anew."
        )
    return corners.astype(np.float64)


@contextmanager
def taking_shape(path: Path) -> Iterator[Path]:
    """Give the name to write a file or folder under; `path` gets it once it is whole.

    A file that is there is replaced, a folder is not.

    Raises
    ------
    InteropError
        If `path` is a folder that is there already.
    """
    if path.is_dir():
        raise InteropError(f"The folder {path} is there already; choose another name.")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        part.unlink(missing_ok=True)
