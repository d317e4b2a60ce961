from __future__ import annotations

import numpy as np
import pytest
from tests.slides import write_svs

from napari_virchow.slide import open_slide
from napari_virchow.tiles import TileGrid
from napari_virchow.tissue import TissueMask, tissue_mask

GLASS, PINK = (244, 243, 242), (225, 150, 190)


def slide_of(tmp_path, pixels):
    noisy = pixels.astype(int) + np.random.default_rng(0).integers(-3, 4, pixels.shape)
    return open_slide(write_svs(tmp_path / "made.svs", noisy.clip(0, 255).astype(np.uint8)))


def plain(colour, height=1200, width=1600):
    return np.full((height, width, 3), colour, np.uint8)


def test_all_glass_has_no_tissue_and_all_tissue_has_no_glass(tmp_path):
    with slide_of(tmp_path, plain(GLASS)) as slide:
        assert not tissue_mask(slide).mask.any()
    with slide_of(tmp_path, plain(PINK)) as slide:
        assert tissue_mask(slide).mask.all()


def test_tissue_is_found_holes_are_filled_and_dust_is_dropped(tmp_path):
    pixels = plain(GLASS)
    pixels[200:900, 300:1100] = PINK
    pixels[500:530, 600:630] = GLASS  # a small vessel
    pixels[1050:1053, 100:103] = (90, 40, 90)  # dust
    with slide_of(tmp_path, pixels) as slide:
        found = tissue_mask(slide)
    at = found.mask[:: round(4 / found.downsample[1]) or 1]
    assert at.any()
    y, x = (int(v) for v in (515 / found.downsample[1], 615 / found.downsample[0]))
    assert found.mask[y, x]
    y, x = (int(v) for v in (1051 / found.downsample[1], 101 / found.downsample[0]))
    assert not found.mask[y, x]
    area = found.mask.mean() * 1200 * 1600
    assert area == pytest.approx(700 * 800, rel=0.03)


def test_grey_shadow_is_not_tissue(tmp_path):
    pixels = plain(GLASS)
    pixels[100:500, 100:500] = (215, 214, 215)
    pixels[700:1100, 700:1500] = PINK
    with slide_of(tmp_path, pixels) as slide:
        found = tissue_mask(slide)
    high, wide = found.mask.shape
    assert not found.mask[: high // 2, : wide // 3].any()


def test_tiles_are_counted_by_the_exact_area_on_tissue():
    mask = np.zeros((10, 12), bool)
    mask[3:7, 2:9] = True
    tissue = TissueMask(mask, (10.0, 10.0))
    grid = TileGrid(120, 100, (1.0, 1.0), mpp=1.0, tile_px=25)  # 2.5 mask pixels
    fractions = np.zeros(grid.shape)
    fine = np.kron(mask, np.ones((10, 10)))
    for row in range(grid.shape[0]):
        for col in range(grid.shape[1]):
            fractions[row, col] = (
                fine[row * 25 : row * 25 + 25, col * 25 : col * 25 + 25].sum() / 625
            )
    for least in (0.05, 0.3, 0.9):
        np.testing.assert_array_equal(tissue.tiles(grid, least), fractions >= least)


def test_real_sections_are_found(data_dir):
    for name, low, high in [
        ("CMU-1-Small-Region.svs", 0.3, 0.45),
        ("TCGA-CR-7395-01A-01-TS1.svs", 0.55, 0.7),
    ]:
        with open_slide(data_dir / "slides" / name) as slide:
            assert low < tissue_mask(slide).mask.mean() < high
