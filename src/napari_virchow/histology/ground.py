"""Paint the ground of each tissue, everything but nuclei: eosin and haematoxylin density."""

from __future__ import annotations

import numpy as np

from napari_virchow.histology.layout import (
    BAND,
    FAT,
    FAT_SPACING,
    LYMPHOCYTES,
    MUCUS,
    NECROSIS,
    STROMA,
    TUMOUR,
    TUMOUR_SPACING,
    Plan,
    Window,
)
from napari_virchow.histology.noise import Plane, honeycomb, smooth_step


def paint_ground(plan: Plan, top: int, eosin: Plane, haematoxylin: Plane) -> None:
    rows = min(BAND, plan.height - top)
    whole = Window(plan, top, 0, rows, plan.width)
    for region, painter in _PAINTERS.items():
        share = whole.wide(plan.masks[region])
        used = np.flatnonzero(share.max(axis=0) > 0.004)
        if not len(used):
            continue
        columns = slice(int(used[0]), int(used[-1]) + 1)
        window = Window(plan, top, columns.start, rows, columns.stop - columns.start)
        e, h = painter(window)
        eosin[top : top + rows, columns] += share[:, columns] * e
        haematoxylin[top : top + rows, columns] += share[:, columns] * h


def _stroma(window: Window, clefts: float = 0.85) -> tuple[Plane, Plane]:
    fibre, bundle = window.bent("fibre"), window.bent("bundle")
    cleft = smooth_step(1.0, 1.9, -bundle - 0.35 * fibre)
    eosin = 0.235 + 0.05 * fibre + 0.04 * bundle + 0.015 * window.still("fine")
    open_ = 1 - np.float32(clefts) * cleft
    return eosin * open_, (0.045 + 0.012 * fibre) * open_


def _tumour(window: Window) -> tuple[Plane, Plane]:
    x, y = window.xy()
    walls = honeycomb(x, y, TUMOUR_SPACING, window.plan.tumour_jitter, 3.0)
    nest = window.wide(window.plan.nests)
    patch, fine = window.still("patch"), window.still("fine")
    eosin = (0.19 + 0.03 * patch + 0.03 * fine) * (1 - 0.3 * np.minimum(walls, 1))
    haematoxylin = (0.14 + 0.03 * patch + 0.02 * window.still("cell")) * (1 - 0.3 * walls)
    strand_e, strand_h = _stroma(window, clefts=0.25)
    slit = np.exp(-(((nest - 0.6) / 0.16) ** 2)) * smooth_step(0.2, 1.4, window.still("patch", 1))
    inside = smooth_step(0.35, 0.65, nest)
    open_ = 1 - 0.8 * slit
    return (
        (inside * eosin + (1 - inside) * strand_e * 0.9) * open_,
        (inside * haematoxylin + (1 - inside) * strand_h) * open_,
    )


def _lymphocytes(window: Window) -> tuple[Plane, Plane]:
    cell, fibre = window.still("cell"), window.bent("fibre", swing=0.5)
    return 0.13 + 0.035 * cell + 0.025 * fibre, 0.10 + 0.035 * cell


def _fat(window: Window) -> tuple[Plane, Plane]:
    x, y = window.xy()
    bx, by = (window.wide(plane) for plane in window.plan.bend)
    patch = window.still("patch")
    soft = 5 * patch, 5 * window.still("patch", 1)
    x, y = x + bx * 0.25 + soft[0], y + by * 0.25 + soft[1]
    walls = honeycomb(x, y, FAT_SPACING, window.plan.fat_jitter, 8.0)
    wall = smooth_step(0.45, 0.95, walls) * (1 + 0.12 * window.still("fine"))
    strand = np.maximum(wall, 1.1 * smooth_step(1.35, 1.75, walls))
    return 0.016 + 0.36 * strand, 0.008 + 0.06 * strand


def _necrosis(window: Window) -> tuple[Plane, Plane]:
    x, y = window.xy()
    cell = window.still("cell")
    ghosts = honeycomb(x + 4 * cell, y + 4 * cell, 25.0, window.plan.tumour_jitter, 4.0)
    patch, grain = window.still("patch"), window.still("grain")
    lumps = np.tanh(1.4 * window.still("fine", 1))
    eosin = 0.28 + 0.04 * patch + 0.05 * lumps + 0.04 * grain + 0.04 * cell
    eosin = eosin * (1 - 0.35 * np.minimum(ghosts, 1))
    return eosin, 0.07 + 0.02 * patch + 0.025 * lumps


def _mucus(window: Window) -> tuple[Plane, Plane]:
    streak, broad = window.bent("streak", swing=0.9), window.bent("bundle", stretch=1.7, swing=0.9)
    thread = smooth_step(1.0, 2.6, streak + 0.4 * window.still("fine"))
    haematoxylin = 0.10 + 0.03 * streak + 0.02 * broad + 0.08 * thread
    return 0.035 + 0.012 * broad + 0.03 * thread, haematoxylin


_PAINTERS = {
    TUMOUR: _tumour,
    STROMA: _stroma,
    LYMPHOCYTES: _lymphocytes,
    FAT: _fat,
    NECROSIS: _necrosis,
    MUCUS: _mucus,
}
