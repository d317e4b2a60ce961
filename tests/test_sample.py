"""The sample slide: deterministic, readable, true to its map, and coloured like H&E."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tiffslide import TiffSlide

from napari_virchow import sample
from napari_virchow.histology.layout import lay_out
from napari_virchow.sample import CLASSES, read_truth, sample_slide, sample_truth, write_sample

SMALL = {"width": 1024, "height": 768}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "small.tiff"
    return path, write_sample(path, **SMALL)


@pytest.fixture(scope="module")
def committed():
    if not (sample._CHECKOUT / f"{sample.NAME}.tiff").is_file():
        pytest.skip("the sample slide is part of a checkout only")
    return sample._CHECKOUT / f"{sample.NAME}.tiff"


def test_the_same_seed_writes_the_same_files(small, tmp_path):
    again = tmp_path / "again.tiff"
    write_sample(again, **SMALL)
    assert again.read_bytes() == small[0].read_bytes()
    assert again.with_suffix(".csv").read_bytes() == small[0].with_suffix(".csv").read_bytes()


def test_another_seed_writes_another_slide(small, tmp_path):
    other = write_sample(tmp_path / "other.tiff", **SMALL, seed=8)
    assert not np.array_equal(other.classes, small[1].classes)


def test_nothing_but_slide_and_truth_is_left(tmp_path):
    write_sample(tmp_path / "new" / "a.tiff", width=256, height=300)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.csv", "a.tiff"]


def test_tiffslide_finds_pixel_size_and_levels(small):
    with TiffSlide(small[0]) as slide:
        assert slide.dimensions == (1024, 768)
        assert slide.level_dimensions == ((1024, 768), (256, 192), (64, 48))
        assert float(slide.properties["tiffslide.mpp-x"]) == 0.5
        assert float(slide.properties["tiffslide.mpp-y"]) == 0.5
        assert slide.properties["tiffslide.objective-power"] == 20


def test_a_coarse_level_shows_the_same_picture(small):
    with TiffSlide(small[0]) as slide:
        fine = slide.read_region((0, 0), 0, (1024, 768), as_array=True).astype(float)
        coarse = slide.read_region((0, 0), 1, (256, 192), as_array=True).astype(float)
    shrunk = fine.reshape(192, 4, 256, 4, 3).mean((1, 3))
    error = np.abs(shrunk - coarse).mean()
    assert error < 6  # what JPEG loses
    assert error < 0.5 * np.abs(np.roll(shrunk, 1, axis=0) - coarse).mean()
    assert error < 0.5 * np.abs(np.roll(shrunk, 1, axis=1) - coarse).mean()
    assert np.abs((shrunk - coarse).mean((0, 1))).max() < 0.5


def test_the_truth_is_the_majority_counted_by_hand(small):
    regions = lay_out(1024, 768, sample.SEED).regions.repeat(4, 0).repeat(4, 1)
    truth = small[1]
    assert truth.classes.shape == (4, 5)
    for row, col in [(0, 0), (1, 2), (2, 3), (3, 4)]:  # the last hangs over both edges
        tile = np.zeros((224, 224), np.uint8)
        inside = regions[row * 224 : (row + 1) * 224, col * 224 : (col + 1) * 224]
        tile[: inside.shape[0], : inside.shape[1]] = inside
        counts = np.bincount(tile.ravel(), minlength=len(CLASSES))
        assert truth.classes[row, col] == counts.argmax()
        assert truth.purity[row, col] == pytest.approx(counts.max() / 224**2, abs=6e-4)


def test_the_truth_is_read_back(small):
    truth = read_truth(small[0].with_suffix(".csv"))
    assert np.array_equal(truth.classes, small[1].classes)
    assert np.array_equal(truth.purity, small[1].purity)


@pytest.mark.parametrize("text", ["", "row,col\n0,0\n", "row,col,class,purity\n0,0,bone,1\n"])
def test_a_table_that_is_no_truth_is_refused(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match="is not the truth"):
        read_truth(tmp_path / "a.csv")


def test_a_truth_with_a_tile_missing_is_refused(small, tmp_path):
    lines = small[0].with_suffix(".csv").read_text().splitlines(keepends=True)
    (tmp_path / "a.csv").write_text("".join(lines[:4] + lines[5:]))
    with pytest.raises(ValueError, match="lacks tiles: 19 of 20"):
        read_truth(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "wrong", [{"width": 100, "height": 768}, {"width": 512, "height": 512, "seed": -1}]
)
def test_a_size_or_seed_too_small_is_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="at least 256"):
        write_sample(tmp_path / "a.tiff", **wrong)


def test_the_slide_may_not_take_the_name_of_its_truth(tmp_path):
    with pytest.raises(ValueError, match="another ending"):
        write_sample(tmp_path / "a.csv", **SMALL)


def test_without_a_checkout_the_sample_is_painted_once_into_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "_CHECKOUT", tmp_path / "nowhere")
    monkeypatch.setattr(sample, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(sample, "WIDTH", 512)
    monkeypatch.setattr(sample, "HEIGHT", 300)
    slide = sample_slide()
    assert slide.is_relative_to(tmp_path / "cache")
    painted = slide.stat().st_mtime_ns
    assert sample_truth().shape == (2, 3)
    assert sample_slide().stat().st_mtime_ns == painted


def test_a_cached_slide_that_lost_its_truth_is_painted_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "_CHECKOUT", tmp_path / "nowhere")
    monkeypatch.setattr(sample, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(sample, "WIDTH", 512)
    monkeypatch.setattr(sample, "HEIGHT", 300)
    slide = sample_slide()
    slide.with_suffix(".csv").unlink()
    assert sample_slide().with_suffix(".csv").is_file()
    shutil.rmtree(tmp_path / "cache")


def test_the_committed_slide_has_the_promised_size(committed):
    assert committed.stat().st_size <= 8_000_000
    with TiffSlide(committed) as slide:
        assert slide.dimensions == (8192, 6144)
        assert len(slide.level_dimensions) == 3
        assert float(slide.properties["tiffslide.mpp-x"]) == 0.5


def test_the_committed_truth_is_the_layout_of_its_seed(committed):
    truth = read_truth(committed.with_suffix(".csv"))
    plan = lay_out(sample.WIDTH, sample.HEIGHT, sample.SEED)
    again = sample._truth(plan.regions, sample.WIDTH, sample.HEIGHT)
    assert np.array_equal(truth.classes, again.classes)
    assert np.allclose(truth.purity, again.purity, atol=2e-3)


def test_the_committed_slide_has_many_pure_tiles_of_every_tissue(committed):
    truth = read_truth(committed.with_suffix(".csv"))
    counts = np.bincount(truth.classes[truth.purity > 0.99], minlength=len(CLASSES))
    assert counts.min() >= 60, dict(zip(CLASSES, counts, strict=True))


def test_the_tissues_have_the_colours_of_h_and_e(committed):
    truth = read_truth(committed.with_suffix(".csv"))
    with TiffSlide(committed) as slide:
        level = slide.read_region((0, 0), 1, slide.level_dimensions[1], as_array=True)
    mean = {}
    for number, name in enumerate(CLASSES):
        places = np.argwhere((truth.classes == number) & (truth.purity == 1))
        places = places[(places < (27, 36)).all(1)]  # not those that hang over the edge
        parts = [level[r * 56 : r * 56 + 56, c * 56 : c * 56 + 56] for r, c in places]
        mean[name] = np.mean(parts, axis=(0, 1, 2))
    assert mean["glass"].min() > 235
    assert 205 < mean["fat"].min() < mean["glass"].min()
    for pink in ("stroma", "necrosis"):
        red, green, blue = mean[pink]
        assert red > blue > green and red - green > 40
    for purple in ("tumour", "lymphocytes"):
        red, green, blue = mean[purple]
        assert blue > red > green
    assert mean["lymphocytes"].sum() < mean["tumour"].sum() < mean["mucus"].sum()
    assert mean["mucus"][2] > mean["mucus"][0]
