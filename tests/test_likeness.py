from __future__ import annotations

import numpy as np
import pytest

from napari_virchow.likeness import likeness_colors, likeness_raster


def test_alike_embeddings_get_alike_colours():
    rng = np.random.default_rng(3)
    centers = rng.normal(size=(4, 30))
    kinds = rng.integers(0, 4, 500)
    embeddings = (centers[kinds] + 0.05 * rng.normal(size=(500, 30))).astype(np.float16)
    colors = likeness_colors(embeddings).astype(int)
    means = np.array([colors[kinds == kind].mean(0) for kind in range(4)])
    within = max(np.abs(colors[kinds == kind] - means[kind]).mean() for kind in range(4))
    apart = min(np.abs(means[a] - means[b]).mean() for a in range(4) for b in range(a))
    assert apart > 3 * within


@pytest.mark.parametrize("n", [0, 1, 3])
def test_too_few_embeddings_are_grey(n):
    colors = likeness_colors(np.ones((n, 8), np.float16))
    assert colors.shape == (n, 3)
    assert (colors == 150).all()


def test_equal_embeddings_get_one_colour():
    colors = likeness_colors(np.ones((9, 8), np.float32))
    assert (colors == colors[0]).all()


def test_the_raster_is_transparent_where_nothing_is_embedded():
    tiles = np.array([[0, 1], [2, 3], [1, 1], [2, 0], [0, 4]], np.int32)
    embeddings = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float16)
    raster = likeness_raster((3, 5), tiles, embeddings)
    assert raster.shape == (3, 5, 4)
    assert set(map(tuple, np.argwhere(raster[..., 3] == 255))) == set(map(tuple, tiles))
    np.testing.assert_array_equal(raster[2, 3, :3], likeness_colors(embeddings)[1])
