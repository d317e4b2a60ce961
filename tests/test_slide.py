from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.slides import picture, write_svs

from napari_virchow.slide import MissingPixelSize, SlideError, open_slide
from napari_virchow.slide.chunks import Level, Window, read_windows
from napari_virchow.tiles import Tile

PIXELS = picture()


@pytest.fixture(scope="module")
def svs(tmp_path_factory) -> Path:
    return write_svs(tmp_path_factory.mktemp("slides") / "waves.svs", PIXELS)


def all_tiles(grid):
    return [Tile(row, col) for row in range(grid.shape[0]) for col in range(grid.shape[1])]


def window_of(pixels, x, y, width, height):
    """Cut a box out of an array, white outside: a plain second truth."""
    out = np.full((height, width, 3), 255, np.uint8)
    for row in range(max(0, -y), min(height, pixels.shape[0] - y)):
        left, right = max(0, -x), min(width, pixels.shape[1] - x)
        if left < right:
            out[row, left:right] = pixels[y + row, x + left : x + right]
    return out


def test_an_opened_slide_says_what_it_is(svs):
    with open_slide(svs) as slide:
        assert (slide.width, slide.height) == (1700, 1300)
        assert [level[:2] for level in slide.levels] == [(1700, 1300), (425, 325)]
        assert slide.mpp == (0.5, 0.5)
        assert (slide.vendor, slide.magnification) == ("aperio", 20)
        assert slide.reader == "tiffslide"
        assert "fast path" in slide.reader_reason
        assert slide.name == "waves.svs"


def test_tiles_at_the_slides_own_resolution_are_its_pixels_and_white_beyond(svs):
    with open_slide(svs) as slide:
        grid = slide.grid(0.5)
        tiles = all_tiles(grid)
        pixels = slide.read_tiles(grid, tiles)
    assert pixels.shape == (48, 224, 224, 3)
    for tile, found in zip(tiles, pixels, strict=True):
        expected = window_of(PIXELS, tile.col * 224, tile.row * 224, 224, 224)
        np.testing.assert_array_equal(found, expected)


def test_coarser_tiles_are_averaged_from_the_next_finer_level(svs):
    with open_slide(svs) as slide:
        grid = slide.grid(1.0)
        found = slide.read_tiles(grid, [Tile(1, 2)])[0]
    box = PIXELS[448:896, 896:1344].reshape(224, 2, 224, 2, 3).mean((1, 3))
    assert np.abs(found - box).max() <= 1


def test_tiles_of_a_scale_in_between_follow_the_picture(svs):
    with open_slide(svs) as slide:
        grid = slide.grid(0.7)
        found = slide.read_tiles(grid, [Tile(1, 1)])[0]
    side = 224 * 1.4
    at = ((np.arange(224) + 0.5) * 1.4 + side - 0.5).round().astype(int)
    assert np.abs(found.astype(int) - PIXELS[at][:, at]).mean() < 3


def test_stored_levels_are_used_when_they_are_fine_enough(svs):
    with open_slide(svs) as slide:
        found = slide.read_tiles(slide.grid(2.0), [Tile(0, 0)])[0]
        stored = slide.read_region(0, 0, 1, 224, 224)
    np.testing.assert_array_equal(found, stored)


@pytest.mark.parametrize(
    "box", [(0, 0, 300, 200), (-40, -30, 100, 90), (1650, 1250, 200, 100), (5000, 0, 10, 10)]
)
def test_a_region_is_white_outside_the_slide(svs, box):
    x, y, width, height = box
    with open_slide(svs) as slide:
        found = slide.read_region(x, y, 0, width, height)
    np.testing.assert_array_equal(found, window_of(PIXELS, x, y, width, height))


def test_the_same_pixels_come_from_the_slow_path(svs, monkeypatch):
    with open_slide(svs) as slide:
        fast = slide.read_tiles(slide.grid(0.5), [Tile(2, 3), Tile(5, 7)])
    monkeypatch.setattr(
        "napari_virchow.slide.openers.fast_tiff_source", lambda *_: "this is a test of the slow one"
    )
    with open_slide(svs) as slide:
        assert "slow path, as this is a test" in slide.reader_reason
        slow = slide.read_tiles(slide.grid(0.5), [Tile(2, 3), Tile(5, 7)])
    np.testing.assert_array_equal(fast, slow)


def test_a_fast_path_that_reads_other_pixels_is_not_used(svs, monkeypatch):
    from napari_virchow.slide.readers import TiffSource

    honest = TiffSource.decode
    monkeypatch.setattr(TiffSource, "decode", lambda self, chunk: 255 - honest(self, chunk))
    with open_slide(svs) as slide:
        assert "slow path" in slide.reader_reason
        found = slide.read_tiles(slide.grid(0.5), [Tile(0, 0)])[0]
    np.testing.assert_array_equal(found, PIXELS[:224, :224])


def test_a_damaged_chunk_spoils_only_its_tiles(tmp_path):
    path = write_svs(tmp_path / "damaged.svs", PIXELS, compression="jpeg")
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(count))
    with open_slide(path) as slide:
        grid, failed = slide.grid(0.5), {}
        tiles = all_tiles(grid)
        pixels = slide.read_tiles(grid, tiles, on_error=failed.__setitem__)
        assert set(failed) == {Tile(0, 0), Tile(0, 1), Tile(1, 0), Tile(1, 1)}
        assert all("damaged.svs" in str(error) for error in failed.values())
        assert (pixels[tiles.index(Tile(0, 0))] == 255).all()  # it lies in the damaged chunk only
        clean = pixels[tiles.index(Tile(3, 3))].astype(int)
        assert np.abs(clean - PIXELS[672:896, 672:896]).mean() < 6
        with pytest.raises(SlideError, match=r"damaged\.svs cannot be read"):
            slide.read_tiles(grid, tiles)


class Spoilt:
    """A level of 60 x 50 px in chunks of 20 px: grey, but one is too small and one missing."""

    levels = (Level(60, 50, 1.0),)

    def chunk_size(self, level):
        return 20, 20

    def order(self, chunk):
        return 3 * chunk.row + chunk.col

    def prepare(self, chunks):
        pass

    def decode(self, chunk):
        if (chunk.row, chunk.col) == (1, 1):
            raise ValueError("missing")
        return np.full((10 if chunk.row != 1 else 20, 20, 3), 90, np.uint8)

    def close(self):
        pass


def test_whatever_cannot_be_read_is_white_and_nothing_of_what_was_there_is_left():
    windows = [Window(0, -5, -5, 70, 60), Window(0, 0, 0, 60, 50)]
    outs = [np.full((w.height, w.width, 3), 7, np.uint8) for w in windows]
    errors = read_windows(Spoilt(), windows, outs, Spoilt().decode)
    assert [str(errors[n]) for n in (0, 1)] == ["missing", "missing"]
    expected = np.full((50, 60), 255)
    expected[0:10], expected[20:40], expected[40:50] = 90, 90, 90
    expected[20:40, 20:40] = 255
    np.testing.assert_array_equal(outs[1][..., 0], expected)
    np.testing.assert_array_equal(outs[0][5:55, 5:65, 0], expected)
    outs[0][5:55, 5:65] = 255
    assert (outs[0] == 255).all()


def test_a_file_that_was_cut_short_names_the_cause(tmp_path):
    path = write_svs(tmp_path / "short.svs", PIXELS, factors=(1,))
    with open_slide(path) as slide:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
        with pytest.raises(SlideError, match="ends too early"):
            slide.read_tiles(slide.grid(0.5), all_tiles(slide.grid(0.5)))


def test_tiles_that_the_file_leaves_out_are_white(tmp_path):
    path = tmp_path / "sparse.tiff"
    chunk = np.full((256, 256, 3), 90, np.uint8)
    with tifffile.TiffWriter(path) as file:
        file.write(
            (chunk if number == 0 else None for number in range(4)),
            shape=(512, 512, 3),
            dtype=np.uint8,
            tile=(256, 256),
            photometric="rgb",
            metadata=None,
        )
    with open_slide(path, mpp=0.5) as slide:
        pixels = slide.read_region(0, 0, 0, 512, 512)
    assert (pixels[:256, :256] == 90).all()
    assert (pixels[256:] == 255).all()


def test_strips_are_read_like_tiles(tmp_path):
    path = tmp_path / "strips.tiff"
    tifffile.imwrite(path, PIXELS, rowsperstrip=7, photometric="rgb", metadata=None)
    with open_slide(path, mpp=0.5) as slide:
        np.testing.assert_array_equal(
            slide.read_region(100, 200, 0, 300, 400), PIXELS[200:600, 100:400]
        )


def test_many_threads_read_the_same_pixels(svs):
    with open_slide(svs) as slide:
        grid, tiles = slide.grid(0.5), all_tiles(slide.grid(0.5))
        expected, seen = slide.read_tiles(grid, tiles), []

        def read():
            seen.append(np.array_equal(slide.read_tiles(grid, tiles), expected))

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [True] * 8


def test_the_identity_follows_the_content_not_the_name(svs, tmp_path):
    moved = tmp_path / "Gewebe ä 組織.svs"
    shutil.copy(svs, moved)
    other = write_svs(tmp_path / "waves.svs", picture(seed=2))
    with open_slide(svs) as a, open_slide(moved) as b, open_slide(other) as c:
        assert a.identity == b.identity
        assert a.identity != c.identity
        assert len(a.identity) == 32
        assert b.mpp == (0.5, 0.5)


def test_a_url_is_opened_like_a_file(svs):
    with open_slide(svs) as near, open_slide(svs.as_uri()) as far:
        assert far.identity == near.identity
        grid = far.grid(0.5)
        np.testing.assert_array_equal(
            far.read_tiles(grid, [Tile(1, 1)]), near.read_tiles(grid, [Tile(1, 1)])
        )


def test_a_missing_pixel_size_is_asked_for(tmp_path):
    path = write_svs(tmp_path / "no-mpp.svs", PIXELS, mpp=None)
    with open_slide(path) as slide:
        assert slide.mpp is None
        with pytest.raises(MissingPixelSize, match=r"not known for no-mpp\.svs"):
            slide.grid(0.5)
        slide.set_mpp((0.25, 0.5))
        assert slide.grid(0.5).step == (448, 224)


@pytest.mark.parametrize("wrong", [0.00499, 352.8])
def test_a_pixel_size_that_cannot_be_is_questioned(tmp_path, wrong):
    path = write_svs(tmp_path / "wrong.svs", PIXELS, mpp=wrong)
    with open_slide(path) as slide:
        assert slide.mpp is None
        assert f"{wrong:g}" in slide.mpp_note


@pytest.mark.parametrize("bad", [0, -0.5, 0.05, 11, float("nan"), (0.5, 20)])
def test_an_impossible_pixel_size_is_refused(svs, bad):
    with pytest.raises(ValueError, match=r"between 0\.1 and 10"):
        open_slide(svs, mpp=bad)


def test_tiles_are_never_enlarged(svs):
    with open_slide(svs) as slide, pytest.raises(SlideError, match="upsampling"):
        slide.grid(0.25)


def test_the_colour_profile_is_applied_only_when_asked(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = write_svs(tmp_path / "icc.svs", PIXELS, factors=(1,), iccprofile=profile)
    with open_slide(path) as plain, open_slide(path, icc=True) as converted:
        before = plain.read_region(0, 0, 0, 200, 100).astype(int)
        after = converted.read_region(0, 0, 0, 200, 100).astype(int)
    np.testing.assert_array_equal(before, PIXELS[:100, :200])
    assert np.abs(before - after).max() <= 2  # sRGB to sRGB


@pytest.mark.parametrize("reducing", [1, 2])
def test_pixels_that_are_not_square_are_read_square(tmp_path, reducing):
    path = write_svs(tmp_path / "flat.svs", PIXELS, factors=(1,))
    with open_slide(path, mpp=(0.5, 0.25)) as slide:
        found = slide.read_tiles(slide.grid(0.5 * reducing), [Tile(1, 0)])[0]
    high, wide = 448 * reducing, 224 * reducing
    box = PIXELS[high : 2 * high, :wide]
    if len(box) == high:
        mean = box.reshape(224, high // 224, 224, wide // 224, 3).mean((1, 3))
        assert np.abs(found - mean).max() <= 1
    else:
        assert (found[-1] == 255).all()
