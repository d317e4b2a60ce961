"""Noise and smooth shapes that the painters draw from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Plane = NDArray[np.float32]

PERIOD = 1024  # px after which filtered noise repeats


def grains(rng: np.random.Generator, across: float, along: float | None = None) -> Plane:
    """Return periodic noise whose grains are `across` px high and `along` px wide."""
    white = rng.standard_normal((PERIOD, PERIOD), np.float32)
    sigma = (across, across if along is None else along)
    smooth = ndimage.gaussian_filter(white, sigma, mode="wrap")
    even: Plane = (smooth - smooth.mean()) / smooth.std()
    return even


def hills(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> Plane:
    """Return smooth noise of unit spread, `scale` px from hill to hill, over any shape."""
    knots = rng.standard_normal([int(n / scale) + 4 for n in shape], np.float32)
    rows = np.arange(shape[0], dtype=np.float32) / scale + 1
    cols = np.arange(shape[1], dtype=np.float32) / scale + 1
    wide = ndimage.map_coordinates(knots, np.meshgrid(rows, cols, indexing="ij"), order=3)
    spread: Plane = wide * np.float32(1.6)
    return spread


def honeycomb(
    x: Plane, y: Plane, spacing: float, jitter: NDArray[np.float32], soft: float
) -> Plane:
    """Return how near each point is to the walls of an irregular honeycomb.

    0 inside a cell, 1 on a wall between two, 2 where three meet; walls are `soft` px wide.
    """
    column, row = np.floor(x / spacing).astype(np.int32), np.floor(y / spacing).astype(np.int32)
    n = len(jitter)
    distances = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            r, c = row + down, column + right
            shift = jitter[r % n, c % n]
            dx = (c + 0.25 + 0.5 * (r & 1) + shift[..., 0]) * np.float32(spacing) - x
            dy = (r + 0.5 + shift[..., 1]) * np.float32(spacing) - y
            distances.append(np.sqrt(dx * dx + dy * dy))
    nearest = np.minimum.reduce(distances)
    total: Plane = sum(np.exp((nearest - d) / np.float32(soft)) for d in distances)
    return total - 1


def jitter_grid(rng: np.random.Generator, amount: float) -> NDArray[np.float32]:
    return rng.uniform(-amount, amount, (64, 64, 2)).astype(np.float32)


def smooth_step(low: float, high: float, values: Plane) -> Plane:
    """Rise smoothly from 0 at `low` to 1 at `high`."""
    t = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    rise: Plane = t * t * (3 - 2 * t)
    return rise
