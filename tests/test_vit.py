"""Our transformer gives what timm's gives, from the same weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.beside_torchvision import load

from napari_virchow.encoders.specs import SPECS, ViTConfig
from napari_virchow.encoders.vit import ViT, build_on_meta, random_vit

RELATIVE = 1e-5


def timm_twin(config: ViTConfig, **overrides: Any) -> torch.nn.Module:
    """Build timm's model of the same shape, with timm's own arguments."""
    timm = load("timm")
    arguments: dict[str, Any] = {
        "img_size": config.image_px,
        "patch_size": config.patch,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": config.hidden / config.width,
        "init_values": 1e-5 if config.layer_scale else None,
        "reg_tokens": config.registers,
        "no_embed_class": not config.positions_for_prefix,
        "qk_norm": config.qk_norm,
        "qkv_bias": config.qkv_bias,
        "num_classes": 0,
        "global_pool": "",
        "dynamic_img_size": True,
    }
    if config.mlp == "swiglu":
        arguments |= {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
    model = timm.models.vision_transformer.VisionTransformer(**arguments | overrides)
    return model.eval().requires_grad_(False)


def outputs(model: ViT, twin: torch.nn.Module, n: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all tokens but the registers, ours and timm's, for the same images."""
    images = torch.randn(n, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        ours = torch.cat([t.reshape(n, -1, model.config.width) for t in model(images)], dim=1)
        theirs = twin(images)
    prefix = model.config.prefix_tokens
    return ours, torch.cat([theirs[:, :1], theirs[:, prefix:]], dim=1)


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


SHAPES = {name: spec.architecture for name, spec in SPECS.items() if spec.architecture}


@pytest.mark.parametrize("name", SHAPES)
def test_two_blocks_of_every_encoder_agree_with_timm(name):
    config = replace(SHAPES[name], depth=2)
    model = random_vit(config, seed=5)
    twin = timm_twin(config)
    assert set(model.state_dict()) == set(twin.state_dict())
    twin.load_state_dict(model.state_dict(), strict=True)
    again = build_on_meta(config)
    again.load_state_dict(twin.state_dict(), strict=True, assign=True)

    assert difference(*outputs(again, twin)) < RELATIVE


SMALL = ViTConfig(16, 64, 3, 4, 192)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"mlp": "swiglu", "layer_scale": True, "registers": 3}, id="virchow-like"),
        pytest.param({"mlp": "swiglu", "qk_norm": True, "registers": 8}, id="2g-like"),
        pytest.param({"qkv_bias": False}, id="no qkv bias"),
        pytest.param({"positions_for_prefix": False, "image_px": 320}, id="stored for 320 px"),
        pytest.param({"image_px": 96, "registers": 2}, id="stored for 96 px, prefix positions"),
    ],
)
def test_each_option_agrees_with_timm(changes):
    config = replace(SMALL, **changes)
    model = random_vit(config, seed=1)
    twin = timm_twin(config)
    twin.load_state_dict(model.state_dict(), strict=True)
    assert difference(*outputs(model, twin, n=2)) < RELATIVE


def test_gating_with_gelu_would_be_noticed():
    config = replace(SHAPES["virchow2"], depth=2)
    model = random_vit(config)
    gelu = timm_twin(config, act_layer=torch.nn.GELU)
    gelu.load_state_dict(model.state_dict(), strict=True)  # loads cleanly, and is wrong
    assert difference(*outputs(model, gelu)) > 100 * RELATIVE


def test_timm_builds_the_hub_models_in_the_shapes_of_the_table():
    timm = load("timm")
    swiglu = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
    calls = {
        "virchow2": ("vit_huge_patch14_224", {**swiglu, "mlp_ratio": 5.3375, "reg_tokens": 4}),
        "uni": ("vit_large_patch16_224", {}),
        "uni2-h": (
            "vit_giant_patch14_224",
            {
                **swiglu,
                "depth": 24,
                "num_heads": 24,
                "embed_dim": 1536,
                "mlp_ratio": 2.66667 * 2,
                "no_embed_class": True,
                "reg_tokens": 8,
            },
        ),
        "h-optimus-0": ("vit_giant_patch14_reg4_dinov2", {}),
        "h0-mini": ("vit_base_patch14_reg4_dinov2", {**swiglu, "mlp_ratio": 2.66667 * 2}),
        "gigapath": ("vit_giant_patch14_dinov2", {"patch_size": 16, "mlp_ratio": 5.33334}),
        "kaiko-l14": ("vit_large_patch14_reg4_dinov2", {"img_size": 518}),
    }
    for name, (architecture, arguments) in calls.items():
        with torch.device("meta"):
            theirs = timm.create_model(
                architecture,
                **{"img_size": 224, "init_values": 1e-5, "num_classes": 0, **arguments},
            )
        ours = build_on_meta(SHAPES[name])
        assert shapes(ours) == shapes(theirs), name


def shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "parameters", "tokens"),
    [
        ("virchow", 631_229_184, 257),
        ("virchow2", 631_239_424, 261),
        ("virchow2g", 1_843_033_184, 265),
        ("gigapath", 1_134_953_984, 197),
    ],
)
def test_published_sizes(name, parameters, tokens):
    model = build_on_meta(SHAPES[name])
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert SHAPES[name].tokens(224) == tokens


def test_lowered_weights_leave_norms_and_output_in_float32():
    model = random_vit(SMALL).lower(torch.bfloat16)
    assert model.blocks[0].mlp.fc1.weight.dtype == torch.bfloat16
    assert model.norm.weight.dtype == model.pos_embed.dtype == torch.float32
    with torch.inference_mode():
        class_token, patches = model(torch.zeros(1, 3, 224, 224))
    assert class_token.dtype == patches.dtype == torch.float32


def test_random_weights_follow_the_seed():
    one, same, other = (random_vit(SMALL, seed).blocks[1].mlp.fc1.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"heads": 5}, "divide"), ({"patch": 15}, "divide"), ({"mlp": "swiglu", "hidden": 7}, "even")],
)
def test_impossible_shapes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


@pytest.mark.slow
def test_the_whole_of_virchow2_agrees_with_timm():
    config = SHAPES["virchow2"]
    model = random_vit(config)
    with torch.device("meta"):
        twin = timm_twin(config)
    twin.load_state_dict(model.state_dict(), strict=True, assign=True)  # shared, not copied
    assert sum(p.numel() for p in twin.parameters()) == 631_239_424
    ours, theirs = outputs(model, twin)
    assert ours.shape == (1, 257, 1280)
    assert difference(ours, theirs) < RELATIVE
