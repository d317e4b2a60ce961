"""The optimiser: which parameters get which decay and rate, and AdamW with bounded updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from napari_virchow.pretrain.config import Optimiser
from napari_virchow.pretrain.network import Network
from napari_virchow.pretrain.schedules import Now


def make_optimiser(network: Network, settings: Optimiser) -> torch.optim.Optimizer:
    """Return an optimiser with a group for each kind of parameter; see `set_values`.

    Biases, norms and tokens do not decay, and the patch embedding learns more slowly (DINOv2).
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        decays = parameter.ndim > 1 and not name.endswith(("cls_token", "reg_token", "pos_embed"))
        rate = settings.patch_embed_lr if "patch_embed" in name else 1.0
        groups.setdefault((decays, rate), []).append(parameter)
    listed = [
        {"params": parameters, "decays": decays, "rate": rate}
        for (decays, rate), parameters in groups.items()
    ]
    betas = settings.beta1, settings.beta2
    kind = StableAdamW if settings.stable else torch.optim.AdamW
    return kind(listed, lr=settings.lr, betas=betas)


def set_values(optimiser: torch.optim.Optimizer, now: Now) -> None:
    """Set rate and decay of this step."""
    for group in optimiser.param_groups:
        group["lr"] = now.lr * group["rate"]
        group["weight_decay"] = now.decay if group["decays"] else 0.0


class StableAdamW(torch.optim.Optimizer):
    """AdamW whose step shrinks for a tensor whose gradient outgrew its own past.

    Wortsman et al. 2023, "Stable and low-precision training for large-scale vision-language
    models", algorithm 2: the rate is divided by max(1, RMS of gradient over its expected size),
    and the decay rates start at 0 (instead of a bias correction).
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.99)
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": 1e-8, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make one step with the gradients that are there."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        n = float(state["step"])
        beta1, beta2 = ((b - b**n) / (1 - b**n) for b in group["betas"])
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(grad, 1 - beta1)
        square.lerp_(grad.square(), 1 - beta2)
        size = (grad.square() / square.clamp_min(group["eps"] ** 2)).mean().sqrt()
        lr = group["lr"] / torch.clamp_min(size, 1.0)
        parameter.mul_(1 - lr * group["weight_decay"])
        parameter.sub_(lr * mean / (square.sqrt() + group["eps"]))
