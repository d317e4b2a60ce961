"""A stand-in for QuPath: `tests/java`, behind a real py4j gateway in a JVM of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from napari_virchow.qupath.live import LiveLink

SOURCES = Path(__file__).parent / "java"
TOKEN = "a token"


def py4j_jar() -> Path | None:
    """Return the jar that comes with py4j, wherever its wheel put it."""
    import py4j

    places = [Path(sys.prefix), Path(py4j.__file__).parents[4], Path(py4j.__file__).parent]
    for place in places:
        for folder in (place / "share" / "py4j", place / "java"):
            found = sorted(folder.glob("py4j*.jar")) if folder.is_dir() else []
            if found:
                return found[-1]
    return None


def compile_stub(folder: Path) -> str:
    """Compile the stand-in and return its class path; skip, on a CI machine fail, without a JDK."""
    if shutil.which("javac") is None or shutil.which("java") is None:
        _without("a JDK (java and javac on the path)")
    pytest.importorskip("py4j") if not os.environ.get("CI") else __import__("py4j")
    jar = py4j_jar()
    if jar is None:
        _without("the jar of py4j (share/py4j in the environment)")
    sources = [str(path) for path in sorted(SOURCES.glob("*.java"))]
    command = ["javac", "-nowarn", "-d", str(folder), "-cp", str(jar), *sources]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return os.pathsep.join([str(folder), str(jar)])


def groovy_jars() -> str:
    """Return the class path of Groovy, with which the stand-in runs the link's own script."""
    given = os.environ.get("NAPARI_VIRCHOW_TEST_GROOVY", "")
    folders = [Path(given)] if given else [Path("/usr/share/java")]
    found = [str(path) for f in folders for path in sorted(f.glob("groovy-all*.jar"))]
    if not found:
        pytest.skip(
            "no Groovy: name the folder of groovy-all.jar as NAPARI_VIRCHOW_TEST_GROOVY to run the "
            "scripts for QuPath"
        )
    return os.pathsep.join(found[:1])


class QuPathStub:
    """A running stand-in; `control` is its entry point, on a connection of the test's own."""

    def __init__(self, class_path: str, *, token: str = TOKEN) -> None:
        from py4j.java_gateway import GatewayParameters, JavaGateway

        command = [
            "java",
            "-Xshare:auto",
            "-cp",
            class_path,
            "stub.Stub",
            *([token] if token else []),
        ]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port, self.token = int(self.process.stdout.readline()), token
        parameters = GatewayParameters(port=self.port, auth_token=token or None)
        self._gateway = JavaGateway(gateway_parameters=parameters)
        self.control = self._gateway.entry_point

    def show(self, uri, width, height, builder="", name="slide.svs"):
        """Show another image, without objects."""
        self.control.show(uri, name, width, height, builder)

    def stop_gateway(self):
        """Stop the gateway, as its dialog does; the window of QuPath stays."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def hang(self):
        """Stand still, as a machine that is out of memory does; connections stay open."""
        if not hasattr(signal, "SIGSTOP"):
            pytest.skip("this system cannot stop a process")
        os.kill(self.process.pid, signal.SIGSTOP)

    def kill(self):
        """Die as QuPath does when it crashes. Safe to call twice."""
        self._gateway._gateway_client.is_connected = False
        self._gateway.close()
        self.process.kill()
        self.process.wait(20)
        for stream in (self.process.stdin, self.process.stdout):
            stream.close()


class Told:
    """What a link told, in order."""

    def __init__(self, link):
        self.link, self.facts, self.seen = link, [], threading.Condition()
        for name in ("state_changed", "pulled", "pushed", "view_moved", "recolored", "failed"):
            getattr(link, name).connect(lambda fact, name=name: self._note(name, fact))

    def of(self, name):
        return [fact for kind, fact in self.facts if kind == name]

    def settled(self):
        assert self.link.wait(60)
        return self

    def wait_for(self, name, n=1):
        with self.seen:
            assert self.seen.wait_for(lambda: len(self.of(name)) >= n, 60), self.facts[-5:]
        return self.of(name)[n - 1]

    @property
    def error(self):
        [failure] = self.of("failed")
        assert str(failure).endswith(".") and "\n" not in str(failure)
        return str(failure)

    def _note(self, name, fact):
        with self.seen:
            self.facts.append((name, fact))
            self.seen.notify_all()


def be_patient(monkeypatch):
    """Let a busy machine take its time wherever the link would give up after seconds."""
    for name in ("GREET_S", "ANSWER_S", "SILENT_S"):
        monkeypatch.setattr(f"napari_virchow.qupath.gate.{name}", 60.0)


def _without(what: str) -> None:
    why = f"the live link to QuPath is not tested without {what}"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@contextmanager
def told_link(session):
    """A link that notes what it tells; when it is closed, none of its threads is left."""
    made = LiveLink(session)
    made.told = Told(made)
    yield made
    made.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("virchow-qupath")]
