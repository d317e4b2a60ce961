"""What measurements in napari's real window share. Import it before napari: it sets places apart."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any

_place = tempfile.mkdtemp(prefix="napari-virchow-")
atexit.register(shutil.rmtree, _place, ignore_errors=True)
os.environ["NAPARI_CONFIG"] = f"{_place}/settings.yaml"
os.environ["NAPARI_VIRCHOW_STORE"] = f"{_place}/store"  # nobody's own: it is emptied

import napari  # noqa: E402
from qtpy.QtCore import QEventLoop, Qt, QTimer  # noqa: E402

TICK_MS = 5
LOOK_MS = 2


def wait(until: Callable[[], Any], seconds: float = 120.0) -> None:
    """Let Qt work until something is true.

    Qt sleeps between: a loop that asks it again and again would keep Python's lock from the threads
    that read and encode.
    """
    end = time.perf_counter() + seconds
    loop, timer = QEventLoop(), QTimer()
    timer.timeout.connect(lambda: loop.quit() if until() or time.perf_counter() > end else None)
    timer.start(LOOK_MS)
    if not until():
        loop.exec()
    timer.stop()
    if not until():
        raise TimeoutError(until)


def rest(seconds: float) -> None:
    """Let Qt work for a while."""
    end = time.perf_counter() + seconds
    wait(lambda: time.perf_counter() > end, seconds + 60)


def viewer_of(width: int, height: int) -> Any:
    """Open a window whose canvas is so large, in pixels, as far as the screen allows."""
    viewer = napari.Viewer(show=True)
    fit_canvas(viewer, width, height)
    return viewer


def fit_canvas(viewer: Any, width: int, height: int) -> None:
    """Make the window so large that its canvas has this size, as far as the screen allows."""
    window = canvas(viewer).parent().window()
    for _ in range(3):
        rest(0.1)
        high, wide = viewer.canvas.size
        window.resize(window.width() + width - wide, window.height() + height - high)
    rest(0.3)


def canvas(viewer: Any) -> Any:
    """Return the widget that napari draws on."""
    return viewer.window._qt_viewer.canvas.native


def on_drawn(viewer: Any, tell: Callable[[], object]) -> None:
    """Call `tell` after each frame."""
    scene = viewer.window._qt_viewer.canvas._scene_canvas
    scene.events.draw.connect(lambda _: tell(), position="last")


class Ticks:
    """A timer on the Qt thread: the time from one tick to the next is how long Qt stood still.

    `gaps` has pairs: seconds, and how many of them the Qt thread worked and did not wait.
    """

    def __init__(self) -> None:
        self.gaps: list[tuple[float, float]] = []
        self._last = time.perf_counter(), time.thread_time()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._on_tick)

    def begin(self) -> None:
        """Forget what was, and count from now on."""
        self.gaps.clear()
        self._last = time.perf_counter(), time.thread_time()
        self._timer.start()

    def end(self) -> None:
        """Stop counting."""
        self._on_tick()
        self._timer.stop()

    def _on_tick(self) -> None:
        now = time.perf_counter(), time.thread_time()
        self.gaps.append((now[0] - self._last[0], now[1] - self._last[1]))
        self._last = now
