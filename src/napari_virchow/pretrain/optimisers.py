"""The optimiser: which parameters get which decay and rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from napari_virchow.pretrain.config import Optimiser, PretrainError
from napari_virchow.pretrain.network import Network
from napari_virchow.pretrain.schedules import Now

EPSILON = 1e-8


def make_optimiser(network: Network, settings: Optimiser) -> torch.optim.Optimizer:
    """Return an optimiser with a group for each kind of parameter; see `set_values`.

    Biases, norms and tokens do not decay, and the patch embedding learns more slowly (DINOv2).

    Raises
    ------
    PretrainError
        If StableAdamW is asked for and not installed.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        decays = parameter.ndim > 1 and not name.endswith(("cls_token", "reg_token", "pos_embed"))
        rate = settings.patch_embed_lr if "patch_embed" in name else 1.0
        groups.setdefault((decays, rate), []).append(parameter)
    listed: list[dict[str, Any]] = [
        {"params": parameters, "decays": decays, "rate": rate}
        for (decays, rate), parameters in groups.items()
    ]
    betas = settings.beta1, settings.beta2
    if settings.stable:
        return _stable(listed, settings.lr, betas)
    return torch.optim.AdamW(listed, lr=settings.lr, betas=betas, eps=EPSILON)


def set_values(optimiser: torch.optim.Optimizer, now: Now) -> None:
    """Set rate and decay of this step."""
    for group in optimiser.param_groups:
        group["lr"] = now.lr * group["rate"]
        group["weight_decay"] = now.decay if group["decays"] else 0.0


def _stable(
    groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """Return StableAdamW, whose step shrinks where a gradient outgrew its past (arXiv 2304.13013).

    Without its Triton kernels, which cannot see that a parameter is spread over processes.
    """
    try:
        from optimi import StableAdamW
    except ImportError as error:
        raise PretrainError(
            "StableAdamW needs the package torch-optimi: run "
            "pip install 'napari-virchow[pretrain]', or say stable = false in [optimiser]."
        ) from error
    stable: torch.optim.Optimizer = StableAdamW(
        groups, lr=lr, betas=betas, weight_decay=0.0, eps=EPSILON, triton=False
    )
    return stable
