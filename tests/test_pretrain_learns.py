"""A short run learns something: better neighbours on tiles it has never seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from napari_virchow.encoders import load_encoder
from napari_virchow.pretrain import Config
from napari_virchow.pretrain.checkpoints import export_encoder
from napari_virchow.pretrain.config import Crops, Data, Loss, Model, Optimiser, Run
from napari_virchow.pretrain.network import Network, initialise
from napari_virchow.pretrain.train import train

PERIODS_PX = (5, 9, 16)
CONFIG = Config(
    name="stripes",
    data=Data(field_px=56, mpp=(0.5,), mpp_share=(1.0,)),
    crops=Crops(global_px=42, local_px=28, n_local=2),
    model=Model(width=48, depth=2, heads=3, hidden=96, image_px=42),
    loss=Loss(prototypes=64, bottleneck=16, head_hidden=64),
    optimiser=Optimiser(batch=16, steps=400, warmup=40, lr=0.01, momentum_start=0.98),
    run=Run(seed=1, precision="float32", checkpoint_every=1000, log_every=100),
)


def stripes(rng, kind, side):
    """Noisy grey stripes: what tells kinds apart is their width, not light, contrast or angle."""
    y, x = np.mgrid[:side, :side]
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / PERIODS_PX[kind] + phase)
    grey = rng.uniform(90, 170) + rng.uniform(20, 60) * wave + rng.normal(0, 25, (side, side))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def neighbours_right(encoder, known, kinds, asked, answers):
    """Share of tiles whose five nearest known tiles, by cosine, are mostly of their kind."""
    x, y = encoder.encode(known), encoder.encode(asked)
    x, y = (e / np.linalg.norm(e, axis=1, keepdims=True) for e in (x - x.mean(0), y - x.mean(0)))
    nearest = np.argsort(-(y @ x.T), axis=1)[:, :5]
    said = [np.bincount(kinds[row]).argmax() for row in nearest]
    return float(np.mean(np.array(said) == answers))


@pytest.fixture(autouse=True)
def one_thread():
    """Such small networks only wait for each other on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_a_short_run_beats_its_random_beginning_on_tiles_it_has_not_seen(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "tiles").mkdir()
    for n in range(120):
        Image.fromarray(stripes(rng, n % 3, 56)).save(tmp_path / "tiles" / f"{n:03}.png")
    kinds, answers = np.arange(60) % 3, np.arange(90) % 3
    known = np.stack([stripes(rng, kind, 224) for kind in kinds])
    asked = np.stack([stripes(rng, kind, 224) for kind in answers])
    config = replace(CONFIG, data=replace(CONFIG.data, tiles=(str(tmp_path / "tiles"),)))
    beginning = export_encoder(
        tmp_path / "random", initialise(Network(config), config.run.seed), config, 0
    )

    done = train(config, tmp_path / "run", device="cpu")

    random, learnt = (
        neighbours_right(load_encoder(str(one), device="cpu"), known, kinds, asked, answers)
        for one in (beginning, done.encoder)
    )
    assert learnt >= random + 0.1, f"{learnt:.2f} after training, {random:.2f} before"
