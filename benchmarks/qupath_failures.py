"""How soon the live link says that something is wrong with QuPath.

    python -m benchmarks.qupath_failures

Prints Markdown: for each failure the seconds from its happening to the sentence, and the sentence.
QuPath is the stand-in of the tests, behind a real py4j gateway; a new one for each.
"""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tests.fakes import FakeSlide
from tests.qupath_stub import TOKEN, QuPathStub, compile_stub

from napari_virchow.qupath.cargo import CHUNK, TilesToPush
from napari_virchow.qupath.export import SlideTiles
from napari_virchow.qupath.live import LiveLink
from napari_virchow.qupath.uris import uri_of_path
from napari_virchow.session import Session


class Watched:
    """A link that notes when it says what."""

    def __init__(self, folder: Path) -> None:
        self.session = Session(folder)
        self.slide = FakeSlide(tiles=(100, 100))
        self.slide.bounds = None
        self.session.add_slide(self.slide)
        self.link = LiveLink(self.session)
        self.failed = threading.Event()
        self.link.failed.connect(self._on_failed)

    def _on_failed(self, error: Exception) -> None:
        self.at, self.says = time.perf_counter(), str(error)
        self.failed.set()

    def after(self, what: str, cause: Callable[[], object]) -> None:
        """Print how long after a cause, which returns at once, the failure is told."""
        start = time.perf_counter()
        cause()
        if self.failed.wait(60):
            print(f"| {what} | {self.at - start:.2f} s | {self.says} |", flush=True)
        else:
            print(f"| {what} | | nothing in 60 s |", flush=True)

    def connect(self, stub: QuPathStub) -> None:
        """Link up with a stand-in that shows the slide."""
        stub.show(uri_of_path(Path(self.slide.path)), self.slide.width, self.slide.height)
        self.link.connect(port=stub.port, token=TOKEN)
        self.link.wait(60)

    def push(self) -> None:
        """Begin to push a few pieces."""
        places = np.column_stack(np.divmod(np.arange(3 * CHUNK), 100))
        self.link.push(TilesToPush(SlideTiles(self.slide.identity, self.slide.grid(), places)))


@contextmanager
def watched() -> Iterator[Watched]:
    """Give a link of its own session."""
    with tempfile.TemporaryDirectory() as folder:
        made = Watched(Path(folder) / "store")
        yield made
        made.link.close()
        made.session.close()


def connecting() -> None:
    """Failures before anything is linked."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with watched() as one:
            one.after("a port where nobody says a word", lambda: one.link.connect(port=port))
    with watched() as one:
        one.after("no gateway: the port is closed", lambda: one.link.connect(port=port))
    with watched() as one:
        one.after("a host that is not there", lambda: one.link.connect(host="192.0.2.1"))
    with watched() as one:
        one.after("a name that nobody knows", lambda: one.link.connect(host="no.such.invalid"))


def with_stub(class_path: str, what: str, prepare: Any, cause: Any) -> None:
    """Print the row of a failure; both callables get the link and the stand-in."""
    stub = QuPathStub(class_path)
    try:
        with watched() as one:
            prepare(one, stub)
            one.after(what, lambda: cause(one, stub))
    finally:
        stub.kill()


def linked(one: Watched, stub: QuPathStub) -> None:
    """Link up and rest."""
    one.connect(stub)


def in_a_piece(one: Watched, stub: QuPathStub) -> None:
    """Link up, and let QuPath be busy with a piece."""
    one.connect(stub)
    stub.control.stall(600_000)
    one.push()
    stub.control.awaitParsing()


def between_pieces(one: Watched, stub: QuPathStub) -> None:
    """Link up, and let every piece take half a second."""
    one.connect(stub)
    stub.control.stall(500)
    one.push()
    stub.control.awaitParsing()


def main() -> None:
    """Print all rows."""
    print("| what happens | after | it says |\n|---|---:|---|")
    connecting()
    with tempfile.TemporaryDirectory() as folder:
        paths = compile_stub(Path(folder))

        def connect(token: str) -> Any:
            return lambda one, stub: one.link.connect(port=stub.port, token=token)

        def switch(_: Watched, stub: QuPathStub) -> None:
            stub.show("file:/other.svs", 5, 7, name="other.svs")

        for what, prepare, cause in (
            ("a wrong token", lambda one, stub: None, connect("wrong")),
            ("a token left out", lambda one, stub: None, connect("")),
            ("hangs while nothing is done", linked, lambda _, stub: stub.hang()),
            ("hangs over a piece", in_a_piece, lambda _, stub: stub.hang()),
            ("is killed over a piece", in_a_piece, lambda _, stub: stub.process.kill()),
            ("closed over a piece", in_a_piece, lambda _, stub: stub.process.stdin.close()),
            ("gateway stopped over a piece", in_a_piece, lambda _, stub: stub.stop_gateway()),
            ("shows another image in a push", between_pieces, switch),
        ):
            with_stub(paths, what, prepare, cause)


if __name__ == "__main__":
    main()
