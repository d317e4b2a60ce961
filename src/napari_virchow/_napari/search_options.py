"""Where is searched, and how tiles are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.parts import Note
from napari_virchow._napari.words import encoder_title, magnification_words
from napari_virchow.search.facts import MOST_HITS, Compared, Kind, Options, Scope

SCOPES: dict[Scope, str] = {
    "slide": "This slide",
    "chosen": "Chosen slides…",
    "store": "All embedded slides",
}
_ID = Qt.ItemDataRole.UserRole


def kind_words(kind: Kind) -> str:
    """Return encoder, pooling and magnification of embeddings in a few words."""
    return f"{encoder_title(kind.encoder)} · {kind.pooling} · {magnification_words(kind.mpp)}"


class OptionsBox(QWidget):
    """Scope and comparison; it changes nothing itself but says what is wanted."""

    wanted = Signal(object)  # Options
    choose_wanted = Signal()  # which slides
    kind_wanted = Signal(object)  # Kind: compare these embeddings instead

    def __init__(self) -> None:
        super().__init__()
        self._options = Options()
        self._filling = False
        self.scope = QComboBox()
        self.scope.setToolTip("Where to search")
        self.scope.setAccessibleName("Where to search")
        for scope, words in SCOPES.items():
            self.scope.addItem(words, scope)
        self.fold = QToolButton()
        self.fold.setText("Options")
        self.fold.setCheckable(True)
        self.fold.setArrowType(Qt.ArrowType.RightArrow)
        self.fold.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.fold.setToolTip("How tiles are compared, and which hits are left out")
        self.kinds = QComboBox()
        self.kinds.setToolTip("Only embeddings of one encoder, pooling and tile size are compared")
        self.kinds.setAccessibleName("Embeddings that are compared")
        self.kinds.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.facts = Note()
        self.within = self._spin(
            0, 50, "Tiles no farther than this from an example are no hits; 0: only itself"
        )
        self.most = self._spin(1, MOST_HITS, "How many hits to show")
        self.weight = QDoubleSpinBox()
        self.weight.setRange(0.0, 10.0)
        self.weight.setSingleStep(0.1)
        self.weight.setKeyboardTracking(False)
        self.weight.setToolTip("How strongly counter-examples push away: γ of Rocchio's formula")
        self.boxes = {
            "group_neighbours": QCheckBox("Best of neighbours only"),
            "center": QCheckBox("Centre"),
            "whiten": QCheckBox("Whiten"),
            "class_token_only": QCheckBox("Class token"),
        }
        self._explain()
        self._build()
        self.show_options(self._options)

    def _explain(self) -> None:
        tips = {
            "group_neighbours": "Of hits that lie side by side show the best one",
            "center": "Subtract the mean embedding before comparing directions",
            "whiten": "Subtract the mean, and let every principal direction count equally",
            "class_token_only": "Compare the class token, without the mean of the other tokens",
        }
        for name, tip in tips.items():
            self.boxes[name].setToolTip(tip)

    @staticmethod
    def _spin(low: int, high: int, tip: str) -> QSpinBox:
        made = QSpinBox()
        made.setRange(low, high)
        made.setToolTip(tip)
        made.setKeyboardTracking(False)
        return made

    def _build(self) -> None:
        top = QHBoxLayout()
        top.setContentsMargins(0, 0, 0, 0)
        top.addWidget(QLabel("In"))
        top.addWidget(self.scope, 1)
        top.addWidget(self.fold)
        self.folded = QWidget()
        grid = QGridLayout(self.folded)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        rows = (("Leave out within", self.within), ("Hits", self.most), ("Against", self.weight))
        for row, (words, widget) in enumerate(rows):
            label = QLabel(words)
            label.setBuddy(widget)
            label.setToolTip(widget.toolTip())
            grid.addWidget(label, row, 0)
            grid.addWidget(widget, row, 1)
        for row, box in enumerate(list(self.boxes.values())[1:]):
            grid.addWidget(box, row, 2)
            box.toggled.connect(self._on_changed)
        grid.addWidget(self.boxes["group_neighbours"], 3, 0, 1, 3)
        self.boxes["group_neighbours"].toggled.connect(self._on_changed)
        grid.setColumnStretch(2, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3)
        column.addLayout(top)
        for widget in (self.folded, self.kinds, self.facts):
            column.addWidget(widget)
        self.folded.hide()
        self.fold.toggled.connect(self._on_fold)
        self.scope.activated.connect(self._on_scope)
        self.kinds.activated.connect(self._on_kind)
        for spin in (self.within, self.most, self.weight):
            spin.valueChanged.connect(self._on_changed)

    def show_options(self, options: Options) -> None:
        """Show what is asked for."""
        self._options, self._filling = options, True
        self.scope.setCurrentIndex(self.scope.findData(options.scope))
        self.within.setValue(options.exclude_within)
        self.most.setValue(options.k)
        self.weight.setValue(options.negative_weight)
        for name, box in self.boxes.items():
            box.setChecked(bool(getattr(options, name)))
        n = len(options.slides)
        words = f"Chosen slides ({n})…" if n else SCOPES["chosen"]
        self.scope.setItemText(self.scope.findData("chosen"), words)
        self._filling = False

    def show_compared(self, compared: Compared | None, kind: Kind | None) -> None:
        """Say which embeddings are compared, how many, and offer what else there is."""
        now = compared.kind if compared is not None else kind
        kinds = [] if now is None else [now]
        kinds += [k for k in (() if compared is None else compared.others) if k != now]
        self.kinds.clear()
        for one in kinds:
            n = f" ({one.n_slides} slide{'s' * (one.n_slides != 1)})" if one.n_slides else ""
            self.kinds.addItem(kind_words(one) + n, one)
        self.kinds.setEnabled(len(kinds) > 1)
        self.kinds.setVisible(bool(kinds))
        text = ""
        if compared is not None:
            slides = f"{compared.n_slides} slide{'s' * (compared.n_slides != 1)}"
            text = f"{compared.n_tiles:,} tiles on {slides} compared."
            if compared.n_waiting:
                text += f" {compared.n_waiting} more to be read…"
        self.facts.say(text)

    def _on_fold(self, on: bool) -> None:
        self.fold.setArrowType(Qt.ArrowType.DownArrow if on else Qt.ArrowType.RightArrow)
        self.folded.setVisible(on)

    def _on_scope(self, _: int) -> None:
        scope: Scope = self.scope.currentData()
        if scope == "chosen":
            self.show_options(self._options)  # until slides are chosen
            self.choose_wanted.emit()
        else:
            self.wanted.emit(replace(self._options, scope=scope))

    def _on_kind(self, number: int) -> None:
        if number > 0:
            self.kind_wanted.emit(self.kinds.itemData(number))

    def _on_changed(self, *_: object) -> None:
        if not self._filling:
            self.wanted.emit(
                replace(
                    self._options,
                    exclude_within=self.within.value(),
                    k=self.most.value(),
                    negative_weight=self.weight.value(),
                    **{name: box.isChecked() for name, box in self.boxes.items()},
                )
            )


class SlidesDialog(QDialog):
    """Asks which of the embedded slides to search; `accepted` tells that `slides` is the answer.

    Parameters
    ----------
    names : mapping of identity to name
    chosen : collection of identities
        Ticked at first.
    parent : QWidget
        Shown over it.
    """

    def __init__(self, names: Mapping[str, str], chosen: tuple[str, ...], parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Search which slides?")
        self.list = QListWidget()
        for identity, name in sorted(names.items(), key=lambda pair: pair[1]):
            item = QListWidgetItem(name, self.list)
            item.setData(_ID, identity)
            item.setToolTip(identity)
            ticked = Qt.CheckState.Checked if identity in chosen else Qt.CheckState.Unchecked
            item.setCheckState(ticked)
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        column = QVBoxLayout(self)
        column.addWidget(QLabel("Slides with embeddings in the store:"))
        column.addWidget(self.list)
        column.addWidget(self.buttons)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self.list.itemChanged.connect(self._on_ticked)
        self._on_ticked()

    @property
    def slides(self) -> tuple[str, ...]:
        """Identities of the ticked slides."""
        items = (self.list.item(n) for n in range(self.list.count()))
        ticked = Qt.CheckState.Checked
        return tuple(str(i.data(_ID)) for i in items if i.checkState() == ticked)

    def _on_ticked(self, *_: object) -> None:
        ok = self.buttons.button(QDialogButtonBox.StandardButton.Ok)
        ok.setEnabled(bool(self.slides))
