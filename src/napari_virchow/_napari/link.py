"""From signals of the core, which may come from any thread, to slots on the GUI thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from psygnal import SignalInstance
from qtpy.QtCore import QCoreApplication, QObject, Signal
from qtpy.QtCore import Slot as QtSlot

Slot = Callable[..., object]


class _Bridge(QObject):
    """Carries calls to the GUI thread; one for the whole application, and never destroyed.

    Qt's own event queue does the work, so nothing polls and an idle napari stays idle.
    """

    called = Signal(object, tuple)

    @QtSlot(object, tuple)
    def run(self, function: Slot, args: tuple[Any, ...]) -> None:
        """Make one call."""
        function(*args)


_bridges: list[_Bridge] = []
_lock = threading.Lock()


def _bridge() -> _Bridge:
    with _lock:  # a worker may be the first to need it
        if not _bridges:
            app = QCoreApplication.instance()
            if app is None:
                raise RuntimeError("there is no Qt application yet")
            bridge = _Bridge()
            # Connected only once it lives on the GUI thread: a slot's thread is fixed by then.
            bridge.moveToThread(app.thread())
            bridge.called.connect(bridge.run)
            _bridges.append(bridge)
        return _bridges[0]


def call_on_gui(function: Slot, *args: object) -> None:
    """Run `function` on the GUI thread: at once when already there, else when Qt gets to it.

    Raises
    ------
    RuntimeError
        If there is no Qt application.
    """
    _bridge().called.emit(function, args)


class Links:
    """Connections from core signals to the slots of one widget.

    Slots run on the GUI thread. When Qt destroys the widget every connection is undone, and
    emissions already queued for it are dropped.

    Parameters
    ----------
    owner : QObject
        The widget whose end is the end of the connections.
    *links : tuple of (SignalInstance, bound method)
        Held weakly: the connections do not keep the widget alive.
    """

    def __init__(self, owner: QObject, *links: tuple[SignalInstance, Slot]) -> None:
        self._links = [(sig, self._forwarder(WeakMethod(slot))) for sig, slot in links]
        for signal, forward in self._links:
            signal.connect(forward)
        owner.destroyed.connect(self.close)

    def _forwarder(self, slot: WeakMethod[Slot]) -> Callable[..., None]:
        # Not a partial: psygnal prints a partial's arguments when it disconnects, and printing the
        # bound method of a widget that Qt has deleted raises.
        def forward(*args: object) -> None:
            call_on_gui(self._call, slot, *args)

        return forward

    def _call(self, slot: WeakMethod[Slot], *args: object) -> None:
        method = slot()
        if self._links and method is not None:
            method(*args)

    def close(self, *_: object) -> None:
        """Disconnect everything. Safe to call twice."""
        while self._links:
            signal, forward = self._links.pop()
            signal.disconnect(forward, missing_ok=True)
