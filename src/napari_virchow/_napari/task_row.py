"""How far a task in the background has come, with a button that stops it."""

from __future__ import annotations

from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from napari_virchow._napari.parts import Bar, Note, button


class TaskRow(QWidget):
    """A bar, a sentence and "Cancel"; to be seen only while there is something to wait for."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.bar = Bar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName(f"Progress of {what}")
        self.cancel = button("Cancel", f"Stop {what}; what was there before stays")
        self.sentence = Note()
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(row)
        column.addWidget(self.sentence)
        self.hide()

    def tell(self, done: int, total: int, text: str) -> None:
        """Show how far it is; a total of 0 says that this is not known."""
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        self.sentence.say(f"{text}: {done:,} of {total:,}" if total else f"{text}…")
        self.show()
