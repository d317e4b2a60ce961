"""The sample slide: a synthetic H&E-like pyramid with the tissue of every tile known."""

from __future__ import annotations

import csv
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.histology import CLASSES, COARSE, paint
from napari_virchow.paths import cache_dir
from napari_virchow.tiles import TILE_PX, TileGrid

__all__ = [
    "CLASSES",
    "COLORS",
    "MPP",
    "SampleTruth",
    "read_truth",
    "sample_slide",
    "sample_truth",
    "write_sample",
]

MPP = 0.5  # µm per px of the sample
WIDTH, HEIGHT, SEED = 8192, 6144, 7
# One per class, safe for colour-blind people (Okabe & Ito).
COLORS = ("#999999", "#d55e00", "#cc79a7", "#0072b2", "#f0e442", "#e69f00", "#56b4e9")
NAME = "synthetic_he"
_EDITION = "1"  # of the cached copy: goes up when the same seed gives another picture
_CHECKOUT = Path(__file__).resolve().parents[2] / "sample_data"
_QUALITY = 75
_TILE = 256
_COLUMNS = ("row", "col", "x", "y", "class", "purity")


@dataclass(frozen=True, slots=True)
class SampleTruth:
    """What every tile of a sample slide is, on the grid of 224 px at 0.5 µm/px.

    Attributes
    ----------
    classes : ndarray of shape (rows, cols), uint8
        Index into `CLASSES` of the class that covers most of the tile.
    purity : ndarray of shape (rows, cols), float32
        How much of the tile that class covers, in (0, 1]; rounded to 3 digits. What hangs over the
        slide's edge counts as glass.
    """

    classes: NDArray[np.uint8]
    purity: NDArray[np.float32]


def write_sample(
    path: str | os.PathLike[str], *, width: int = WIDTH, height: int = HEIGHT, seed: int = SEED
) -> SampleTruth:
    """Paint a synthetic slide and write it, with its truth as CSV of the same name beside it.

    The file is a JPEG pyramid (1, 4, 16) of 256-px tiles with Aperio's page order, so that every
    reader finds its pixel size. The same arguments give the same bytes with the same libraries.
    Both files appear complete or not at all.

    Parameters
    ----------
    path : path-like
        Where to write the slide; `.tiff` is the usual ending.
    width, height : int
        Size in px at 0.5 µm/px, at least 256. The default takes about half a minute and 1 GB of
        memory.
    seed : int
        Which slide; not negative.

    Returns
    -------
    truth : SampleTruth

    Raises
    ------
    ValueError
        If the size or the seed is too small.
    """
    if min(width, height) < _TILE or seed < 0:
        raise ValueError(
            f"a sample needs at least {_TILE} × {_TILE} px and a seed from 0 on, "
            f"got {width} × {height} and {seed}"
        )
    target = Path(path)
    if target.suffix == ".csv":
        raise ValueError(f"{target} is where the truth goes: give the slide another ending")
    target.parent.mkdir(parents=True, exist_ok=True)
    section = paint(width, height, seed)
    truth = _truth(section.regions, width, height)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".sample-") as folder:
        slide, table = Path(folder, "slide"), Path(folder, "truth")
        _write_pyramid(slide, section.rgb)
        _write_truth(table, truth)
        table.replace(target.with_suffix(".csv"))
        slide.replace(target)
    return truth


def sample_slide() -> Path:
    """Return the sample slide: the checkout's, or one painted into the cache on first use."""
    for folder in (_CHECKOUT, cache_dir() / f"sample-{_EDITION}"):
        slide = folder / f"{NAME}.tiff"
        if slide.is_file() and slide.with_suffix(".csv").is_file():
            return slide
    write_sample(slide, width=WIDTH, height=HEIGHT)
    return slide


def sample_truth() -> NDArray[np.uint8]:
    """Return the class of every tile of the sample slide: (rows, cols), index into `CLASSES`."""
    return read_truth(sample_slide().with_suffix(".csv")).classes


def read_truth(path: str | os.PathLike[str]) -> SampleTruth:
    """Read the truth that `write_sample` wrote.

    Raises
    ------
    ValueError
        If the file is not such a table, or lacks tiles.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            rows = [
                (int(r["row"]), int(r["col"]), CLASSES.index(r["class"]), float(r["purity"]))
                for r in csv.DictReader(file)
            ]
        shape = max(r[0] for r in rows) + 1, max(r[1] for r in rows) + 1
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the truth of a sample slide: write it again") from error
    if len(rows) != shape[0] * shape[1]:
        raise ValueError(f"{path} lacks tiles: {len(rows)} of {shape[0] * shape[1]}")
    classes, purity = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    for row, col, number, share in rows:
        classes[row, col], purity[row, col] = number, share
    return SampleTruth(classes, purity)


def _grid(width: int, height: int) -> TileGrid:
    return TileGrid(width, height, (MPP, MPP))


def _truth(regions: NDArray[np.uint8], width: int, height: int) -> SampleTruth:
    """Count the classes in every tile."""
    rows, cols = _grid(width, height).shape
    side = TILE_PX // COARSE
    whole = np.zeros((rows * side, cols * side), np.uint8)  # 0 is glass
    whole[: regions.shape[0], : regions.shape[1]] = regions
    blocks = whole.reshape(rows, side, cols, side)
    shares = np.stack([(blocks == number).mean((1, 3)) for number in range(len(CLASSES))])
    return SampleTruth(shares.argmax(0).astype(np.uint8), shares.max(0).round(3).astype(np.float32))


def _write_truth(path: Path, truth: SampleTruth) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for (row, col), number in np.ndenumerate(truth.classes):
            purity = f"{truth.purity[row, col]:.3f}"
            writer.writerow((row, col, col * TILE_PX, row * TILE_PX, CLASSES[number], purity))


def _write_pyramid(path: Path, rgb: NDArray[np.uint8]) -> None:
    """Write level, thumbnail, levels: the page order of an Aperio SVS."""
    import tifffile

    height, width = rgb.shape[:2]
    note = f"Aperio Image Library vSynthetic\r\n{width}x{height} (256x256) JPEG/RGB Q={_QUALITY}"
    note += f"|AppMag = 20|MPP = {MPP}"
    jpeg: dict[str, Any] = {
        "photometric": "rgb",
        "compression": "jpeg",
        "compressionargs": {"level": _QUALITY, "optimize": True},
        "subsampling": (2, 2),
        "metadata": None,
        "software": False,
        "resolution": (1e4 / MPP, 1e4 / MPP),
        "resolutionunit": "CENTIMETER",
        "description": note,
    }
    tiled = jpeg | {"tile": (_TILE, _TILE)}
    quarter = _reduced(rgb, 4)
    sixteenth = _reduced(quarter, 4)
    with tifffile.TiffWriter(path) as file:
        file.write(rgb, **tiled)
        file.write(sixteenth, **jpeg)
        for level, factor in ((quarter, 4), (sixteenth, 16)):
            scale = {"resolution": (1e4 / MPP / factor, 1e4 / MPP / factor)}
            file.write(level, **(tiled | scale))


def _reduced(rgb: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Shrink by the mean of squares; a remainder at the right and bottom is dropped."""
    height, width = rgb.shape[0] // factor, rgb.shape[1] // factor
    total = np.zeros((height, width, 3), np.uint16)
    for down in range(factor):
        for right in range(factor):
            total += rgb[down : height * factor : factor, right : width * factor : factor][
                :height, :width
            ]
    return ((total + factor**2 // 2) // factor**2).astype(np.uint8)
