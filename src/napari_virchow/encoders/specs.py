"""The table of encoders: one row each, with all that is known about it before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Pooling = Literal["class", "class+mean", "descriptor"]
Gate = Literal["none", "click-through", "approval", "not downloadable"]
Triple = tuple[float, float, float]
RANDOM_SUFFIX = "@random"


class EncoderUnavailable(Exception):
    """An encoder cannot be used; the message is one sentence that ends with what to do next."""


@dataclass(frozen=True, slots=True)
class ViTConfig:
    """Shape of a vision transformer, in the words of its published weights.

    Parameters
    ----------
    patch : int
        Side of a patch in pixels.
    width, depth, heads : int
        Size of a token, number of blocks, attention heads per block.
    hidden : int
        Outputs of the MLP's first layer; a packed SwiGLU halves them when it gates.
    mlp : {"gelu", "swiglu"}
        A plain GELU MLP, or a packed SwiGLU gated with SiLU.
    layer_scale : bool
        Whether each branch is scaled by a learnt vector before it is added.
    registers : int
        Register tokens between the class token and the patches.
    qk_norm : bool
        Whether queries and keys are normalised per head.
    positions_for_prefix : bool
        Whether the class and register tokens have positions of their own in `pos_embed`.
    image_px : int
        Image side that `pos_embed` was stored for; other sizes are interpolated from it.
    qkv_bias : bool
        Whether the query, key and value projection has a bias.
    """

    patch: int
    width: int
    depth: int
    heads: int
    hidden: int
    mlp: Literal["gelu", "swiglu"] = "gelu"
    layer_scale: bool = False
    registers: int = 0
    qk_norm: bool = False
    positions_for_prefix: bool = True
    image_px: int = 224
    qkv_bias: bool = True

    def __post_init__(self) -> None:
        if self.width % self.heads or self.image_px % self.patch:
            raise ValueError(f"ViTConfig does not divide evenly: {self}")
        if self.mlp == "swiglu" and self.hidden % 2:
            raise ValueError(f"a packed SwiGLU needs an even hidden size, got {self.hidden}")

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patches: the class token and the registers."""
        return 1 + self.registers

    def tokens(self, image_px: int) -> int:
        """Return how many tokens an image of this side becomes."""
        return self.prefix_tokens + (image_px // self.patch) ** 2

    def gflop(self, image_px: int) -> float:
        """Return roughly the work of one image in GFLOP (a multiply-add is two)."""
        tokens = self.tokens(image_px)
        gate = 2 if self.mlp == "swiglu" else 1
        per_token = self.width * (4 * self.width + self.hidden + self.hidden // gate)
        attention = 2 * tokens * self.width
        return 2e-9 * tokens * self.depth * (per_token + attention)


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """One encoder of the table.

    Parameters
    ----------
    name, title : str
        What it is called in code and on disk, and what people call it.
    hub_id, revision : str or None
        Repository on the Hugging Face hub and the revision to take; None where there is none.
    architecture : ViTConfig or None
        Shape of the network; None for the built-in descriptor.
    input_px : int
        Side of a tile in pixels.
    mean, std : tuple of float
        Per RGB channel, on the 0-1 scale.
    interpolation : str
        What its card resizes with. Nothing is resized here: tiles are cut at `input_px`.
    allowed_mpp : tuple of float
        Pixel sizes in µm/px it was trained for, finest first.
    pooling : {"class", "class+mean", "descriptor"}
        How tokens become an embedding when nobody says otherwise.
    dim : int
        Length of an embedding with that pooling.
    licence : str
        Terms of the weights, to be shown where an encoder is chosen.
    gate : {"none", "click-through", "approval", "not downloadable"}
        What stands between a user and the weights.
    notes : str
        What is unusual about it, and what is not known for sure.
    """

    name: str
    title: str
    hub_id: str | None
    architecture: ViTConfig | None
    mean: Triple
    std: Triple
    allowed_mpp: tuple[float, ...]
    pooling: Pooling
    dim: int
    licence: str
    gate: Gate
    revision: str | None = None
    input_px: int = 224
    interpolation: str = "bicubic"
    notes: str = ""

    @property
    def poolings(self) -> tuple[Pooling, ...]:
        """The poolings this encoder can be loaded with, its own first."""
        if self.architecture is None:
            return (self.pooling,)
        return ("class+mean", "class") if self.pooling == "class+mean" else ("class", "class+mean")

    def dim_of(self, pooling: Pooling) -> int:
        """Return the length of an embedding with a pooling.

        Raises
        ------
        ValueError
            If this encoder does not have that pooling.
        """
        if pooling not in self.poolings:
            raise ValueError(f"{self.name} has no pooling {pooling!r}, only {self.poolings}")
        if self.architecture is None:
            return self.dim
        return self.architecture.width * (2 if pooling == "class+mean" else 1)


IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BIOPTIMUS: tuple[Triple, Triple] = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
HALVES: tuple[Triple, Triple] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
LUNIT: tuple[Triple, Triple] = (
    (0.70322989, 0.53606487, 0.66096631),
    (0.21716536, 0.26081574, 0.20723464),
)
FOUR_MPP = (0.25, 0.5, 1.0, 2.0)
HALF_MPP = (0.5,)
NON_COMMERCIAL = "CC-BY-NC-ND-4.0 (no commercial use)"
NOT_DOWNLOADABLE = "Paige, by agreement; research use"
TEXTURE_DIM = 647

VIT_H = ViTConfig(14, 1280, 32, 16, 6832, mlp="swiglu", layer_scale=True)
VIT_H_REG4 = ViTConfig(14, 1280, 32, 16, 6832, mlp="swiglu", layer_scale=True, registers=4)
VIT_G_REG8 = ViTConfig(
    14, 1664, 48, 16, 10922, mlp="swiglu", layer_scale=True, registers=8, qk_norm=True
)
VIT_S_14 = ViTConfig(14, 384, 12, 6, 1536)
VIT_L_16 = ViTConfig(16, 1024, 24, 16, 4096, layer_scale=True)
UNI2_H = ViTConfig(
    14, 1536, 24, 24, 8192, "swiglu", layer_scale=True, registers=8, positions_for_prefix=False
)
GIANT_REG4 = ViTConfig(
    14, 1536, 40, 24, 8192, "swiglu", layer_scale=True, registers=4, positions_for_prefix=False
)
BASE_REG4_SWIGLU = ViTConfig(
    14, 768, 12, 12, 4096, "swiglu", layer_scale=True, registers=4, positions_for_prefix=False
)
GIANT_16 = ViTConfig(16, 1536, 40, 24, 8192, "swiglu", layer_scale=True)
LARGE_REG4_518 = ViTConfig(
    14, 1024, 24, 16, 4096, layer_scale=True, registers=4, positions_for_prefix=False, image_px=518
)


def _small(patch: int) -> ViTConfig:
    return ViTConfig(patch, 384, 12, 6, 1536)


def _base(patch: int) -> ViTConfig:
    return ViTConfig(patch, 768, 12, 12, 3072)


def _kaiko(size: str, hub_model: str, architecture: ViTConfig, notes: str = "") -> EncoderSpec:
    return EncoderSpec(
        f"kaiko-{size}",
        f"Kaiko ViT-{size[0].upper()}/{size[1:]}",
        f"1aurent/{hub_model}_224.kaiko_ai_towards_large_pathology_fms",
        architecture,
        *HALVES,
        FOUR_MPP,
        "class",
        architecture.width,
        "Kaiko non-commercial licence",
        "none",
        interpolation="bilinear",
        notes=notes or "Trained at several magnifications; the four offered are our choice.",
    )


def _lunit(patch: int) -> EncoderSpec:
    return EncoderSpec(
        f"lunit-s{patch}",
        f"Lunit DINO ViT-S/{patch}",
        f"1aurent/vit_small_patch{patch}_224.lunit_dino",
        _small(patch),
        *LUNIT,
        HALF_MPP,
        "class",
        384,
        "Lunit non-commercial licence",
        "none",
    )


_ROWS = (
    EncoderSpec(
        "texture",
        "Texture (built in)",
        None,
        None,
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
        FOUR_MPP,
        "descriptor",
        TEXTURE_DIM,
        "BSD-3-Clause (part of this plugin)",
        "none",
        interpolation="none",
        notes="Stain, colour and texture statistics; needs no weights, no account and no GPU.",
    ),
    EncoderSpec(
        "virchow",
        "Virchow",
        "paige-ai/Virchow",
        VIT_H,
        *IMAGENET,
        HALF_MPP,
        "class+mean",
        2560,
        "Apache-2.0 with additional terms",
        "approval",
        notes="H&E only. Gated; whether approval is given by hand is not known for sure.",
    ),
    EncoderSpec(
        "virchow2",
        "Virchow2",
        "paige-ai/Virchow2",
        VIT_H_REG4,
        *IMAGENET,
        FOUR_MPP,
        "class+mean",
        2560,
        NON_COMMERCIAL,
        "approval",
        revision="3158645804b69e3f3bc4439d4116edddf0840a72",
        notes="H&E and IHC. The class token alone is as good in its paper and half the size.",
    ),
    EncoderSpec(
        "virchow2g",
        "Virchow2G",
        None,
        VIT_G_REG8,
        *IMAGENET,
        FOUR_MPP,
        "class+mean",
        3328,
        NOT_DOWNLOADABLE,
        "not downloadable",
        notes="Needs a local weights file or an Azure endpoint. Its shape, 1.843 billion "
        "parameters, is inferred from reports, not published.",
    ),
    EncoderSpec(
        "virchow2g-mini",
        "Virchow2G Mini",
        None,
        VIT_S_14,
        *IMAGENET,
        FOUR_MPP,
        "class+mean",
        768,
        NOT_DOWNLOADABLE,
        "not downloadable",
        notes="Needs a local weights file or an Azure endpoint. Depth, heads and MLP are inferred.",
    ),
    EncoderSpec(
        "uni",
        "UNI",
        "MahmoodLab/UNI",
        VIT_L_16,
        *IMAGENET,
        HALF_MPP,
        "class",
        1024,
        NON_COMMERCIAL,
        "approval",
    ),
    EncoderSpec(
        "uni2-h",
        "UNI2-h",
        "MahmoodLab/UNI2-h",
        UNI2_H,
        *IMAGENET,
        HALF_MPP,
        "class",
        1536,
        NON_COMMERCIAL,
        "approval",
    ),
    EncoderSpec(
        "h-optimus-0",
        "H-optimus-0",
        "bioptimus/H-optimus-0",
        GIANT_REG4,
        *BIOPTIMUS,
        HALF_MPP,
        "class",
        1536,
        "Apache-2.0",
        "click-through",
    ),
    EncoderSpec(
        "h-optimus-1",
        "H-optimus-1",
        "bioptimus/H-optimus-1",
        GIANT_REG4,
        *BIOPTIMUS,
        HALF_MPP,
        "class",
        1536,
        NON_COMMERCIAL,
        "approval",
    ),
    EncoderSpec(
        "h0-mini",
        "H0-mini",
        "bioptimus/H0-mini",
        BASE_REG4_SWIGLU,
        *BIOPTIMUS,
        HALF_MPP,
        "class",
        768,
        NON_COMMERCIAL,
        "approval",
        notes="With class+mean its embedding is 1536 long. The MLP's size is inferred from the "
        "86 million parameters it is said to have.",
    ),
    EncoderSpec(
        "gigapath",
        "Prov-GigaPath (tiles)",
        "prov-gigapath/prov-gigapath",
        GIANT_16,
        *IMAGENET,
        HALF_MPP,
        "class",
        1536,
        "Apache-2.0 with additional conditions",
        "approval",
        notes="Tile encoder only. Its card crops the middle 224 px of a 256 px tile; here tiles "
        "are cut at 224 px, the same scale. Whether approval is given by hand is not known.",
    ),
    _kaiko("s16", "vit_small_patch16", _small(16)),
    _kaiko("s8", "vit_small_patch8", _small(8)),
    _kaiko("b16", "vit_base_patch16", _base(16)),
    _kaiko("b8", "vit_base_patch8", _base(8)),
    _kaiko(
        "l14",
        "vit_large_patch14_reg4",
        LARGE_REG4_518,
        "Trained at several magnifications; the four offered are our choice. "
        "Stored for 518 px: its positions are interpolated to 224 px.",
    ),
    _lunit(16),
    _lunit(8),
)

SPECS: Mapping[str, EncoderSpec] = MappingProxyType({row.name: row for row in _ROWS})
