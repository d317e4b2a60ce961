"""Where the user was before a jump, and the way back and forth."""

from __future__ import annotations

from typing import NamedTuple

_MOST = 100


class Visit(NamedTuple):
    """A view: slide identity and path, the camera's centre (y, x) in the world, and its zoom."""

    slide: str
    path: str
    center: tuple[float, float]
    zoom: float


class Visits:
    """Places in the order in which they were left, as in a web browser."""

    def __init__(self) -> None:
        self._before: list[Visit] = []
        self._after: list[Visit] = []

    @property
    def can_go_back(self) -> bool:
        """Whether there was a jump."""
        return bool(self._before)

    @property
    def can_go_forward(self) -> bool:
        """Whether the way back was taken."""
        return bool(self._after)

    def leave(self, here: Visit) -> None:
        """Note where a jump starts; the way forth is forgotten."""
        self._before.append(here)
        del self._before[:-_MOST]
        self._after.clear()

    def back(self, here: Visit) -> Visit | None:
        """Return where the last jump started, or None."""
        return self._step(self._before, self._after, here)

    def forward(self, here: Visit) -> Visit | None:
        """Return where `back` was called, or None."""
        return self._step(self._after, self._before, here)

    @staticmethod
    def _step(take: list[Visit], put: list[Visit], here: Visit) -> Visit | None:
        if not take:
            return None
        put.append(here)
        return take.pop()
