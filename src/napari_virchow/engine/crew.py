"""The engine's threads: they share one desk and one lock, sleep without work, and pass on facts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from napari_virchow.engine.desk import Desk

_log = logging.getLogger(__name__)
_LOOK_S = 2.0  # how often a sleeping thread looks whether the program has ended
_PATIENCE_S = 10.0  # for batches in flight when something is taken away from under them

Stage = tuple[Callable[[], bool], Callable[[], None]]  # is there work; do a bit of it


class Crew:
    """One thread per stage around a desk.

    The threads are no daemons, so that a batch is never torn off; but they end by themselves
    when the program has ended without closing them.

    Parameters
    ----------
    desk : Desk
        What they share.
    emit : callable
        Called with the name of a signal and its argument, from one thread at a time, without locks.
    """

    def __init__(self, desk: Desk, emit: Callable[[str, Any], None]) -> None:
        self.desk = desk
        self.changed = threading.Condition()
        self._emit = emit
        self._stages: Mapping[str, Stage] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._telling = threading.Lock()

    def set_stages(self, stages: Mapping[str, Stage]) -> None:
        """Say what there is to do, by the name of its thread."""
        self._stages = stages

    @contextmanager
    def changing(self) -> Iterator[Desk]:
        """Lock the desk, bring its state up to date afterwards, and wake who waits."""
        with self.changed:
            try:
                yield self.desk
            finally:
                self.desk.settle()
                self.changed.notify_all()

    def start(self) -> None:
        """Start the threads that are not there; with the lock held."""
        for name in self._stages:
            if name not in self._threads and not self.desk.closed:
                thread = threading.Thread(
                    target=self._run, args=(name,), name=f"napari-virchow {name}", daemon=False
                )
                self._threads[name] = thread
                thread.start()

    def join(self) -> None:
        """Wait until all threads have ended; the desk must be closed."""
        with self.changed:
            threads = list(self._threads.values())
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()

    def wait_until_quiet(self, timeout: float | None) -> bool:
        """Wait until nothing is left to do and to tell; say whether that was reached in time."""

        def quiet() -> bool:
            return not self.desk.busy() and not self.desk.outbox and not self._telling.locked()

        with self.changed:
            return self.changed.wait_for(quiet, timeout)

    def wait_for(self, reached: Callable[[], bool]) -> None:
        """Wait until something is no longer in flight.

        The threads of the pipeline must not wait for one another, so for them this does nothing.
        """
        thread = threading.current_thread()
        if thread in self._threads.values() and thread is not self._threads.get("planner"):
            return
        with self.changed:
            self.changed.wait_for(reached, _PATIENCE_S)

    def tell(self) -> None:
        """Emit what is in the outbox, in order, with no lock held that anyone waits for.

        If another thread is at it, that one goes on with what was added.
        """
        while self.desk.outbox and self._telling.acquire(blocking=False):
            try:
                while self.desk.outbox:
                    self._emit(*self.desk.outbox.popleft())
            finally:
                self._telling.release()
            with self.changed:
                self.changed.notify_all()

    def _run(self, name: str) -> None:
        ready, step = self._stages[name]
        while self._sleep(name, ready):
            step()
            self.tell()

    def _sleep(self, name: str, ready: Callable[[], bool]) -> bool:
        """Wait for work; False when the thread is to end."""
        with self.changed:
            while not self.changed.wait_for(lambda: self._is_over(name) or ready(), _LOOK_S):
                pass
            return not self._is_over(name)

    def _is_over(self, name: str) -> bool:
        """Say whether a thread is to end: after `close`, or when the program has ended without."""
        desk = self.desk
        if not threading.main_thread().is_alive():
            desk.closed = True
        unstored = desk.results or "encoder" in desk.active
        return desk.closed and not (name == "writer" and unstored)
