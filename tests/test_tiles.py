from __future__ import annotations

import pytest

from napari_virchow.tiles import Rect, Tile, TileGrid

# 1000 x 700 px at 0.5 µm/px: a 100 µm tile is 200 px, so 4 rows (the last one overhangs) x 5.
GRID = TileGrid(width=1000, height=700, slide_mpp=(0.5, 0.5), mpp=1.0, tile_px=100)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        pytest.param(Rect(0, 0, 200, 200), [(0, 0)], id="exactly one tile"),
        pytest.param(Rect(199, 0, 2, 1), [(0, 0), (0, 1)], id="straddles an edge"),
        pytest.param(Rect(-50, -50, 60, 60), [(0, 0)], id="hangs off the slide"),
        pytest.param(Rect(2000, 0, 10, 10), [], id="misses the slide"),
        pytest.param(Rect(900, 650, 500, 500), [(3, 4)], id="last, overhanging tile"),
        pytest.param(Rect(5, 5, 0, 10), [], id="has no area"),
    ],
)
def test_tiles_in_view(view, expected):
    assert list(GRID.tiles_in(view)) == expected


def test_a_tile_has_the_same_size_in_um_on_every_slide():
    grid = TileGrid(width=5000, height=3000, slide_mpp=(0.2527, 0.2527), mpp=0.5)
    assert grid.tile_um == 112
    assert grid.step == pytest.approx((443.213, 443.213), abs=1e-3)
    assert grid.shape == (7, 12)


def test_pixels_that_are_not_square_make_tiles_that_are_square_in_um():
    grid = TileGrid(width=1000, height=1000, slide_mpp=(0.5, 0.25), mpp=0.5, tile_px=100)
    assert grid.step == (100, 200)
    assert grid.shape == (5, 10)
    assert grid.rect(Tile(1, 2)) == Rect(200, 200, 100, 200)


@pytest.mark.parametrize(
    ("point", "tile"),
    [
        ((0, 0), (0, 0)),
        ((199.9, 200), (1, 0)),
        ((999, 699), (3, 4)),
        ((1000, 0), None),
        ((-1, 0), None),
    ],
)
def test_tile_under_a_point(point, tile):
    assert GRID.tile_at(*point) == tile


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_a_grid_refuses_a_resolution_that_cannot_be(bad):
    with pytest.raises(ValueError, match="positive"):
        TileGrid(width=10, height=10, slide_mpp=(bad, 0.5))


def test_boxes_intersect_and_grow():
    assert Rect(0, 0, 10, 10).intersect(Rect(6, 8, 10, 10)) == Rect(6, 8, 4, 2)
    assert Rect(0, 0, 10, 10).intersect(Rect(20, 0, 5, 5)).width == 0
    assert Rect(2, 3, 4, 5).grow(1, 2) == Rect(1, 1, 6, 9)
    with pytest.raises(ValueError, match="negative"):
        Rect(0, 0, -1, 1)
