"""What the dock shows while there is nothing to embed: what to do."""

from __future__ import annotations

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_virchow._napari.parts import Note, button, heading

HINT = (
    "Open a slide of your scanner, or try the sample: File > Open Sample > Virchow > Synthetic H&E."
)


class EmptyPage(QWidget):
    """Says that no slide is open, with two buttons for the dock to connect."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.open = button("Open slide…", "Open a slide file of a scanner", wide=True)
        self.sample = button("Open the sample slide", "A synthetic H&E slide to try", wide=True)
        self.alert = Note(alert=True)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (
            heading("No slide is open"),
            Note(HINT),
            self.open,
            self.sample,
            self.alert,
        ):
            column.addWidget(widget)
        column.addStretch()
