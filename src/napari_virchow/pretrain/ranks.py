"""The processes of one run: start them, and sums over all of them."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed


def world() -> int:
    """Return the number of processes of this run."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started, if it did, and leave them at the end.

    Yields the device of this process: "cuda" becomes the one that torchrun gave it.
    """
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        # What is sharded refers to itself and to the group, whose threads would outlive Python: the
        # process then ends with "terminate called without an active exception", at times.
        gc.collect()
        distributed.destroy_process_group()


def sum_over_ranks(value: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes; carries no gradient."""
    if world() > 1:
        value = value.clone()
        distributed.all_reduce(value)
    return value


def greatest_over_ranks(value: Tensor) -> Tensor:
    """Return the greatest of a tensor over all processes; carries no gradient."""
    if world() > 1:
        value = value.clone()
        distributed.all_reduce(value, distributed.ReduceOp.MAX)
    return value


def rows_of_all_ranks(rows: Tensor) -> Tensor:
    """Put the rows of all processes, the same number in each, below each other; has a gradient."""
    return rows if world() == 1 else _Gathered.apply(rows)


class _Gathered(torch.autograd.Function):
    """Rows of all processes; each gets back what all of them make of its own."""

    @staticmethod
    def forward(_: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(world())]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(_: Any, grad: Tensor) -> Tensor:
        return sum_over_ranks(grad).chunk(world())[rank()]


def average_gradients(parameters: list[torch.nn.Parameter]) -> None:
    """Average gradients over all processes, in one message."""
    grads = [p.grad for p in parameters if p.grad is not None]
    if world() == 1 or not grads:
        return
    flat = torch.cat([grad.reshape(-1) for grad in grads])
    distributed.all_reduce(flat)
    flat /= world()
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))
