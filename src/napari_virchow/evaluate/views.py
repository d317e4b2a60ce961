"""Altered views of tiles: turned, at another magnification, stained or scanned differently."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
PLAIN = "plain"
TURNS = ("turned 90°", "turned 180°", "turned 270°")
OBJECTIVES = {"40×": 0.25, "20×": 0.5, "10×": 1.0, "5×": 2.0}  # µm/px
STAINS = {"more blue": (1.25, 0.8), "more pink": (0.8, 1.25)}  # haematoxylin, eosin
SCANNER = "other scanner"
VIEWS = (*TURNS, *OBJECTIVES, *STAINS, SCANNER)
ASSUMED_MPP = 0.5  # of tiles whose pixel size is not known
_NEAR = 0.15  # a magnification this near to the tile's own is the tile itself


def views_of(mpp: float | None) -> tuple[str, ...]:
    """Return the views that differ from a tile of that pixel size."""
    own = mpp or ASSUMED_MPP
    same = {name for name, at in OBJECTIVES.items() if abs(at / own - 1) <= _NEAR}
    return tuple(view for view in VIEWS if view not in same)


def alter(tiles: Pixels, view: str, mpp: float | None = None) -> Pixels:
    """Return tiles as another view shows them; always the same for the same tile.

    Parameters
    ----------
    tiles : ndarray of shape (n, px, px, 3), uint8
    view : str
        `PLAIN` or one of `VIEWS`.
    mpp : float, optional
        µm per pixel of the tiles; `ASSUMED_MPP` if it is not known.

    Raises
    ------
    ValueError
        If there is no such view.
    """
    if view == PLAIN:
        return tiles
    if view in TURNS:
        return np.ascontiguousarray(np.rot90(tiles, TURNS.index(view) + 1, axes=(1, 2)))
    if view in OBJECTIVES:
        factor = OBJECTIVES[view] / (mpp or ASSUMED_MPP)
        return np.stack([_at_scale(tile, factor) for tile in tiles])
    if view in STAINS:
        return np.stack([_restained(tile, *STAINS[view]) for tile in tiles])
    if view == SCANNER:
        return np.stack([_rescanned(tile) for tile in tiles])
    raise ValueError(f"there is no view {view!r}, only {VIEWS}")


def _at_scale(tile: Pixels, factor: float) -> Pixels:
    """Show a tile `factor` times coarser (mirrored at its edges), or the middle of it finer."""
    from PIL import Image

    px = len(tile)
    if factor < 1:
        side = max(1, round(px * factor))
        start = (px - side) // 2
        middle = Image.fromarray(tile[start : start + side, start : start + side])
        return np.asarray(middle.resize((px, px), Image.Resampling.BICUBIC))
    side = max(1, round(px / factor))
    small = np.asarray(Image.fromarray(tile).resize((side, side), Image.Resampling.BICUBIC))
    before = (px - side) // 2
    wide = ((before, px - side - before),) * 2
    return np.pad(small, (*wide, (0, 0)), mode="symmetric")


def _restained(tile: Pixels, blue: float, pink: float) -> Pixels:
    from skimage.color import hed2rgb, rgb2hed

    stains = rgb2hed(tile) * (blue, pink, 1.0)
    return np.asarray((hed2rgb(stains).clip(0, 1) * 255).round(), np.uint8)


def _rescanned(tile: Pixels) -> Pixels:
    """Warmer light, another gamma, softer focus, and JPEG."""
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    light = (tile / 255.0 * (1.03, 1.0, 0.94)).clip(0, 1) ** 1.15
    soft = gaussian_filter(light, (0.8, 0.8, 0))
    file = io.BytesIO()
    Image.fromarray((soft * 255).round().astype(np.uint8)).save(file, "JPEG", quality=60)
    return np.asarray(Image.open(file).convert("RGB"))
