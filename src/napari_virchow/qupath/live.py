"""The live link: a session and a running QuPath, over the gateway of QuPath's py4j extension."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_virchow.labels.edits import name_key
from napari_virchow.qupath.cargo import Cargo, classes_of, count, gather, pieces
from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.follow import Follower, view_in_qupath, view_on_slide
from napari_virchow.qupath.frame import Frame
from napari_virchow.qupath.gate import Gate
from napari_virchow.qupath.geojson import parse_geojson
from napari_virchow.qupath.live_facts import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    Follow,
    LinkLost,
    LinkState,
    LinkStatus,
    LinkView,
    LiveError,
    Pulled,
    Pushed,
)
from napari_virchow.qupath.objects import PathObject
from napari_virchow.qupath.placing import to_slide
from napari_virchow.qupath.reading import Problem
from napari_virchow.qupath.same_image import Known, match, open_location
from napari_virchow.qupath.steps import many_kept

if TYPE_CHECKING:
    from napari_virchow.session import Session
    from napari_virchow.slide import Slide

_log = logging.getLogger(__name__)
_POLL_S = 0.3  # how often QuPath is asked for its image and view


class LiveLink:
    """A session's link to a running QuPath.

    Every method returns at once and may be called from any thread; what it leads to is told by
    signals, from one thread of the link's own. Nothing is claimed before it is done: `pushed` and
    `pulled` come only when all of it has arrived, `failed` says in one sentence why not.

    Parameters
    ----------
    session : Session
        Whose slides, labels and predictions are meant. The caller closes it, after the link.
    """

    # `LinkState`: how things stand now
    state_changed = Signal(LinkState)
    pulled = Signal(Pulled)
    pushed = Signal(Pushed)
    # Somebody moved QuPath's view, and ours follows
    view_moved = Signal(LinkView)
    # Classes of ours took QuPath's colours: name → (colour before, colour now)
    recolored = Signal(dict)
    # A `LiveError`, or another exception whose text is a sentence
    failed = Signal(Exception)

    def __init__(self, session: Session) -> None:
        self._session = session
        self._changed = threading.Condition(threading.RLock())
        self._jobs: deque[Callable[[], None]] = deque()
        self._state = LinkState()
        self._gate: Gate | None = None
        self._thread: threading.Thread | None = None
        self._closed = self._running = False
        self._leaving = self._cancelled = False
        self._wanted_view: LinkView | None = None
        self._follower = Follower()
        self._known: Known = {}
        session.slide_opened.connect(self._on_slides)
        session.slide_closed.connect(self._on_slides)

    @property
    def state(self) -> LinkState:
        """How things stand now."""
        return self._state

    def connect(self, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT, token: str = "") -> None:
        """Link up with QuPath, after leaving the one before.

        Parameters
        ----------
        host, port : str, int
            Where the gateway of QuPath's py4j extension listens.
        token : str
            As set when it was started; empty for none.
        """
        self.disconnect()
        self._put(lambda: self._connect(host.strip() or DEFAULT_HOST, port, token.strip()))

    def disconnect(self) -> None:
        """Leave QuPath; what is under way there is given up."""
        with self._changed:
            self._jobs.clear()
            gate = self._gate
            if gate is not None:
                self._leaving = True
        if gate is not None:
            gate.abort()
        self._put(self._hang_up)

    def pull(self, what: str = "annotations") -> None:
        """Fetch "annotations", the "selected" objects or "all" objects; `pulled` has them."""
        self._put(lambda: self._task("pull", lambda: self._pull(what)))

    def push(self, what: Cargo) -> None:
        """Send objects to QuPath, replacing those of the same id; `pushed` says how many.

        Parameters
        ----------
        what : str, TilesToPush, sequence of PathObject or callable
            "labels", "predictions" or "regions" of the slide that QuPath shows; or tiles or
            objects on that slide, in level-0 pixels, or what returns such objects: many of them
            take a while to list, which is better done on the link's thread.
        """
        self._put(lambda: self._task("push", lambda: self._push(what)))

    def cancel(self) -> None:
        """Stop pulling or pushing after the present piece."""
        self._cancelled = True

    def open_image(self) -> None:
        """Open the slide that QuPath shows in the session."""
        self._put(self._open_image)

    def follow(self, direction: Follow | str) -> None:
        """Let ours follow QuPath's view ("qupath"), QuPath's ours ("napari"), "both" or "off"."""
        way = Follow(direction)

        def turn() -> None:
            self._follower.turn(way)
            self._say(follow=way)

        self._put(turn)

    def look(self, view: LinkView) -> None:
        """Tell where our view is now; QuPath's moves there if it follows. The last one counts."""
        with self._changed:
            fresh = self._wanted_view is None
            self._wanted_view = view
        if fresh:
            self._put(self._look)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until all that was asked for is done or has failed; say whether it was in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._running, timeout)

    def close(self) -> None:
        """Leave QuPath and join the thread. Safe to call twice."""
        self._session.slide_opened.disconnect(self._on_slides, missing_ok=True)
        self._session.slide_closed.disconnect(self._on_slides, missing_ok=True)
        self.disconnect()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # ---- the thread

    def _put(self, job: Callable[[], None]) -> None:
        with self._changed:
            if self._closed:
                return
            self._jobs.append(job)
            if self._thread is None:
                name = "virchow-qupath-link"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except Exception as error:  # noqa: BLE001  # the border: told through `failed`
                self._give_up(error)
            with self._changed:
                self._running = False
                self._changed.notify_all()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while True:
                if self._jobs:
                    self._running = True
                    return self._jobs.popleft()
                if self._closed:
                    return None
                polls = self._gate is not None
                if not self._changed.wait(_POLL_S if polls else None) and polls:
                    self._running = True
                    return self._poll

    def _give_up(self, error: Exception) -> None:
        """Tell what failed, unless it did because we left."""
        _log.debug("live link", exc_info=error)
        lost = isinstance(error, LinkLost) or self._state.status is LinkStatus.CONNECTING
        if self._leaving:
            self._hang_up()
            return
        if lost:
            self._hang_up(str(error))
        else:
            self._say(task="", done=0, wanted=0, error=str(error))
        self.failed.emit(error)

    def _say(self, **changes: Any) -> None:
        new = replace(self._state, **changes)
        if new != self._state:
            self._state = new
            self.state_changed.emit(new)

    # ---- what is done on it

    def _connect(self, host: str, port: int, token: str) -> None:
        self._say(status=LinkStatus.CONNECTING, address=f"{host}:{port}", error="")
        gate = Gate(host, port, token)
        with self._changed:
            self._gate = gate  # before it is open, so that `disconnect` can end the wait for it
        gate.open()
        self._take_image()
        self._say(status=LinkStatus.ON)
        self._recolor()

    def _hang_up(self, error: str = "") -> None:
        with self._changed:
            gate, self._gate, self._leaving = self._gate, None, False
        if gate is not None:
            gate.close()
        follow = self._state.follow
        self._follower.turn(follow)
        new = LinkState(follow=follow, error=error)
        if new != self._state:
            self._state = new
            self.state_changed.emit(new)

    def _poll(self) -> None:
        gate = self._linked()
        image = self._state.image
        if gate.key() != ("" if image is None else image.key):
            self._take_image()
        if self._follower.direction in (Follow.QUPATH, Follow.BOTH):
            self._ask_view(gate)

    def _ask_view(self, gate: Gate) -> None:
        slide, frame = self._state.slide, self._state.frame
        numbers = gate.view() if slide is not None else None
        if slide is None or frame is None or numbers is None:
            return
        view = view_on_slide(numbers, slide, frame)
        if self._follower.theirs(view):
            self.view_moved.emit(view)

    def _look(self) -> None:
        with self._changed:
            view, self._wanted_view = self._wanted_view, None
        gate, frame = self._gate, self._state.frame
        if view is None or gate is None or frame is None or view.slide != self._state.slide:
            return
        if self._follower.ours(view):
            numbers = gate.look(*view_in_qupath(view, frame))
            if numbers is not None:
                self._follower.sent(view_on_slide(numbers, view.slide, frame))

    def _take_image(self) -> None:
        """Find the open slide that QuPath shows, and where it lies on that."""
        image = self._linked().image()
        found = match(image, self._session.slides, self._known)
        slide = None if found.slide is None else found.slide.identity
        self._say(image=image, slide=slide, frame=found.frame, problem=found.problem)

    def _on_slides(self, _: object) -> None:
        if self._gate is not None:
            self._put(lambda: self._take_image() if self._gate is not None else None)

    def _open_image(self) -> None:
        image = self._linked().image()
        slide = self._session.open_slide(open_location(image))
        if image is not None:
            self._known[image.key] = slide.identity
        self._take_image()

    def _recolor(self) -> list[PathClass]:
        """Give our classes the colours that QuPath has for them; return QuPath's classes."""
        theirs = self._linked().classes()
        if self._state.slide is None:
            return theirs
        labels, changed = self._session.labels, {}
        colors = {name_key(one.name): one.hex_color for one in theirs}
        with labels.gesture():
            for ours in labels.classes:
                color = colors.get(name_key(ours.name), ours.color)
                if color != ours.color:
                    labels.recolor_class(ours.id, color)
                    changed[ours.name] = (ours.color, color)
        if changed:
            self.recolored.emit(changed)
        return theirs

    def _task(self, name: str, run: Callable[[], object]) -> None:
        self._cancelled = False
        self._take_image()
        if self._state.frame is None:
            raise LiveError(self._state.problem)
        self._say(task=name, done=0, wanted=0, error="")
        run()
        self._say(task="", done=0, wanted=0)

    def _pull(self, what: str) -> None:
        gate, (slide, frame) = self._linked(), self._here()
        if what not in ("annotations", "selected", "all"):
            raise LiveError(f"Annotations, selected or all objects can be pulled, not {what!r}.")
        self._recolor()
        objects: list[PathObject] = []
        problems: list[Problem] = []
        before = gate.key()
        with many_kept():
            for text in gate.objects(what):
                found = parse_geojson(text, "what QuPath sent")
                start = len(objects) + len(problems)
                problems += [Problem(start + p.index, p.reason) for p in found.problems]
                objects += to_slide(found.objects, frame)
                self._say(done=len(objects), wanted=len(objects))
                if self._cancelled:
                    return
        selected = gate.selected()
        self._still(gate, before, "Nothing was taken over; pull again.")
        self.pulled.emit(Pulled(slide.identity, tuple(objects), selected, frame, tuple(problems)))

    def _push(self, what: Cargo) -> None:
        gate, (slide, frame) = self._linked(), self._here()
        before, hierarchy = gate.key(), gate.hierarchy()
        self._recolor()
        cargo = gather(self._session, slide, what)
        gate.add_classes(classes_of(cargo))
        wanted, sent, added, replaced = count(cargo), 0, 0, 0
        began = time.perf_counter()
        self._say(wanted=wanted)
        try:
            for piece in pieces(cargo, frame):
                self._still(gate, before, "")
                new, old = gate.merge(hierarchy, piece.text)
                sent, added, replaced = sent + piece.n, added + new, replaced + old
                self._say(done=sent)
                if self._cancelled:
                    break
        except LiveError as error:
            kind = type(error)
            at_least = "At least " if kind is LinkLost else ""
            raise kind(f"{error} {at_least}{sent} of {wanted} objects had arrived.") from error
        seconds = time.perf_counter() - began
        self.pushed.emit(Pushed(slide.identity, sent, wanted, added, replaced, seconds))

    def _still(self, gate: Gate, key: str, then: str) -> None:
        """Raise LiveError if QuPath shows another image by now."""
        if gate.key() != key:
            self._take_image()
            raise LiveError(f"QuPath shows another image now, so this was stopped. {then}".strip())

    def _linked(self) -> Gate:
        if self._gate is None:
            raise LiveError("There is no link to QuPath; connect first.")
        return self._gate

    def _here(self) -> tuple[Slide, Frame]:
        slide = self._session.slides.get(self._state.slide or "")
        if slide is None or self._state.frame is None:
            raise LiveError(self._state.problem or "The slide was closed; open it again.")
        return slide, self._state.frame
