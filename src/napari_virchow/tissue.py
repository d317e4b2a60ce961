"""Tissue: which part of a slide is stained, and so which tiles are worth embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_virchow.tiles import TileGrid

if TYPE_CHECKING:
    from napari_virchow.slide import Slide

MASK_PX = 2048  # longer side of the mask at most
SMOOTHING = 1.0  # px of the mask, standard deviation
# Glass is bright: its optical density is below this, and most bright pixels are glass.
BRIGHT = 0.08
NEVER_SCANNED = 0.003  # scanners fill what they leave out with pure white
CLEAN_GLASS = (0.02, 0.012)  # density and chroma to assume where a slide shows no glass
DENSER, MORE_COLOURED = 0.010, 0.020  # than this slide's glass, at least: fat is hardly more
DEVIATIONS = 4.0  # of the glass's own colour, which a scanner may leave uneven
STRONG_COLOUR = 0.10  # enough by itself: thin, bright stain
SMALLEST_FRACTION = 2e-5  # of the slide: what is smaller is dust
LARGEST_HOLE = 2e-3  # of the slide: what is larger is glass inside the section


@dataclass(frozen=True, slots=True, eq=False)
class TissueMask:
    """Where a slide has tissue.

    Parameters
    ----------
    mask : ndarray of shape (h, w), bool
        True on tissue.
    downsample : tuple of float
        (x, y) level-0 pixels per pixel of the mask.
    """

    mask: NDArray[np.bool_]
    downsample: tuple[float, float]

    def tiles(self, grid: TileGrid, min_fraction: float = 0.1) -> NDArray[np.bool_]:
        """Say which tiles have at least `min_fraction` of their area on tissue.

        What hangs over the slide's edge counts as glass.

        Returns
        -------
        ndarray of shape (rows, cols), bool
            One element per tile of the grid.
        """
        rows, cols = grid.shape
        step_x, step_y = grid.step
        # Exact area sums at fractional edges: the integral image, linear between its nodes.
        total = np.zeros((self.mask.shape[0] + 1, self.mask.shape[1] + 1))
        np.cumsum(np.cumsum(self.mask, 0, dtype=np.float64), 1, out=total[1:, 1:])
        ys = np.minimum(np.arange(rows + 1) * step_y / self.downsample[1], self.mask.shape[0])
        xs = np.minimum(np.arange(cols + 1) * step_x / self.downsample[0], self.mask.shape[1])
        corners = _between(_between(total, ys).T, xs).T
        sums = np.diff(np.diff(corners, axis=0), axis=1)
        area = step_x * step_y / (self.downsample[0] * self.downsample[1])
        return np.asarray(sums >= min_fraction * area - 1e-9)


def tissue_mask(slide: Slide) -> TissueMask:
    """Find the tissue of a brightfield slide on a coarse level.

    Stain absorbs light and colours it: a pixel is tissue if it is denser and more coloured than
    this slide's own glass, both smoothed first. Pen, dust and shadow are grey and left out. Small
    holes are then filled, which closes fat cells, and small specks removed.

    Raises
    ------
    SlideError
        If the slide cannot be read.
    """
    from dask import array as da
    from dask_image.ndfilters import gaussian_filter

    overview, _ = slide.overview(MASK_PX)
    absorbed = 1.0 - overview.astype(np.float32) / 255
    density = -np.log10(np.maximum(1 - absorbed.mean(-1), 1 / 255))
    chroma = absorbed.max(-1) - absorbed.min(-1)
    lazy = da.from_array(np.stack([density, chroma]), chunks=(1, 1024, 1024))
    smooth = gaussian_filter(lazy, (0, SMOOTHING, SMOOTHING), mode="nearest").compute(
        scheduler="threads"
    )
    density, chroma = smooth
    glass_density, glass_chroma, spread = _glass(density, chroma)
    denser = density > glass_density + DENSER
    coloured = chroma > glass_chroma + max(MORE_COLOURED, DEVIATIONS * spread)
    tissue = (denser & coloured) | (chroma > glass_chroma + STRONG_COLOUR)
    tissue = ~_without_small(~tissue, LARGEST_HOLE * tissue.size)
    tissue = _without_small(tissue, SMALLEST_FRACTION * tissue.size)
    return TissueMask(tissue, (slide.width / tissue.shape[1], slide.height / tissue.shape[0]))


def _without_small(mask: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """Remove the connected parts of a mask that have fewer pixels than `least`."""
    from dask import array as da
    from dask_image.ndmeasure import label

    # Here and not on a Dask cluster the caller may have: it is a picture of a few megabytes.
    labels = np.asarray(label(da.from_array(mask, chunks=1024))[0].compute(scheduler="threads"))
    sizes = np.bincount(labels.ravel())
    keep = sizes >= least
    keep[0] = False
    return np.asarray(keep[labels])


def _glass(density: NDArray[np.float32], chroma: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return the density and chroma of a slide's glass, and the median deviation of the chroma."""
    bright = (density < BRIGHT) & (density > NEVER_SCANNED)
    if bright.mean() < LARGEST_HOLE:
        return *CLEAN_GLASS, 0.0
    typical = float(np.median(chroma[bright]))
    return (
        float(np.median(density[bright])),
        typical,
        float(np.median(np.abs(chroma[bright] - typical))),
    )


def _between(table: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate the rows of a table linearly at fractional row numbers."""
    low = np.minimum(at.astype(np.intp), table.shape[0] - 1)
    high = np.minimum(low + 1, table.shape[0] - 1)
    part = (at - low)[:, None]
    return np.asarray(table[low] * (1 - part) + table[high] * part)
