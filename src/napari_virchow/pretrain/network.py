"""Student and teacher: the encoder that is learnt, and the two heads that only training needs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from napari_virchow.encoders.vit import ViT
from napari_virchow.pretrain.config import Config, Loss

LAYER_SCALE = 1e-5
SPREAD = 0.02


class Tokens(NamedTuple):
    """What a network makes of images: (n, width) class tokens and (n, n_patches, width) patches."""

    of_class: Tensor
    of_patches: Tensor


class Head(nn.Module):
    """Compare tokens with prototypes: three layers, a narrow direction, and cosines.

    Parameters
    ----------
    width : int
        Of a token.
    loss : Loss
        Its sizes.
    """

    def __init__(self, width: int, loss: Loss) -> None:
        super().__init__()
        self.narrow = nn.Sequential(
            nn.Linear(width, loss.head_hidden),
            nn.GELU(),
            nn.Linear(loss.head_hidden, loss.head_hidden),
            nn.GELU(),
            nn.Linear(loss.head_hidden, loss.bottleneck),
        )
        self.prototypes = nn.Parameter(torch.empty(loss.prototypes, loss.bottleneck))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the (n, n_prototypes) cosines of (n, width) tokens."""
        direction = functional.normalize(self.narrow(tokens), dim=-1)
        return functional.linear(direction, functional.normalize(self.prototypes, dim=-1))


class Network(nn.Module):
    """An encoder with its two heads, one for class tokens and one for patches.

    Parameters
    ----------
    config : Config
        Its model, loss and run.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.encoder = ViT(config.model.vit())
        self.mask_token = nn.Parameter(torch.empty(config.model.width))
        self.class_head = Head(config.model.width, config.loss)
        self.patch_head = Head(config.model.width, config.loss)
        self._drops = np.linspace(0, config.model.drop_path, config.model.depth).tolist()
        self._recompute = config.run.recompute

    def forward(self, images: Tensor, hidden: Tensor | None = None) -> Tokens:
        """Embed images, some of their patches hidden.

        Parameters
        ----------
        images : Tensor of shape (n, 3, height, width)
            Normalised.
        hidden : Tensor of shape (n, n_patches), bool, optional
            Patches that the network does not see.
        """
        patches = self.encoder.patch_embed(images)
        if hidden is not None:
            at = hidden.view(patches.shape[:3]).unsqueeze(-1)
            patches = torch.where(at, self.mask_token.to(patches.dtype), patches)
        tokens = self.encoder.with_positions(patches)
        for block, drop in zip(self.encoder.blocks, self._drops, strict=True):
            if self._recompute and self.training:
                after = checkpoint(block, tokens, use_reentrant=False)
            else:
                after = block(tokens)
            tokens = _drop(tokens, after, drop) if self.training and drop > 0 else after
        tokens = self.encoder.norm(tokens)
        return Tokens(tokens[:, 0], tokens[:, self.encoder.config.prefix_tokens :])


def initialise(network: Network, seed: int) -> Network:
    """Draw the first weights as DINOv2 does; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        with torch.no_grad():
            if name.endswith(".gamma"):
                parameter.fill_(LAYER_SCALE)
            elif "norm" in name:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            elif name.endswith(".bias") or name == "mask_token":
                parameter.zero_()
            else:
                drawn = torch.empty(parameter.shape).normal_(0.0, SPREAD, generator=generator)
                parameter.copy_(drawn.clamp_(-2 * SPREAD, 2 * SPREAD))
    return network


def _drop(before: Tensor, after: Tensor, share: float) -> Tensor:
    """Leave a block out for a share of the images (stochastic depth), and make up for it."""
    keep = torch.rand(len(before), 1, 1, device=before.device) >= share
    return before + (after - before) * keep / (1 - share)
