"""Says which object is under the cursor."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import QToolTip

from napari_virchow._napari.object_layers import ObjectLayers
from napari_virchow._napari.viewer import main_window
from napari_virchow.qupath.scene import words_of

REST_MS = 60
REACH = 6  # pixels on the screen


class ObjectHover(QObject):
    """Looks, once the mouse rests for a moment, what lies under it.

    Per event it restarts a timer, and nothing else.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose mouse.
    parent : QObject
        Ends with it.
    """

    told = Signal(str)

    def __init__(self, viewer: Any, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.layers: ObjectLayers | None = None
        self._attached = False
        self._position: tuple[float, ...] = ()
        self._text = ""
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REST_MS)
        self._timer.timeout.connect(self._on_rest)

    def attach(self) -> None:
        """Begin to look. Does nothing when attached."""
        if not self._attached:
            self._attached = True
            self._viewer.mouse_move_callbacks.append(self._on_move)

    def detach(self) -> None:
        """Stop looking. Does nothing when not attached."""
        self._timer.stop()
        if self._attached:
            self._attached = False
            self._viewer.mouse_move_callbacks.remove(self._on_move)

    def _on_move(self, viewer: Any, event: Any) -> None:
        self._position = tuple(event.position)
        self._timer.start()

    def _on_rest(self) -> None:
        layers = self.layers
        text = "" if layers is None else self._words(layers)
        if text == self._text:
            return
        self._text = text
        self.told.emit(text)
        QToolTip.showText(QCursor.pos(), text, main_window(self._viewer))

    def _words(self, layers: ObjectLayers) -> str:
        if layers.scene is None:
            return ""
        y, x = layers.to_slide(self._position)
        one = layers.scene.at(x, y, REACH * layers.slide_pixels_per_screen_pixel())
        return "" if one is None else words_of(layers.kept.get(one.id) or one)
