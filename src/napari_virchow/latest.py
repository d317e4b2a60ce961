"""A thread that does the newest thing it was asked to do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Latest:
    """Runs jobs one after another on a thread of its own; a newer job replaces one that waits.

    Parameters
    ----------
    name : str
        Of the thread.
    failed : callable
        Gets the exception of a job that failed, on that thread.
    """

    def __init__(self, name: str, failed: Callable[[Exception], object]) -> None:
        self._changed = threading.Condition()
        self._job: Callable[[], None] | None = None
        self._due = 0.0
        self._running = self._closed = False
        self._failed = failed
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a job waits or runs."""
        with self._changed:
            return self._running or self._job is not None

    @property
    def closed(self) -> bool:
        """Whether it is closed, or about to be: what runs should come to an end."""
        return self._closed

    def put(self, job: Callable[[], None], *, delay: float = 0.0, push_back: bool = False) -> None:
        """Ask for a job, in `delay` seconds at the latest, or when all is quiet for so long.

        With `push_back` each call begins the delay anew; without, a job that waits keeps its time
        if that is earlier.
        """
        due = time.monotonic() + delay
        with self._changed:
            if self._closed:
                return
            self._due = due if push_back or self._job is None else min(due, self._due)
            self._job = job
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until nothing waits or runs; say whether that was reached."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running and self._job is None, timeout)

    def close(self) -> None:
        """Drop what waits, let what runs finish and join the thread. Safe to call twice."""
        with self._changed:
            self._closed, self._job = True, None
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while (job := self._take()) is not None:
            try:
                job()
            except Exception as error:  # noqa: BLE001  # the border: told through `failed`
                _log.debug("failed", exc_info=error)
                self._failed(error)
            with self._changed:
                self._running = False
                self._changed.notify_all()

    def _take(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._closed:
                left = None if self._job is None else self._due - time.monotonic()
                if left is not None and left <= 0:
                    job, self._job, self._running = self._job, None, True
                    return job
                self._changed.wait(left)
        return None
