"""Files that look like slides but need care: other colours, other scales, damage, OpenSlide."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from tests.slides import picture, write_svs

from napari_virchow.slide import SlideError, open_slide
from napari_virchow.slide.chunks import Chunk
from napari_virchow.slide.openers import open_with_openslide

PIXELS = picture(900, 1300)


def write_tiff(path, pixels=PIXELS, **options):
    options = {"photometric": "rgb", "metadata": None, "tile": (128, 128), **options}
    tifffile.imwrite(path, pixels, **options)
    return path


def test_openslides_levels_are_as_sharp_as_they_are_stored(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (768, 1536, 3), dtype=np.uint8)
    path = tmp_path / "noise.tiff"
    with tifffile.TiffWriter(path) as file:
        for factor in (1, 2):
            level = noise[::factor, ::factor].copy()
            kind = int(factor > 1)
            file.write(level, tile=(128, 128), photometric="rgb", metadata=None, subfiletype=kind)
    source = open_with_openslide(str(path)).source
    np.testing.assert_array_equal(source.decode(Chunk(1, 0, 0)), noise[::2, ::2][:, :512])
    np.testing.assert_array_equal(source.decode(Chunk(1, 0, 1)), noise[::2, ::2][:, 512:])
    source.close()


def test_openslide_reads_on_after_a_damaged_chunk(tmp_path):
    path = tmp_path / "damaged.tiff"
    write_tiff(path, photometric="ycbcr", compression="jpeg")
    source = open_with_openslide(str(path)).source
    expected = source.decode(Chunk(0, 1, 1))
    source.close()
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(count))
    source = open_with_openslide(str(path)).source
    for _ in range(2):
        with pytest.raises(Exception, match="JPEG"):
            source.decode(Chunk(0, 0, 0))
        np.testing.assert_array_equal(source.decode(Chunk(0, 1, 1)), expected)
    source.close()


@pytest.mark.parametrize(
    ("pixels", "options", "sentence"),
    [
        (PIXELS.astype(np.uint16) * 16, {}, "3 channel.* of uint16"),
        (np.dstack([PIXELS, PIXELS[..., 0]]), {"photometric": "separated"}, "SEPARATED colours"),
    ],
    ids=["16 bit", "CMYK"],
)
def test_colours_that_would_come_out_wrong_are_refused(tmp_path, pixels, options, sentence):
    with pytest.raises(SlideError, match=sentence):
        open_slide(write_tiff(tmp_path / "other.tiff", pixels, **options))


def test_transparent_pixels_are_white(tmp_path):
    alpha = np.full(PIXELS.shape[:2], 255, np.uint8)
    alpha[:, :600] = 0
    path = tmp_path / "alpha.tiff"
    write_tiff(path, np.dstack([PIXELS, alpha]), extrasamples=["unassalpha"])
    with open_slide(path) as slide:
        found = slide.read_region(0, 0, 0, 1300, 900)
    assert (found[:, :600] == 255).all()
    np.testing.assert_array_equal(found[:, 600:], PIXELS[:, 600:])


@pytest.mark.parametrize(("unit", "scale"), [("µm", 1), ("nm", 1000), ("mm", 0.001)])
def test_ome_tiff_says_its_pixel_size(tmp_path, unit, scale):
    size = {f"PhysicalSize{a}": v * scale for a, v in (("X", 0.25), ("Y", 0.5))}
    units = {f"PhysicalSize{a}Unit": unit for a in "XY"}
    path = tmp_path / "image.ome.tiff"
    write_tiff(path, ome=True, metadata={"axes": "YXS", **size, **units})
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx((0.25, 0.5))
        assert "OME" in slide.mpp_note


def test_a_bare_resolution_tag_is_told_but_not_believed(tmp_path):
    path = write_tiff(tmp_path / "plain.tiff", resolution=(20000, 20000), resolutionunit=3)
    with open_slide(path) as slide:
        assert slide.mpp is None
        assert "0.5" in slide.mpp_note


def test_converted_colours_are_another_slide_to_the_store(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = write_svs(tmp_path / "icc.svs", PIXELS, factors=(1,), iccprofile=profile)
    with open_slide(path) as plain, open_slide(path, icc=True) as converted:
        assert plain.identity != converted.identity
        assert len(converted.identity) == 32
