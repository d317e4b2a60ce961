"""The levels of a slide as napari draws them: drawing never waits for the disk."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import napari
import numpy as np
from napari.layers import Image
from numpy.typing import NDArray
from qtpy.QtCore import QCoreApplication, QTimer

from napari_virchow._napari.decoding import Backdrop, Pixels, Square, Squares
from napari_virchow._napari.link import call_on_gui
from napari_virchow.slide import Slide, SlideLevel

REDRAW_MS = 50
MAX_TRIES = 3  # how often the same view is asked for again while nothing more of it comes
IN_MEMORY_PX = 2048 * 2048
MAX_STEP = 3.0  # levels further apart get one in between

Box = tuple[int, int, int, int]  # top, bottom, left, right

_seen_viewers: weakref.WeakSet[Any] = weakref.WeakSet()


class ViewLevel:
    """One level of a slide, an array to whoever asks.

    To napari's drawing, on the GUI thread, it gives what was read already, with the enlarged
    overview where nothing is yet, and has the rest read in the background. Everybody else
    (scripts, workers, napari's own slicing thread) gets the exact pixels and waits for them.

    Attributes
    ----------
    shape : tuple of int
        (height, width, 3).
    chunks : tuple of int
        Square virtual chunks, to which napari rounds what it reads.
    """

    ndim = 3
    dtype = np.dtype(np.uint8)

    def __init__(self, number: int, level: SlideLevel, redraw: Redraw) -> None:
        self._number = number
        self._level = level
        self.redraw = redraw
        self.shape: tuple[int, int, int] = level.shape
        self.chunks: tuple[int, int, int] = level.chunks

    @property
    def size(self) -> int:
        """How many numbers the level holds."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Pixels:
        if _napari_is_drawing() and isinstance(key, tuple) and len(key) > 1:
            rows, cols = key[:2]
            if isinstance(rows, slice) and isinstance(cols, slice):
                return self._drawn(rows, cols)[(slice(None), slice(None), *key[2:])]
        return self._level[key]

    def __deepcopy__(self, memo: object) -> ViewLevel:
        return self  # it cannot be written to; napari copies the data of a duplicated layer

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self._level[:, :, :], dtype=dtype)

    def _drawn(self, rows: slice, cols: slice) -> Pixels:
        """Return a box from what is there, and ask for what is not."""
        top, bottom, _ = rows.indices(self.shape[0])
        left, right, _ = cols.indices(self.shape[1])
        high, wide, _ = self.chunks
        squares = [
            Square(self._number, row, col)
            for row in range(top // high, -(-bottom // high))
            for col in range(left // wide, -(-right // wide))
        ]
        out = np.empty((max(0, bottom - top), max(0, right - left), 3), np.uint8)
        missing = []
        for square in squares:
            y, x = square.row * high, square.col * wide
            y0, y1 = max(top, y), min(bottom, y + high)
            x0, x1 = max(left, x), min(right, x + wide)
            pixels = self.redraw.squares.get(square)
            if pixels is None:
                missing.append(square)
                stand_in = self.redraw.backdrop.crop(self.shape, y0, x0, y1 - y0, x1 - x0)
            else:
                stand_in = pixels[y0 - y : y1 - y, x0 - x : x1 - x]
            out[y0 - top : y1 - top, x0 - left : x1 - left] = stand_in
        middle = (top + bottom) / 2 / high - 0.5, (left + right) / 2 / wide - 0.5
        missing.sort(key=lambda s: (s.row - middle[0]) ** 2 + (s.col - middle[1]) ** 2)
        self.redraw.want(self._number, (top, bottom, left, right), missing)
        return out


class Redraw:
    """Has missing squares read, and the layers that show them drawn again, now and then.

    All of it runs on the GUI thread but `_on_square`. One redraw serves all that became ready
    within `REDRAW_MS`; a view of which nothing more comes is asked for `MAX_TRIES` times and then
    left as it is.

    Parameters
    ----------
    levels : sequence of SlideLevel
        Of one slide, finest first.
    overview : ndarray of shape (h, w, 3), uint8
        Drawn where nothing is read yet.
    """

    def __init__(self, levels: Sequence[SlideLevel], overview: Pixels) -> None:
        self.squares = Squares(levels, _weakly(self._on_square))
        self.backdrop = Backdrop(overview)
        self._tries: dict[int, tuple[Box, int, int]] = {}  # box, fewest missing, tries since
        self._timer: QTimer | None = None
        self._due = False

    @property
    def busy(self) -> bool:
        """Whether pixels are being read or wait to be drawn."""
        return self.squares.busy or self._due

    def want(self, level: int, box: Box, missing: list[Square]) -> None:
        """Have what is missing in a box of a level read, and the layers drawn again then."""
        wanted = [square for square in missing if not self.squares.failed(square)]
        if not wanted:
            self._tries.pop(level, None)
            return
        last, fewest, tries = self._tries.get(level, (box, len(wanted) + 1, 0))
        if box != last or len(wanted) < fewest:
            fewest, tries = len(wanted), 0
        self._tries[level] = box, fewest, tries + 1
        if tries < MAX_TRIES:
            self.squares.want(level, wanted)

    def _on_square(self) -> None:
        self._due = True
        call_on_gui(self._draw_soon)

    def _draw_soon(self) -> None:
        if self._timer is None:
            self._timer = QTimer()
            self._timer.setSingleShot(True)
            self._timer.setInterval(REDRAW_MS)
            self._timer.timeout.connect(_weakly(self._draw))
        if not self._timer.isActive():
            self._timer.start()

    def _draw(self) -> None:
        self._due = False
        remember_viewer(napari.current_viewer())
        for viewer in tuple(_seen_viewers):
            for layer in tuple(viewer.layers):
                if layer.visible and isinstance(layer, Image) and redraw_of(layer) is self:
                    layer.refresh(thumbnail=False, extent=False, highlight=False)


def remember_viewer(viewer: Any) -> None:
    """Have this viewer's slides redrawn too; None is ignored."""
    if viewer is not None:
        _seen_viewers.add(viewer)


def forget_viewer(viewer: Any) -> None:
    """Stop drawing slides again in a viewer that is closing."""
    _seen_viewers.discard(viewer)


def redraw_of(layer: Image) -> Redraw | None:
    """Return who redraws this layer's levels, or None for a layer that is not ours."""
    if not layer.multiscale:
        return None
    return next((level.redraw for level in layer.data if isinstance(level, ViewLevel)), None)


def levels_of(slide: Slide) -> list[SlideLevel]:
    """Return a slide's levels with none much more than a factor of 2 from the next.

    napari draws the next finer level than the screen needs. Where scanners store every fourth
    size only, that can be sixteen times the pixels of the window.
    """
    levels = slide.pyramid()
    for number, (fine, coarse) in enumerate(zip(slide.levels[:-1], slide.levels[1:], strict=True)):
        if coarse.downsample / fine.downsample >= MAX_STEP:
            levels.append(SlideLevel(slide, number, 2))
    by_width = {level.shape[1]: level for level in reversed(levels)}  # the first of a size stays
    return [by_width[width] for width in sorted(by_width, reverse=True)]


def view_levels(
    levels: list[SlideLevel], overview: Pixels, close: Callable[[], None]
) -> list[ViewLevel | Pixels]:
    """Wrap a slide's levels for napari, finest first.

    The coarsest is read at once when it is small: napari keeps it as the layer's thumbnail, which
    has to be right the first time.

    Parameters
    ----------
    levels : list of SlideLevel
        As `levels_of` returns them.
    overview : ndarray of shape (h, w, 3), uint8
        The whole slide, small.
    close : callable
        Called once no layer has these levels any more.
    """
    redraw = Redraw(levels, overview)
    weakref.finalize(redraw, close)
    wrapped: list[ViewLevel | Pixels] = [
        ViewLevel(number, level, redraw) for number, level in enumerate(levels)
    ]
    height, width, _ = levels[-1].shape
    if height * width <= IN_MEMORY_PX and len(levels) > 1:
        wrapped[-1] = np.asarray(levels[-1][:, :, :])
    return wrapped


def _weakly(method: Callable[[], object]) -> Callable[[], None]:
    """Return a function that calls a bound method for as long as its object lives."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        if (alive := reference()) is not None:
            alive()

    return call


def _napari_is_drawing() -> bool:
    """Say whether the code that indexes us is napari's slicing, on the GUI thread."""
    caller = sys._getframe(2).f_globals.get("__name__", "")
    return (
        caller.startswith("napari.layers.")
        and threading.current_thread() is threading.main_thread()
        and QCoreApplication.instance() is not None
    )
