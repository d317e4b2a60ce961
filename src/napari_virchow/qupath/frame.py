"""Frame: from the pixels of an image as QuPath shows it to level 0 of the slide, and back.

QuPath crops a slide to its `openslide.bounds-*` unless it was added with ``--no-crop``, and can
show it rotated, flipped, cropped or transformed. Everything else here is in OpenSlide's level 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from napari_virchow.qupath.steps import AT_ONCE
from napari_virchow.slide import Slide
from napari_virchow.tiles import Rect

BLOCK_KEY = "napari_virchow"
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


class FrameError(Exception):
    """Objects cannot be brought onto the slide; one sentence says why and what to do."""


class AmbiguousFrame(FrameError):  # noqa: N818  # a question more than an error
    """Several frames fit; `candidates` has them, and somebody must choose."""

    def __init__(self, message: str, candidates: Sequence[Frame]) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


@dataclass(frozen=True, slots=True)
class SlideBox:
    """What a frame must know of a slide: its level-0 size, and the scanned part, if it is said."""

    width: int
    height: int
    bounds: Rect | None = None
    name: str = "the slide"

    @classmethod
    def of(cls, slide: Slide) -> SlideBox:
        """Return the box of an open slide."""
        return cls(slide.width, slide.height, slide.bounds, slide.name)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the pixels of an image in QuPath lie on the slide.

    Parameters
    ----------
    name : str
        In words, such as "whole slide", "bounds" or "bounds, rotated 90".
    width, height : int
        Size of the image in QuPath, in its own pixels.
    matrix : tuple of 6 floats
        (a, b, c, d, e, f): slide x = a·x + b·y + c, slide y = d·x + e·y + f.

    Raises
    ------
    FrameError
        If the matrix cannot be inverted.
    """

    name: str
    width: int
    height: int
    matrix: tuple[float, float, float, float, float, float] = _IDENTITY

    def __post_init__(self) -> None:
        a, b, _, d, e, _ = self.matrix
        if not (math.isfinite(sum(self.matrix)) and a * e - b * d != 0):
            raise FrameError(f"The transform {list(self.matrix)} cannot be undone; give another.")

    @property
    def is_identity(self) -> bool:
        """Whether QuPath's pixels are those of level 0."""
        return self.matrix == _IDENTITY

    @property
    def keeps_boxes(self) -> bool:
        """Whether boxes stay boxes: nothing but quarter turns, flips, shifts and scales."""
        a, b, _, d, e, _ = self.matrix
        return (b == 0 and d == 0) or (a == 0 and e == 0)

    @property
    def inverse(self) -> tuple[float, float, float, float, float, float]:
        """The matrix from the slide's pixels to QuPath's."""
        a, b, c, d, e, f = self.matrix
        det = a * e - b * d
        return (
            *(_clean(e / det), _clean(-b / det), _clean((b * f - c * e) / det)),
            *(_clean(-d / det), _clean(a / det), _clean((c * d - a * f) / det)),
        )

    def to_slide(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return (n, 2) points x, y of QuPath's image in level-0 pixels of the slide."""
        return _moved(points, self.matrix)

    def to_qupath(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return (n, 2) level-0 points x, y of the slide in pixels of QuPath's image."""
        return _moved(points, self.inverse)

    def to_block(self) -> dict[str, Any]:
        """Return the frame as JSON for `frame_of_block`."""
        size = {"width": self.width, "height": self.height}
        return {"name": self.name, **size, "matrix": list(self.matrix)}


def whole_slide(box: SlideBox) -> Frame:
    """Return the frame of an image that QuPath shows whole, as with ``--no-crop``."""
    return Frame("whole slide", box.width, box.height)


def bounds_frame(box: SlideBox) -> Frame:
    """Return the frame of an image that QuPath crops to its bounds, which it does by default.

    A slide without bounds is shown whole.
    """
    if box.bounds is None:
        return whole_slide(box)
    here = box.bounds
    matrix = (1.0, 0.0, float(here.x), 0.0, 1.0, float(here.y))
    return Frame("bounds", int(here.width), int(here.height), matrix)


def rotated(frame: Frame, degrees: int) -> Frame:
    """Return the frame after QuPath turned the image clockwise by 0, 90, 180 or 270 degrees.

    Raises
    ------
    FrameError
        If it is another angle.
    """
    width, height = frame.width, frame.height
    turns: dict[int, tuple[tuple[float, ...], bool]] = {
        0: (_IDENTITY, False),
        # From the turned image's (x, y) to the image's: x = y', y = height - x'
        90: ((0.0, 1.0, 0.0, -1.0, 0.0, float(height)), True),
        180: ((-1.0, 0.0, float(width), 0.0, -1.0, float(height)), False),
        270: ((0.0, -1.0, float(width), 1.0, 0.0, 0.0), True),
    }
    if degrees not in turns:
        raise FrameError(f"QuPath turns images by quarters, not by {degrees} degrees.")
    step, swapped = turns[degrees]
    size = (height, width) if swapped else (width, height)
    return _next(frame, f"rotated {degrees}" if degrees else "", step, size)


def flipped(frame: Frame, *, horizontally: bool, vertically: bool) -> Frame:
    """Return the frame after QuPath mirrored the image left to right, top to bottom or both."""
    x = (-1.0, 0.0, float(frame.width)) if horizontally else (1.0, 0.0, 0.0)
    y = (0.0, -1.0, float(frame.height)) if vertically else (0.0, 1.0, 0.0)
    how = "both ways" if horizontally and vertically else "left to right"
    how = how if horizontally else "top to bottom"
    told = f"flipped {how}" if horizontally or vertically else ""
    return _next(frame, told, (*x, *y), (frame.width, frame.height))


def cropped(frame: Frame, region: Rect) -> Frame:
    """Return the frame after QuPath cropped the image to a region of its own pixels."""
    step = (1.0, 0.0, float(region.x), 0.0, 1.0, float(region.y))
    return _next(frame, "cropped", step, (int(region.width), int(region.height)))


def transformed(frame: Frame, matrix: Sequence[float]) -> Frame:
    """Return the frame after QuPath transformed the image.

    Parameters
    ----------
    frame : Frame
        Of the image before.
    matrix : sequence of 6 floats
        (a, b, c, d, e, f): new x = a·x + b·y + c, new y = d·x + e·y + f.

    Raises
    ------
    FrameError
        If it cannot be undone.
    """
    a, b, c, d, e, f = map(float, matrix)
    forth = Frame("affine", 0, 0, (a, b, c, d, e, f))
    wide, high = frame.width, frame.height
    corners = forth.to_slide(np.array([(0.0, 0.0), (wide, 0.0), (0.0, high), (wide, high)]))
    size = np.ceil(np.ptp(corners, axis=0) - 1e-6).astype(int)  # QuPath rounds up, and shifts not
    return _next(frame, "affine", forth.inverse, (int(size[0]), int(size[1])))


def frame_block(frame: Frame, slide: str, box: SlideBox | None = None) -> dict[str, Any]:
    """Return the block that marks our files, for the key `BLOCK_KEY` of a FeatureCollection."""
    block: dict[str, Any] = {"version": 1, "slide": slide, "frame": frame.to_block()}
    if box is not None:
        block |= {"slide_width": box.width, "slide_height": box.height}
    return block


def frame_of_block(block: Any, box: SlideBox, slide: str | None = None) -> Frame | None:
    """Return the frame that a file of ours says, or None if it says none.

    Parameters
    ----------
    block : mapping or None
        What is under `BLOCK_KEY`.
    box : SlideBox
        Of the slide that the objects shall lie on.
    slide : str, optional
        Its identity; when the file names another, only the size must be the same.

    Raises
    ------
    FrameError
        If the file is of a slide of another size (both are named), or the block is damaged.
    """
    if not isinstance(block, Mapping) or not isinstance(block.get("frame"), Mapping):
        return None
    said = block["frame"]
    try:
        numbers = [float(value) for value in said["matrix"]]
        frame = Frame(str(said["name"]), int(said["width"]), int(said["height"]), _six(numbers))
        size = (
            int(block.get("slide_width", box.width)),
            int(block.get("slide_height", box.height)),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FrameError(f"The frame block of the file is damaged ({error}); remove it.") from error
    if size != (box.width, box.height) and block.get("slide") != slide:
        raise FrameError(
            f"The file was written for a slide of {in_words(size)}, but {box.name} has "
            f"{in_words((box.width, box.height))}; open the slide it belongs to."
        )
    return frame


def moved_geometries(
    shapes: Sequence[BaseGeometry | None], matrix: Sequence[float]
) -> NDArray[np.object_]:
    """Return shapely geometries after an affine transform of their coordinates."""
    result = np.empty(len(shapes), dtype=object)
    for start in range(0, len(shapes), AT_ONCE):
        some = np.array(shapes[start : start + AT_ONCE], dtype=object)
        moved = some
        if tuple(matrix) != _IDENTITY:
            moved = shapely.transform(some, lambda points: _moved(points, matrix))
        result[start : start + AT_ONCE] = moved
    return result


def _moved(points: NDArray[np.floating[Any]], matrix: Sequence[float]) -> NDArray[np.float64]:
    a, b, c, d, e, f = matrix
    x, y = np.asarray(points, np.float64).T
    return np.column_stack([a * x + b * y + c, d * x + e * y + f])


def _next(frame: Frame, told: str, step: Sequence[float], size: tuple[int, int]) -> Frame:
    """Return the frame of an image made of another: `step` leads from the new one to the old."""
    outer = np.array([frame.matrix[:3], frame.matrix[3:], (0, 0, 1)])
    inner = np.array([step[:3], step[3:], (0, 0, 1)])
    numbers = [_clean(float(value)) for value in (outer @ inner)[:2].ravel()]
    name = ", ".join(part for part in (frame.name, told) if part)
    return replace(frame, name=name, width=size[0], height=size[1], matrix=_six(numbers))


def misfit(theirs: tuple[int, int], ours: tuple[int, int], box: SlideBox) -> FrameError:
    cut = ""
    if box.bounds is not None:
        cut = f" (its bounds {in_words((int(box.bounds.width), int(box.bounds.height)))})"
    same = "" if ours == (box.width, box.height) else f", shown as {in_words(ours)}"
    return FrameError(
        f"The image in QuPath has {in_words(theirs)}, but {box.name} has "
        f"{in_words((box.width, box.height))}{cut}{same}: it is another image, or another series "
        "of it; open the one that QuPath shows."
    )


def in_words(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]} px"


def _six(numbers: Sequence[float]) -> tuple[float, float, float, float, float, float]:
    a, b, c, d, e, f = numbers
    return a, b, c, d, e, f


def _clean(value: float) -> float:
    return value + 0.0  # no -0.0
