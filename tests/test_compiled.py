"""A compiled network: the embeddings it gave before, always in batches of one size."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from fakes import FakeEncoder, FakeSlide
from napari_virchow import encoders
from napari_virchow.cli import main
from napari_virchow.encoders import EncoderUnavailable, compiled, devices, load_encoder
from napari_virchow.encoders.specs import SPECS, ViTConfig
from napari_virchow.encoders.trained import write_encoder
from napari_virchow.encoders.vit import random_vit, vit_embedder
from napari_virchow.engine import Engine
from napari_virchow.sample import write_sample

# Torch's own, where its compiler imports what it needs.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
GATED = ViTConfig(16, 96, 2, 4, 256, mlp="swiglu", layer_scale=True, registers=2)
TINY = replace(SPECS["virchow2"], name="tiny", title="Tiny", architecture=GATED, dim=192)


@pytest.fixture(scope="module")
def tiles():
    coarse = np.random.default_rng(3).integers(60, 250, (11, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(28, axis=1).repeat(28, axis=2)


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("slide") / "small.tiff"
    write_sample(path, width=896, height=672)  # 3 rows x 4 columns
    return path


@pytest.fixture(scope="module")
def tiny():
    """Load a tiny encoder and compile it for batches of 4, which takes ten seconds."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("there is no C++ compiler")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoders.trained, "SPECS", {**SPECS, "tiny": TINY})
        patch.setattr(devices, "choose_batch_size", lambda *_: 5)
        told = []
        encoder = load_encoder("tiny@random", device="cpu", compile=True, on_progress=told.append)
        assert "Compiling, which takes a minute…" in told
        yield encoder


def test_it_embeds_as_before_under_the_same_name(tiny, tiles):
    assert tiny.compiled and tiny.batch_size == 4
    assert tiny.device_note.endswith("compiled for 4 tiles at a time")
    lowered = random_vit(GATED).lower(getattr(torch, tiny.precision))
    expected = vit_embedder(lowered, TINY, "class+mean", "cpu")(tiles)
    found = tiny.encode(tiles)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((found * expected).sum(1) / norms).min() >= 0.9999
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoders.trained, "SPECS", {**SPECS, "tiny": TINY})
        assert load_encoder("tiny@random", device="cpu").identity == tiny.identity


def test_nothing_is_compiled_for_a_smaller_last_batch(tiny, tiles):
    with torch.compiler.set_stance("fail_on_recompile"):
        few, many = tiny.encode(tiles[:1]), tiny.encode(tiles[:7])
    np.testing.assert_allclose(few[0], many[0], rtol=1e-3, atol=1e-3)
    assert tiny.encode(tiles[:0]).shape == (0, 192)


def test_batches_are_filled_up_and_halved_when_memory_runs_out(tiles):
    sizes = []

    def embed(batch):
        sizes.append(len(batch))
        if len(batch) > 4:
            raise RuntimeError("out of memory")
        return batch.mean((1, 2)).astype(np.float32)

    encoder = encoders.Encoder(
        TINY, "class", 3, "cpu", "fake", "float32", "0" * 12, 8, embed, compiled=True
    )
    np.testing.assert_allclose(encoder.encode(tiles), tiles.mean((1, 2)), rtol=1e-6)
    assert sizes == [8, 4, 4, 4]


def test_a_network_that_computes_something_else_is_refused(monkeypatch):
    monkeypatch.setattr(encoders.trained, "SPECS", {**SPECS, "tiny": TINY})
    monkeypatch.setattr(compiled, "embedder", lambda *_: lambda tiles: tiles[:, :192, 0, 0] * 1.0)
    with pytest.raises(EncoderUnavailable, match="embeds differently when it is compiled"):
        load_encoder("tiny@random", device="cpu", compile=True)


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_only_a_network_in_torch_can_be_compiled(device, monkeypatch):
    monkeypatch.setattr(encoders.trained, "SPECS", {**SPECS, "tiny": TINY})
    if device == "openvino":
        pytest.importorskip("openvino")
    name = "texture" if device == "cpu" else "tiny@random"
    with pytest.raises(EncoderUnavailable, match="cannot be compiled, only a network on 'cpu'"):
        load_encoder(name, device=device, compile=True)


def test_the_command_line_embeds_a_whole_slide_with_it(tiny, slide, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(encoders.trained, "SPECS", {**SPECS, "tiny": TINY})
    monkeypatch.setattr(devices, "choose_batch_size", lambda *_: 4)
    words = ["embed", str(slide), "--encoder", "tiny@random", "--device", "cpu", "--compile"]
    assert main([*words, "--all-tiles", "--store", str(tmp_path / "store")]) == 0
    said = capsys.readouterr().out
    assert "compiled for 4 tiles at a time" in said
    assert tiny.spec.title in said and "12 tiles" in said and "12 new" in said


def test_a_compiled_encoder_is_handed_whole_batches(tmp_path):
    slide, encoder, sizes = FakeSlide(), FakeEncoder(batch_size=16), []
    encoder.compiled = True
    plain = encoder.encode
    encoder.encode = lambda pixels: sizes.append(len(pixels)) or plain(pixels)
    engine = Engine(tmp_path, lambda slide, grid: np.ones(grid.shape, bool))
    try:
        engine.set_encoder(encoder)
        engine.embed(slide, slide.grid(), all_tiles=True)
        assert engine.wait(30)
    finally:
        engine.close()
    assert len(sizes) > 1
    assert all(size % 16 == 0 for size in sizes[:-1])


def test_without_a_compiler_the_command_line_says_so_before_it_embeds(slide, tmp_path):
    folder, store = tmp_path / "own", tmp_path / "store"
    write_encoder(
        folder,
        random_vit(GATED).state_dict(),
        name="own",
        architecture=GATED,
        allowed_mpp=(0.5,),
        licence="MIT",
        trained={},
    )
    words = ["embed", slide, "--encoder", folder, "--device", "cpu", "--compile", "--store", store]
    code = "import sys; from napari_virchow.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "CXX": "/no/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert re.search(r"cannot be compiled \(.*/no/g\+\+.*leave --compile out\.$", done.stderr)
    assert not store.exists()
