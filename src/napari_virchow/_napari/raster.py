"""Points painted into pixels by numpy, a slice at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SLICE = 200_000  # points that are painted between two looks at the event loop
_FAINT = 0.3  # how much is left of what is not selected
Floats = NDArray[np.float32]


class Raster:
    """Knows which point is to be seen in each pixel of a view.

    Points without colour (value 0) lie below all others; among equals the earlier row is on top.
    """

    def __init__(self) -> None:
        self.xy: Floats = np.zeros((0, 2), np.float32)
        self.size = (1, 1)  # (wide, high) in pixels
        self.paper: Floats = np.zeros(3, np.float32)
        self.ink: Floats = np.full(3, 255, np.float32)
        self._value: NDArray[np.uint16] = np.zeros(0, np.uint16)
        self._palette: NDArray[np.uint8] = np.full((1, 3), 128, np.uint8)
        self._selection: NDArray[np.intp] = np.zeros(0, np.intp)
        self._order: NDArray[np.intp] = np.zeros(0, np.intp)
        self._sorted: Floats = self.xy
        self._center, self._scale, self._dot = np.zeros(2, np.float32), np.float32(1), 1
        self._code: NDArray[np.int32] = np.zeros(1, np.int32)  # n - place in the order; 0: nothing
        self._done = 0

    # ---- what is drawn

    def set_points(self, xy: Floats) -> None:
        """Take other points; colours and selection go unless they are as many as before."""
        if len(xy) != len(self.xy):
            self._value = np.zeros(len(xy), np.uint16)
            self._selection = np.zeros(0, np.intp)
        self.xy = np.ascontiguousarray(xy, np.float32)
        self._sort()

    def set_colors(self, value: NDArray[np.uint16], palette: NDArray[np.uint8]) -> None:
        """Take `palette[value]` for colours.

        Raises
        ------
        ValueError
            If there are not as many values as points.
        """
        if len(value) != len(self.xy):
            raise ValueError(f"{len(value)} colours do not fit {len(self.xy)} points")
        self._value, self._palette = value, palette
        self._sort()

    def set_selection(self, rows: NDArray[np.intp]) -> None:
        """Make these rows stand out."""
        self._selection = rows

    def begin(
        self, center: NDArray[np.float64], scale: float, size: tuple[int, int], ratio: float
    ) -> None:
        """Start anew: `center` in the middle, `scale` pixels per unit, y up.

        `ratio` is pixels per pixel of the desktop.
        """
        self._center, self._scale = center.astype(np.float32), np.float32(scale)
        self.size = max(1, size[0]), max(1, size[1])
        self._code = np.zeros(self.size[0] * self.size[1], np.int32)
        self._done = 0
        # Few points are drawn larger.
        n = len(self.xy)
        self._dot = max(
            1, round(ratio * (7 if n < 1000 else 5 if n < 8000 else 3 if n < 60_000 else 2))
        )

    @property
    def complete(self) -> bool:
        """Whether all points are in the picture."""
        return self._done >= len(self.xy)

    def step(self) -> None:
        """Paint one slice of points."""
        part = slice(self._done, self._done + SLICE)
        points = self._sorted[part][::-1]
        flat, inside = self._pixels_of(points)
        n, first = len(self.xy), self._done
        code = np.arange(n - first - len(points) + 1, n - first + 1, dtype=np.int32)[inside]
        free = self._code[flat] == 0  # what was painted before lies above
        self._code[flat[free]] = code[free]
        self._done += len(points)

    # ---- what comes of it

    def pixels(self) -> NDArray[np.uint8]:
        """Return the picture so far, (high, wide, 4): blue, green, red and 255."""
        wide, high = self.size
        grown = _grow(self._code.reshape(high, wide), self._dot)
        there = grown > 0
        out = np.empty((high, wide, 4), np.uint8)
        out[..., 3] = 255
        rgb = np.empty((high, wide, 3), np.uint8)
        rgb[:] = self.paper.astype(np.uint8)
        rows = self._order[len(self.xy) - grown[there]]
        rgb[there] = self._palette[self._value[rows]]
        if len(self._selection):
            self._emphasise(rgb)
        out[..., :3] = rgb[..., ::-1]
        return out

    def row_at(self, x: float, y: float, reach: int) -> int:
        """Return the row that is seen nearest to a pixel, -1 if there is none within `reach`."""
        wide, high = self.size
        left, top = max(0, int(x) - reach), max(0, int(y) - reach)
        near = self._code.reshape(high, wide)[top : int(y) + reach + 1, left : int(x) + reach + 1]
        rows, cols = np.nonzero(near)
        if not len(rows):
            return -1
        best = int(((rows + top - y) ** 2 + (cols + left - x) ** 2).argmin())
        return int(self._order[len(self.xy) - near[rows[best], cols[best]]])

    def rows_in(self, mask: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Return the rows, ascending, whose pixel is set in `mask` (high, wide)."""
        flat, inside = self._pixels_of(self.xy)
        rows = np.flatnonzero(inside)
        return rows[mask.ravel()[flat]]

    def _sort(self) -> None:
        """Put what is painted first, and so lies on top, to the front."""
        colored = self._value > 0
        self._order = np.concatenate([np.flatnonzero(colored), np.flatnonzero(~colored)])
        self._sorted = self.xy[self._order]

    def _pixels_of(self, points: Floats) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Return the flat pixel of those points that are in the view, and which those are."""
        wide, high = self.size
        x = (points[:, 0] - self._center[0]) * self._scale + np.float32(wide / 2)
        y = np.float32(high / 2) - (points[:, 1] - self._center[1]) * self._scale
        inside = (x >= 0) & (x < wide) & (y >= 0) & (y < high)
        flat = y[inside].astype(np.int32) * wide + x[inside].astype(np.int32)
        return flat, inside

    def _emphasise(self, rgb: NDArray[np.uint8]) -> None:
        """Fade everything, and draw the selected points on top with a rim."""
        wide, high = self.size
        rgb[:] = (rgb * np.float32(_FAINT) + self.paper * np.float32(1 - _FAINT)).astype(np.uint8)
        rows = self._selection[:SLICE]  # rows are in random order: a fair sample
        flat, inside = self._pixels_of(self.xy[rows])
        code = np.zeros(wide * high, np.int32)
        code[flat] = rows[inside] + 1
        dots = _grow(code.reshape(high, wide), max(self._dot, 2))
        rim = (_grow(dots, 3) > 0) & (dots == 0)
        rgb[rim] = self.ink.astype(np.uint8)
        there = dots > 0
        rgb[there] = self._palette[self._value[dots[there] - 1]]


def _grow(code: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """Make every point a dot of `size` pixels, round if it is large; the larger code is on top."""
    if size < 4:
        return _stretch(_stretch(code, size, 0), size, 1)
    out = code
    for n in range((size - 3) // 2 + 1):
        out = np.maximum(out, _stretch(_stretch(code, size - 2 * n, 0), 3 + 2 * n, 1))
    return out


def _stretch(code: NDArray[np.int32], size: int, axis: int) -> NDArray[np.int32]:
    out = code.copy()
    length, before = code.shape[axis], size // 2
    for shift in range(-before, size - before):
        if 0 < abs(shift) < length:
            to, of = [slice(None)] * 2, [slice(None)] * 2
            to[axis] = slice(max(0, shift), length + min(0, shift))
            of[axis] = slice(max(0, -shift), length + min(0, -shift))
            np.maximum(out[tuple(to)], code[tuple(of)], out=out[tuple(to)])
    return out
