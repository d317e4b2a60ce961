"""How fast tiles are read: against raw JPEG decoding and tiffslide's `read_region`, in one run.

Builds a pyramid (JPEG quality 80, 256 px tiles, levels 1/4/16) from two real H&E sections, which
`NAPARI_VIRCHOW_TEST_DATA` must hold, and reads the tiles on tissue. Rates are tiles of 224 px per
second; ratios are what counts. One core means one: the process is pinned.

    python benchmarks/reading.py [--json] [--cores 1]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import tifffile
import tiffslide
from PIL import Image

from napari_virchow.slide import open_slide
from napari_virchow.tiles import Tile
from napari_virchow.tissue import tissue_mask

SIDE, TILE = 9216, 224
BATCH = 512
Image.MAX_IMAGE_PIXELS = None


def build(path: Path, sections: list[Path]) -> None:
    """Write four real sections (each of two, and turned round) side by side as a pyramid."""
    size = "|AppMag = 20|MPP = 0.5"
    mosaic = np.full((2 * SIDE, 2 * SIDE, 3), 255, np.uint8)
    for number in range(4):
        pixels = np.asarray(Image.open(sections[number % 2]).convert("RGB"))[:SIDE, :SIDE]
        pixels = pixels if number < 2 else pixels[::-1, ::-1]
        y, x = SIDE * (number // 2), SIDE * (number % 2)
        mosaic[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    with tifffile.TiffWriter(path) as file:
        for factor in (1, 4, 16):
            level = np.asarray(Image.fromarray(mosaic).reduce(factor)) if factor > 1 else mosaic
            file.write(
                level,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 80},
                subsampling=(2, 2),
                metadata=None,
                description=f"Aperio Image Library\n{level.shape[1]}x{level.shape[0]} {size}",
            )
            if factor == 1:
                thumbnail = np.asarray(Image.fromarray(mosaic).reduce(24))
                file.write(thumbnail, photometric="rgb", metadata=None)


def rate(count: int, work) -> float:
    """Return `count` per second for the better of two runs."""
    best = 0.0
    for _ in range(2):
        start = time.perf_counter()
        work()
        best = max(best, count / (time.perf_counter() - start))
    return best


def spread(blobs, work) -> None:
    """Do work on every blob, on all cores; what is made is thrown away."""
    cores = len(os.sched_getaffinity(0))

    def run(start: int) -> None:
        for blob in blobs[start::cores]:
            work(*blob)

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(run, range(cores)))


def measure(path: Path) -> list[dict]:
    """Measure everything with the cores this process has."""
    rows = []
    with open_slide(path) as slide:
        grid = slide.grid(0.5)
        tiles = [Tile(*map(int, at)) for at in np.argwhere(tissue_mask(slide).tiles(grid, 0.5))]
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        wanted = sorted(
            {
                (int(t.row * TILE + dy) // 256, int(t.col * TILE + dx) // 256)
                for t in tiles
                for dy in (0, TILE - 1)
                for dx in (0, TILE - 1)
            }
        )
        per_row = -(-page.imagewidth // 256)
        indices = [row * per_row + col for row, col in wanted]
        handle = file.filehandle
        blobs = list(
            handle.read_segments(
                [page.dataoffsets[i] for i in indices],
                [page.databytecounts[i] for i in indices],
                indices,
            )
        )
        tables = page.jpegtables
        per_tile = (256 / TILE) ** 2

        def raw():
            spread(
                blobs,
                lambda data, _: imagecodecs.jpeg8_decode(
                    data, tables=tables, colorspace="YCBCR", outcolorspace="RGB"
                ),
            )

        def decode():
            spread(blobs, lambda data, index: page.decode(data, index, jpegtables=tables))

        rows.append({"reader": "raw: imagecodecs.jpeg8_decode", "rate": rate(1, raw) * len(blobs)})
        rows[-1]["rate"] *= per_tile
        rows.append({"reader": "raw: tifffile page.decode", "rate": rate(1, decode) * len(blobs)})
        rows[-1]["rate"] *= per_tile

    with openslide.OpenSlide(path) as other:

        def opened():
            for tile in tiles[:400]:
                at = tile.col * TILE, tile.row * TILE
                np.asarray(other.read_region(at, 0, (TILE, TILE)).convert("RGB"))

        rows.append({"reader": "openslide read_region", "rate": rate(400, opened)})

    def singles():
        with open_slide(path) as slide:
            own = slide.grid(0.5)
            for tile in tiles[:400]:
                slide.read_tiles(own, [tile])

    rows.append({"reader": "Slide.read_tiles, one by one", "rate": rate(400, singles)})
    few = tiles[:: max(1, len(tiles) // 400)][:400]
    with tiffslide.TiffSlide(path) as reference:

        def regions():
            for tile in tiles[:400]:
                at = tile.col * TILE, tile.row * TILE
                np.asarray(reference.read_region(at, 0, (TILE, TILE)))

        rows.append({"reader": "tiffslide read_region", "rate": rate(400, regions)})

        def halves():
            for tile in few:
                at = tile.col * TILE, tile.row * TILE
                region = reference.read_region(at, 0, (2 * TILE, 2 * TILE))
                np.asarray(region.reduce(2))

        half = rate(len(few), halves)

    def ours(mpp, slide_mpp, batch):
        with open_slide(path, mpp=slide_mpp) as slide:
            own = slide.grid(mpp)
            todo = [Tile(*map(int, at)) for at in np.argwhere(tissue_mask(slide).tiles(own, 0.5))]
            start = time.perf_counter()
            for first in range(0, len(todo), batch):
                slide.read_tiles(own, todo[first : first + batch])
            return len(todo) / (time.perf_counter() - start)

    for batch in (BATCH, 128, 32):
        found = max(ours(0.5, 0.5, batch) for _ in range(2))
        rows.append({"reader": f"Slide.read_tiles, batches of {batch}", "rate": found})
    rows.append({"reader": "tiffslide + PIL, 0.5 from 0.25 µm/px", "rate": half})
    rows.append({"reader": "Slide.read_tiles, 0.5 from 0.25 µm/px", "rate": ours(0.5, 0.25, BATCH)})
    by_name = {row["reader"]: row["rate"] for row in rows}
    raw_rate = by_name["raw: imagecodecs.jpeg8_decode"]
    region_rate = by_name["tiffslide read_region"]
    for row in rows:
        made = "0.25" in row["reader"]
        row["of_raw"] = None if made else row["rate"] / raw_rate
        row["of_tiffslide"] = row["rate"] / (half if made else region_rate)
    return rows


def table(rows: list[dict], cores: int) -> str:
    """Return the rows as Markdown."""
    lines = [f"### {cores} core(s)", "", "| reader | tiles/s | of raw | × tiffslide |"]
    lines.append("|---|---:|---:|---:|")
    for row in rows:
        raw = "" if row["of_raw"] is None else f"{row['of_raw']:.2f}"
        name, speed, times = row["reader"], row["rate"], row["of_tiffslide"]
        lines.append(f"| {name} | {speed:,.0f} | {raw} | {times:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Build the slide, then measure with one core and with all, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cores", type=int)
    parser.add_argument("--slide", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.slide:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
        print(json.dumps(measure(options.slide)))
        return
    data = Path(os.environ["NAPARI_VIRCHOW_TEST_DATA"]) / "slides" / "her2st"
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder) / "sections.svs"
        build(slide, sorted(data.glob("*.jpg")))
        every = len(os.sched_getaffinity(0))
        for cores in [options.cores] if options.cores else sorted({1, every}):
            command = [sys.executable, __file__, "--slide", str(slide), "--cores", str(cores)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[cores] = json.loads(done.stdout)
    if options.json:
        print(json.dumps(found))
    else:
        print("\n\n".join(table(rows, cores) for cores, rows in found.items()))


if __name__ == "__main__":
    main()
