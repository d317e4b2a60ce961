"""Small pictures of places on slides, also of slides that are not open."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from napari_virchow.memory import recall_slide
from napari_virchow.slide import Slide, SlideError, open_slide
from napari_virchow.slide.chunks import Pixels, Window
from napari_virchow.tiles import Rect

if TYPE_CHECKING:
    from napari_virchow.session import Session

IDLE_S = 30.0  # a slide that was opened for its pictures is closed after so long without one
_MAX_READ_PX = 4096  # a picture of a whole slide is made from its coarsest level, or not at all


def read_picture(slide: Slide, rect: Rect, size_px: int) -> Pixels:
    """Return a place on a slide, `size_px` on its longer side; white outside the slide.

    It is read from the coarsest level that is fine enough, and made smaller.

    Parameters
    ----------
    rect : Rect
        In level-0 pixels.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        RGB.

    Raises
    ------
    ValueError
        If the place or the picture has no size, or the place is too large to be read.
    SlideError
        If it cannot be read.
    """
    longer = max(rect.width, rect.height)
    if not (size_px >= 1 and min(rect.width, rect.height) > 0):
        raise ValueError(f"A picture of {size_px} px of {rect} has no size.")
    wanted = longer / size_px
    number = max(n for n, level in enumerate(slide.levels) if n == 0 or level.downsample <= wanted)
    level = slide.levels[number]
    per_x, per_y = level.width / slide.width, level.height / slide.height
    wide, high = max(1, round(rect.width * per_x)), max(1, round(rect.height * per_y))
    if max(wide, high) > max(_MAX_READ_PX, 2 * size_px):
        raise ValueError(f"{slide.name} has no level coarse enough for a picture of {rect}.")
    at = round(rect.x * per_x), round(rect.y * per_y)
    pixels = slide.read_window(Window(number, *at, wide, high), keep=False)
    size = max(1, round(rect.width / wanted)), max(1, round(rect.height / wanted))
    if size == (wide, high):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


class SlidesAtHand:
    """Finds slides by identity: those open in a session, else by the path remembered of them.

    What it opens itself it closes when nobody asked for it for `IDLE_S` (see `close_idle`), or at
    the end. Every method may be called from any thread.

    Parameters
    ----------
    session : Session
        Its open slides are used, and never closed here.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._own: dict[str, Slide] = {}
        self._used: dict[str, float] = {}

    def get(self, identity: str) -> Slide:
        """Return a slide; opens its file if need be.

        Raises
        ------
        SlideError
            If it is not known where the slide lies, it cannot be opened, or another slide lies
            there now.
        """
        known = self._session.slides.get(identity)
        if known is not None:
            return known
        with self._lock:
            self._used[identity] = time.monotonic()
            if identity not in self._own:
                self._own[identity] = self._open(identity)
            return self._own[identity]

    def close_idle(self, idle_s: float = IDLE_S) -> float | None:
        """Close what was not asked for lately; return seconds until the next is due, if any."""
        now = time.monotonic()
        with self._lock:
            for identity in [i for i in self._own if now - self._used[i] >= idle_s]:
                self._own.pop(identity).close()
            waits = [idle_s - (now - self._used[identity]) for identity in self._own]
        return min(waits, default=None)

    def close(self) -> None:
        """Close every slide that was opened here. Safe to call twice."""
        self.close_idle(-math.inf)

    def _open(self, identity: str) -> Slide:
        known = recall_slide(self._session.store, identity)
        if not known.path:
            raise SlideError(
                f"It is not known where the slide {known.name or identity} lies; open its file."
            )
        slide = open_slide(known.path)
        if slide.identity != identity:
            slide.close()
            raise SlideError(f"Another slide lies at {known.path} now; open {known.name} itself.")
        if known.mpp is not None:
            slide.set_mpp(known.mpp)
        return slide
