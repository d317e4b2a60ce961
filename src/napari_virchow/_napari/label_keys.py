"""Keys that work while the dock is open, on the canvas and in the dock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from napari.layers import Image, Layer
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QWidget

from napari_virchow._napari.label_tool import LabelMode

MODE_KEYS = {LabelMode.OFF: "M", LabelMode.BRUSH: "B", LabelMode.BOX: "X", LabelMode.LASSO: "O"}
_QT_NAMES = {
    "Control-": "Ctrl+",
    "Shift-": "Shift+",
    "Alt-": "Alt+",
    "Escape": "Esc",
    "Delete": "Del",
}


class LabelKeys:
    """Binds keys to layers, as napari's layers have keys of their own that hide a viewer's.

    Parameters
    ----------
    dock : QWidget
        The keys work while it has the focus, too; where one types, they are letters.
    actions : mapping of napari's name of a key to a function
    """

    def __init__(self, dock: QWidget, actions: Mapping[str, Callable[[], object]]) -> None:
        self._actions = dict(actions)
        self._bound: list[tuple[Layer, str]] = []
        for key, action in self._actions.items():
            name = key
            for ours, theirs in _QT_NAMES.items():
                name = name.replace(ours, theirs)
            short = QShortcut(QKeySequence(name), dock)
            short.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            short.activated.connect(action)

    def bind(self, layers: Iterable[Layer]) -> None:
        """Work on the images and the tile maps among these layers, and on no others."""
        self.unbind()
        for layer in layers:
            if not isinstance(layer, Image) and "tiles_of" not in layer.metadata:
                continue
            for key, action in self._actions.items():
                layer.bind_key(key, lambda _, action=action: _do(action), overwrite=True)
                self._bound.append((layer, key))

    def unbind(self) -> None:
        """Give the keys back."""
        while self._bound:
            layer, key = self._bound.pop()
            layer.bind_key(key, None)


def _do(action: Callable[[], object]) -> None:
    action()  # its result must not reach napari, which takes generators for held keys
