"""TileSet: labelled tiles from anywhere, with what is known of patients, slides and splits."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.tiles import TILE_PX

Pixels = NDArray[np.uint8]
Rows = NDArray[np.intp]
TRAIN, VALID, TEST, UNUSED = 0, 1, 2, -1
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
_EDGE_BYTES = 4096  # read at each end of a file to tell its content
_READERS = 4


class TileSetError(Exception):
    """A tile set cannot be read; the message is one sentence that ends with what to do next."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the pixels of a tile set come from.

    Parameters
    ----------
    n : int
        How many tiles there are.
    read : callable
        Reads the tiles of some row numbers: (n, 224, 224, 3) uint8 RGB.
    identity : str
        Hexadecimal digits of the content, fit for a file name.
    """

    n: int
    read: Callable[[Rows], Pixels]
    identity: str


@dataclass(frozen=True, slots=True, eq=False)
class TileSet:
    """Labelled tiles.

    Parameters
    ----------
    name, title : str
        What it is called in files and in tables.
    source : Source
        Its n tiles.
    classes : tuple of str
        Names of the classes; empty for a regression task.
    labels : ndarray of shape (n,), intp
        Index into `classes`.
    groups : ndarray of shape (n,), str, optional
        Patient or slide of each tile: no group may be on both sides of a split.
    split : ndarray of shape (n,), int8, optional
        The published split: TRAIN, VALID, TEST, or UNUSED.
    folds : tuple of (train rows, test rows), optional
        Published folds, where there are several.
    targets : ndarray of shape (n, n_genes), float32, optional
        What a regression task predicts.
    mpp : float, optional
        µm per pixel of the tiles at 224 px, where known.
    task : str
        Row of `TASKS` it belongs to; empty for a set of the user's own.
    """

    name: str
    title: str
    source: Source
    classes: tuple[str, ...]
    labels: Rows
    groups: NDArray[np.str_] | None = None
    split: NDArray[np.int8] | None = None
    folds: tuple[tuple[Rows, Rows], ...] = ()
    targets: NDArray[np.float32] | None = None
    mpp: float | None = None
    task: str = ""

    def __post_init__(self) -> None:
        if self.source.n == 0:
            raise TileSetError(f"{self.title} has no tiles: check its folder.")
        if self.targets is None and len(self.classes) < 2:
            raise TileSetError(
                f"{self.title} has {len(self.classes)} class(es) and an evaluation needs at least "
                "two: give a folder with one folder per class."
            )

    def __len__(self) -> int:
        return self.source.n


def from_files(files: Sequence[Path], root: Path) -> Source:
    """Read one tile per image file; a file of another size is cut square and resized."""

    def read(rows: Rows) -> Pixels:
        with ThreadPoolExecutor(_READERS) as pool:
            return np.stack(list(pool.map(lambda row: read_image(files[row]), rows)))

    return Source(len(files), read, _identity_of(files, root))


def from_h5(files: Sequence[Path], key: str) -> Source:
    """Read tiles from arrays of shape (n, height, width, 3) in HDF5 files, one after the other."""
    opened = [open_h5(file)[key] for file in files]
    starts = np.cumsum([0, *(len(array) for array in opened)])
    lock = threading.Lock()

    def read_one(row: int) -> Pixels:
        number = int(np.searchsorted(starts, row, side="right")) - 1
        with lock:
            pixels = np.asarray(opened[number][row - starts[number]], np.uint8)
        return fit(pixels)

    def read(rows: Rows) -> Pixels:
        return np.stack([read_one(int(row)) for row in rows])

    return Source(int(starts[-1]), read, _identity_of(files, files[0].parent))


def from_crops(files: Sequence[Path], at: Rows, centers: NDArray[np.int64], px: int) -> Source:
    """Read tiles around points of large images.

    Parameters
    ----------
    files : sequence of Path
        The images.
    at : ndarray of shape (n,), intp
        Image of each tile.
    centers : ndarray of shape (n, 2), int64
        (x, y) of the middle of each tile.
    px : int
        Side of a tile in pixels of the image; white beyond its edge.
    """
    kept: dict[int, Pixels] = {}

    def read(rows: Rows) -> Pixels:
        out = np.full((len(rows), px, px, 3), 255, np.uint8)
        for number, row in enumerate(rows):
            image = int(at[row])
            if image not in kept:
                kept.clear()  # rows come in the order of the images: one is kept
                kept[image] = _decode(files[image])
            _paste(kept[image], out[number], centers[row])
        return np.stack([fit(tile) for tile in out])

    digest = hashlib.blake2b(digest_size=8)
    digest.update(_identity_of(files, files[0].parent).encode())
    digest.update(np.ascontiguousarray(centers).tobytes() + str(px).encode())
    return Source(len(at), read, digest.hexdigest())


def joined(parts: Sequence[Source]) -> Source:
    """Return one source with the tiles of several, one after the other."""
    starts = np.cumsum([0, *(part.n for part in parts)])

    def read(rows: Rows) -> Pixels:
        out = np.empty((len(rows), TILE_PX, TILE_PX, 3), np.uint8)
        which = np.searchsorted(starts, rows, side="right") - 1
        for number in np.unique(which):
            mine = which == number
            out[mine] = parts[number].read(rows[mine] - starts[number])
        return out

    digest = hashlib.blake2b("".join(part.identity for part in parts).encode(), digest_size=8)
    return Source(int(starts[-1]), read, digest.hexdigest())


def read_image(file: Path) -> Pixels:
    """Read an image file as a tile of 224 px.

    Raises
    ------
    TileSetError
        If it is not an image.
    """
    return fit(_decode(file))


def fit(pixels: Pixels) -> Pixels:
    """Cut an RGB image square around its middle and resize it to 224 px, bicubic."""
    from PIL import Image

    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side]
    if side == TILE_PX:
        return square
    resized = Image.fromarray(np.ascontiguousarray(square)).resize(
        (TILE_PX, TILE_PX), Image.Resampling.BICUBIC
    )
    return np.asarray(resized)


def open_h5(file: Path) -> Any:
    """Open an HDF5 file for reading.

    Raises
    ------
    TileSetError
        If the file is damaged.
    """
    import h5py

    try:
        return h5py.File(file, "r")
    except OSError as error:
        raise TileSetError(f"{file} cannot be read as HDF5: download it again.") from error


def image_files(folder: Path) -> list[Path]:
    """Return the image files right inside a folder, sorted by name."""
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS)


def _decode(file: Path) -> Pixels:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise TileSetError(f"the tile {file} is missing: download the set again.") from error
    except OSError as error:
        raise TileSetError(f"the tile {file} is not an image: download it again.") from error


def _paste(image: Pixels, out: Pixels, center: NDArray[np.int64]) -> None:
    px = len(out)
    left, top = int(center[0]) - px // 2, int(center[1]) - px // 2
    x0, y0 = max(0, left), max(0, top)
    part = image[y0 : max(y0, top + px), x0 : max(x0, left + px)]
    out[y0 - top : y0 - top + part.shape[0], x0 - left : x0 - left + part.shape[1]] = part


def _identity_of(files: Sequence[Path], root: Path) -> str:
    """Return 16 hex digits of names, sizes and both ends of files: moving a set loses nothing."""
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        try:
            with file.open("rb") as opened:
                size = opened.seek(0, 2)
                opened.seek(max(0, size - _EDGE_BYTES))
                tail = opened.read(_EDGE_BYTES)
                opened.seek(0)
                head = opened.read(_EDGE_BYTES)
        except OSError as error:
            raise TileSetError(f"the tile {file} is missing: download the set again.") from error
        digest.update(f"{file.relative_to(root).as_posix()} {size} ".encode() + head + tail)
    return digest.hexdigest()
