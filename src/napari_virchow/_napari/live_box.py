"""The live link: a status light, what goes across, and whose view follows."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.import_box import Here
from napari_virchow._napari.link import Links
from napari_virchow._napari.parts import Bar, Note, button
from napari_virchow._napari.tasks import Tasks
from napari_virchow.qupath.live import LiveLink
from napari_virchow.qupath.live_facts import (
    DEFAULT_PORT,
    Follow,
    LinkState,
    LinkStatus,
    Pulled,
    Pushed,
)

LIGHTS = {"off": "#8a8a8a", "connecting": "#e6c229", "problem": "#e07b00", "ready": "#2e9e4f"}
PULLS = {"Annotations": "annotations", "What is selected": "selected", "All objects": "all"}
PUSHES = {
    "Annotations": "objects",
    "Labelled tiles": "labels",
    "Predicted tiles": "predictions",
    "Regions of predictions": "regions",
}
FOLLOWS = {
    "No view follows": Follow.OFF,
    "napari follows QuPath": Follow.QUPATH,
    "QuPath follows napari": Follow.NAPARI,
    "Both follow each other": Follow.BOTH,
}


class LiveBox(QWidget):
    """The part of the dock for a QuPath that runs on this machine.

    Parameters
    ----------
    live : LiveLink
        Of the viewer's session; the box only shows it and calls it.
    """

    told = Signal(str)
    failed = Signal(object)
    selected = Signal(tuple)

    def __init__(self, live: LiveLink) -> None:
        super().__init__()
        self.live = live
        self.here: Here | None = None
        self._tasks = Tasks(self)
        self._build()
        self._lay_out()
        self._links = Links(
            self,
            (live.state_changed, self.show_state),
            (live.pulled, self._on_pulled),
            (live.pushed, self._on_pushed),
            (live.recolored, self._on_recolored),
        )
        self.show_state(live.state)

    def _build(self) -> None:
        self.light = QLabel("●")
        self.light.setAccessibleName("Status of the link")
        self.status = Note()
        self.alert = Note(alert=True)
        self.port = QSpinBox()
        self.port.setRange(1, 65535)
        self.port.setValue(DEFAULT_PORT)
        self.port.setToolTip("Of the gateway, as its dialog in QuPath says")
        self.token = QLineEdit()
        self.token.setEchoMode(QLineEdit.EchoMode.Password)
        self.token.setPlaceholderText("as set in QuPath")
        self.token.setToolTip("Extensions > Py4J > Start gateway… in QuPath; needs its extension")
        self.connect_ = button("Connect", "Link up with the QuPath on this machine")
        self.open = button("Open it here", "Open the slide that QuPath shows", wide=True)
        self.pull_what, self.push_what, self.follow = QComboBox(), QComboBox(), QComboBox()
        for combo, rows in (
            (self.pull_what, PULLS),
            (self.push_what, PUSHES),
            (self.follow, FOLLOWS),
        ):
            for text, value in rows.items():
                combo.addItem(text, value)
            combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.pull = button("Pull", "Fetch these from QuPath; what is here already is replaced")
        self.push = button("Push", "Send these to QuPath; what is there already is replaced")
        self.bar = Bar()
        self.bar.setTextVisible(False)
        self.cancel = button("Cancel", "Stop after the present piece")
        self.connect_.clicked.connect(self._on_connect)
        self.token.returnPressed.connect(self._on_connect)
        self.open.clicked.connect(self.live.open_image)
        self.pull.clicked.connect(lambda: self.live.pull(self.pull_what.currentData()))
        self.push.clicked.connect(self._on_push)
        self.cancel.clicked.connect(self.live.cancel)
        self.follow.activated.connect(lambda _: self.live.follow(self.follow.currentData()))

    def _lay_out(self) -> None:
        head = _row(self.light, self.status)
        head.setStretch(1, 1)
        self.address = QWidget()
        form = QFormLayout(self.address)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Port", self.port)
        form.addRow("Token", self.token)
        self.traffic = QWidget()
        inner = QFormLayout(self.traffic)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addRow("From QuPath", _filled(self.pull_what, self.pull))
        inner.addRow("To QuPath", _filled(self.push_what, self.push))
        inner.addRow("View", self.follow)
        self.progress = QWidget()
        running = QHBoxLayout(self.progress)
        running.setContentsMargins(0, 0, 0, 0)
        running.addWidget(self.bar, 1)
        running.addWidget(self.cancel)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 6, 4, 4)
        column.setSpacing(4)
        column.addLayout(head)
        for widget in (self.alert, self.address, self.connect_, self.open, self.traffic):
            column.addWidget(widget)
        column.addWidget(self.progress)
        column.addStretch()

    # ---- what is shown

    def bind(self, here: Here | None) -> None:
        """Push the objects of this slide from now on."""
        self.here = here

    def show_state(self, state: LinkState) -> None:
        """Show how things stand with the link."""
        on, off = state.status is LinkStatus.ON, state.status is LinkStatus.OFF
        light = "problem" if on and state.problem else state.status.value
        self.light.setStyleSheet(f"color: {LIGHTS.get(light, LIGHTS['ready'])}; font-size: 18px;")
        self.status.say(state_words(state))
        self.alert.say(state.error or state.problem)
        self.address.setVisible(off)
        self.connect_.setText("Connect" if off else "Disconnect")
        self.open.setVisible(on and state.slide is None and state.image is not None)
        self.traffic.setVisible(on)
        for made in (self.pull, self.push):
            made.setEnabled(state.ready)
        self.follow.setCurrentIndex(max(0, self.follow.findData(state.follow)))
        self.progress.setVisible(bool(state.task))
        self.bar.setRange(0, state.wanted)
        self.bar.setValue(state.done)

    # ---- what is done

    def _on_connect(self) -> None:
        if self.live.state.status is LinkStatus.OFF:
            self.live.connect(port=self.port.value(), token=self.token.text())
        else:
            self.live.disconnect()

    def _on_push(self) -> None:
        what, here = self.push_what.currentData(), self.here
        if what != "objects":
            self.live.push(what)
            return
        if here is None or here.slide.identity != self.live.state.slide:
            self.alert.say("QuPath shows another slide than the one chosen above.")
        elif not len(here.kept):
            self.alert.say("There are no annotations on this slide: import or draw some first.")
        else:
            kept = here.kept
            self.live.push(lambda: kept.objects)

    def _on_pulled(self, pulled: Pulled) -> None:
        here = self.here
        if here is None or here.slide.identity != pulled.slide:
            self.alert.say("QuPath shows another slide than the one chosen above.")
            return
        self._tasks.run(
            here.kept.add,
            pulled.objects,
            f"pull {len(pulled.objects):,} objects",
            done=lambda counts: self._on_kept(pulled, counts),
            failed=self.failed.emit,
        )

    def _on_kept(self, pulled: Pulled, counts: tuple[int, int]) -> None:
        new, replaced = counts
        bad = f", {len(pulled.problems):,} unreadable" if pulled.problems else ""
        self.told.emit(f"From QuPath: {new:,} new, {replaced:,} replaced{bad}.")
        self.selected.emit(tuple(pulled.selected))

    def _on_pushed(self, pushed: Pushed) -> None:
        stopped = f", stopped at {pushed.sent:,} of {pushed.wanted:,}" if pushed.cancelled else ""
        self.told.emit(f"To QuPath: {pushed.added:,} new, {pushed.replaced:,} replaced{stopped}.")

    def _on_recolored(self, colors: dict[str, tuple[str, str]]) -> None:
        self.told.emit(f"Took over QuPath's colours of {', '.join(colors)}.")


def state_words(state: LinkState) -> str:
    """Return how things stand with the link, in a line."""
    if state.status is LinkStatus.OFF:
        return "Not connected. Start the gateway in QuPath (Extensions > Py4J)."
    if state.status is LinkStatus.CONNECTING:
        return f"Connecting to {state.address}…"
    shown = "no image" if state.image is None else state.image.name
    return f"Connected: QuPath shows {shown}."


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        row.addWidget(widget)
    return row


def _filled(combo: QWidget, made: QWidget) -> QWidget:
    both = QWidget()
    row = _row(combo, made)
    row.setStretch(0, 1)
    both.setLayout(row)
    return both
