"""What changes over a run: learning rate, weight decay, momentum and temperature by step."""

from __future__ import annotations

import math
from typing import NamedTuple

from napari_virchow.pretrain.config import Config

BATCH_OF_LR = 1024


class Now(NamedTuple):
    """The values at one step."""

    lr: float
    decay: float
    momentum: float
    temperature: float


def values_at(step: int, config: Config) -> Now:
    """Return what holds at a step, from 0.

    The learning rate rises in a line over the warm-up and falls along a cosine; weight decay and
    the teacher's momentum go along a cosine over the whole run, and the teacher's temperature in
    a line over the warm-up (DINOv2's shapes).
    """
    one, loss = config.optimiser, config.loss
    top = one.lr * math.sqrt(one.batch / BATCH_OF_LR)
    done = step / max(1, one.steps)
    if step < one.warmup:
        lr = top * (step + 1) / one.warmup
        heat = step / one.warmup
    else:
        after = (step - one.warmup) / max(1, one.steps - one.warmup)
        lr, heat = cosine(top, min(one.lr_end, top), after), 1.0
    return Now(
        lr,
        cosine(one.decay_start, one.decay_end, done),
        cosine(one.momentum_start, 1.0, done),
        loss.teacher_start + (loss.teacher_end - loss.teacher_start) * heat,
    )


def cosine(start: float, end: float, done: float) -> float:
    """Go from start to end along half a cosine; `done` is 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, done))) / 2
