"""What our reader takes, and the layers it makes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_virchow._napari.reader import get_reader, read_slides


def test_a_slide_becomes_an_overview_and_a_multiscale_layer(slide_file):
    (overview, below, kind), (levels, above, kind_2) = read_slides(str(slide_file))
    assert kind == kind_2 == "image"
    assert below["name"] == f"{above['name']} overview"
    assert above["scale"] == (0.5, 0.5)
    assert above["units"] == ("um", "um")
    assert above["axis_labels"] == ("y", "x")
    assert above["metadata"]["mpp"] == (0.5, 0.5)
    assert above["metadata"]["path"] == str(slide_file)
    assert above["metadata"]["level_downsamples"][0] == 1
    assert levels[0].shape == (1536, 2048, 3)
    assert levels[0].chunks == (512, 512, 3)
    step = 1536 / overview.shape[0]
    assert below["scale"][0] == pytest.approx(step * 0.5)
    assert below["translate"][0] == pytest.approx((step - 1) / 4)
    above["metadata"]["slide"].close()


def test_the_overview_lies_on_the_slide(slide_file):
    (overview, _, _), (levels, above, _) = read_slides(str(slide_file))
    step = levels[0].shape[0] // overview.shape[0]
    small = levels[0][:].reshape(-1, step, overview.shape[1], step, 3).mean((1, 3))
    assert np.abs(small - overview).mean() < 12
    above["metadata"]["slide"].close()


def test_what_is_not_a_slide_is_left_to_others(tmp_path):
    text, folder = tmp_path / "a.tif", tmp_path / "folder"
    text.write_text("not a TIFF")
    folder.mkdir()
    (folder / "notes.txt").write_text("nothing")
    png = tmp_path / "a.png"
    png.write_bytes(b"\x89PNG")
    assert get_reader(str(text)) is None
    assert get_reader(str(folder)) is None
    assert get_reader(str(png)) is None
    assert get_reader(str(tmp_path / "missing.svs")) is None
    assert get_reader([]) is None


@pytest.mark.parametrize(
    "name",
    ["CMU-1-Small-Region.svs", "CMU-1-Small-Region.dcmdir", "small_vectra.qptiff"],
)
def test_real_slides_are_taken(data_dir, name):
    assert get_reader(str(data_dir / "slides" / name)) is read_slides


def test_several_slides_at_once(slide_file):
    assert get_reader([str(slide_file)] * 2) is read_slides
    layers = read_slides([str(slide_file)] * 2)
    assert len(layers) == 4
    for _, options, _ in layers[1::2]:
        options["metadata"]["slide"].close()
