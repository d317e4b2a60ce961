"""Asks about tiles one after another: what is it? Answered by key, by button, or passed over."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_virchow._napari.film_strip import FilmStrip, Frame
from napari_virchow._napari.parts import Note, button, heading
from napari_virchow._napari.thumbnails import Thumbnails


class AskBox(QWidget):
    """A strip of tiles, one of which is asked about. It labels nothing itself.

    Parameters
    ----------
    thumbnails : Thumbnails
    title : str
        Over the strip.
    verbs : tuple of (str, str)
        Text and tooltip of four buttons: go on, take what is predicted, pass over, erase. An
        empty text leaves the button out.
    """

    asked = Signal(object)  # Frame: show it on the slide
    answered = Signal(object, object)  # Frame, class id or None to erase
    passed = Signal(object)  # Frame

    def __init__(
        self, thumbnails: Thumbnails, title: str, verbs: Sequence[tuple[str, str]]
    ) -> None:
        super().__init__()
        self.title = heading(title)
        self.said = Note()
        self.strip = FilmStrip(thumbnails, title)
        self.reason = Note()
        self.current: Frame | None = None
        made = [button(text, tip) for text, tip in verbs]
        self.next, self.accept, self.skip, self.erase = made
        self._row = self._buttons(made)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for part in (self.title, self.said, self.strip, self.reason, self._row):
            column.addWidget(part)
        self.strip.wanted.connect(self.ask)
        self.next.clicked.connect(self.go_next)
        self.accept.clicked.connect(self.accept_current)
        self.skip.clicked.connect(self.pass_current)
        self.erase.clicked.connect(lambda: self.answer(None))
        self._show_current()

    def offer(self, frames: Sequence[Frame]) -> None:
        """Ask about these tiles from now on; a tile that is being asked about stays."""
        frames = tuple(frames)
        if self.current is not None:
            same = [f for f in frames if f.place == self.current.place]
            self.current = same[0] if same else self.current
            if not same:
                frames = (self.current, *frames)
        self.strip.show_frames(frames)
        self._show_current()

    def ask(self, number: int) -> None:
        """Ask about one tile of the strip."""
        self.current = self.strip.frames[number]
        self._show_current()
        self.asked.emit(self.current)

    def go_next(self) -> None:
        """Ask about the tile after the present one; after the last comes the first."""
        frames = self.strip.frames
        if frames:
            self.ask((self._number() + 1) % len(frames))

    def answer(self, class_id: int | None) -> None:
        """Say what the tile is, or with None that it has no label, and go on."""
        frame = self.current
        if frame is not None:
            self._leave()
            self.answered.emit(frame, class_id)

    def accept_current(self) -> None:
        """Say that the classifier is right about the tile."""
        if self.current is not None and self.current.predicted:
            self.answer(self.current.predicted)

    def pass_current(self) -> None:
        """Leave the tile as it is, and go on."""
        frame = self.current
        if frame is not None:
            self._leave()
            self.passed.emit(frame)

    def stop(self) -> None:
        """Ask nothing; the strip stays."""
        self.current = None
        self._show_current()

    def _leave(self) -> None:
        """Take the tile out of the strip, and ask about the one that takes its place."""
        number = self._number()
        frames = [f for n, f in enumerate(self.strip.frames) if n != number]
        self.current = None
        self.strip.show_frames(frames)
        if frames:
            self.ask(min(max(number, 0), len(frames) - 1))
        else:
            self._show_current()

    def _number(self) -> int:
        frames = self.strip.frames
        return frames.index(self.current) if self.current in frames else -1

    def _show_current(self) -> None:
        frame = self.current
        self.strip.mark(self._number())
        self.reason.say("" if frame is None else frame.reason)
        self.next.setEnabled(bool(self.strip.frames))
        self.accept.setEnabled(frame is not None and bool(frame.predicted))
        self.skip.setEnabled(frame is not None)
        self.erase.setEnabled(frame is not None and bool(frame.said))

    @staticmethod
    def _buttons(made: Sequence[QPushButton]) -> QWidget:
        row = QWidget()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(4)
        for one in made:
            one.setVisible(bool(one.text()))
            if one.text():
                line.addWidget(one)
        line.addStretch()
        return row
