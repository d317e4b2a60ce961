"""The wire to QuPath: its py4j gateway as a few plain questions, and its failures as sentences."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from napari_virchow.qupath.classes import PathClass, default_color, packed_of_rgb, rgb_of_packed
from napari_virchow.qupath.groovy import BRIDGE
from napari_virchow.qupath.live_facts import LinkLost, LiveError, QuPathImage
from napari_virchow.qupath.wire import SILENT_S, Knock, pulse

# How long QuPath may take to greet and to answer a question; for thousands of objects, while it
# answers another one in between (see `pulse`); and to show, after a failure, that it is there
GREET_S, ANSWER_S, LONG_S, THERE_S = 2.3, 2.3, 600.0, 0.3
PULL_CHUNK = 5000
INSTALL = "The live link needs py4j: run pip install 'napari-virchow[qupath]'."


class _Py4jNoise(logging.Filter):
    """Drops the tracebacks that py4j logs of what is answered here with a sentence."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "py4j" not in record.pathname


class Gate:
    """A connection to QuPath, once `open`. Not for several threads, but for `abort`.

    Parameters
    ----------
    host, port : str, int
        Where the gateway of QuPath's py4j extension listens.
    token : str
        As set when it was started; empty for none.
    """

    def __init__(self, host: str, port: int, token: str = "") -> None:
        self._address = self._reached = (host, port)  # the latter in numbers, once `open`
        self._token = token
        self._knock = Knock(host, port)
        self._sockets: list[socket.socket] = []
        self._seconds = GREET_S
        self._aborted = False
        self._unused: deque[str] = deque()  # what QuPath may forget, by py4j's name for it
        self._gateway: Any = None
        self._entry: Any = None
        self._qupath: Any = None
        self._bridge: Any = None
        self._noise = _Py4jNoise()
        for logger in _loggers():
            logger.addFilter(self._noise)

    def open(self) -> Gate:
        """Connect, and return the gate itself; it is closed again if that fails.

        Raises
        ------
        LiveError
            If nobody answers there, or not as QuPath does, or the token is refused.
        """
        deadline = time.monotonic() + GREET_S
        try:
            self._reached = self._answering()
            self._seconds = max(0.1, deadline - time.monotonic())
            self._open_gateway(*self._reached)
            self._enter(deadline)
        except BaseException:
            self.close()
            raise
        return self

    def image(self) -> QuPathImage | None:
        """Return what QuPath shows now, or None."""
        with self._asking():
            data = self._qupath.getImageData()
            if data is None:
                return None
            server = data.getServer()
            uris = [uri.toString() for uri in server.getURIs()]
            name = server.getMetadata().getName()
            size = int(server.getWidth()), int(server.getHeight())
            said = self._bridge.builder(server)
            key = str(server.getPath())
        try:
            builder = json.loads(said or "{}")
        except ValueError:
            builder = {}
        return QuPathImage(key, str(name), tuple(uris), *size, builder=builder or {})

    def key(self) -> str:
        """Return `QuPathImage.key` of what QuPath shows now; empty for nothing."""
        with self._asking():
            data = self._qupath.getImageData()
            return "" if data is None else str(data.getServer().getPath())

    def classes(self) -> list[PathClass]:
        """Return QuPath's classes with their colours, unclassified left out."""
        found = []
        with self._asking():
            for one in self._qupath.getAvailablePathClasses():
                name, color = (None, None) if one is None else (one.toString(), one.getColor())
                if name and color is not None and name != "Unclassified":
                    found.append(PathClass.of(name, rgb_of_packed(int(color))))
        return found

    def add_classes(self, classes: Sequence[PathClass]) -> int:
        """Add classes that QuPath has not; those it has keep their colour. Returns how many."""
        with self._asking(long=True):  # QuPath's screen may be busy
            there = self._qupath.getAvailablePathClasses()
            return sum(
                int(self._bridge.addClass(there, one.name, packed_of_rgb(_color(one))))
                for one in classes
            )

    def objects(self, what: str) -> Iterator[str]:
        """Yield GeoJSON texts of the "annotations", the "selected" objects or "all"."""
        with self._asking(long=True):
            hierarchy = self._hierarchy()
            if what == "annotations":
                found = hierarchy.getAnnotationObjects()
            elif what == "selected":
                found = hierarchy.getSelectionModel().getSelectedObjects()
            else:
                found = hierarchy.getFlattenedObjectList(None)
            texts = self._entry.toFeatureCollections(found, PULL_CHUNK)
            n = len(texts)
        for number in range(n):
            with self._asking(long=True):
                text = str(texts[number])
            yield text

    def selected(self) -> frozenset[str]:
        """Return the ids of what is selected in QuPath."""
        with self._asking():
            chosen = self._hierarchy().getSelectionModel().getSelectedObjects()
            return frozenset(str(uid) for uid in self._entry.getObjectIds(chosen))

    def hierarchy(self) -> Any:
        """Return the objects of the image that is shown now, for `merge`."""
        with self._asking():
            return self._hierarchy()

    def merge(self, hierarchy: Any, text: str) -> tuple[int, int]:
        """Add GeoJSON objects in one step, or replace those of the same id.

        Returns
        -------
        added, replaced : int
        """
        with self._asking(long=True):
            added, replaced = self._bridge.merge(hierarchy, self._entry.toPathObjects(text))
            return int(added), int(replaced)

    def view(self) -> tuple[float, ...] | None:
        """Return x, y, downsample, rotation, z and t of QuPath's view, in pixels of its image."""
        with self._asking():
            viewer = self._entry.getCurrentViewer()
            return None if viewer is None else _numbers(self._bridge.view(viewer))

    def look(self, x: float, y: float, downsample: float) -> tuple[float, ...] | None:
        """Move QuPath's view, and return what it has become, as `view` does."""
        with self._asking(long=True):  # QuPath's screen may be busy
            viewer = self._entry.getCurrentViewer()
            if viewer is None:
                return None
            return _numbers(self._bridge.look(viewer, float(x), float(y), float(downsample)))

    def abort(self) -> None:
        """Make the call that is under way fail, and all that follow; from any thread."""
        self._aborted = True
        self._knock.give_up()
        self._forget()
        for one in list(self._sockets):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:  # closed already
                continue

    def close(self) -> None:
        """Hang up. Safe to call twice."""
        self._forget()
        if self._gateway is not None:
            self._gateway.close()
        self.abort()
        for one in self._sockets:
            one.close()
        for logger in _loggers():
            logger.removeFilter(self._noise)

    def _answering(self) -> tuple[str, int]:
        host, port = self._address
        try:
            return self._knock.wait(GREET_S)
        except ConnectionRefusedError as error:
            raise LiveError(
                f"Nothing answers at {host}:{port}: start the gateway in QuPath (Extensions › "
                "Py4J; the extension must be installed once), or correct the port."
            ) from error
        except (OSError, OverflowError, UnicodeError) as error:
            raise LiveError(f"{host}:{port} cannot be reached ({error}); check them.") from error

    def _open_gateway(self, address: str, port: int) -> None:
        try:
            from py4j.java_gateway import GatewayParameters, JavaGateway
        except ImportError as error:
            raise LiveError(INSTALL) from error
        token = self._token or None
        parameters = GatewayParameters(address=address, port=port, auth_token=token)
        self._gateway = JavaGateway(gateway_parameters=parameters)
        client = self._gateway._gateway_client

        def recorded() -> Any:
            connection = self._connection(self._seconds)
            self._sockets.append(connection.socket)  # before it is open: `close` closes it anyway
            connection.start()
            connection.socket.settimeout(self._seconds)
            if not client.is_connected:  # `abort` came while this one was being made
                self.abort()
            return connection

        # py4j has no other way to bound a call, or to end one that another thread waits for.
        client._create_connection = recorded
        # py4j would tell QuPath so in the thread that happens to find the garbage: the window's.
        client.garbage_collect_object = self._unused.append
        if self._aborted:
            self._forget()

    def _connection(self, seconds: float) -> Any:
        """Return a new connection, yet to be started, that waits so long for an answer."""
        from py4j.java_gateway import GatewayConnection

        client = self._gateway._gateway_client
        connection = GatewayConnection(client.gateway_parameters, client.gateway_property)
        connection.socket.settimeout(seconds)
        return connection

    def _enter(self, deadline: float) -> None:
        """Take up the conversation; what goes wrong here is the token, or another program."""
        from py4j.protocol import Py4JAuthenticationError, Py4JError, Py4JJavaError

        host, port = self._address
        try:
            self._entry = self._gateway.entry_point
            self._qupath = self._entry.getQuPath()
        except Py4JAuthenticationError as error:
            raise LiveError(
                f"QuPath at {host}:{port} refuses this token: copy the one its gateway was started "
                "with (leave it empty if there is none)."
            ) from error
        except (Py4JError, OSError, LookupError, ValueError, TypeError) as error:
            # also what py4j stumbles over when another program answers something of its own
            raise LiveError(self._stranger(silent=time.monotonic() >= deadline)) from error
        if self._qupath is None:
            raise LiveError("QuPath has no window yet; wait until it has started.")
        try:
            with self._long():
                self._bridge = self._qupath.runScript(None, BRIDGE)
        except Py4JJavaError as error:
            raise LiveError(
                f"QuPath could not run the script of the link ({_reason(error)}); it needs "
                "QuPath 0.4 or later."
            ) from error
        except (Py4JError, OSError) as error:
            raise self._lost() from error

    def _stranger(self, *, silent: bool) -> str:
        """Return what is wrong where no gateway answers as QuPath's does."""
        host, port = self._address
        if silent:
            return (
                f"What listens at {host}:{port} does not answer: restart QuPath if it hangs, or "
                "correct the port."
            )
        if self._token:
            return f"What answers at {host}:{port} is not QuPath's gateway; check the port."
        return (
            f"QuPath at {host}:{port} asks for a token, or another program answers there: give "
            "the token that the gateway was started with, or correct the port."
        )

    def _hierarchy(self) -> Any:
        data = self._qupath.getImageData()
        if data is None:
            raise LiveError("QuPath shows no image; open the slide there.")
        return data.getHierarchy()

    @contextmanager
    def _asking(self, *, long: bool = False) -> Iterator[None]:
        """Bound the calls inside, and turn what py4j raises into a sentence."""
        from py4j.protocol import Py4JError, Py4JJavaError

        self._bound(ANSWER_S)
        try:
            self._tell_unused()
            with self._long() if long else nullcontext():
                yield
        except Py4JJavaError as error:
            raise LiveError(f"QuPath could not do this: {_reason(error)}.") from error
        except (Py4JError, OSError) as error:
            if "Trace:" in str(error):
                raise LiveError(
                    "This QuPath does not know what was asked; the link needs QuPath 0.4 or later."
                ) from error
            raise self._lost() from error

    def _tell_unused(self) -> None:
        """Let QuPath forget what is no longer needed here."""
        from py4j import protocol

        client = self._gateway._gateway_client
        what = protocol.MEMORY_COMMAND_NAME + protocol.MEMORY_DEL_SUBCOMMAND_NAME
        while self._unused:
            name = self._unused.popleft()
            if name == protocol.ENTRY_POINT_OBJECT_ID:
                continue
            answer = client.send_command(f"{what}{name}\n{protocol.END_COMMAND_PART}")
            if protocol.is_error(answer)[0]:
                raise protocol.Py4JError("no answer")

    @contextmanager
    def _long(self) -> Iterator[None]:
        """Let the calls inside take their time, as long as QuPath lives."""
        self._bound(LONG_S)
        try:
            with pulse(lambda: self._connection(SILENT_S), self.abort):
                yield
        finally:
            self._bound(ANSWER_S)

    def _bound(self, seconds: float) -> None:
        self._seconds = seconds
        open_ones = [one for one in self._sockets if one.fileno() >= 0]
        self._sockets[:] = open_ones
        for one in open_ones:
            one.settimeout(seconds)

    def _forget(self) -> None:
        """Keep py4j from connecting anew, to repeat a call or to say what is no longer needed."""
        if self._gateway is not None:
            self._gateway._gateway_client.is_connected = False

    def _lost(self) -> LinkLost:
        self._forget()
        host, port = self._address
        try:
            socket.create_connection(self._reached, THERE_S).close()
        except OSError:
            return LinkLost(
                f"QuPath at {host}:{port} is gone: it was closed, or its gateway was stopped; "
                "connect again when it is back."
            )
        return LinkLost(
            f"QuPath at {host}:{port} hung up or does not answer any more; connect again when it "
            "does."
        )


def _color(one: PathClass) -> tuple[int, int, int]:
    return one.color or default_color(one.names)


def _numbers(text: Any) -> tuple[float, ...]:
    return tuple(float(word) for word in str(text).split())


def _reason(error: Any) -> str:
    """Return the first line of a Java exception, without a full stop."""
    try:
        text = str(error.java_exception.toString())
    except Exception:  # noqa: BLE001  # the wire broke while asking: any text will do
        text = str(error)
    return text.strip().splitlines()[0].rstrip(".")


def _loggers() -> list[logging.Logger]:
    # py4j logs some of it to the root logger itself
    return [logging.getLogger(), logging.getLogger("py4j.java_gateway"), logging.getLogger("py4j")]
