"""Tiles from a level twice or four times as fine: reduced chunk by chunk, equal to the whole."""

from __future__ import annotations

import numpy as np
import pytest
from tests.slides import write_svs

from napari_virchow.slide import open_slide
from napari_virchow.slide.chunks import Window
from napari_virchow.slide.imaging import shrink
from napari_virchow.slide.reduced import ReducedSource
from napari_virchow.tiles import Tile


@pytest.fixture
def slide(tmp_path):
    """Noise of 1500 x 1001 px, in tiles of 256 px: nothing divides anything."""
    pixels = np.random.default_rng(7).integers(0, 256, (1001, 1500, 3), np.uint8)
    with open_slide(write_svs(tmp_path / "noise.svs", pixels, mpp=0.25, factors=(1,))) as opened:
        yield opened


def by_hand(slide, grid, tile, factor):
    side = grid.tile_px
    window = Window(0, tile.col * side * factor, tile.row * side * factor, *(side * factor,) * 2)
    return shrink(slide.read_window(window), side)


@pytest.mark.parametrize(("mpp", "factor"), [(0.5, 2), (1.0, 4)])
def test_every_tile_is_the_mean_of_the_finer_pixels_also_where_it_hangs_off(slide, mpp, factor):
    grid = slide.grid(mpp)
    tiles = [Tile(row, col) for row in range(grid.shape[0]) for col in range(grid.shape[1])]
    found = slide.read_tiles(grid, tiles)
    for tile, pixels in zip(tiles, found, strict=True):
        np.testing.assert_array_equal(pixels, by_hand(slide, grid, tile, factor))


def test_windows_that_cut_through_blocks_are_read_whole(slide):
    reduced = ReducedSource(slide._source, 2, lambda _: None)
    assert reduced.fits([Window(0, 448, 0, 448, 448)], 224)
    assert not reduced.fits([Window(0, 443, 0, 448, 448)], 224)
    assert not reduced.fits([Window(0, 448, 0, 443, 443)], 224)
    assert not ReducedSource(slide._source, 3, lambda _: None).fits(
        [Window(0, 672, 0, 672, 672)], 224
    )


def test_chunks_that_were_decoded_for_the_window_are_not_decoded_again(slide):
    seen = []

    def peek(chunk):
        seen.append(chunk)
        return np.full((256, 256, 3), 9, np.uint8)

    reduced = ReducedSource(slide._source, 2, peek)
    chunk = slide._source.some_chunk(0)
    assert (reduced.decode(chunk) == 9).all()
    assert seen == [chunk]
