"""Turn stain into light: uneven staining, cracks, torn edge, optics, scanner noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_virchow.histology.layout import BAND, Plan, Window
from napari_virchow.histology.noise import Plane, hills, smooth_step

_WHITE = (243.0, 241.0, 244.0)  # light through bare glass
# Optical density in red, green, blue of one unit of stain; unit length within 1 %.
_HAEMATOXYLIN = (0.64, 0.68, 0.35)
_EOSIN = (0.17, 0.86, 0.48)


def develop(plan: Plan, eosin: Plane, haematoxylin: Plane) -> NDArray[np.uint8]:
    """Turn stain into light: uneven staining, cracks, torn edge, optics, scanner noise."""
    rgb = np.empty((plan.height, plan.width, 3), np.uint8)
    rng = plan.rng("light")
    shape = plan.regions.shape
    strength = [1 + 0.06 * hills(rng, shape, 260.0) + 0.03 * hills(rng, shape, 60.0) for _ in "he"]
    valley = np.abs(hills(rng, shape, 120.0) + 0.12 * hills(rng, shape, 14.0))
    crack = (1 - smooth_step(0.012, 0.03, valley)) * (hills(rng, shape, 160.0) > 0.9)
    present = plan.tissue * (1 - 0.93 * crack)
    margin = 4
    for top in range(0, plan.height, BAND):
        bottom = min(top + BAND, plan.height)
        above, below = max(top - margin, 0), min(bottom + margin, plan.height)
        inner = np.s_[top - above : bottom - above]
        window = Window(plan, top, 0, bottom - top, plan.width)
        there = window.wide(present)
        stains = [
            ndimage.gaussian_filter(np.maximum(plane[above:below], 0), 0.75)[inner]
            * (there * window.wide(amount))
            for plane, amount in zip((haematoxylin, eosin), strength, strict=True)
        ]
        noise = rng.standard_normal(there.shape, np.float32)
        for channel in range(3):
            density = stains[0] * _HAEMATOXYLIN[channel] + stains[1] * _EOSIN[channel]
            light = np.exp(density * np.float32(-np.log(10))) * _WHITE[channel] + noise
            rgb[top:bottom, :, channel] = np.clip(light + 0.5, 0, 255).astype(np.uint8)
    return rgb
