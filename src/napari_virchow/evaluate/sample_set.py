"""The sample slide as a tile set: always there, needs no data."""

from __future__ import annotations

import numpy as np

from napari_virchow.evaluate.tilesets import Pixels, Rows, Source, TileSet
from napari_virchow.sample import CLASSES, MPP, read_truth, sample_slide
from napari_virchow.slide import open_slide
from napari_virchow.tiles import Tile

SAMPLE = "sample"
MIN_PURITY = 0.6
BLOCK_TILES = 6  # side of the blocks that are kept on one side of a split


def sample_tiles() -> TileSet:
    """Return the tissue tiles of the sample slide with their class; groups are blocks of tiles."""
    path = sample_slide()
    truth = read_truth(path.with_suffix(".csv"))
    rows, cols = np.nonzero((truth.classes > 0) & (truth.purity >= MIN_PURITY))
    slide = open_slide(path)
    grid = slide.grid(MPP)

    def read(chosen: Rows) -> Pixels:
        return slide.read_tiles(grid, [Tile(int(rows[i]), int(cols[i])) for i in chosen])

    return TileSet(
        name=SAMPLE,
        title="Sample slide (synthetic)",
        source=Source(len(rows), read, slide.identity[:16].replace(":", "-")),
        classes=tuple(CLASSES[1:]),
        labels=truth.classes[rows, cols].astype(np.intp) - 1,
        groups=np.array(
            [f"{r // BLOCK_TILES},{c // BLOCK_TILES}" for r, c in zip(rows, cols, strict=True)]
        ),
        mpp=MPP,
    )
