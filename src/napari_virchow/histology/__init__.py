"""Paint a synthetic H&E-like section: regions, fibres, cells, and the colours of two stains.

Nothing here is copied from a real slide. Regions are warped Voronoi cells; inside each, the
optical density of eosin and haematoxylin is painted from filtered noise, then nuclei are stamped
one by one; at last Beer–Lambert turns density into light. Lengths are pixels of 0.5 µm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_virchow.histology.ground import paint_ground
from napari_virchow.histology.layout import BAND, CLASSES, COARSE, lay_out
from napari_virchow.histology.light import develop
from napari_virchow.histology.nuclei import nuclei_of, stamp

__all__ = ["CLASSES", "COARSE", "Section", "paint"]


@dataclass(frozen=True, slots=True)
class Section:
    """A painted section.

    Attributes
    ----------
    rgb : ndarray of shape (height, width, 3), uint8
    regions : ndarray of shape (ceil(height / COARSE), ceil(width / COARSE)), uint8
        Index into `CLASSES` of each COARSE × COARSE block.
    """

    rgb: NDArray[np.uint8]
    regions: NDArray[np.uint8]


def paint(width: int, height: int, seed: int) -> Section:
    """Paint a section; the same arguments give the same pixels.

    Parameters
    ----------
    width, height : int
        Size in px of 0.5 µm.
    seed : int
        Which section.
    """
    plan = lay_out(width, height, seed)
    eosin = np.zeros((height, width), np.float32)
    haematoxylin = np.zeros((height, width), np.float32)
    for top in range(0, height, BAND):
        paint_ground(plan, top, eosin, haematoxylin)
    for stamps, points, choice in nuclei_of(plan):
        stamp(stamps, points, choice, eosin, haematoxylin)
    return Section(develop(plan, eosin, haematoxylin), plan.regions)
