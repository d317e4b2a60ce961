"""Which tile to label next: the queue, and whether to go on at all."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from napari_virchow._napari.ask_box import AskBox
from napari_virchow._napari.frames import queue_frames
from napari_virchow._napari.thumbnails import Thumbnails
from napari_virchow.classification import Assessment
from napari_virchow.classification.facts import Place
from napari_virchow.labels.edits import LabelClass

START = "Label a tile: then the tiles that would teach most are offered here."
_QUEUE = (
    ("Next tile (N)", "Go to the tile whose label would teach the classifier most"),
    ("Accept (A)", "Label that tile with the class predicted for it"),
    ("Skip (S)", "Leave that tile and go to the next one"),
    ("", ""),
)


class QueueBox(AskBox):
    """A strip of the tiles worth labelling next.

    Parameters
    ----------
    thumbnails : Thumbnails
    """

    def __init__(self, thumbnails: Thumbnails) -> None:
        super().__init__(thumbnails, "Next tile", _QUEUE)
        self.said.say(START)

    def show_assessment(
        self,
        found: Assessment | None,
        classes: Sequence[LabelClass],
        passed: Collection[Place] = (),
    ) -> None:
        """Show the queue of now; None where there is none."""
        self.said.say(START if found is None else found.stop.text)
        if found is None:
            self.stop()
        self.offer([] if found is None else queue_frames(found, classes, passed))

    def go_next(self) -> None:
        """Ask about the first tile; while one is asked about, about the one after it."""
        if self.current is None and self.strip.frames:
            self.ask(0)
        else:
            super().go_next()
