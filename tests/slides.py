"""Small slides that tests write themselves."""

from __future__ import annotations

import numpy as np
import tifffile


def picture(height: int = 1300, width: int = 1700, seed: int = 1) -> np.ndarray:
    """Return a smooth, colourful RGB picture in which every place looks different."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [np.sin(x / a + y / b + c) for a, b, c in rng.uniform(20, 90, (3, 3))]
    return (128 + 100 * np.stack(waves, -1)).astype(np.uint8)


def write_svs(path, pixels, *, mpp=0.5, tile=256, factors=(1, 4), compression=None, **options):
    """Write pixels as an SVS file that says its pixel size (unless `mpp` is None)."""
    size = "" if mpp is None else f"|MPP = {mpp}"
    with tifffile.TiffWriter(path) as file:
        for factor in factors:
            level = pixels[: len(pixels) // factor * factor, : pixels.shape[1] // factor * factor]
            height, width = level.shape[0] // factor, level.shape[1] // factor
            level = level.reshape(height, factor, width, factor, 3).mean((1, 3)).astype(np.uint8)
            file.write(
                level,
                tile=(tile, tile),
                compression=compression,
                photometric="rgb",
                metadata=None,
                description=f"Aperio Image Library v11\n{width}x{height} |AppMag = 20{size}",
                **options,
            )
            if factor == 1:  # the second image of an SVS file is its thumbnail
                file.write(pixels[::8, ::8].copy(), photometric="rgb", metadata=None)
    return path
