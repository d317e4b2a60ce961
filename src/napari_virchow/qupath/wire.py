"""What py4j lacks: an end to waiting for a gateway that is not there, or no longer."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# How often it is asked, and how long it may take to answer
EVERY_S, SILENT_S = 0.5, 2.0
_QUESTION = "c\nt\nhashCode\ne\n"  # of the entry point: answered with a number, at once


class Knock:
    """Looks whether somebody accepts connections at an address.

    Parameters
    ----------
    host, port : str, int
        The host may be a name, which stands for several addresses.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._found: queue.SimpleQueue[tuple[str, int] | Exception] = queue.SimpleQueue()

    def wait(self, seconds: float) -> tuple[str, int]:
        """Return the address in numbers.

        Raises
        ------
        OSError, OverflowError, UnicodeError
            If nobody does, or not in time, or the address is none.
        """
        # On a thread of its own: nothing bounds how long a name is looked up.
        args = (seconds,)
        threading.Thread(target=self._try, args=args, name="virchow-knock", daemon=True).start()
        try:
            found = self._found.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError("timed out") from None
        if isinstance(found, Exception):
            raise found
        return found

    def give_up(self) -> None:
        """Let `wait` raise OSError at once; from any thread."""
        self._found.put(ConnectionAbortedError("given up"))

    def _try(self, seconds: float) -> None:
        try:
            with socket.create_connection((self._host, self._port), seconds) as one:
                self._found.put(one.getpeername()[:2])
        except (OSError, OverflowError, UnicodeError) as error:
            self._found.put(error)


@contextmanager
def pulse(connect: Callable[[], Any], silent: Callable[[], None]) -> Iterator[None]:
    """Call `silent`, from another thread, if the gateway falls silent while the block runs.

    The gateway serves each connection on a thread of its own, so one that is busy with a large
    piece answers here all the same, and one that was paused or unplugged does not.

    Parameters
    ----------
    connect : callable
        Makes a py4j `GatewayConnection` that waits `SILENT_S`; it need not be started.
    silent : callable
        Makes the call in the block fail.
    """
    from py4j.protocol import Py4JError

    done = threading.Event()
    made: list[Any] = []

    def watch() -> None:
        try:
            while not done.wait(EVERY_S):
                if not made:
                    made.append(connect())
                    made[0].start()
                made[0].send_command(_QUESTION)
        except (Py4JError, OSError):
            if not done.is_set():
                silent()

    thread = threading.Thread(target=watch, name="virchow-qupath-pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        for one in list(made):
            try:
                one.socket.shutdown(socket.SHUT_RDWR)  # which ends a question that waits
            except OSError:  # not open yet, or not any more
                continue
        thread.join()
        for one in made:
            one.socket.close()
