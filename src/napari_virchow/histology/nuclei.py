"""Draw nuclei of each tissue and stamp them one by one over the painted ground."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_virchow.histology.layout import (
    COARSE,
    FAT,
    FAT_SPACING,
    LYMPHOCYTES,
    MUCUS,
    NECROSIS,
    STROMA,
    TUMOUR,
    TUMOUR_SPACING,
    Plan,
)
from napari_virchow.histology.noise import PERIOD, Plane, hills, honeycomb, jitter_grid, smooth_step


@dataclass(frozen=True, slots=True)
class Stamp:
    cover: Plane
    density: Plane


def _nucleus(
    rng: np.random.Generator,
    axes: tuple[float, float],
    angle: float = 0.0,
    *,
    density: float = 0.6,
    wobble: float = 0.05,
    mottle: float = 0.12,
    nucleoli: int = 0,
) -> Stamp:
    """Draw a nucleus: dark rim, mottled inside, maybe nucleoli. `axes` are half its sides in px."""
    long, short = axes
    half = int(long * 1.3) + 3
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    theta = np.arctan2(v / short, u / long)
    edge = 1 + sum(
        rng.normal(0, wobble) * np.cos(k * theta + rng.uniform(0, 6.3)) for k in (2, 3, 4)
    )
    radius = np.hypot(u / long, v / short) / edge
    cover = 1 - smooth_step(1 - 0.9 / short, 1 + 0.9 / short, radius)
    grain = ndimage.gaussian_filter(rng.standard_normal(x.shape), 1.25)
    inside = 1 + mottle * grain / grain.std() + 0.22 * np.exp(-(((radius - 0.9) / 0.14) ** 2))
    for _ in range(nucleoli):
        cx, cy = rng.uniform(-0.4, 0.4, 2) * (long, short)
        inside += rng.uniform(0.5, 0.9) * np.exp(-((u - cx) ** 2 + (v - cy) ** 2) / 5.0)
    return Stamp(cover.astype(np.float32), (density * inside).astype(np.float32))


def _speck(radius: float, density: float) -> Stamp:
    half = int(radius * 2) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    cover = np.exp(-((np.hypot(x, y) / radius) ** 3))
    return Stamp(cover, np.full_like(cover, density))


_ANGLES = 24
_Batch = tuple[list[Stamp], NDArray[np.intp], NDArray[np.intp]]


def _stamps(rng: np.random.Generator, kind: str) -> list[Stamp]:
    """Draw many nuclei of a kind; spindles come in order of their angle."""
    made = []
    for k in range({"spindle": 4 * _ANGLES}.get(kind, 80)):
        turn = rng.uniform(0, np.pi)
        if kind == "tumour":
            axes = (rng.uniform(8.5, 13.0), rng.uniform(7.0, 9.5))
            dark = rng.uniform(0.42, 0.68) if rng.random() > 0.08 else 0.95
            seen = int(rng.integers(0, 3))
            made.append(_nucleus(rng, axes, turn, density=dark, mottle=0.17, nucleoli=seen))
        elif kind == "lymphocyte":
            axes = (rng.uniform(5.4, 7.0), rng.uniform(5.0, 6.2))
            made.append(_nucleus(rng, axes, turn, density=rng.uniform(0.72, 0.98), wobble=0.03))
        elif kind == "spindle":
            axes = (rng.uniform(9.0, 16.0), rng.uniform(2.2, 3.6))
            angle = np.pi * (k % _ANGLES) / _ANGLES
            made.append(_nucleus(rng, axes, angle, density=rng.uniform(0.5, 0.75)))
        elif kind == "ghost":
            axes = (rng.uniform(6.0, 9.5), rng.uniform(5.0, 8.0))
            made.append(_nucleus(rng, axes, turn, density=rng.uniform(0.14, 0.24), wobble=0.09))
        elif kind == "corner":
            axes = (rng.uniform(5.0, 8.5), rng.uniform(2.2, 3.0))
            made.append(_nucleus(rng, axes, turn, density=rng.uniform(0.55, 0.75)))
        else:
            made.append(_speck(rng.uniform(0.9, 2.8), rng.uniform(0.35, 0.75)))
    return made


def nuclei_of(plan: Plan) -> Iterator[_Batch]:
    """Yield nuclei, kind by kind: stamps, their (x, y), and which stamp each gets."""
    field = hills(plan.rng("clusters"), plan.regions.shape, 45.0)
    for kind, spacing, jitter, region, chance in (
        ("ghost", 27.0, 0.3, NECROSIS, 0.45),
        ("dust", 10.0, 0.5, NECROSIS, 0.10),
        ("corner", 15.0, 0.5, FAT, 0.35),
        ("spindle", 36.0, 0.45, STROMA, 0.62),
        ("spindle", 27.0, 0.4, TUMOUR, 0.6),
        ("tumour", TUMOUR_SPACING, 0.27, TUMOUR, 0.93),
        ("lymphocyte", 24.0, 0.4, STROMA, 0.025),
        ("lymphocyte", 18.0, 0.4, TUMOUR, 0.05),
        ("lymphocyte", 15.5, 0.32, LYMPHOCYTES, 0.94),
        ("lymphocyte", 24.0, 0.4, MUCUS, 0.02),
        ("tumour", 24.0, 0.35, MUCUS, 0.9),
        ("lymphocyte", 24.0, 0.4, NECROSIS, 0.03),
    ):
        rng = plan.rng(f"{kind} {region}")
        own = kind == "tumour" and region == TUMOUR
        x, y = _centres(plan, spacing, plan.tumour_jitter if own else jitter_grid(rng, jitter))
        row, col = (y / COARSE).astype(np.intp), (x / COARSE).astype(np.intp)
        near = field[row, col]
        odds = np.full(len(x), chance)
        if kind == "dust":
            odds *= np.clip(1 + 1.2 * near, 0, None)
        elif kind == "lymphocyte" and region != LYMPHOCYTES:
            odds *= np.exp(1.1 * near)
        elif region == MUCUS:  # islands of tumour cells floating in it
            odds *= near > 2.5
        if region == TUMOUR:
            odds *= (plan.nests[row, col] > 0.55) == (kind == "tumour")
        keep = (plan.regions[row, col] == region) & (rng.random(len(x)) < odds)
        x, y = x[keep], y[keep]
        if kind == "corner":
            at_corner = _corners(plan, x, y) > 1.15
            x, y = x[at_corner], y[at_corner]
        stamps = _stamps(rng, kind)
        choice = rng.integers(0, len(stamps), len(x))
        if kind == "spindle":
            choice = choice // _ANGLES * _ANGLES + _along(plan, x, y, rng)
        yield stamps, np.stack([x, y], 1).astype(np.intp), choice


def _centres(plan: Plan, spacing: float, jitter: NDArray[np.float32]) -> tuple[Plane, Plane]:
    """Return the centres of a jittered grid inside the section: x and y."""
    rows, cols = np.mgrid[: int(plan.height / spacing) + 1, : int(plan.width / spacing) + 1]
    n = len(jitter)
    shift = jitter[rows % n, cols % n]
    x = (cols + 0.25 + 0.5 * (rows & 1) + shift[..., 0]) * spacing
    y = (rows + 0.5 + shift[..., 1]) * spacing
    inside = (x >= 0) & (y >= 0) & (x < plan.width) & (y < plan.height)
    return x[inside].astype(np.float32), y[inside].astype(np.float32)


def _corners(plan: Plan, x: Plane, y: Plane) -> Plane:
    row, col = (y / COARSE).astype(np.intp), (x / COARSE).astype(np.intp)
    bx, by = (plane[row, col] * 0.25 for plane in plan.bend)
    py, px = y.astype(np.intp), x.astype(np.intp)
    patch = plan.noise["patch"]
    sx = 5 * patch[py % PERIOD, px % PERIOD]
    sy = 5 * patch[(py + 331) % PERIOD, (px + 577) % PERIOD]
    return honeycomb(x + bx + sx, y + by + sy, FAT_SPACING, plan.fat_jitter, 6.0)


def _along(plan: Plan, x: Plane, y: Plane, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the number of the spindle angle that follows the fibres at each point."""
    bend = plan.bend[1]
    slope_y, slope_x = (np.gradient(bend / COARSE, axis=axis) for axis in (0, 1))
    row, col = (y / COARSE).astype(np.intp), (x / COARSE).astype(np.intp)
    angle = np.arctan2(-slope_x[row, col], 1 + slope_y[row, col]) + rng.normal(0, 0.15, len(x))
    number: NDArray[np.intp] = np.round(angle / np.pi * _ANGLES).astype(np.intp) % _ANGLES
    return number


def stamp(
    stamps: list[Stamp],
    points: NDArray[np.intp],
    choice: NDArray[np.intp],
    eosin: Plane,
    haematoxylin: Plane,
) -> None:
    """Lay nuclei over the ground; inside one, its own density replaces what was there."""
    height, width = eosin.shape
    for (x, y), number in zip(points.tolist(), choice.tolist(), strict=True):
        stamp = stamps[number]
        half = len(stamp.cover) // 2
        top, left = max(y - half, 0), max(x - half, 0)
        bottom, right = min(y + half + 1, height), min(x + half + 1, width)
        own = np.s_[top - y + half : bottom - y + half, left - x + half : right - x + half]
        here = np.s_[top:bottom, left:right]
        cover = stamp.cover[own]
        haematoxylin[here] += cover * (stamp.density[own] - haematoxylin[here])
        eosin[here] *= 1 - np.float32(0.45) * cover
