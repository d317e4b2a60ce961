"""Check that a loaded encoder does what an encoder must."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_virchow.encoders.specs import EncoderUnavailable

if TYPE_CHECKING:
    from napari_virchow.encoders import Encoder

SAME_COSINE = 0.999


def check(encoder: Encoder) -> None:
    """Embed a seeded tile twice and a white one, and refuse an encoder that cannot be trusted.

    Raises
    ------
    EncoderUnavailable
        If an embedding has another length than it should, is not finite, differs between two
        runs, or is the same whatever the tile.
    """
    tiles = probe_tiles(encoder.spec.input_px)
    title = encoder.spec.title
    advice = "use other weights, or report this."
    try:
        first, white = encoder.encode(tiles)
        again = encoder.encode(tiles[:1])[0]
    except ValueError as error:  # a row of another length does not fit in the array
        raise EncoderUnavailable(
            f"{title} does not embed as its row says ({error}): {advice}"
        ) from error
    if not np.isfinite([first, white, again]).all():
        raise EncoderUnavailable(f"{title} returns numbers that are not finite: {advice}")
    span = np.abs(first).max()
    if np.ptp(first) == 0 or np.abs(first - white).max() <= 1e-6 * span:
        raise EncoderUnavailable(f"{title} embeds every tile the same: {advice}")
    cosine = first @ again / (np.linalg.norm(first) * np.linalg.norm(again))
    if cosine < SAME_COSINE:
        raise EncoderUnavailable(
            f"{title} embeds the same tile differently the second time "
            f"(cosine {cosine:.4f}): {advice}"
        )


def least_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the smallest cosine between rows of the same number, NaN where one is not finite."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / lengths).min())


def probe_tiles(px: int) -> NDArray[np.uint8]:
    """Return a tile of pink and violet blots and a white one, (2, px, px, 3)."""
    generator = np.random.default_rng(7)
    blots = generator.integers(90, 240, (px // 14 + 1, px // 14 + 1, 3)).astype(np.uint8)
    tile = blots.repeat(14, axis=0).repeat(14, axis=1)[:px, :px]
    return np.stack([tile, np.full_like(tile, 255)])
