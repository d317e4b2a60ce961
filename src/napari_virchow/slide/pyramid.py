"""A slide's levels as lazy arrays for a viewer, with made ones where stored ones are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_virchow.slide.chunks import Pixels, Window

if TYPE_CHECKING:
    from napari_virchow.slide import Slide

CHUNK = 512  # px; square, whatever the file has: napari rounds what it reads to these
COARSE_PX = 1024  # longer side of the coarsest level: napari reads that one whole
MADE_FACTOR = 4  # up to here a made level is averaged from a stored one; beyond, from the overview
OVERVIEW_PX = 1024
BAND_PIXELS = 16 << 20  # pixels of a stored level that are read at a time for the overview


class SlideLevel:
    """One level of a slide as a lazy array of shape (height, width, 3), uint8.

    Parameters
    ----------
    slide : Slide
        The slide.
    level : int
        The stored level that the pixels come from.
    factor : int
        How many of its pixels make one of ours, along x and y; 1 for the stored level itself.
    """

    ndim = 3
    dtype = np.dtype(np.uint8)
    chunks = (CHUNK, CHUNK, 3)

    def __init__(self, slide: Slide, level: int, factor: int = 1) -> None:
        self._slide, self._level, self._factor = slide, level, factor
        stored = slide.levels[level]
        self.shape = (-(-stored.height // factor), -(-stored.width // factor), 3)

    @property
    def size(self) -> int:
        """How many numbers the level holds."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Pixels:
        window, rest = self._window(key)
        if self._factor > MADE_FACTOR:
            pixels = self._from_overview(window, self._slide.overview(OVERVIEW_PX)[0])
        else:
            pixels = _mean(self._slide.read_window(self._stored(window)), self._factor)
        return np.asarray(pixels[rest])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        return np.asarray(self[:, :, :], dtype=dtype)

    def _stored(self, window: Window) -> Window:
        factor = self._factor
        return Window(
            self._level,
            window.x * factor,
            window.y * factor,
            window.width * factor,
            window.height * factor,
        )

    def _window(self, key: Any) -> tuple[Window, tuple[Any, ...]]:
        """Split an index into the box to read and what is then to be done with it."""
        keys = key if isinstance(key, tuple) else (key,)
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            keys = keys[:at] + (slice(None),) * (4 - len(keys)) + keys[at + 1 :]
        keys += (slice(None),) * (3 - len(keys))
        starts: list[int] = []
        stops: list[int] = []
        rest: list[Any] = []
        for one, length in zip(keys[:2], self.shape[:2], strict=True):
            if isinstance(one, slice):
                start, stop, step = one.indices(length)
                if step < 0:
                    start, stop = stop + 1, start + 1
                starts.append(start)
                stops.append(max(start, stop))
                rest.append(slice(None, None, step))
            else:
                at = int(one) + (length if one < 0 else 0)
                if not 0 <= at < length:
                    raise IndexError(f"{one} is outside a level of {self.shape}")
                starts.append(at)
                stops.append(at + 1)
                rest.append(0)
        box = Window(self._level, starts[1], starts[0], stops[1] - starts[1], stops[0] - starts[0])
        return box, (*rest, keys[2])

    def _from_overview(self, window: Window, overview: Pixels) -> Pixels:
        """Return a box enlarged from the overview (nearest pixel)."""
        rows = np.arange(window.y, window.y + window.height) * overview.shape[0] // self.shape[0]
        cols = np.arange(window.x, window.x + window.width) * overview.shape[1] // self.shape[1]
        return np.asarray(overview[rows][:, cols])


def make_pyramid(slide: Slide) -> list[SlideLevel]:
    """Return the stored levels, with made ones in big gaps and down to a small one."""
    made: list[SlideLevel] = []
    ends = [level.downsample for level in slide.levels[1:]] + [float("inf")]
    for number, end in enumerate(ends):
        made.append(SlideLevel(slide, number))
        factor = 2
        while (
            max(made[-1].shape) > COARSE_PX
            and slide.levels[number].downsample * factor * 2 <= end
            and (end == float("inf") or end / slide.levels[number].downsample > MADE_FACTOR * 1.1)
        ):
            made.append(SlideLevel(slide, number, factor))
            factor *= 2
    return made


def make_overview(slide: Slide, max_px: int) -> Pixels:
    """Read the coarsest fitting level in bands and average it down to `max_px` at most."""
    from PIL import Image

    fitting = [n for n, level in enumerate(slide.levels) if max(level[:2]) >= max_px]
    number = fitting[-1] if fitting else 0
    level = slide.levels[number]
    factor = max(1, -(-max(level.width, level.height) // max_px))
    high = max(1, BAND_PIXELS // (level.width * factor)) * factor
    bands = []
    for y in range(0, level.height, high):
        window = Window(number, 0, y, level.width, min(high, level.height - y))
        band = slide.read_window(window, keep=False)
        bands.append(np.asarray(Image.fromarray(band).reduce(factor)) if factor > 1 else band)
    return np.concatenate(bands)


def _mean(pixels: Pixels, factor: int) -> Pixels:
    if factor == 1 or 0 in pixels.shape:
        return pixels
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).reduce(factor))
