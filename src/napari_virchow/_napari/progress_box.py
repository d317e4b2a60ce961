"""How far embedding has come, in a bar and in words."""

from __future__ import annotations

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from napari_virchow._napari.parts import Bar, Note, button
from napari_virchow._napari.words import rate_words, time_words
from napari_virchow.states import EngineState, Progress

SHOW_MS = 500  # between two numbers; each has the whole window painted
STATE_SENTENCES = {
    EngineState.IDLE: "Ready.",
    EngineState.LOADING: "Loading the encoder…",
    EngineState.RUNNING: "Embedding…",
    EngineState.CANCELLING: "Stopping after the running batch…",
    EngineState.CLOSED: "Closed.",
    EngineState.STOPPED: "Stopped.",
}


class ProgressBox(QWidget):
    """The progress part of the dock. Its `cancel` button is for the dock to connect."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._progress = Progress()
        self._state = EngineState.IDLE
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SHOW_MS)
        self._timer.timeout.connect(self._update)
        self.bar = Bar()
        self.bar.setTextVisible(False)
        self.bar.setToolTip("Tiles embedded, of those asked for in this run")
        self.cancel = button("Cancel", "Finish the running batch, and drop the rest")
        self.sentence = Note("Ready.")
        self.sentence.setToolTip("What is going on")
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(row)
        column.addWidget(self.sentence)
        self._update()

    def show_progress(self, progress: Progress) -> None:
        """Show new numbers, soon: they come with every batch."""
        self._progress = progress
        if not self._timer.isActive():
            self._timer.start()

    def show_state(self, state: EngineState) -> None:
        """Show what the engine is doing."""
        self._state = state
        self._update()

    def _update(self) -> None:
        self._timer.stop()
        progress, state = self._progress, self._state
        self.cancel.setEnabled(state is EngineState.RUNNING)
        busy = state in (EngineState.RUNNING, EngineState.LOADING, EngineState.CANCELLING)
        waiting = busy and progress.wanted == 0
        self.bar.setRange(0, 0 if waiting else max(1, progress.wanted))
        self.bar.setValue(progress.done + progress.failed)
        self.sentence.say(self._words())

    def _words(self) -> str:
        progress, state = self._progress, self._state
        counts = f"{progress.done:,} of {progress.wanted:,} tiles"
        if progress.failed:
            counts += f", {progress.failed:,} unreadable"
        if state is EngineState.RUNNING and progress.wanted:
            parts = [counts]
            if progress.tiles_per_s > 0:
                parts.append(f"{rate_words(progress.tiles_per_s)}")
            if progress.seconds_left is not None:
                parts.append(f"{time_words(progress.seconds_left)} left")
            return " · ".join(parts)
        if state is EngineState.IDLE and progress.wanted:
            all_done = progress.done + progress.failed >= progress.wanted
            return f"{'Done' if all_done else 'Stopped'}: {counts}."
        return STATE_SENTENCES[state]
