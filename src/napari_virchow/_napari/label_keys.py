"""Keys that work while a dock is open, on the canvas and in the dock."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter

from napari.layers import Image, Layer
from qtpy.QtCore import QObject, Qt
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QApplication, QWidget

from napari_virchow._napari.label_tool import LabelMode, LabelTool

MODE_KEYS = {LabelMode.OFF: "M", LabelMode.BRUSH: "B", LabelMode.BOX: "X", LabelMode.LASSO: "O"}
_QT_NAMES = {
    "Control-": "Ctrl+",
    "Shift-": "Shift+",
    "Alt-": "Alt+",
    "Escape": "Esc",
    "Delete": "Del",
}
_turns = itertools.count(1)
# Of each layer, whose keys work on it; who was used last is last.
_holders: weakref.WeakKeyDictionary[Layer, list[LabelKeys]] = weakref.WeakKeyDictionary()


class LabelKeys(QObject):
    """Binds keys to layers, as napari's layers have keys of their own that hide a viewer's.

    Where several docks want one key, the one that was used last has it: that was shown, clicked
    into, or whose tool or keys were used. When that one hides, the one before has it again.

    Parameters
    ----------
    dock : QWidget
        The keys work while it has the focus, too; where one types, they are letters.
    tool : LabelTool
        Of the dock: to use it is to use the dock.
    actions : mapping of napari's name of a key to a function
    """

    def __init__(
        self, dock: QWidget, tool: LabelTool, actions: Mapping[str, Callable[[], object]]
    ) -> None:
        super().__init__(dock)
        self._dock, self._actions = dock, dict(actions)
        self._layers: list[Layer] = []
        self._open = False
        self.turn = 0  # when the dock was used last
        if dock.focusPolicy() is Qt.FocusPolicy.NoFocus:  # a click beside its buttons counts, too
            dock.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        tool.mode_changed.connect(self._on_mode)
        tool.ended.connect(self.use)
        for key, action in self._actions.items():
            name = key
            for ours, theirs in _QT_NAMES.items():
                name = name.replace(ours, theirs)
            short = QShortcut(QKeySequence(name), dock)
            short.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            short.activated.connect(action)

    def bind(self, layers: Iterable[Layer]) -> None:
        """Work on the images and the tile maps among these layers, and on no others."""
        wanted = [y for y in layers if isinstance(y, Image) or "tiles_of" in y.metadata]
        if not self._open:
            self._open, self.turn = True, next(_turns)
            QApplication.instance().focusChanged.connect(self._on_focus)
        before, self._layers = self._layers, wanted
        for layer in before:
            if layer not in wanted:
                self._leave(layer)
        for layer in wanted:
            if layer not in before:
                holders = _holders.setdefault(layer, [])
                holders.append(self)
                holders.sort(key=attrgetter("turn"))
                _share(layer, self._actions)

    def unbind(self) -> None:
        """Give the keys back."""
        if self._open:
            self._open = False
            QApplication.instance().focusChanged.disconnect(self._on_focus)
        while self._layers:
            self._leave(self._layers.pop())

    def use(self, *_: object) -> None:
        """Have the keys that other docks want, too: this one is used now."""
        self.turn = next(_turns)
        for layer in self._layers:
            if _holders[layer][-1] is not self:
                _holders[layer].remove(self)
                _holders[layer].append(self)
                _share(layer, self._actions)

    def act(self, key: str) -> None:
        """Do what a key on the canvas means."""
        self.use()
        self._actions[key]()

    def has(self, key: str) -> bool:
        """Say whether the dock wants a key."""
        return key in self._actions

    def _leave(self, layer: Layer) -> None:
        _holders[layer].remove(self)
        _share(layer, self._actions)

    def _on_mode(self, mode: LabelMode) -> None:
        if mode is not LabelMode.OFF:  # then another dock's tool has the button, or none has
            self.use()

    def _on_focus(self, before: QWidget | None, now: QWidget | None) -> None:
        if now is not None and (now is self._dock or self._dock.isAncestorOf(now)):
            self.use()


def _share(layer: Layer, keys: Iterable[str]) -> None:
    """Give each of these keys of a layer to who wants it and was used last."""
    for key in keys:
        wanting = [one for one in _holders[layer] if one.has(key)]
        layer.bind_key(key, _presser(wanting[-1], key) if wanting else None, overwrite=True)


def _presser(keys: LabelKeys, key: str) -> Callable[[Layer], None]:
    """Return what napari calls; it takes generators for held keys, so nothing comes back."""
    return lambda _: keys.act(key)
