"""The wire to QuPath: its py4j gateway as a few plain questions, and its failures as sentences."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from napari_virchow.qupath.classes import PathClass, default_color, packed_of_rgb, rgb_of_packed
from napari_virchow.qupath.groovy import BRIDGE
from napari_virchow.qupath.live_facts import LinkLost, LiveError, QuPathImage

# How long QuPath may take to greet, to answer a question, and for thousands of objects
GREET_S, ANSWER_S, LONG_S = 2.5, 15.0, 60.0
PULL_CHUNK = 5000
INSTALL = "The live link needs py4j: run pip install 'napari-virchow[qupath]'."


class _Py4jNoise(logging.Filter):
    """Drops the tracebacks that py4j logs of what is answered here with a sentence."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "py4j" not in record.pathname


class Gate:
    """An open connection to QuPath. Not for several threads, but for `abort`.

    Parameters
    ----------
    host, port : str, int
        Where the gateway of QuPath's py4j extension listens.
    token : str
        As set when it was started; empty for none.

    Raises
    ------
    LiveError
        If nobody answers there, or not as QuPath does, or the token is refused.
    """

    def __init__(self, host: str, port: int, token: str = "") -> None:
        self._address = (host, port)
        self._sockets: list[socket.socket] = []
        self._seconds = GREET_S
        self._gateway: Any = None
        self._entry: Any = None
        self._qupath: Any = None
        self._bridge: Any = None
        self._noise = _Py4jNoise()
        for logger in _loggers():
            logger.addFilter(self._noise)
        try:
            self._knock()
            self._gateway = self._opened(token)
            self._enter(token)
        except BaseException:
            self.close()
            raise

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
        with self._asking():
            there = self._qupath.getAvailablePathClasses()
            return sum(
                int(self._bridge.addClass(there, one.name, packed_of_rgb(_color(one))))
                for one in classes
            )

    def objects(self, what: str) -> Iterator[str]:
        """Yield GeoJSON texts of the "annotations", the "selected" objects or "all"."""
        with self._asking(LONG_S):
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
            with self._asking(LONG_S):
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
        with self._asking(LONG_S):
            added, replaced = self._bridge.merge(hierarchy, self._entry.toPathObjects(text))
            return int(added), int(replaced)

    def view(self) -> tuple[float, ...] | None:
        """Return x, y, downsample, rotation, z and t of QuPath's view, in pixels of its image."""
        with self._asking():
            viewer = self._entry.getCurrentViewer()
            return None if viewer is None else _numbers(self._bridge.view(viewer))

    def look(self, x: float, y: float, downsample: float) -> tuple[float, ...] | None:
        """Move QuPath's view, and return what it has become, as `view` does."""
        with self._asking():
            viewer = self._entry.getCurrentViewer()
            if viewer is None:
                return None
            return _numbers(self._bridge.look(viewer, float(x), float(y), float(downsample)))

    def abort(self) -> None:
        """Make the call that is under way fail, and all that follow; from any thread."""
        self._forget()
        for one in list(self._sockets):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:  # closed already
                continue

    def close(self) -> None:
        """Hang up. Safe to call twice."""
        self._bridge = self._qupath = self._entry = None  # which lets QuPath forget them
        self._forget()
        if self._gateway is not None:
            self._gateway.close()
        self.abort()
        for one in self._sockets:
            one.close()
        for logger in _loggers():
            logger.removeFilter(self._noise)

    def _knock(self) -> None:
        host, port = self._address
        try:
            socket.create_connection(self._address, GREET_S).close()
        except ConnectionRefusedError as error:
            raise LiveError(
                f"Nothing answers at {host}:{port}: start the gateway in QuPath (Extensions › "
                "Py4J; the extension must be installed once), or correct the port."
            ) from error
        except (OSError, OverflowError, UnicodeError) as error:
            raise LiveError(f"{host}:{port} cannot be reached ({error}); check them.") from error

    def _opened(self, token: str) -> Any:
        try:
            from py4j.java_gateway import GatewayConnection, GatewayParameters, JavaGateway
        except ImportError as error:
            raise LiveError(INSTALL) from error
        host, port = self._address
        parameters = GatewayParameters(
            address=host, port=port, auth_token=token or None, read_timeout=GREET_S
        )
        gateway = JavaGateway(gateway_parameters=parameters)
        client = gateway._gateway_client

        def recorded() -> Any:
            connection = GatewayConnection(parameters, client.gateway_property)
            self._sockets.append(connection.socket)  # before it is open: `close` closes it anyway
            connection.start()
            connection.socket.settimeout(self._seconds)
            if not client.is_connected:  # `abort` came while this one was being made
                self.abort()
            return connection

        # py4j has no other way to bound a call, or to end one that another thread waits for.
        client._create_connection = recorded
        return gateway

    def _enter(self, token: str) -> None:
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
            if token:
                raise LiveError(
                    f"What answers at {host}:{port} is not QuPath's gateway; check the port."
                ) from error
            raise LiveError(
                f"QuPath at {host}:{port} asks for a token, or another program answers there: give "
                "the token that the gateway was started with, or correct the port."
            ) from error
        if self._qupath is None:
            raise LiveError("QuPath has no window yet; wait until it has started.")
        self._bound(ANSWER_S)
        try:
            self._bridge = self._qupath.runScript(None, BRIDGE)
        except Py4JJavaError as error:
            raise LiveError(
                f"QuPath could not run the script of the link ({_reason(error)}); it needs "
                "QuPath 0.4 or later."
            ) from error
        except (Py4JError, OSError) as error:
            raise self._lost(ANSWER_S) from error

    def _hierarchy(self) -> Any:
        data = self._qupath.getImageData()
        if data is None:
            raise LiveError("QuPath shows no image; open the slide there.")
        return data.getHierarchy()

    @contextmanager
    def _asking(self, seconds: float = ANSWER_S) -> Iterator[None]:
        """Bound the calls inside, and turn what py4j raises into a sentence."""
        from py4j.protocol import Py4JError, Py4JJavaError

        self._bound(seconds)
        try:
            yield
        except Py4JJavaError as error:
            raise LiveError(f"QuPath could not do this: {_reason(error)}.") from error
        except (Py4JError, OSError) as error:
            if "Trace:" in str(error):
                raise LiveError(
                    "This QuPath does not know what was asked; the link needs QuPath 0.4 or later."
                ) from error
            raise self._lost(seconds) from error

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

    def _lost(self, seconds: float) -> LinkLost:
        self._forget()
        host, port = self._address
        try:
            socket.create_connection(self._address, 0.3).close()
        except OSError:
            return LinkLost(
                f"QuPath at {host}:{port} is gone: it was closed, or its gateway was stopped; "
                "connect again when it is back."
            )
        return LinkLost(
            f"QuPath at {host}:{port} hung up, or did not answer for {seconds:g} s; connect again."
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
