"""Follows the camera of a viewer, and says when it has come to rest."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

SETTLE_MS = 160


class CameraFollower(QObject):
    """Emits `settled` once the camera or the canvas has not changed for `SETTLE_MS`.

    Per event it restarts a timer, and nothing else.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose camera.
    parent : QObject
        Ends with it.
    """

    settled = Signal()

    def __init__(self, viewer: Any, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._emitters: list[Any] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SETTLE_MS)
        self._timer.timeout.connect(self.settled)

    @property
    def attached(self) -> bool:
        """Whether the camera is followed."""
        return bool(self._emitters)

    def attach(self) -> None:
        """Begin to follow, and count that as a first change. Does nothing when attached."""
        if self._emitters:
            return
        camera, canvas = self._viewer.scene.camera.events, self._viewer.canvas.events
        self._emitters = [
            camera.center,
            camera.zoom,
            canvas.size,
            self._viewer.dims.events.ndisplay,
        ]
        for emitter in self._emitters:
            emitter.connect(self.nudge)
        self.nudge()

    def detach(self) -> None:
        """Stop following. Does nothing when not attached."""
        self._timer.stop()
        while self._emitters:
            self._emitters.pop().disconnect(self.nudge)

    def nudge(self, event: object = None) -> None:
        """Have `settled` emitted as if the camera had moved now."""
        self._timer.start()
