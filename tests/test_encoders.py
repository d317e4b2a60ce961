"""The table of encoders, and what an encoder does with tiles."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.fp8 import uneven
from safetensors.torch import save_file

from napari_virchow import encoders
from napari_virchow.encoders import Encoder, check, devices, load_encoder, texture
from napari_virchow.encoders.specs import SPECS, EncoderSpec, EncoderUnavailable, ViTConfig
from napari_virchow.encoders.vit import build_on_meta, random_vit, vit_embedder
from napari_virchow.encoders.weights import hash_weights

CONFIG = ViTConfig(16, 96, 4, 4, 256, mlp="swiglu", layer_scale=True, registers=2)
TINY = replace(
    SPECS["virchow2"], name="tiny", title="Tiny", architecture=CONFIG, dim=192, hub_id=None
)


def make_tiles(n: int, seed: int = 0) -> np.ndarray:
    """Return tiles of soft random blots, each unlike the others."""
    coarse = np.random.default_rng(seed).integers(60, 250, (n, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(28, axis=1).repeat(28, axis=2)


def fake_encoder(embed, *, dim: int = 3, batch_size: int = 8) -> Encoder:
    """Return an encoder whose network is a plain function."""
    return Encoder(
        spec=TINY,
        pooling="class",
        dim=dim,
        device="cpu",
        device_note="fake",
        precision="float32",
        weights_hash="0" * 12,
        batch_size=batch_size,
        embed_batch=embed,
    )


def mean_colours(tiles: np.ndarray) -> np.ndarray:
    return tiles.mean((1, 2)).astype(np.float32)


@pytest.fixture
def tiny(monkeypatch):
    """Put a tiny encoder in the table, and keep its precision at float32."""
    monkeypatch.setattr(encoders.trained, "SPECS", {**SPECS, "tiny": TINY})
    monkeypatch.setattr(devices, "choose_precision", lambda _: torch.float32)
    return TINY


# --- the table


def test_the_table_is_complete_and_its_rows_build():
    lines = []
    for name, spec in SPECS.items():
        assert name == spec.name
        assert spec.licence and spec.allowed_mpp == tuple(sorted(spec.allowed_mpp))
        assert spec.input_px == 224
        assert spec.dim_of(spec.pooling) == spec.dim
        millions = 0.0
        if spec.architecture is not None:
            model = build_on_meta(spec.architecture)
            millions = sum(p.numel() for p in model.parameters()) / 1e6
            with torch.inference_mode():
                class_token, patches = model(torch.empty(1, 3, 224, 224, device="meta"))
            n_patches = (224 // spec.architecture.patch) ** 2
            assert class_token.shape == (1, spec.architecture.width)
            assert patches.shape == (1, n_patches, spec.architecture.width)
        assert (spec.hub_id is None) == (name in ("texture", "virchow2g", "virchow2g-mini"))
        lines.append(
            f"{name:15} {spec.dim:5} {spec.pooling:11} {millions:7.1f}M {spec.gate:17} "
            f"{'/'.join(map(str, spec.allowed_mpp)):17} {spec.licence}"
        )
    print("\n" + "\n".join(lines))


def test_the_first_row_needs_nothing():
    first = next(iter(SPECS.values()))
    assert (first.name, first.gate, first.architecture) == ("texture", "none", None)
    assert first.dim == texture.DIM


def test_every_encoder_the_plan_names_is_there():
    wanted = "virchow virchow2 virchow2g virchow2g-mini uni uni2-h h-optimus-0 h-optimus-1 h0-mini"
    wanted += " gigapath kaiko-s16 kaiko-s8 kaiko-b16 kaiko-b8 kaiko-l14 lunit-s16 lunit-s8"
    assert list(SPECS) == ["texture", *wanted.split()]


@pytest.mark.parametrize(
    ("name", "pooling", "dim"),
    [("virchow2", "class", 1280), ("h0-mini", "class+mean", 1536), ("virchow2g", "class", 1664)],
)
def test_the_other_pooling_has_its_own_length(name, pooling, dim):
    assert SPECS[name].dim_of(pooling) == dim


# --- embedding tiles


def test_every_tile_is_embedded_in_order_whatever_the_batch_size():
    tiles = make_tiles(7)
    for batch_size in (1, 3, 7, 100):
        embeddings = fake_encoder(mean_colours, batch_size=batch_size).encode(tiles)
        np.testing.assert_array_equal(embeddings, mean_colours(tiles))
    assert fake_encoder(mean_colours).encode(tiles[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(torch.OutOfMemoryError("CUDA out of memory."), id="cuda"),
        pytest.param(RuntimeError("MPS backend out of memory (…)"), id="mps"),
        pytest.param(RuntimeError("DefaultCPUAllocator: can't allocate memory"), id="cpu"),
        pytest.param(MemoryError(), id="numpy"),
    ],
)
def test_out_of_memory_halves_the_batch_and_loses_no_tile(error):
    tried = []

    def embed(tiles):
        tried.append(len(tiles))
        if len(tiles) > 2:
            raise error
        return mean_colours(tiles)

    encoder = fake_encoder(embed, batch_size=8)
    tiles = make_tiles(11)
    np.testing.assert_array_equal(encoder.encode(tiles), mean_colours(tiles))
    assert tried[:3] == [8, 4, 2]
    assert encoder.batch_size == 2


def test_not_even_one_tile_fits():
    def embed(tiles):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(EncoderUnavailable, match="one tile at a time"):
        fake_encoder(embed).encode(make_tiles(2))


def test_another_runtime_error_is_not_taken_for_want_of_memory():
    def embed(tiles):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        fake_encoder(embed).encode(make_tiles(2))


@pytest.mark.parametrize(
    "tiles", [np.zeros((1, 100, 224, 3), np.uint8), np.zeros((1, 224, 224, 3), np.float32)]
)
def test_tiles_of_another_kind_are_refused(tiles):
    with pytest.raises(ValueError, match=r"tiles must be \(n, 224, 224, 3\) uint8"):
        fake_encoder(mean_colours).encode(tiles)


def test_normalisation_and_pooling_are_those_of_the_card():
    model = random_vit(CONFIG)
    tiles = make_tiles(2)
    tiles.flags.writeable = False  # as a memory-mapped store would hand them over
    images = torch.tensor(tiles).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (TINY.mean, TINY.std))
    with torch.inference_mode():
        class_token, patches = model((images - mean) / std)
    expected = torch.cat([class_token, patches.mean(1)], dim=1).numpy()

    both = vit_embedder(model, TINY, "class+mean", "cpu")(tiles)
    np.testing.assert_allclose(both, expected, rtol=1e-4, atol=1e-5)
    only = vit_embedder(model, TINY, "class", "cpu")(tiles)
    np.testing.assert_array_equal(only, both[:, :96])


@pytest.mark.parametrize("name", ["virchow2g-mini", "h0-mini", "lunit-s16"])
def test_bfloat16_points_the_same_way_as_float32(name):
    spec = SPECS[name]
    config = replace(spec.architecture, depth=6)
    tiles = make_tiles(3)
    model = uneven(random_vit(config, seed=4))
    exact = vit_embedder(model, spec, "class+mean", "cpu")(tiles)
    fast = vit_embedder(model.lower(torch.bfloat16), spec, "class+mean", "cpu")(tiles)
    centred = [e - exact.mean(0) for e in (exact, fast)]  # what tells the tiles apart
    assert row_cosines(exact, fast).min() >= 0.999
    assert row_cosines(*centred).min() >= 0.99
    assert np.abs(exact - fast).max() > 0


def row_cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(1) / norms


# --- loading


def test_a_file_loads_under_the_hash_of_its_contents(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_virchow.encoders.weights.cache_dir", lambda: tmp_path / "cache")
    model = random_vit(CONFIG, seed=8)
    file = tmp_path / "tiny.safetensors"
    save_file(model.state_dict(), file)
    heard = []
    encoder = load_encoder("tiny", weights=file, device="cpu", on_progress=heard.append)

    digest = hash_weights([file])
    assert encoder.identity == f"tiny-{digest}-class+mean"
    assert (encoder.dim, encoder.device, encoder.random) == (192, "cpu", False)
    assert heard == ["Reading weights…", "Checking…"]
    tiles = make_tiles(3)
    expected = vit_embedder(model, TINY, "class+mean", "cpu")(tiles)
    np.testing.assert_allclose(encoder.encode(tiles), expected, rtol=1e-4, atol=1e-5)

    half = load_encoder("tiny", weights=str(tmp_path), pooling="class", device="cpu")
    assert half.identity == f"tiny-{digest}-class"
    np.testing.assert_allclose(half.encode(tiles), expected[:, :96], rtol=1e-4, atol=1e-5)


def test_random_weights_are_marked_and_the_same_every_time(tiny):
    one = load_encoder("tiny@random", device="cpu")
    other = load_encoder("tiny@random", device="cpu")
    assert one.random and one.identity == other.identity
    assert one.identity.startswith("tiny@random-")
    tiles = make_tiles(2)
    np.testing.assert_array_equal(one.encode(tiles), other.encode(tiles))


def test_weights_that_embed_everything_the_same_are_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_virchow.encoders.weights.cache_dir", lambda: tmp_path / "cache")
    state = {n: torch.zeros_like(t) for n, t in random_vit(CONFIG).state_dict().items()}
    save_file(state, tmp_path / "zero.safetensors")
    with pytest.raises(EncoderUnavailable, match="every tile the same"):
        load_encoder("tiny", weights=tmp_path / "zero.safetensors", device="cpu")
    state = {n: torch.full_like(t, torch.nan) for n, t in state.items()}
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(EncoderUnavailable, match="not finite"):
        load_encoder("tiny", weights=tmp_path / "nan.safetensors", device="cpu")


def test_an_encoder_that_disagrees_with_itself_is_refused():
    generator = np.random.default_rng(1)
    noisy = fake_encoder(lambda t: generator.normal(size=(len(t), 50)).astype(np.float32), dim=50)
    with pytest.raises(EncoderUnavailable, match="second time"):
        check(noisy)


def test_an_encoder_of_another_length_than_its_row_is_refused():
    with pytest.raises(EncoderUnavailable, match="as its row says"):
        check(fake_encoder(mean_colours, dim=4))
    check(fake_encoder(mean_colours))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        pytest.param("virchow9", {}, "choose one of texture, virchow", id="unknown"),
        pytest.param("texture@random", {}, "takes no weights", id="random texture"),
        pytest.param("texture", {"weights": "a.bin"}, "takes no weights", id="texture weights"),
        pytest.param("uni@random", {"weights": "a.bin"}, "one of them", id="random and file"),
        pytest.param("uni", {"weights": "https://a.example"}, "not served", id="no endpoint"),
        pytest.param("virchow2g", {}, "cannot be downloaded", id="not downloadable"),
        pytest.param("virchow2g", {"weights": "http://a.example"}, "https", id="unencrypted"),
        pytest.param("uni", {"weights": "absent.bin"}, "absent.bin", id="no such file"),
        pytest.param("uni", {"device": "tpu"}, "no device 'tpu'", id="unknown device"),
        pytest.param("uni", {"device": "cuda:99"}, "CUDA", id="no such GPU"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_one_sentence(name, options, said):
    with pytest.raises(EncoderUnavailable, match=said) as caught:
        load_encoder(name, **options)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_pooling_it_does_not_have_is_refused():
    with pytest.raises(ValueError, match="no pooling 'mean'"):
        load_encoder("virchow2@random", pooling="mean")
    with pytest.raises(ValueError, match="no pooling 'class'"):
        load_encoder("texture", pooling="class")


def test_texture_loads_without_torch_and_says_which_version():
    code = (
        "import sys\nfrom napari_virchow.encoders import load_encoder\n"
        "e = load_encoder('texture')\nprint('torch' in sys.modules, e.identity, e.dim)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    torch_came, identity, dim = done.stdout.split()
    assert torch_came == "False"
    assert identity.startswith("texture-v") and identity.endswith("-descriptor")
    assert int(dim) == texture.DIM


def test_texture_in_threads_is_texture():
    tiles = make_tiles(9)
    encoder = load_encoder("texture")
    np.testing.assert_array_equal(encoder.encode(tiles), texture.describe(tiles))


# --- devices


def test_the_device_comes_with_its_reason():
    device, note = devices.choose_device("auto")
    assert note
    if device == "cpu":
        assert "no CUDA device was found" in note
    assert devices.choose_device("cpu")[0] == "cpu"


@pytest.mark.parametrize(
    ("flags", "has"),
    [("fpu avx512f avx512_bf16", True), ("fpu amx_bf16 amx_tile", True), ("fpu avx2", False)],
)
def test_bfloat16_is_used_where_the_cpu_has_it(tmp_path, flags, has):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert devices.cpu_has_bfloat16(cpuinfo) is has
    assert devices.cpu_has_bfloat16(tmp_path / "absent") is False


def test_batches_shrink_with_the_work_per_tile():
    sizes = [
        devices.choose_batch_size(SPECS[name].architecture, "cpu", torch.float32, 224)
        for name in ("lunit-s16", "kaiko-b16", "virchow2")
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert 1 <= sizes[-1] < sizes[0] <= devices.MAX_BATCH


def test_a_spec_is_a_plain_frozen_row():
    spec: EncoderSpec = SPECS["uni"]
    with pytest.raises(AttributeError):
        spec.dim = 3  # type: ignore[misc]
