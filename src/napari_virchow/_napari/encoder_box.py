"""Choose an encoder, see on what terms it comes, get its weights."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from napari_virchow._napari.dialogs import LogInDialog
from napari_virchow._napari.parts import Note, button
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.words import encoder_words, spec_words
from napari_virchow.encoders import Encoder, EncoderSpec, all_specs, log_in
from napari_virchow.encoders.devices import has_openvino
from napari_virchow.encoders.trained import FACTS
from napari_virchow.interop.stored import PREFIX

DEVICES = {"auto": "A GPU, else the CPU", "cpu": "The CPU"}
OPENVINO = "openvino", "The CPU, through OpenVINO"
OWN, OWN_TITLE = "", "An encoder of your own…"
OWN_TIP = "Choose the encoder.json that `napari-virchow pretrain` wrote"
OWN_FILTER = f"Encoders ({FACTS})"
WEIGHTS_FILTER = "Weights (*.safetensors *.bin *.pth);;All files (*)"


class EncoderBox(QWidget):
    """The encoder's part of the dock; it only asks, whoever listens to `wanted` loads.

    Built-in encoders are asked for as soon as they are chosen. Those with weights wait for
    a button, as loading may download gigabytes; once loaded here, they move to another device
    when that is chosen.
    """

    wanted = Signal(str, object, str)  # name, path of the weights or None for the hub, device
    chosen = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._tasks = Tasks(self)
        self._loaded: Encoder | None = None
        self._loading = False
        self._asked: tuple[str, Path | None] | None = None  # what this box asked for last
        self._dialog: LogInDialog | None = None
        self.combo = QComboBox()
        self.combo.setToolTip("Which model turns a tile into numbers")
        self.combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._specs: dict[str, EncoderSpec] = {}
        for spec in all_specs().values():
            self._add(spec)
        self.combo.addItem(OWN_TITLE, OWN)
        self.combo.setItemData(self.combo.count() - 1, OWN_TIP, 3)
        self._last = 0
        self.device = QComboBox()
        self.device.setToolTip("Where the encoder computes")
        self.device.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        for name, title in (*DEVICES.items(), *([OPENVINO] if has_openvino() else [])):
            self.device.addItem(title, name)
        self.terms, self.status = Note(), Note()
        self.load = button("Load", "Get the weights from the hub (or its local cache) and use them")
        self.file = button("Weights file…", "Use weights that you have as a file")
        self.account = button("Log in…", "Tell the Hugging Face hub who you are")
        self._buttons = QWidget()
        row = QHBoxLayout(self._buttons)
        row.setContentsMargins(0, 2, 0, 0)
        for each in (self.load, self.file, self.account):
            row.addWidget(each)
        row.addStretch()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        for widget in (self.combo, self.device, self.terms, self.status, self._buttons):
            column.addWidget(widget)
        self.combo.currentIndexChanged.connect(self._on_chosen)
        self.device.currentIndexChanged.connect(self._on_device)
        self.load.clicked.connect(lambda: self._ask(self.spec.name, None))
        self.file.clicked.connect(self._on_file)
        self.account.clicked.connect(self._on_account)
        self._update()

    @property
    def spec(self) -> EncoderSpec:
        """The row of the table that is chosen, loaded or not."""
        return self._specs[self.combo.currentData()]

    @property
    def ready(self) -> bool:
        """Whether the chosen encoder is the loaded one."""
        return self._loaded is not None and self._loaded.spec.name == self.spec.name

    def show_encoder(self, encoder: Encoder | None) -> None:
        """Show what is loaded now; the choice follows it, when somebody else loaded it."""
        if not self._loading:
            self._asked = None
        self._loaded, self._loading = encoder, False
        if encoder is not None and not self.ready:
            if encoder.spec.name not in self._specs:
                self._add(encoder.spec)
            index = self.combo.findData(encoder.spec.name)
            self.combo.blockSignals(True)
            self.combo.setCurrentIndex(index)
            self.combo.blockSignals(False)
        self._drop_imported()
        self._update()

    def _drop_imported(self) -> None:
        """Offer embeddings of a file only while they are in use: this box cannot load them."""
        used = None if self._loaded is None else self._loaded.spec.name
        for name in [n for n in self._specs if n.startswith(PREFIX) and n != used]:
            self.combo.blockSignals(True)
            self.combo.removeItem(self.combo.findData(name))
            self.combo.blockSignals(False)
            del self._specs[name]
            self._last = self.combo.currentIndex()

    def show_loading(self, sentence: str) -> None:
        """Show that an encoder is being loaded, and how far that is."""
        self._loading = True
        self._update()
        self.status.say(sentence)

    def show_failure(self) -> None:
        """Show that loading failed; what was loaded before stays in use."""
        self._loading, self._asked = False, None
        self._update()

    def _update(self) -> None:
        spec, loaded = self.spec, self._loaded
        built_in = spec.architecture is None
        self.terms.say(spec_words(spec))
        self.terms.setToolTip(spec.notes)
        if loaded is not None and self.ready:
            self.status.say(encoder_words(loaded))
            self.status.setToolTip(f"{loaded.device_note}; {loaded.precision}; {loaded.identity}")
        elif not self._loading:
            self.status.say("" if built_in else f"Not loaded yet: {_next_step(spec)}.")
        self._buttons.setVisible(not built_in)
        self.device.setVisible(not built_in)
        self.load.setVisible(spec.hub_id is not None)
        self.load.setText("Reload" if self.ready else "Load")
        self.account.setVisible(spec.gate in ("approval", "click-through"))
        for each in (self.load, self.file, self.combo, self.device):
            each.setEnabled(not self._loading)

    def _add(self, spec: EncoderSpec) -> None:
        """List an encoder; those of one's own before the last entry, which asks for more."""
        self._specs[spec.name] = spec
        own = self.combo.findData(OWN)
        at = self.combo.count() if own < 0 else own
        self.combo.insertItem(at, spec.title, spec.name)
        self.combo.setItemData(at, spec.notes or spec.title, 3)

    def _on_chosen(self) -> None:
        if self.combo.currentData() == OWN:
            self._ask_for_own()
            return
        self._last = self.combo.currentIndex()
        self._update()
        self.chosen.emit()
        if self.spec.architecture is None and not self.ready:
            self._ask(self.spec.name, None)

    def _on_device(self) -> None:
        if self.ready and self._asked is not None:
            self._ask(*self._asked)

    def _ask(self, name: str, weights: Path | None) -> None:
        self._asked = name, weights
        self.wanted.emit(name, weights, self.device.currentData())

    def _on_file(self) -> None:
        name, _ = QFileDialog.getOpenFileName(
            self, f"Weights of {self.spec.title}", "", WEIGHTS_FILTER
        )
        if name:
            self._ask(self.spec.name, Path(name))

    def _ask_for_own(self) -> None:
        """Ask for an encoder of one's own; what was chosen before stays until it is loaded."""
        self.combo.blockSignals(True)
        self.combo.setCurrentIndex(self._last)
        self.combo.blockSignals(False)
        name, _ = QFileDialog.getOpenFileName(self, OWN_TITLE, "", OWN_FILTER)
        if name:
            self._ask(name, None)

    def _on_account(self) -> None:
        self._dialog = LogInDialog(self._on_token, self)
        self._dialog.destroyed.connect(self._on_dialog_gone)
        self._dialog.open()

    def _on_token(self, token: str) -> None:
        self._tasks.run(log_in, token, done=self._on_logged_in, failed=self._on_refused)

    def _on_logged_in(self, account: str) -> None:
        if self._dialog is not None:
            self._dialog.accept()
        self.status.say(f"Logged in as {account}. Press Load to get the weights.")

    def _on_refused(self, error: Exception) -> None:
        if self._dialog is not None:
            self._dialog.say(str(error))

    def _on_dialog_gone(self) -> None:
        self._dialog = None


def _next_step(spec: EncoderSpec) -> str:
    if spec.hub_id is None:
        return "choose its weights file"
    return "load it from the hub, or choose a weights file"
