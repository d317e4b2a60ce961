"""Estimate the shift and scale in `texture_scale.py`, from synthetic tiles only.

Four synthetic sections that are not the sample slide are cut into tiles; each tile is then altered
at random as scanners and laboratories would: zoom, stain strength and hue, thickness, focus, noise,
and two tissues side by side. Prints the two constants, ready to paste.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_virchow.encoders import texture
from napari_virchow.histology import CLASSES, COARSE, paint

SEEDS = (101, 102, 103, 104)
SIZE = (4096, 3072)
PER_CLASS = 250  # tiles of each tissue; glass gets a fifth
FLOOR = 0.5  # no scale below this share of the median scale


def main() -> None:
    rng = np.random.default_rng(0)
    sections = [paint(*SIZE, seed) for seed in SEEDS]
    raw = []
    for number in range(len(CLASSES)):
        for _ in range(PER_CLASS if number else PER_CLASS // 5):
            density = _cut(rng, sections, number)
            if rng.random() < 0.3:  # a border between two tissues
                other = _cut(rng, sections, int(rng.integers(0, len(CLASSES))))
                edge = int(rng.integers(40, 184))
                density[:, :edge] = other[:, :edge]
            raw.append(texture._raw(_altered(rng, density)))
    numbers = np.array(raw)
    scale = numbers.std(0)
    scale = np.maximum(scale, FLOOR * np.median(scale))
    for name, values in (("_SHIFT", numbers.mean(0)), ("_SCALE", scale)):
        print(name, " ".join(_short(v) for v in values))


def _cut(rng: np.random.Generator, sections: list, number: int) -> NDArray[np.float32]:
    """Return the optical density of a random window on a class, at a random zoom."""
    while True:
        section = sections[rng.integers(0, len(sections))]
        places = np.argwhere(section.regions == number) * COARSE
        side = int(224 * np.exp(rng.uniform(np.log(0.5), np.log(2))))
        y, x = places[rng.integers(0, len(places))] - side // 2
        if 0 <= y <= SIZE[1] - side and 0 <= x <= SIZE[0] - side:
            break
    window = section.rgb[y : y + side, x : x + side].astype(np.float32)
    density = -np.log10((window + 1) / 256)
    zoom = 224 / side
    if zoom < 1:
        density = ndimage.gaussian_filter(density, (0.4 / zoom, 0.4 / zoom, 0))
    grid = (np.arange(224) + 0.5) / zoom - 0.5
    rows, cols = np.meshgrid(grid, grid, indexing="ij")
    planes = [
        ndimage.map_coordinates(density[..., c], [rows, cols], order=1, mode="nearest")
        for c in range(3)
    ]
    return np.stack(planes, -1).astype(np.float32)


def _altered(rng: np.random.Generator, density: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stain, focus and record a tile differently."""
    stains = density @ texture._UNMIX
    stains *= np.exp(rng.normal(0, (0.35, 0.35, 0.5)))
    hues = np.linalg.inv(texture._UNMIX) * np.exp(rng.normal(0, 0.12, (3, 3)))
    sigma = rng.uniform(-1.0, 1.2)
    blurred = ndimage.gaussian_filter(stains, (abs(sigma), abs(sigma), 0))
    stains = blurred if sigma > 0 else stains + 0.8 * (stains - blurred)  # or sharpened
    light = 10 ** -(stains @ hues + rng.uniform(0, 0.04)) * 256 - 1
    grain = ndimage.gaussian_filter(rng.standard_normal(light.shape), (0.6, 0.6, 0)) * 2
    light += grain * rng.uniform(0, 8)
    return np.clip(light, 0, 255).astype(np.uint8)


def _short(value: float) -> str:
    """Write about two digits: `.12`, `-3.4`."""
    text = f"{value:.2g}" if abs(value) >= 0.01 else f"{value:.3f}".rstrip("0").rstrip(".")
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


if __name__ == "__main__":
    main()
