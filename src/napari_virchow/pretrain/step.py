"""One step: what student and teacher make of a batch, and the loss between them."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from napari_virchow.encoders.specs import IMAGENET
from napari_virchow.pretrain.config import Config, Loss
from napari_virchow.pretrain.fields import Batch
from napari_virchow.pretrain.losses import (
    assign,
    class_token_loss,
    crowding,
    kernel_density,
    nearest_distance,
    patch_loss,
)
from napari_virchow.pretrain.network import Network, Tokens


class Losses(NamedTuple):
    """The loss of one step, and its parts before they are weighted."""

    total: Tensor
    dino: Tensor
    ibot: Tensor
    spread: Tensor


def normalised(crops: Tensor) -> Tensor:
    """Flatten (k, n, 3, h, w) uint8 crops to (k × n, 3, h, w) floats as ImageNet has them."""
    mean, std = (torch.tensor(one, device=crops.device).view(1, 3, 1, 1) for one in IMAGENET)
    return (crops.flatten(0, 1).float() / 255 - mean) / std


def losses_of(
    student: Network,
    teacher: Network,
    batch: Batch,
    hidden: Tensor,
    config: Config,
    temperature: float,
) -> Losses:
    """Compute the loss of a batch.

    Parameters
    ----------
    student, teacher : Network
        The teacher gets no gradient.
    batch : Batch
        On the networks' device.
    hidden : Tensor of shape (2, n, n_patches), bool
        Which patches of the large crops the student does not see.
    config : Config
        Its weights and student temperature.
    temperature : float
        Of the teacher.
    """
    loss, n = config.loss, batch.large.shape[1]
    large = normalised(batch.large)
    masks = hidden.flatten(0, 1)
    distils = bool(config.distil_from)
    guessed = torch.ones_like(masks) if distils else masks
    with torch.no_grad():
        seen = teacher(large)
        said = assign(teacher.class_head(seen.of_class), temperature).chunk(2)
        shown = assign(teacher.patch_head(seen.of_patches[guessed]), temperature)
    made: Tokens = student(large, None if distils else masks)
    scores = list(student.class_head(made.of_class).chunk(2))
    if len(batch.small):
        small: Tokens = student(normalised(batch.small))
        scores += student.class_head(small.of_class).split(n)
    dino = class_token_loss(scores, said, loss.student_temperature)
    weights = (1 / guessed.sum(1).clamp_min(1)).unsqueeze(1).expand_as(guessed)[guessed]
    ibot = patch_loss(
        student.patch_head(made.of_patches[guessed]),
        shown,
        weights,
        len(guessed),
        loss.student_temperature,
    )
    spread = _spread(made.of_class, loss)
    total = loss.dino * dino + loss.ibot * ibot + loss.regulariser_weight * spread
    return Losses(total, dino.detach(), ibot.detach(), spread.detach())


def _spread(tokens: Tensor, loss: Loss) -> Tensor:
    """Regularise each large crop apart, so that two views of one image are never pushed apart."""
    if loss.regulariser == "none":
        return tokens.new_zeros(())
    measure = nearest_distance
    if loss.regulariser == "kde":
        measure = partial(kernel_density, kappa=loss.kappa)
    return torch.stack([crowding(one, measure) for one in tokens.chunk(2)]).sum()
