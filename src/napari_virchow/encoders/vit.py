"""A vision transformer for inference, in plain torch, that loads weights made for timm."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from napari_virchow.encoders.specs import EncoderSpec, Pooling, ViTConfig

EPSILON = 1e-6

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class ViT(nn.Module):
    """Vision transformer that returns its class token and its patch tokens.

    Parameter names are those of timm, so its state dicts load with ``strict=True``. The matrix
    products run in the dtype of the linear weights (see `lower`); normalisation and the residual
    stream stay in float32, which is what autocast does, without casting the weights every time.

    Parameters
    ----------
    config : ViTConfig
        Its shape.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        width, grid = config.width, config.image_px // config.patch
        positions = grid**2 + (config.prefix_tokens if config.positions_for_prefix else 0)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        if config.registers:
            self.reg_token = nn.Parameter(torch.empty(1, config.registers, width))
        self.pos_embed = nn.Parameter(torch.empty(1, positions, width))
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Embed images.

        Parameters
        ----------
        images : Tensor of shape (n, 3, height, width)
            Normalised RGB; both sides are multiples of the patch.

        Returns
        -------
        class_token : Tensor of shape (n, width), float32
        patch_tokens : Tensor of shape (n, n_patches, width), float32
            Row by row, without the register tokens.
        """
        tokens = self.with_positions(self.patch_embed(images))
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        return tokens[:, 0], tokens[:, self.config.prefix_tokens :]

    def lower(self, dtype: torch.dtype) -> ViT:
        """Keep the weights of the matrix products in `dtype` from now on; return the model."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.to(dtype)
        return self

    def with_positions(self, patches: Tensor) -> Tensor:
        """Put the prefix before (n, rows, cols, width) patches and add the positions.

        Returns
        -------
        Tensor of shape (n, prefix tokens + rows × cols, width), float32
        """
        n, rows, cols, _ = patches.shape
        prefix = [self.cls_token.expand(n, -1, -1)]
        if self.config.registers:
            prefix.append(self.reg_token.expand(n, -1, -1))
        positions = self._positions(rows, cols)
        flat = patches.flatten(1, 2).float()
        if self.config.positions_for_prefix:
            return torch.cat([*prefix, flat], dim=1) + positions
        return torch.cat([*prefix, flat + positions], dim=1)

    def _positions(self, rows: int, cols: int) -> Tensor:
        grid = self.config.image_px // self.config.patch
        if (rows, cols) == (grid, grid):
            return self.pos_embed
        n_prefix = self.pos_embed.shape[1] - grid**2
        stored = self.pos_embed[:, n_prefix:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
        resized = functional.interpolate(stored, (rows, cols), mode="bicubic", antialias=True)
        flat = resized.permute(0, 2, 3, 1).flatten(1, 2)
        return torch.cat([self.pos_embed[:, :n_prefix], flat], dim=1)


class PatchEmbed(nn.Module):
    """Turn images into one token per patch."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch, stride=config.patch)

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, rows, cols, width) tokens of (n, 3, height, width) images."""
        tokens: Tensor = self.proj(images.to(self.proj.weight.dtype))
        return tokens.permute(0, 2, 3, 1)


class Block(nn.Module):
    """Self-attention and an MLP, each normalised before and added after."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=EPSILON)
        self.attn = Attention(config)
        self.ls1 = LayerScale(config.width) if config.layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(config.width, eps=EPSILON)
        self.mlp = Mlp(config)
        self.ls2 = LayerScale(config.width) if config.layer_scale else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the (n, tokens, width) float32 tokens after this block."""
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        after: Tensor = tokens + self.ls2(self.mlp(self.norm2(tokens)))
        return after


class LayerScale(nn.Module):
    """Scale each channel by a learnt factor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the scaled tokens."""
        return tokens * self.gamma


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        head_width = config.width // config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.qkv_bias)
        self.q_norm = nn.LayerNorm(head_width, eps=EPSILON) if config.qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(head_width, eps=EPSILON) if config.qk_norm else nn.Identity()
        self.proj = nn.Linear(config.width, config.width)
        self.qk_norm = config.qk_norm

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what each of the (n, tokens, width) tokens gathers from all of them."""
        dtype = self.qkv.weight.dtype
        qkv = self.qkv(tokens.to(dtype)).view(*tokens.shape[:2], 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if self.qk_norm:
            query = self.q_norm(query.float()).to(dtype)
            key = self.k_norm(key.float()).to(dtype)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        gathered: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return gathered


class Mlp(nn.Module):
    """Two layers with GELU between them, or a packed SwiGLU gated with SiLU."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.gated = config.mlp == "swiglu"
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden // 2 if self.gated else config.hidden, config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the (n, tokens, width) output."""
        hidden = self.fc1(tokens.to(self.fc1.weight.dtype))
        if self.gated:
            # The first half gates. SiLU, not GELU: weights load either way, so only a test tells.
            gate, value = hidden.chunk(2, dim=-1)
            hidden = functional.silu(gate) * value
        else:
            hidden = functional.gelu(hidden)
        out: Tensor = self.fc2(hidden)
        return out


def build_on_meta(config: ViTConfig) -> ViT:
    """Build a model whose parameters take no memory yet, in evaluation mode."""
    with torch.device("meta"):
        return ViT(config).eval().requires_grad_(False)


def random_vit(config: ViTConfig, seed: int = 0) -> ViT:
    """Build a model with random weights that are the same for the same seed.

    Every part of it matters to the output: LayerScale starts at 0.3, not at the 1e-5 of a
    training run, which would leave the blocks without a say.
    """
    model = build_on_meta(config).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith(".gamma"):
            parameter.fill_(0.3)
        elif "norm" in name:
            parameter.fill_(1.0 if name.endswith(".weight") else 0.0)
        elif name.endswith(".bias"):
            parameter.zero_()
        else:
            parameter.normal_(0.0, 0.02, generator=generator).clamp_(-0.04, 0.04)
    return model


class TileNetwork(nn.Module):
    """From uint8 tiles to embeddings, all in one graph.

    Parameters
    ----------
    model : ViT
        The transformer.
    spec : EncoderSpec
        Says how tiles are normalised.
    pooling : {"class", "class+mean"}
        How tokens become an embedding.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: ViT, spec: EncoderSpec, pooling: Pooling) -> None:
        super().__init__()
        mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1))
        self.model, self.pooling = model, pooling

    def forward(self, tiles: Tensor) -> Tensor:
        """Return the (n, dim) float32 embeddings of (n, px, px, 3) uint8 tiles."""
        images = tiles.permute(0, 3, 1, 2).float() * self.scale + self.shift
        class_token, patches = self.model(images)
        return pool(class_token, patches, self.pooling)


def vit_embedder(model: ViT, spec: EncoderSpec, pooling: Pooling, device: str) -> Embed:
    """Return the function that embeds one batch of tiles with a model on a device."""
    return embedder(TileNetwork(model, spec, pooling).to(device), device)


def embedder(network: Callable[[Tensor], Tensor], device: str) -> Embed:
    """Return the function that embeds one batch of tiles with a network on a device.

    Tiles travel as uint8 and are normalised there.
    """

    def embed(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        # torch warns about memory it may not write to, such as a slice of a read-only map.
        batch = torch.from_numpy(np.require(tiles, requirements=["C", "W"]))
        if device.startswith("cuda"):
            batch = batch.pin_memory()
        with torch.inference_mode():
            found = network(batch.to(device, non_blocking=True))
            return cast("NDArray[np.float32]", found.float().cpu().numpy())

    return embed


def pool(class_token: Tensor, patches: Tensor, pooling: Pooling) -> Tensor:
    """Return the embeddings: (n, width) class tokens, with the mean of the patches if wanted."""
    if pooling == "class":
        return class_token
    return torch.cat([class_token, patches.mean(dim=1)], dim=-1)
