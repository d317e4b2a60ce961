"""Views that follow each other: which moves go across, so that none comes back as an echo."""

from __future__ import annotations

import math

import numpy as np

from napari_virchow.qupath.frame import Frame
from napari_virchow.qupath.live_facts import Follow, LinkView

SAME_ZOOM, SAME_ANGLE = 0.005, 1e-3


class Follower:
    """Remembers where either side is. Not for several threads at once."""

    def __init__(self, direction: Follow = Follow.OFF) -> None:
        self.direction = direction
        self._theirs: LinkView | None = None
        self._ours: LinkView | None = None

    def turn(self, direction: Follow) -> None:
        """Follow another way from now on; the next view from QuPath counts as new."""
        self.direction = direction
        self._theirs = self._ours = None

    def theirs(self, view: LinkView) -> bool:
        """Take note of QuPath's view, and say whether ours shall move there."""
        if is_same(view, self._theirs):
            return False
        self._theirs = view
        if self.direction not in (Follow.QUPATH, Follow.BOTH) or is_same(view, self._ours):
            return False
        self._ours = view
        return True

    def ours(self, view: LinkView) -> bool:
        """Take note of our view, and say whether QuPath's shall move there."""
        if is_same(view, self._ours):
            return False
        self._ours = view
        follows = self.direction in (Follow.NAPARI, Follow.BOTH)
        return follows and not is_same(view, self._theirs)

    def sent(self, view: LinkView) -> None:
        """Take note of where QuPath's view is after we moved it: that is no news to come back."""
        self._theirs = view


def is_same(one: LinkView, other: LinkView | None) -> bool:
    """Say whether two views differ by less than a pixel of the screen and ½ % of zoom."""
    if other is None or (one.slide, one.z, one.t) != (other.slide, other.z, other.t):
        return False
    pixel = max(one.downsample, other.downsample)
    return (
        abs(one.x - other.x) <= pixel
        and abs(one.y - other.y) <= pixel
        and abs(math.log(one.downsample / other.downsample)) <= SAME_ZOOM
        and abs(one.rotation - other.rotation) <= SAME_ANGLE
    )


def view_on_slide(numbers: tuple[float, ...], slide: str, frame: Frame) -> LinkView:
    """Return QuPath's x, y, downsample, rotation, z and t as a view of the slide."""
    x, y, downsample, rotation, z, t = numbers
    [(left, top)] = frame.to_slide(np.array([(x, y)])).tolist()
    scaled = max(downsample, 1e-6) * _scale(frame)
    return LinkView(slide, left, top, scaled, rotation, int(z), int(t))


def view_in_qupath(view: LinkView, frame: Frame) -> tuple[float, float, float]:
    """Return x, y and downsample of a view of the slide in pixels of QuPath's image."""
    [(x, y)] = frame.to_qupath(np.array([(view.x, view.y)])).tolist()
    return x, y, view.downsample / _scale(frame)


def _scale(frame: Frame) -> float:
    """Return how many level-0 pixels of the slide a pixel of QuPath's image is."""
    a, b, _, d, e, _ = frame.matrix
    return math.sqrt(abs(a * e - b * d))
