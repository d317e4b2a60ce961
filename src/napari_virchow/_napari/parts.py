"""Small things the panels are made of."""

from __future__ import annotations

from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QSize
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QLabel, QProgressBar, QPushButton, QSizePolicy, QWidget

MIN_WIDTH = 300  # px; the dock's title and all texts fit
NOTE = "virchow-note"
ALERT = "virchow-alert"
HEADING = "virchow-heading"
ALERT_COLORS = {"dark": "#ffb454", "light": "#9a4a00"}


class Note(QLabel):
    """A line or two of smaller, quieter text that wraps, and takes no room when empty."""

    def __init__(self, text: str = "", *, alert: bool = False) -> None:
        super().__init__(text)
        self.setObjectName(ALERT if alert else NOTE)
        self.setWordWrap(True)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setVisible(bool(text))

    def say(self, text: str) -> None:
        """Show other text; none hides the line."""
        if text != self.text():
            self.setText(text)
        self.setVisible(bool(text))

    def minimumSizeHint(self) -> QSize:
        """Let a narrow dock wrap the text instead of being widened by it."""
        return QSize(0, super().minimumSizeHint().height())


class Bar(QProgressBar):
    """A progress bar that is painted together with what else has changed.

    Qt's own is painted inside `setValue`, and with it napari's whole window: where there is no
    graphics card that takes tens of milliseconds each time.
    """

    def setValue(self, value: int) -> None:
        """Show another value, when Qt paints next."""
        if value != self.value():
            self.setUpdatesEnabled(False)
            super().setValue(value)
            self.setUpdatesEnabled(True)


def heading(text: str) -> QLabel:
    """Return the title of a part of a panel."""
    label = QLabel(text)
    label.setObjectName(HEADING)
    return label


def button(text: str, tooltip: str, *, wide: bool = False) -> QPushButton:
    """Return a push button with a tooltip; a wide one takes the room that is left."""
    made = QPushButton(text)
    made.setToolTip(tooltip)
    if not wide:
        made.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
    return made


def swatch(color: str) -> QIcon:
    """Return a small square of a colour, for lists."""
    pixmap = QPixmap(10, 10)
    pixmap.fill(QColor(color))
    return QIcon(pixmap)


def style(widget: QWidget, theme: str) -> None:
    """Give notes and alerts under `widget` the colours of a napari theme."""
    colors: dict[str, Any] = get_theme(theme).to_rgb_dict()
    dark = sum(_numbers(str(colors["background"]))) < 3 * 128
    red, green, blue = _numbers(str(colors["text"]))
    quiet = f"rgba({red}, {green}, {blue}, {175 if dark else 215})"
    alert = ALERT_COLORS["dark" if dark else "light"]
    widget.setStyleSheet(
        f"QLabel#{NOTE} {{ color: {quiet}; font-size: 11px; }}"
        f"QLabel#{ALERT} {{ color: {alert}; font-size: 12px; }}"
        f"QLabel#{HEADING} {{ font-weight: 600; }}"
        "QPushButton { padding: 4px 10px; }"
        f"QProgressBar {{ max-height: 12px; background: {colors['foreground']}; }}"
        f"QProgressBar::chunk {{ background: {colors['current']}; border-radius: 2px; }}"
        "QTreeWidget::item { padding: 2px 0px; }"
    )


def _numbers(color: str) -> tuple[int, int, int]:
    """Return the numbers in "rgb(1, 2, 3)"."""
    red, green, blue = (int(part) for part in color[color.index("(") + 1 : -1].split(",")[:3])
    return red, green, blue
