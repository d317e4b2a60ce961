"""Which patches are hidden from the student: how many, where, and always the same ones."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from napari_virchow.pretrain import Config, PretrainError, read_config
from napari_virchow.pretrain.config import Loss
from napari_virchow.pretrain.masks import draw_blocks, draw_masks
from napari_virchow.pretrain.train import read_run

BOTH = pytest.mark.parametrize("masks", ["blocks", "single"])


def neighbours(hidden):
    """Count the pairs of hidden patches that touch, per mask; `hidden` is (…, side, side)."""
    across = hidden[..., :, 1:] & hidden[..., :, :-1]
    down = hidden[..., 1:, :] & hidden[..., :-1, :]
    return across.sum((-1, -2)) + down.sum((-1, -2))


@BOTH
def test_some_crops_hide_a_share_and_the_others_nothing(masks):
    counts = draw_masks(200, 4, Loss(masks=masks), 0, seed=0).sum(-1)
    assert 0.4 < (counts > 0).mean() < 0.6
    assert counts[counts > 0].min() >= 1
    assert counts.max() <= 8


@BOTH
def test_a_sample_hides_the_same_patches_whoever_reads_it(masks):
    loss = Loss(masks=masks)
    whole = draw_masks(30, 7, loss, 0, seed=3)
    np.testing.assert_array_equal(whole[:, 11:], draw_masks(19, 7, loss, 11, seed=3))
    assert (whole != draw_masks(30, 7, loss, 0, seed=4)).any()


@BOTH
@pytest.mark.parametrize("side", [1, 2, 5])
def test_as_many_patches_are_hidden_as_wanted(masks, side):
    for wanted in range(1, side**2 + 1):
        share = wanted / side**2
        loss = Loss(masks=masks, mask_probability=1.0, mask_low=share, mask_high=share)
        assert (draw_masks(23, side, loss, 0, seed=0).sum(-1) == wanted).all()
    assert not draw_masks(23, side, Loss(masks=masks, mask_probability=0.0), 0, seed=0).any()


def test_blocks_hide_no_more_than_they_may():
    rng = np.random.default_rng(0)
    for most in range(50):
        assert draw_blocks(7, most, rng).sum() <= most


def test_patches_in_blocks_touch_and_single_ones_seldom_do():
    many = Loss(mask_probability=1.0, mask_low=0.25, mask_high=0.25)
    blocks, single = (
        neighbours(draw_masks(50, 16, replace(many, masks=masks), 0, 0).reshape(2, 50, 16, 16))
        for masks in ("blocks", "single")
    )
    # 480 pairs touch, and a sixteenth of them have both hidden by chance; 64 in a square have 112.
    assert single.mean() == pytest.approx(30, abs=2)
    assert blocks.mean() > 80


def test_single_patches_are_those_of_runs_that_were_published():
    loss = Loss(masks="single")
    hidden = draw_masks(9, 8, loss, 5, seed=2)
    for sample in range(9):
        rng = np.random.default_rng([2, 5 + sample, 1])
        for crop in range(2):
            wanted: list[int] = []
            if rng.random() < 0.5:
                count = round(rng.uniform(0.1, 0.5) * 64)
                wanted = sorted(rng.permutation(64)[:count])
            assert np.flatnonzero(hidden[crop, sample]).tolist() == wanted


@pytest.mark.parametrize("preset", ["first-steps", "nano"])
def test_presets_with_published_figures_hide_single_patches(preset):
    assert read_config(preset).loss.masks == "single"
    assert Config().loss.masks == "blocks"


def test_a_run_that_does_not_say_hides_single_patches(tmp_path):
    facts = Config().facts()
    del facts["loss"]["masks"]
    (tmp_path / "config.json").write_text(json.dumps(facts))
    assert read_run(tmp_path) == replace(Config(), loss=Loss(masks="single"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"loss": null}', '{"loss": {"masks": "round"}}'])
def test_a_damaged_configuration_of_a_run_is_said(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(PretrainError, match="holds no run"):
        read_run(tmp_path)
