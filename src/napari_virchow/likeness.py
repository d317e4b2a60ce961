"""Likeness: a colour for every embedding, alike where the encoder sees alike tiles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE = 4096  # embeddings that the axes are found on; more change them little
ROWS = 8192  # embeddings converted to float32 at a time
# CIE L*a*b*: equal steps look about equally large, also where the eye confuses red and green,
# since the first component is the lightness.
LIGHTNESS, LIGHTNESS_SPAN, COLOUR_SPAN = 62.0, 24.0, 62.0


def likeness_colors(embeddings: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Give every embedding a colour by its first three principal components.

    The components are L*, a* and b* of a CIE L*a*b* colour, stretched so that the middle 96 % of
    the embeddings fill the range. Colours of one call can be compared, those of two cannot.

    Parameters
    ----------
    embeddings : ndarray of shape (n, dim), any float dtype
        As `Session.embeddings` returns them.

    Returns
    -------
    ndarray of shape (n, 3), uint8
        sRGB. Grey where there are under 4 embeddings, or all are equal.
    """
    n = len(embeddings)
    chosen = np.linspace(0, n - 1, min(n, SAMPLE)).astype(np.intp)
    sample = embeddings[chosen].astype(np.float32)
    if n < 4 or not np.ptp(sample, axis=0).any():
        return np.full((n, 3), 150, np.uint8)
    from skimage.color import lab2rgb
    from sklearn.decomposition import PCA

    pca = PCA(3, svd_solver="covariance_eigh" if sample.shape[1] < 1000 else "randomized")
    pca.random_state = 0
    pca.fit(sample)
    parts = [
        pca.transform(embeddings[start : start + ROWS].astype(np.float32))
        for start in range(0, n, ROWS)
    ]
    axes = np.concatenate(parts)
    low, high = np.percentile(axes, [2, 98], axis=0)
    spread = np.where(high > low, high - low, 1)
    unit = np.clip((axes - low) / spread, 0, 1) * 2 - 1
    lab = unit * [LIGHTNESS_SPAN, COLOUR_SPAN, COLOUR_SPAN] + [LIGHTNESS, 0, 0]
    # Out of the screen's gamut on purpose at the corners: clipping keeps the hue readable.
    rgb = lab2rgb(lab[None])[0]
    return np.asarray(np.rint(rgb.clip(0, 1) * 255), np.uint8)


def likeness_raster(
    shape: tuple[int, int], tiles: NDArray[np.int32], embeddings: NDArray[np.floating]
) -> NDArray[np.uint8]:
    """Draw the colours of `likeness_colors` with one pixel per tile.

    Parameters
    ----------
    shape : tuple of int
        (rows, cols) of the grid.
    tiles : ndarray of shape (n, 2)
        Row and column of each embedding.
    embeddings : ndarray of shape (n, dim)
        One per tile.

    Returns
    -------
    ndarray of shape (rows, cols, 4), uint8
        RGBA, transparent where nothing is embedded.
    """
    raster = np.zeros((*shape, 4), np.uint8)
    rows, cols = tiles.T
    raster[rows, cols, :3] = likeness_colors(embeddings)
    raster[rows, cols, 3] = 255
    return raster
