"""Making windows smaller, and colours comparable."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

from napari_virchow.slide.chunks import Pixels


def shrink(pixels: Pixels, side: int) -> Pixels:
    """Make a window smaller: the mean of blocks where they fit, antialiased bicubic elsewhere."""
    high, wide = pixels.shape[:2]
    if wide % side == 0 and high % side == 0:
        return shrink_by(pixels, wide // side, high // side)
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def shrink_by(pixels: Pixels, wide: int, high: int) -> Pixels:
    """Make each block of `wide` x `high` pixels one: their mean, rounded."""
    return np.asarray(Image.fromarray(pixels).reduce((wide, high)))


def srgb_converter(profile: bytes | None) -> Callable[[Pixels], Pixels] | None:
    """Return a function that converts RGB pixels to sRGB, or None without a usable profile."""
    if profile is None:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None

    def convert(pixels: Pixels) -> Pixels:
        flat = Image.fromarray(pixels.reshape(-1, pixels.shape[-2], 3))
        corrected = ImageCms.applyTransform(flat, transform)
        return np.asarray(corrected).reshape(pixels.shape)

    return convert
