from __future__ import annotations

import shutil

import numpy as np
import pytest
import zarr
from tests.slides import picture

from napari_virchow.slide import MissingPixelSize, SlideError, open_slide
from napari_virchow.tiles import Tile

PIXELS = picture(600, 800)
OPENED = {
    "CMU-1-Small-Region.svs": ("tiffslide", (0.499, 0.499)),
    "CMU-1-Small-Region.dcmdir": ("openslide", (0.499, 0.499)),
    "wsic-CMU-1-Small-Region.jpeg.tiff": ("tiffslide", None),
    "wsic-CMU-1-Small-Region.webp.tiff": ("tiffslide", None),
    "TCGA-CR-7395-01A-01-TS1.svs": ("tiffslide", None),
    "boxes.tiff": ("tiffslide", None),
}
REFUSED = {
    "small_vectra.qptiff": "not an RGB brightfield slide",
    "pathml_small_dicom.dcm": "cannot be read as a slide",
    "her2st": "holds no slide",
}


def test_every_file_given_is_opened_or_refused_in_one_sentence(data_dir):
    for path in sorted((data_dir / "slides").iterdir()):
        if path.name in REFUSED:
            with pytest.raises(SlideError, match=REFUSED[path.name]) as refusal:
                open_slide(path)
            sentence = str(refusal.value)
            assert path.name in sentence
            assert "\n" not in sentence
            continue
        reader, mpp = OPENED[path.name]
        with open_slide(path) as slide:
            assert (slide.reader, slide.mpp) == (reader, mpp), path.name
            if mpp is None:
                with pytest.raises(MissingPixelSize):
                    slide.grid(0.5)
                slide.set_mpp(0.5)
            grid = slide.grid(0.5)
            middle = Tile(grid.shape[0] // 2, grid.shape[1] // 2)
            assert slide.read_tiles(grid, [middle]).std() > 0, path.name


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "TCGA-CR-7395-01A-01-TS1.svs"])
def test_real_slides_give_the_pixels_that_tiffslide_gives(data_dir, name):
    import tiffslide

    rng = np.random.default_rng(5)
    path = data_dir / "slides" / name
    with open_slide(path) as slide, tiffslide.TiffSlide(path) as reference:
        assert "fast path" in slide.reader_reason
        for _ in range(12):
            x, y = rng.integers(0, slide.width - 224), rng.integers(0, slide.height - 224)
            expected = np.asarray(reference.read_region((x, y), 0, (224, 224)))
            np.testing.assert_array_equal(slide.read_region(x, y, 0, 224, 224), expected)


def test_dicom_and_svs_of_one_tissue_look_the_same(data_dir):
    folder = data_dir / "slides"
    with (
        open_slide(folder / "CMU-1-Small-Region.svs") as svs,
        open_slide(folder / "CMU-1-Small-Region.dcmdir") as dicom,
    ):
        tiles = [Tile(5, 4), Tile(9, 3)]
        a = svs.read_tiles(svs.grid(0.5), tiles).astype(int)
        b = dicom.read_tiles(dicom.grid(0.5), tiles)
    assert np.abs(a - b).mean() < 10  # compressed twice


def test_a_dicom_slide_is_the_same_by_folder_and_by_file(data_dir):
    folder = data_dir / "slides" / "CMU-1-Small-Region.dcmdir"
    largest = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    with open_slide(folder) as a, open_slide(largest) as b:
        assert a.identity == b.identity
        assert a.associated == ("label", "macro", "thumbnail")
        assert a.read_associated("label").shape == (463, 387, 3)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("notes.svs", b"These are my notes.", "not a slide in any format"),
        ("empty.tiff", b"", "not a slide in any format"),
        ("broken.tif", b"II*\0\xff\xff\xff\x7f", "not a slide in any format"),
        ("broken.dcm", bytes(128) + b"DICM" + bytes(50), "cannot be read|not a slide"),
    ],
)
def test_what_is_no_slide_is_refused_in_one_sentence(tmp_path, name, content, sentence):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SlideError, match=sentence) as refusal:
        open_slide(path)
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(SlideError, match=r"There is no file .*gone\.svs"):
        open_slide(tmp_path / "gone.svs")
    with pytest.raises(SlideError, match="holds no slide"):
        open_slide(tmp_path)
    with pytest.raises(SlideError, match="No slide was named"):
        open_slide("")


def write_ome_zarr(path, version, *, pixels=PIXELS, order="cyx", unit="micrometer"):
    axes = [{"name": n, "type": "channel" if n == "c" else "space"} for n in order]
    for axis in axes:
        if axis["name"] != "c":
            axis["unit"] = unit
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for number, factor in enumerate((1, 2)):
        level = pixels.reshape(600 // factor, factor, 800 // factor, factor, -1).mean((1, 3))
        level = level.astype(np.uint8).transpose(["yxc".index(n) for n in order])
        chunks = tuple(3 if n == "c" else 256 for n in order)
        array = group.create_array(str(number), shape=level.shape, dtype="u1", chunks=chunks)
        array[:] = level
        scale = [1.0 if n == "c" else 0.5 * factor for n in order]
        step = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(number), "coordinateTransformations": step})
    image = {"axes": axes, "datasets": datasets}
    if version == "0.4":
        group.attrs["multiscales"] = [{**image, "version": version}]
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [image]}
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("order", ["cyx", "yxc"])
def test_ome_zarr_is_read_in_both_versions_and_any_order_of_axes(tmp_path, version, order):
    path = write_ome_zarr(tmp_path / "image.zarr", version, order=order)
    with open_slide(path) as slide:
        assert slide.reader == "ome-zarr"
        assert version in slide.reader_reason
        assert slide.mpp == (0.5, 0.5)
        assert [level[:2] for level in slide.levels] == [(800, 600), (400, 300)]
        found = slide.read_tiles(slide.grid(0.5), [Tile(1, 2)])[0]
    np.testing.assert_array_equal(found, PIXELS[224:448, 448:672])


def test_a_moved_ome_zarr_keeps_its_identity(tmp_path):
    path = write_ome_zarr(tmp_path / "image.zarr", "0.5")
    with open_slide(path) as slide:
        before = slide.identity
    shutil.move(path, tmp_path / "renamed.zarr")
    with open_slide(tmp_path / "renamed.zarr") as slide:
        assert slide.identity == before


def test_an_ome_zarr_without_a_unit_has_no_pixel_size(tmp_path):
    path = write_ome_zarr(tmp_path / "image.zarr", "0.4", unit=None)
    with open_slide(path) as slide:
        assert slide.mpp is None


def test_an_ome_zarr_of_one_channel_is_refused(tmp_path):
    path = tmp_path / "grey.zarr"
    group = zarr.open_group(path, mode="w")
    group.create_array("0", shape=(1, 64, 64), dtype="u2", chunks=(1, 64, 64))
    axes = [{"name": n} for n in "cyx"]
    image = {"axes": axes, "datasets": [{"path": "0"}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    with pytest.raises(SlideError, match="1 channel"):
        open_slide(path)


def test_a_zarr_without_an_image_is_refused(tmp_path):
    zarr.open_group(tmp_path / "other.zarr", mode="w")
    with pytest.raises(SlideError, match="without an OME image"):
        open_slide(tmp_path / "other.zarr")
