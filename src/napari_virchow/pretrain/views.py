"""Cut the crops of one sample from its field, and alter their colours: what makes views of it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from napari_virchow.pretrain.config import Crops

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]

# Virchow2: crops keep the size of cells but for 10 %; stock DINOv2 cuts these shares of the area.
TRANSLATE_SCALE, TRANSLATE_RATIO = (0.9, 1.1), (0.95, 1.05)
RESIZE_GLOBAL, RESIZE_LOCAL, RESIZE_RATIO = (0.32, 1.0), (0.05, 0.32), (3 / 4, 4 / 3)
# DINOv2's; Virchow2's own are not published.
JITTER, JITTER_CHANCE, GREY_CHANCE = (0.4, 0.4, 0.2, 0.1), 0.8, 0.2
BLUR_CHANCE, LOCAL_BLUR_CHANCE, BLUR_SIGMA = (1.0, 0.1), 0.5, (0.1, 2.0)
SOLARISE_CHANCE, SOLARISE_ABOVE = 0.2, 128
TRIES = 10


class Views(NamedTuple):
    """The crops of one sample.

    Parameters
    ----------
    large : ndarray of shape (2, global_px, global_px, 3), uint8
    small : ndarray of shape (n_local, local_px, local_px, 3), uint8
    """

    large: Pixels
    small: Pixels


def make_views(field: Pixels, crops: Crops, field_px: int, rng: np.random.Generator) -> Views:
    """Cut and alter the crops of one sample.

    Parameters
    ----------
    field : ndarray of shape (side, side, 3), uint8
        The pixels they are cut from; `side` may differ from `field_px`, and stands for it.
    crops : Crops
        How to cut.
    field_px : int
        The side of a field for which the sides of the crops are meant.
    rng : Generator
        Decides everything.
    """
    image = Image.fromarray(field)
    large = [_view(image, crops, field_px, rng, number) for number in range(2)]
    small = [_view(image, crops, field_px, rng, None) for _ in range(crops.n_local)]
    empty = np.empty((0, crops.local_px, crops.local_px, 3), np.uint8)
    return Views(np.stack(large), np.stack(small) if small else empty)


def translated_box(side: float, share: float, rng: np.random.Generator) -> Box:
    """Place a crop anywhere in a field, about as large as its share: hardly a cell changes size.

    Parameters
    ----------
    side : float
        Of the field.
    share : float
        The crop's side over the field's.

    Returns
    -------
    (left, top, right, bottom), inside the field
    """
    scale = rng.uniform(*TRANSLATE_SCALE)
    ratio = math.exp(rng.uniform(*np.log(TRANSLATE_RATIO)))
    width = min(side, side * share * scale * math.sqrt(ratio))
    height = min(side, side * share * scale / math.sqrt(ratio))
    return _placed(side, width, height, rng)


def resized_box(side: float, area: tuple[float, float], rng: np.random.Generator) -> Box:
    """Place a crop of a random share of the area anywhere in a field (crop-and-resize)."""
    for _ in range(TRIES):
        size = rng.uniform(*area) * side**2
        ratio = math.exp(rng.uniform(*np.log(RESIZE_RATIO)))
        width, height = math.sqrt(size * ratio), math.sqrt(size / ratio)
        if width <= side and height <= side:
            return _placed(side, width, height, rng)
    return 0.0, 0.0, side, side


def _placed(side: float, width: float, height: float, rng: np.random.Generator) -> Box:
    left, top = rng.uniform(0, side - width), rng.uniform(0, side - height)
    return left, top, left + width, top + height


def _view(
    image: Image.Image, crops: Crops, field_px: int, rng: np.random.Generator, number: int | None
) -> Pixels:
    """Cut and alter one crop: the large one of this number, or a small one."""
    px = crops.local_px if number is None else crops.global_px
    if crops.method == "translate":
        box = translated_box(image.width, px / field_px, rng)
    else:
        box = resized_box(image.width, RESIZE_LOCAL if number is None else RESIZE_GLOBAL, rng)
    view = image.resize((px, px), Image.Resampling.BICUBIC, box=box)
    if rng.random() < 0.5:
        view = ImageOps.mirror(view)
    if rng.random() < 0.5:
        view = ImageOps.flip(view)
    return np.asarray(_recolour(view, crops, rng, number))


def _recolour(
    view: Image.Image, crops: Crops, rng: np.random.Generator, number: int | None
) -> Image.Image:
    if rng.random() < JITTER_CHANCE:
        view = _jitter(view, rng)
    if rng.random() < GREY_CHANCE:
        view = ImageOps.grayscale(view).convert("RGB")
    if rng.random() < (LOCAL_BLUR_CHANCE if number is None else BLUR_CHANCE[number]):
        view = view.filter(ImageFilter.GaussianBlur(rng.uniform(*BLUR_SIGMA)))
    if number == 1 and crops.solarise and rng.random() < SOLARISE_CHANCE:
        view = ImageOps.solarize(view, SOLARISE_ABOVE)
    return view


def _jitter(view: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Change brightness, contrast, saturation and hue a little, in a random order."""
    brightness, contrast, saturation, hue = JITTER
    factors = [rng.uniform(1 - most, 1 + most) for most in (brightness, contrast, saturation)]
    turn = rng.uniform(-hue, hue)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for which in rng.permutation(4):
        if which < 3:
            view = enhancers[which](view).enhance(factors[which])
        else:
            bands = np.array(view.convert("HSV"))
            bands[..., 0] += np.uint8(round(turn * 255) % 256)  # hue is an angle: it wraps around
            view = Image.fromarray(bands, "HSV").convert("RGB")
    return view
