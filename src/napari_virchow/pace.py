"""How fast a stage of the work is, and so how much of it fits into a given time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Pace:
    """Tiles per second of one stage: how many can be done in a given time."""

    tiles_per_s: float = 0.0

    def note(self, n: int, seconds: float) -> None:
        """Take a batch into account; newer batches count more."""
        if n:
            rate = n / max(seconds, 1e-6)
            self.tiles_per_s = (self.tiles_per_s + rate) / 2 if self.tiles_per_s else rate

    def within(self, seconds: float, *, least: int, most: int) -> int:
        """Return how many tiles take about `seconds`; `least` while that is unknown."""
        return max(least, min(most, int(self.tiles_per_s * seconds)))
