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
# Glass scatters little: its optical density stays below this. Fat and mucus lie just above.
MIN_DENSITY, MAX_DENSITY = 0.04, 0.20
MIN_CHROMA = 0.035  # pen, dust and shadow are grey; stain is not
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

    Stain absorbs and colours light: a pixel is tissue if its optical density exceeds a threshold
    (Otsu's method, kept within what glass and stain can be), or if it has colour. The density is
    smoothed first; small holes are filled and small specks removed.

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
    smooth = gaussian_filter(lazy, (0, SMOOTHING, SMOOTHING), mode="nearest").compute()
    density, chroma = smooth
    tissue = (density > _threshold(density)) & (chroma > MIN_CHROMA) | (chroma > 3 * MIN_CHROMA)
    tissue = ~_without_small(~tissue, LARGEST_HOLE * tissue.size)
    tissue = _without_small(tissue, SMALLEST_FRACTION * tissue.size)
    return TissueMask(tissue, (slide.width / tissue.shape[1], slide.height / tissue.shape[0]))


def _without_small(mask: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """Remove the connected parts of a mask that have fewer pixels than `least`."""
    from dask import array as da
    from dask_image.ndmeasure import label

    labels = np.asarray(label(da.from_array(mask, chunks=1024))[0])
    sizes = np.bincount(labels.ravel())
    keep = sizes >= least
    keep[0] = False
    return np.asarray(keep[labels])


def _threshold(density: NDArray[np.float32]) -> float:
    from skimage.filters import threshold_otsu

    # A slide of one kind only has no two modes to part: the bounds decide.
    found = float(threshold_otsu(np.clip(density, 0, 0.5))) if np.ptp(density) > 0 else MAX_DENSITY
    return min(max(found / 2, MIN_DENSITY), MAX_DENSITY)


def _between(table: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate the rows of a table linearly at fractional row numbers."""
    low = np.minimum(at.astype(np.intp), table.shape[0] - 1)
    high = np.minimum(low + 1, table.shape[0] - 1)
    part = (at - low)[:, None]
    return np.asarray(table[low] * (1 - part) + table[high] * part)
