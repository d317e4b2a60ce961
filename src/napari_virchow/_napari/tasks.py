"""Work that must not be done on the GUI thread, and what happens when it is done."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject

from napari_virchow._napari.link import call_on_gui

Done = Callable[[Any], object]
Failed = Callable[[Exception], object]
_log = logging.getLogger(__name__)


class Tasks(QObject):
    """Runs functions in napari's worker threads and brings their results back to the GUI thread.

    Results that come after the owner is gone are dropped.

    Parameters
    ----------
    owner : QObject
        Usually the widget that wants the results.
    """

    def __init__(self, owner: QObject) -> None:
        super().__init__(owner)
        self._alive = [True]
        self._workers: set[Any] = set()
        # `self` may be half destroyed by then: the slot holds the list only. Not in a function of
        # ours, whose defaults Python may have let go of by then.
        self.destroyed.connect(self._alive.clear)

    def run(
        self, function: Callable[..., Any], *args: Any, done: Done, failed: Failed, **options: Any
    ) -> None:
        """Call `function(*args, **options)` in a worker, then `done(result)` or `failed(error)`."""
        alive = self._alive

        # napari writes down what it is given as text, which takes seconds for many objects.
        def work() -> Any:
            return function(*args, **options)

        worker: Any = create_worker(
            work,
            _start_thread=False,
            # superqt raises in the event loop what nobody is connected to from the start.
            _connect={
                "returned": partial(_if_alive, alive, done),
                "errored": partial(_if_alive, alive, failed),
                "finished": lambda: self._workers.discard(worker) if alive else None,
            },
        )
        self._workers.add(worker)
        worker.start()

    def teller(self, slot: Callable[[Any], object]) -> Callable[[Any], None]:
        """Return a function for a worker to report with: `slot` hears it on the GUI thread."""
        return partial(call_on_gui, partial(_if_alive, self._alive), slot)


def _if_alive(alive: list[bool], slot: Callable[..., object], *args: object) -> None:
    if alive:
        slot(*args)
