"""Choose which patches of the large crops the student does not see."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from napari_virchow.pretrain.config import Loss

# DINOv2's MaskingGenerator.
LEAST_PATCHES, ASPECT, TRIES = 4, 0.3, 10


def draw_masks(n: int, side: int, loss: Loss, first: int, seed: int) -> NDArray[np.bool_]:
    """Choose which patches of the large crops are hidden.

    Parameters
    ----------
    n : int
        Samples; each has two large crops.
    side : int
        Patches along a side of a large crop.
    loss : Loss
        How often, how many of them, and whether in blocks. Where no further block fits, the
        patches that are missing are drawn singly.
    first : int
        Number of the first sample; each sample's masks depend on its number alone.
    seed : int
        Of the run.

    Returns
    -------
    ndarray of shape (2, n, side × side), bool
    """
    hidden = np.zeros((2, n, side**2), np.bool_)
    for sample in range(n):
        rng = np.random.default_rng([seed, first + sample, 1])  # 1: not the generator of its crops
        for crop in range(2):
            if rng.random() < loss.mask_probability:
                count = max(1, round(rng.uniform(loss.mask_low, loss.mask_high) * side**2))
                blocks = draw_blocks(side, count if loss.masks == "blocks" else 0, rng).ravel()
                left = rng.permutation(np.flatnonzero(~blocks))
                blocks[left[: count - blocks.sum()]] = True
                hidden[crop, sample] = blocks
    return hidden


def draw_blocks(side: int, most: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Hide rectangles until the number is reached, or no rectangle drawn fits what is left of it.

    They are drawn as in DINOv2 (`MaskingGenerator` in `dinov2/data/masking.py`): area and logarithm
    of the aspect ratio uniform, anywhere, overlapping.

    Parameters
    ----------
    side : int
        Patches along a side of a crop.
    most : int
        How many patches may be hidden.
    rng : Generator
        Decides everything.

    Returns
    -------
    ndarray of shape (side, side), bool
        At most, and often a few less than, `most` are True.
    """
    hidden = np.zeros((side, side), np.bool_)
    left, failed = most, 0
    while left and failed < TRIES:
        area = LEAST_PATCHES + (left - LEAST_PATCHES) * rng.random()  # either may be the larger
        ratio = math.exp(rng.uniform(math.log(ASPECT), -math.log(ASPECT)))
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        failed += 1
        if max(height, width) < side:
            top, across = rng.integers(side - height + 1), rng.integers(side - width + 1)
            block = hidden[top : top + height, across : across + width]
            new = block.size - int(block.sum())
            if 0 < new <= left:
                block[:] = True
                left, failed = left - new, 0
    return hidden
