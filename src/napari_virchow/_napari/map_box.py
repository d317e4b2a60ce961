"""What of the classifier's opinion is drawn, and how strictly it is taken."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QGridLayout, QLabel, QSlider, QVBoxLayout, QWidget

from napari_virchow._napari.class_layers import MAP_OPACITY, ClassLayers
from napari_virchow.classify.predictions import UNKNOWN_ABOVE
from napari_virchow.labels.edits import LabelClass

_TIPS = {
    "labels": "Frames around the tiles you labelled",
    "classes": "The class the classifier gives each tile",
    "probability": "A heat map of how probable one class is",
    "uncertainty": "Bright where the classifier cannot decide between two classes",
}


class MapBox(QWidget):
    """Check boxes and sliders of the layers of one slide; they apply at once."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._layers: ClassLayers | None = None
        self.boxes = {kind: QCheckBox(kind.capitalize()) for kind in _TIPS}
        self.of_class = QComboBox()
        self.of_class.setToolTip("Whose probability is drawn")
        self.of_class.setAccessibleName("Class of the probability map")
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        for n, (kind, box) in enumerate(self.boxes.items()):
            box.setToolTip(_TIPS[kind])
            box.setChecked(kind in ("labels", "classes"))
            box.toggled.connect(self._on_boxes)
            grid.addWidget(box, n // 2, n % 2)
        self.opacity = self._slider("How much the maps cover the slide", round(100 * MAP_OPACITY))
        self.confidence = self._slider("Hide classes less probable than this", 0)
        self.unknown = self._slider(
            "Tiles less like anything labelled than this have no class; 100 lets all pass",
            round(100 * UNKNOWN_ABOVE),
        )
        rows = QGridLayout()
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setColumnStretch(1, 1)
        rows.addWidget(QLabel("Probability of"), 0, 0)
        rows.addWidget(self.of_class, 0, 1, 1, 2)
        self._values: list[QLabel] = []
        for n, (text, slider) in enumerate(
            (
                ("Opacity", self.opacity),
                ("At least", self.confidence),
                ("Unknown above", self.unknown),
            )
        ):
            value = QLabel()
            value.setMinimumWidth(28)
            value.setAlignment(Qt.AlignmentFlag.AlignRight)
            self._values.append(value)
            label = QLabel(text)
            label.setBuddy(slider)
            label.setToolTip(slider.toolTip())
            rows.addWidget(label, n + 1, 0)
            rows.addWidget(slider, n + 1, 1)
            rows.addWidget(value, n + 1, 2)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(grid)
        column.addLayout(rows)
        self.of_class.currentIndexChanged.connect(self._apply)
        self._apply()

    def bind(self, layers: ClassLayers | None) -> None:
        """Work on the layers of this slide from now on."""
        self._layers = layers
        self._on_boxes()
        self._apply()

    def set_classes(self, classes: Sequence[LabelClass]) -> None:
        """Offer these classes for the heat map."""
        if [(c.id, c.name) for c in classes] == [
            (self.of_class.itemData(n), self.of_class.itemText(n))
            for n in range(self.of_class.count())
        ]:
            return
        before = self.of_class.currentData()
        self.of_class.blockSignals(True)
        self.of_class.clear()
        for one in classes:
            self.of_class.addItem(one.name, one.id)
        self.of_class.setCurrentIndex(max(0, self.of_class.findData(before)))
        self.of_class.blockSignals(False)
        self._apply()

    def _slider(self, tip: str, value: int) -> QSlider:
        slider = QSlider(Qt.Orientation.Horizontal)
        slider.setRange(0, 100)
        slider.setValue(value)
        slider.setToolTip(tip)
        slider.setAccessibleName(tip)
        slider.valueChanged.connect(self._apply)
        return slider

    def _on_boxes(self, *_: object) -> None:
        if self._layers is not None:
            for kind, box in self.boxes.items():
                if self._layers.visible(kind) != box.isChecked():
                    self._layers.set_visible(kind, box.isChecked())

    def _apply(self, *_: object) -> None:
        sliders = (self.opacity, self.confidence, self.unknown)
        for label, slider in zip(self._values, sliders, strict=True):
            label.setText(f"{slider.value()} %")
        if self._layers is not None:
            self._layers.set_opacity(self.opacity.value() / 100)
            self._layers.configure(
                at_least=self.confidence.value() / 100,
                unknown_above=self.unknown.value() / 100,
                class_shown=self.of_class.currentData(),
            )
