from __future__ import annotations

import numpy as np
import pytest
from tests.slides import picture, write_svs

from napari_virchow.slide import open_slide

PIXELS = picture(2100, 2600)


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = write_svs(tmp_path_factory.mktemp("slides") / "one-level.svs", PIXELS, factors=(1,))
    with open_slide(path) as opened:
        yield opened


def test_levels_are_made_down_to_a_small_one(slide):
    shapes = [level.shape for level in slide.pyramid()]
    assert shapes == [(2100, 2600, 3), (1050, 1300, 3), (525, 650, 3)]


def test_stored_levels_four_apart_get_none_in_between(tmp_path):
    path = write_svs(tmp_path / "four.svs", PIXELS, factors=(1, 4))
    with open_slide(path) as slide:
        assert [level.shape[0] for level in slide.pyramid()] == [2100, 525]


def test_a_level_is_an_array_of_the_slides_pixels(slide):
    level = slide.pyramid()[0]
    np.testing.assert_array_equal(level[100:300, 2000:2700], PIXELS[100:300, 2000:2600])
    np.testing.assert_array_equal(level[5, 7], PIXELS[5, 7])
    np.testing.assert_array_equal(level[10:90:4, ..., 1], PIXELS[10:90:4, :, 1])
    np.testing.assert_array_equal(np.asarray(level), PIXELS)
    assert level[2000:2000].shape == (0, 2600, 3)


def test_a_made_level_is_the_mean_of_the_stored_one(slide):
    mean = PIXELS.reshape(525, 4, 650, 4, 3).mean((1, 3))
    assert np.abs(slide.pyramid()[2][:, :] - mean).max() <= 1


def test_the_overview_covers_the_whole_slide(slide):
    pixels, downsample = slide.overview(650)
    assert pixels.shape == (525, 650, 3)
    assert downsample == 4
    assert slide.overview(650)[0] is pixels
