"""Where tissue lies: regions, nests, fibre directions, and how to look them up at any place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_virchow.histology.noise import (
    PERIOD,
    Plane,
    grains,
    hills,
    jitter_grid,
    smooth_step,
)

CLASSES = ("glass", "tumour", "stroma", "lymphocytes", "fat", "necrosis", "mucus")
GLASS, TUMOUR, STROMA, LYMPHOCYTES, FAT, NECROSIS, MUCUS = range(7)

COARSE = 4  # full-resolution px per px of the region map
BAND = 384  # rows painted at a time; a multiple of COARSE
TUMOUR_SPACING = 25.0  # px between the cells of a tumour
FAT_SPACING = 112.0
# Where regions lie: x and y as a share of the slide, and how much each claims (share of height).
_LAYOUT = (
    (TUMOUR, 0.22, 0.36, 0.00),
    (TUMOUR, 0.40, 0.56, 0.02),
    (NECROSIS, 0.20, 0.68, -0.01),
    (NECROSIS, 0.36, 0.84, -0.02),
    (STROMA, 0.38, 0.22, 0.01),
    (STROMA, 0.60, 0.80, 0.00),
    (LYMPHOCYTES, 0.60, 0.54, 0.03),
    (LYMPHOCYTES, 0.56, 0.34, 0.02),
    (FAT, 0.84, 0.52, 0.00),
    (FAT, 0.80, 0.76, 0.00),
    (MUCUS, 0.70, 0.14, 0.05),
    (MUCUS, 0.84, 0.24, 0.04),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What all painters share."""

    width: int
    height: int
    seed: int
    regions: NDArray[np.uint8]  # coarse
    tissue: Plane  # coarse, 0 on glass to 1
    masks: Plane  # (class, coarse rows, coarse columns), soft edges
    nests: Plane  # coarse, 1 in a tumour nest, 0 in the strands between
    bend: tuple[Plane, Plane]  # coarse, (x, y) px by which fibres are displaced
    tumour_jitter: NDArray[np.float32]  # where tumour cells lie in their honeycomb
    fat_jitter: NDArray[np.float32]
    noise: dict[str, Plane]  # periodic, zero mean, unit spread

    def rng(self, what: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *what.encode()])


def lay_out(width: int, height: int, seed: int) -> Plan:
    """Lay out the regions at coarse resolution."""
    rng = np.random.default_rng([seed, 1])
    shape = -(-height // COARSE), -(-width // COARSE)
    unit = shape[0] / 10.0  # coarse px
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    big = [hills(rng, shape, unit * 1.3) for _ in range(2)]
    mid = [hills(rng, shape, unit * 0.35) for _ in range(2)]
    fine = [hills(rng, shape, 12.0) for _ in range(2)]
    wx = x + big[0] * unit * 0.26 + mid[0] * unit * 0.07 + fine[0] * 2.4
    wy = y + big[1] * unit * 0.26 + mid[1] * unit * 0.07 + fine[1] * 2.4
    reach = [
        np.hypot(wx - u * shape[1], wy - v * shape[0]) - claim * shape[0]
        for _, u, v, claim in _LAYOUT
    ]
    regions = np.array([c for c, *_ in _LAYOUT], np.uint8)[np.argmin(reach, axis=0)]
    # The outline is a rounded box, torn by noise of three sizes.
    outline = (
        np.abs(wx / shape[1] - 0.5) ** 3 / 0.44**3 + np.abs(wy / shape[0] - 0.5) ** 3 / 0.435**3
    ) ** (1 / 3)
    depth = (1 - outline) * shape[0] / 2 + mid[1] * unit * 0.03 + fine[1] * 1.2
    regions[depth < 0] = GLASS
    bend = tuple(
        hills(rng, shape, 150.0) * 120 + hills(rng, shape, 45.0) * 20 + hills(rng, shape, 16.0) * 3
        for _ in range(2)
    )
    nests = np.abs(hills(rng, shape, 46.0) + 0.25 * fine[0]) + 0.15 * hills(rng, shape, 70.0)
    noise = {
        "grain": grains(rng, 1.1),
        "fine": grains(rng, 2.2),
        "cell": grains(rng, 7.0),
        "patch": grains(rng, 26.0),
        "fibre": grains(rng, 1.7, 46.0),
        "bundle": grains(rng, 8.0, 110.0),
        "streak": grains(rng, 5.0, 60.0),
    }
    masks = np.stack(
        [
            ndimage.gaussian_filter((regions == c).astype(np.float32), 1.5)
            for c in range(len(CLASSES))
        ]
    )
    return Plan(
        width=width,
        height=height,
        seed=seed,
        regions=regions,
        tissue=smooth_step(-0.5, 1.2, ndimage.gaussian_filter(depth, 0.7)),
        masks=masks,
        nests=smooth_step(0.26, 0.44, nests),
        bend=(bend[0], bend[1]),
        tumour_jitter=jitter_grid(rng, 0.27),
        fat_jitter=jitter_grid(rng, 0.36),
        noise=noise,
    )


@dataclass(frozen=True, slots=True)
class Window:
    """A full-resolution window of the section, and what can be looked up in it."""

    plan: Plan
    top: int
    left: int
    rows: int
    cols: int

    def xy(self) -> tuple[Plane, Plane]:
        y, x = np.mgrid[self.top : self.top + self.rows, self.left : self.left + self.cols]
        return x.astype(np.float32), y.astype(np.float32)

    def wide(self, coarse: Plane) -> Plane:
        """Look up a coarse plane, smoothly."""
        i, f = _between(self.top, self.rows, coarse.shape[0])
        band: Plane = coarse[i] * (1 - f[:, None]) + coarse[i + 1] * f[:, None]
        i, f = _between(self.left, self.cols, coarse.shape[1])
        left, right = band[:, i], band[:, i + 1]
        return left + (right - left) * f

    def still(self, name: str, shift: int = 0) -> Plane:
        """Look up noise where it lies; `shift` gives another, independent one."""
        rows = (np.arange(self.top, self.top + self.rows) + 331 * shift) % PERIOD
        cols = (np.arange(self.left, self.left + self.cols) + 577 * shift) % PERIOD
        return self.plan.noise[name][rows][:, cols]

    def bent(self, name: str, stretch: float = 1.0, swing: float = 1.0) -> Plane:
        """Look up noise along curved fibres."""
        x, y = self.xy()
        bx, by = (self.wide(plane) for plane in self.plan.bend)
        where = [(y + by * np.float32(swing)) / stretch, (x + bx * np.float32(swing)) / stretch]
        noise = self.plan.noise[name]
        along: Plane = ndimage.map_coordinates(noise, where, order=1, mode="grid-wrap")
        return along


def _between(start: int, count: int, size: int) -> tuple[NDArray[np.intp], Plane]:
    """Return the lower coarse neighbour of each px, and how far it is to the next."""
    at = np.clip((np.arange(start, start + count) + 0.5) / COARSE - 0.5, 0, size - 1.001)
    low = np.minimum(np.floor(at).astype(np.intp), size - 2)
    return low, (at - low).astype(np.float32)
