"""A network through OpenVINO: the embeddings that torch gives, and nobody is told of it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_virchow.encoders import EncoderUnavailable, devices, load_encoder
from napari_virchow.encoders.specs import SPECS, ViTConfig
from napari_virchow.encoders.vit import random_vit, vit_embedder

pytest.importorskip("openvino")

GATED = ViTConfig(16, 96, 3, 4, 256, mlp="swiglu", layer_scale=True, registers=2)
PLAIN = ViTConfig(14, 64, 2, 2, 128, qk_norm=True, registers=1, positions_for_prefix=False)


@pytest.fixture(scope="module")
def tiles():
    coarse = np.random.default_rng(3).integers(60, 250, (3, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(28, axis=1).repeat(28, axis=2)


@pytest.mark.parametrize("pooling", ["class", "class+mean"])
@pytest.mark.parametrize("config", [GATED, PLAIN], ids=["gated", "plain"])
def test_it_gives_what_torch_gives_for_any_number_of_tiles(config, pooling, tiles):
    from napari_virchow.encoders.openvino import openvino_embedder

    spec = replace(SPECS["virchow2"], architecture=config)
    expected = vit_embedder(random_vit(config), spec, pooling, "cpu")(tiles)
    embed = openvino_embedder(random_vit(config), spec, pooling, torch.float32)
    first = embed(tiles)
    np.testing.assert_allclose(first, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(embed(tiles[1:2]), expected[1:2], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(first, expected, rtol=1e-3, atol=1e-3)  # it is not written over


def test_an_encoder_on_it_has_the_identity_of_one_on_the_cpu(tiles):
    fast = load_encoder("kaiko-s16@random", device="openvino")
    usual = load_encoder("kaiko-s16@random", device="cpu")
    assert (fast.device, fast.precision) == ("openvino", usual.precision)
    assert fast.identity == usual.identity
    one, other = fast.encode(tiles), usual.encode(tiles)
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosine.min() >= 0.999


def test_its_telemetry_is_never_imported():
    code = (
        "import sys, numpy as np\nfrom napari_virchow.encoders import openvino\n"
        "openvino._import_openvino()\nprint(sys.modules['openvino_telemetry'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"


def test_without_it_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EncoderUnavailable, match=r"napari-virchow\[openvino\]"):
        devices.choose_device("openvino")
