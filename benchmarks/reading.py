"""How fast tiles are read: against the codec alone, tiffslide and openslide, in one run.

Slides: two real H&E sections as a JPEG pyramid, a real JPEG 2000 slide (both need
`NAPARI_VIRCHOW_TEST_DATA`) and the one of 100,000 x 100,000 px of big_slide.py; tiles on tissue. Rates
are tiles of 224 px per second; ratios are what counts. One core means one: the process is pinned.
tiffslide and openslide may use threads where that is faster; the better of two runs counts.

    python benchmarks/reading.py [--json] [--cores 1] [--slides sections jpeg2000 big] [--tiles 3000]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import tifffile
import tiffslide
from big_slide import big_slide
from PIL import Image

from napari_virchow.slide import Slide, open_slide
from napari_virchow.tiles import Tile
from napari_virchow.tissue import tissue_mask

SIDE, TILE = 9216, 224
MPP = 0.5  # what level 0 is said to have: so tiles are 224 of its pixels, which all readers give
SINGLES = 300  # tiles that are read one at a time
SLIDES = "sections", "jpeg2000", "big"
RAW, OURS, PEERS = "codec alone", "Slide.read_tiles", ("tiffslide", "openslide")
IN_BATCHES, IN_ROWS, AT_RANDOM = "in batches", "one by one, row by row", "one by one, at random"
HALVED = "0.5 from 0.25 µm/px"
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Rate:
    """Tiles per second of one reader on one slide, read in one way."""

    slide: str
    way: str
    reader: str
    rate: float


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


def rate(count: int, *works: Callable[[], object]) -> float:
    """Return `count` per second for the fastest of some ways, each done twice."""
    best = 0.0
    for work in works * 2:
        start = time.perf_counter()
        work()
        best = max(best, count / (time.perf_counter() - start))
    return best


def spread(work: Callable[..., object], items: list) -> None:
    """Do work on every item, on all cores; what is made is thrown away."""
    cores = len(os.sched_getaffinity(0))

    def run(start: int) -> None:
        for item in items[start::cores]:
            work(item)

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(run, range(cores)))


def loop(work: Callable[..., object], items: list) -> None:
    """Do work on every item, one after the other."""
    for item in items:
        work(item)


def some_tiles(slide: Slide, mpp: float, most: int) -> list[Tile]:
    """Return tiles on tissue, row by row: neighbours, as a run over a slide has them."""
    found = np.argwhere(tissue_mask(slide).tiles(slide.grid(mpp), 0.5))
    start = max(0, len(found) - most) // 2
    return [Tile(*map(int, at)) for at in found[start : start + most]]


def codec(path: Path, tiles: list[Tile]) -> dict[str, float]:
    """Measure the decoding of level-0 chunks from memory, in tiles of 224 px per second."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        high, wide = page.chunks[:2]
        ends = [(t.row * TILE + dy, t.col * TILE + dx) for t in tiles for dy in (0, TILE - 1) for dx in (0, TILE - 1)]  # fmt: skip
        wanted = sorted({(y // high, x // wide) for y, x in ends if y < page.imagelength and x < page.imagewidth})  # fmt: skip
        numbers = [row * -(-page.imagewidth // wide) + col for row, col in wanted]
        places = [page.dataoffsets[i] for i in numbers], [page.databytecounts[i] for i in numbers]
        blobs = list(file.filehandle.read_segments(*places, numbers))
        tables = page.jpegtables
        page.decode  # noqa: B018  # made on first use, which threads must not do

        def decode(blob: tuple) -> None:
            page.decode(*blob, jpegtables=tables)

        def jpeg(blob: tuple) -> None:
            imagecodecs.jpeg8_decode(
                blob[0], tables=tables, colorspace="YCBCR", outcolorspace="RGB"
            )

        area = len(blobs) * high * wide / TILE**2
        found = {f"{RAW}: tifffile page.decode": rate(area, lambda: spread(decode, blobs))}
        if page.compression == 7:
            found[f"{RAW}: imagecodecs.jpeg8_decode"] = rate(area, lambda: spread(jpeg, blobs))
    return found


def peers(path: Path, tiles: list[Tile], factor: int = 1) -> dict[str, float]:
    """Measure `read_region` of tiffslide and openslide, and PIL's averaging where it is needed."""
    found, side = {}, factor * TILE
    for name, kind in zip(PEERS, (tiffslide.TiffSlide, openslide.OpenSlide), strict=True):
        with kind(path) as slide:

            def read(tile: Tile, slide: tiffslide.TiffSlide = slide) -> np.ndarray:
                at = tile.col * side, tile.row * side
                region = slide.read_region(at, 0, (side, side)).convert("RGB")
                return np.asarray(region.reduce(factor) if factor > 1 else region)

            found[name] = rate(len(tiles), lambda: loop(read, tiles), lambda: spread(read, tiles))  # noqa: B023
    return found


def ours(path: Path, mpp: float, slide_mpp: float, tiles: list[Tile], batch: int) -> float:
    """Measure `Slide.read_tiles`, with a slide that is opened afresh each time."""

    def read() -> None:
        with open_slide(path, mpp=slide_mpp) as slide:
            grid = slide.grid(mpp)
            for first in range(0, len(tiles), batch):
                slide.read_tiles(grid, tiles[first : first + batch])

    return rate(len(tiles), read)


def measure(name: str, path: Path, most: int) -> Iterable[Rate]:
    """Measure everything on one slide, with the cores this process has."""
    most = most // 4 if name == "jpeg2000" else most  # its codec is ten times slower
    with open_slide(path, mpp=MPP) as slide:
        tiles = some_tiles(slide, MPP, most)
    for reader, found in codec(path, tiles).items():
        yield Rate(name, IN_BATCHES, reader, found)
    for batch in (512, 128, 32):
        found = ours(path, MPP, MPP, tiles, batch)
        yield Rate(name, IN_BATCHES, f"{OURS}, {batch} at a time", found)
    shuffled = [tiles[n] for n in np.random.default_rng(7).permutation(len(tiles))[:SINGLES]]
    for way, some in ((IN_ROWS, tiles[:SINGLES]), (AT_RANDOM, shuffled)):
        for reader, found in peers(path, some).items():
            yield Rate(name, way, reader, found)
        yield Rate(name, way, OURS, ours(path, MPP, MPP, some, 1))
    if name == "sections":
        yield from halved(name, path, most)


def halved(name: str, path: Path, most: int) -> Iterable[Rate]:
    """Measure tiles at twice the pixel size of level 0, where the slide has no such level."""
    with open_slide(path, mpp=MPP / 2) as slide:
        tiles = some_tiles(slide, MPP, most)
    for reader, found in codec(path, tiles).items():  # the same places do: it is per chunk
        yield Rate(name, HALVED, reader, found / 4)
    for reader, found in peers(path, tiles[:SINGLES], 2).items():
        yield Rate(name, HALVED, f"{reader} + PIL", found)
    yield Rate(name, HALVED, OURS, ours(path, MPP, MPP / 2, tiles, 512))


def table(rates: list[Rate], cores: int) -> str:
    """Return the rates as Markdown, each beside the first of its kind."""
    lines = [f"### {cores} core(s)", "", "| slide | way | reader | tiles/s | of the first |"]
    lines.append("|---|---|---|---:|---:|")
    first: dict[tuple[str, str], float] = {}
    for one in rates:
        reference = first.setdefault((one.slide, one.way), one.rate)
        lines.append(
            f"| {one.slide} | {one.way} | {one.reader} | {one.rate:,.0f} | {one.rate / reference:.2f} |"
        )
    return "\n".join(lines)


def slides(names: list[str], folder: Path) -> dict[str, Path]:
    """Return where the slides are, written to a folder if they have to be made."""
    found = {}
    data = Path(os.environ["NAPARI_VIRCHOW_TEST_DATA"], "slides") if names != ["big"] else Path()
    if "sections" in names:
        found["sections"] = folder / "sections.svs"
        build(found["sections"], sorted((data / "her2st").glob("*.jpg")))
    if "jpeg2000" in names:
        found["jpeg2000"] = next(data.glob("TCGA-*.svs"))
    if "big" in names:
        found["big"] = big_slide(folder)
    return found


def main() -> None:
    """Measure with one core and with all, each slide in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cores", type=int)
    parser.add_argument("--slides", nargs="+", choices=SLIDES, default=list(SLIDES))
    parser.add_argument("--tiles", type=int, default=3000, help="of a slide; fewer of JPEG 2000")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
        name, path = given.measure
        print(json.dumps([asdict(one) for one in measure(name, Path(path), given.tiles)]))
        return
    rates: dict[int, list[Rate]] = {}
    with tempfile.TemporaryDirectory() as folder:
        every = len(os.sched_getaffinity(0))
        for name, path in slides(given.slides, Path(folder)).items():
            for cores in [given.cores] if given.cores else sorted({1, every}):
                command = [sys.executable, __file__, "--measure", name, str(path)]
                command += ["--cores", str(cores), "--tiles", str(given.tiles)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found = [Rate(**one) for one in json.loads(done.stdout)]
                rates[cores] = rates.get(cores, []) + found
    if given.json:
        print(json.dumps({cores: [asdict(one) for one in found] for cores, found in rates.items()}))
    else:
        print("\n\n".join(table(found, cores) for cores, found in rates.items()))


if __name__ == "__main__":
    main()
