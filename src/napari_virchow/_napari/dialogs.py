"""The few questions that are asked in a window of their own. None of them blocks napari."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from magicgui.widgets import ComboBox, Container, FloatSpinBox, create_widget
from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_virchow.slide import Slide

TOKEN_URL = "https://huggingface.co/settings/tokens"
PIXEL_SIZES: tuple[tuple[str, float | None], ...] = (
    ("40× objective: about 0.25 µm", 0.25),
    ("20× objective: about 0.5 µm", 0.5),
    ("10× objective: about 1 µm", 1.0),
    ("Another size…", None),
)
_NOTHING = "Choose…"


class PixelSizeDialog(QDialog):
    """Asks how large a pixel of the slide is; nothing is chosen for the user.

    Parameters
    ----------
    slide : Slide
        The one that does not say it.
    answered : callable
        Called with the answer in µm per pixel.
    parent : QWidget
        Shown over it.
    """

    def __init__(self, slide: Slide, answered: Callable[[float], object], parent: QWidget) -> None:
        super().__init__(parent)
        self._answered = answered
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("How large is a pixel?")
        names = [_NOTHING, *(name for name, _ in PIXEL_SIZES)]
        self.choice: ComboBox = create_widget(
            widget_type="ComboBox",
            label="Pixel size",
            options={"choices": names, "tooltip": "What the slide was scanned with"},
        )
        self.typed = FloatSpinBox(
            label="µm per pixel", min=0.1, max=10.0, step=0.01, value=0.5, visible=False
        )
        self._form = Container(widgets=[self.choice, self.typed])
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        question = QLabel(
            f"How large is a pixel of <b>{slide.name}</b>?<br>"
            f"It is not known: {slide.mpp_note}.<br>"
            "Sizes in µm and the encoders' magnification depend on it."
        )
        question.setWordWrap(True)
        layout = QVBoxLayout(self)
        for widget in (question, self._form.native, self.buttons):
            layout.addWidget(widget)
        self.choice.changed.connect(self._on_chosen)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self._on_chosen(_NOTHING)

    @property
    def mpp(self) -> float | None:
        """The answer in µm per pixel, or None while there is none."""
        sizes = dict(PIXEL_SIZES)
        if self.choice.value not in sizes:
            return None
        size = sizes[self.choice.value]
        return float(self.typed.value) if size is None else size

    def accept(self) -> None:
        """Hand the answer on and close."""
        mpp = self.mpp
        if mpp is not None:
            self._answered(mpp)
            super().accept()

    def _on_chosen(self, name: Any) -> None:
        self.typed.visible = dict(PIXEL_SIZES).get(name, 0) is None
        ok = self.buttons.button(QDialogButtonBox.StandardButton.Ok)
        ok.setEnabled(name != _NOTHING)


class LogInDialog(QDialog):
    """Takes a Hugging Face token; `entered` is called with it, the dialog stays until told.

    Parameters
    ----------
    entered : callable
        Called with the token.
    parent : QWidget
        Shown over it.
    """

    def __init__(self, entered: Callable[[str], object], parent: QWidget) -> None:
        super().__init__(parent)
        self._entered = entered
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Log in to the Hugging Face hub")
        text = QLabel(
            "Most pathology encoders are given out on this hub, some after their authors agree.<br>"
            "Make a token with read access there, and paste it here.<br>"
            "The token is kept where the hub's own tools keep it."
        )
        self.token = QLineEdit()
        self.token.setEchoMode(QLineEdit.EchoMode.Password)
        self.token.setPlaceholderText("hf_…")
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.log_in = self.buttons.addButton("Log in", QDialogButtonBox.ButtonRole.AcceptRole)
        self.page = self.buttons.addButton("Get a token…", QDialogButtonBox.ButtonRole.HelpRole)
        self.page.setToolTip(TOKEN_URL)
        self.log_in.setEnabled(False)
        layout = QVBoxLayout(self)
        for widget in (text, self.token, self.message, self.buttons):
            layout.addWidget(widget)
        self.page.clicked.connect(lambda: QDesktopServices.openUrl(QUrl(TOKEN_URL)))
        self.token.textChanged.connect(self._on_typed)
        self.buttons.accepted.connect(self._on_entered)
        self.buttons.rejected.connect(self.reject)

    def say(self, sentence: str) -> None:
        """Show what went wrong, and let the user try again."""
        self.message.setText(sentence)
        self.log_in.setEnabled(True)

    def _on_typed(self, text: str) -> None:
        self.log_in.setEnabled(bool(text.strip()))

    def _on_entered(self) -> None:
        self.log_in.setEnabled(False)
        self.message.setText("Asking the hub…")
        self._entered(self.token.text().strip())
