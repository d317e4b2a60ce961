"""A slide of 100,000 x 100,000 px for measurements: some sections of tissue, the rest glass.

    python benchmarks/big_slide.py [FOLDER]

The sample slide lies on it 22 times. Glass is one JPEG, which the file's index names again and
again, so the file has 160 MB in place of 390 and is written in seconds; every chunk of tissue
has bytes of its own. Levels of 1, 4, 16 and 64; 0.5 µm per pixel.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from napari_virchow.sample import sample_slide

SIDE, CHUNK = 100_000, 256
CELL = 8192  # px on a side; a section lies in one, and 8192 / 16 is still whole chunks
FACTORS = (1, 4, 16)  # levels that are put together from chunks; 64 is small
QUALITY = 75
Image.MAX_IMAGE_PIXELS = None


def cells() -> list[tuple[int, int]]:
    """Return the (row, column) of the cells with a section: 22 of 144, and none at the rim."""
    free = [(row, col) for row in range(1, 11) for col in range(1, 11)]
    chosen = np.random.default_rng(3).choice(len(free), 22, replace=False)
    return sorted(free[number] for number in chosen)


def big_slide(folder: Path) -> Path:
    """Return the slide in a folder; it is written there if it is missing (some ten seconds)."""
    path = folder / "big.svs"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".big-") as made:
            half_done = Path(made, path.name)
            write(half_done)
            half_done.replace(path)
    return path


def write(path: Path) -> None:
    """Write the slide: level 0, a thumbnail and the other levels, as Aperio's files have it."""
    section = tifffile.imread(sample_slide(), key=0)
    colour = section[:CHUNK, :CHUNK].mean((0, 1)).astype(np.uint8)  # the sample's corner is glass
    whole = np.full((CELL, CELL, 3), colour, np.uint8)
    whole[: section.shape[0], : section.shape[1]] = section
    shared = {
        "photometric": "rgb",
        "compression": "jpeg",
        "subsampling": (2, 2),
        "metadata": None,
        "description": f"Aperio Image Library\n{SIDE}x{SIDE} ({CHUNK}x{CHUNK}) JPEG/RGB "
        f"Q={QUALITY}|AppMag = 20|MPP = 0.5",
    }
    small = Image.fromarray(whole).reduce(64)
    last = Image.new("RGB", (SIDE // 64 + 1,) * 2, tuple(colour.tolist()))
    for row, col in cells():
        last.paste(small, (col * small.width, row * small.height))
    glass = jpeg(np.full((CHUNK, CHUNK, 3), colour, np.uint8))
    with tifffile.TiffWriter(path) as file:
        for factor in FACTORS:
            pixels = np.asarray(Image.fromarray(whole).reduce(factor)) if factor > 1 else whole
            side = SIDE // factor
            file.write(
                chunks(pixels, side, glass),
                shape=(side, side, 3),
                dtype=np.uint8,
                tile=(CHUNK, CHUNK),
                **shared,
            )
            if factor == 1:
                file.write(np.asarray(last.reduce(2)), **shared)
        file.write(np.asarray(last)[: SIDE // 64, : SIDE // 64], tile=(CHUNK, CHUNK), **shared)


def chunks(section: np.ndarray, side: int, glass: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield a level's chunks, row by row, as bytes to write and the length to note in the index.

    A chunk that writes nothing begins where the next one does: so all the glass before a chunk of
    glass that is written has the bytes of that one.
    """
    per_cell, per_side = len(section) // CHUNK, -(-side // CHUNK)
    encoded = {
        (row, col): jpeg(section[row * CHUNK : (row + 1) * CHUNK, col * CHUNK : (col + 1) * CHUNK])
        for row in range(per_cell)
        for col in range(per_cell)
    }
    taken = set(cells())
    for row in range(per_side):
        found = [
            encoded[row % per_cell, col % per_cell]
            if (row // per_cell, col // per_cell) in taken
            else None
            for col in range(per_side)
        ]
        for data, following in zip(found, [*found[1:], b""], strict=True):
            if data is not None:
                yield data, len(data)
            else:
                yield (b"" if following is None else glass), len(glass)


def jpeg(pixels: np.ndarray) -> bytes:
    """Encode a chunk as the slide's levels hold it."""
    return imagecodecs.jpeg8_encode(
        pixels, QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling="420"
    )


def main() -> None:
    """Write the slide and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path(tempfile.gettempdir()))
    print(big_slide(parser.parse_args().folder))


if __name__ == "__main__":
    main()
