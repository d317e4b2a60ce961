"""Looking at a slide in napari's window: results after a move, time per move, panning for long.

    xvfb-run -a -s "-screen 0 2560x1600x24 +extension GLX" \\
        python benchmarks/view.py [--folder FOLDER] [--views 8] [--seconds 60] [--json]

The slide has 100,000 x 100,000 px; the dock "Embeddings" is open, with `texture`; the canvas is
1920 x 1080, and one of its pixels is one of the slide at 0.5 µm/px. Timed are

- views: from the camera's last move, and from when the dock takes it for settled, until the frame
  with the first result is drawn, and until the frame with the whole view is. Each is a place that
  was not looked at before, some tiles apart from the others;
- moves: the time that moving the camera takes on the Qt thread, with the dock and in a window
  without it, and what the dock does once when the camera has settled;
- panning: the longest pauses of a timer on the Qt thread, of which so much was its own work, and
  memory, while the camera goes over the slide with a rest every 2 s. The same is done with blank
  levels of the same size, which cost nothing to read: what napari itself needs, most of it waiting
  for frames where there is no graphics card.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import window
from big_slide import big_slide
from qtpy.QtCore import QTimer

from napari_virchow._napari.embedding import EmbeddingWidget
from napari_virchow._napari.viewer import slide_view
from napari_virchow.states import TileState
from napari_virchow.tiles import Rect, TileGrid

MPP = 0.5
WIDE, HIGH = 1920, 1080
APART = 3  # tiles between two windows
STEP_PX = 40  # of one move while panning, on the screen
MOVES_S, REST_S = 2.0, 0.4
FRAME_MS = 16


class BlankLevel:
    """A level of a slide that is all grey and costs nothing."""

    ndim = 3
    dtype = np.dtype(np.uint8)

    def __init__(self, height: int, width: int) -> None:
        self.shape, self.chunks = (height, width, 3), (512, 512, 3)
        self.size = height * width * 3

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        whole = np.broadcast_to(np.uint8(200), self.shape)
        return np.ascontiguousarray(whole[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:, :]


def memory_mb() -> float:
    """Return how much memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def look_at(viewer: Any, layer: Any, x: float, y: float) -> None:
    """Put level-0 pixel (x, y) into the middle of the window."""
    viewer.scene.camera.center = tuple(layer.data_to_world((y - 0.5, x - 0.5)))


def tissue_views(
    slide: Any, grid: TileGrid, tissue: np.ndarray, n: int
) -> list[tuple[float, float]]:
    """Return the middles of `n` windows with the most tissue that share no tile, in level-0 pixels."""
    step_x, step_y = grid.step
    rows, cols = int(HIGH * MPP / slide.mpp[1] // step_y), int(WIDE * MPP / slide.mpp[0] // step_x)
    sums = np.pad(tissue.astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    held = sums[rows:, cols:] - sums[:-rows, cols:] - sums[rows:, :-cols] + sums[:-rows, :-cols]
    found: list[tuple[float, float]] = []
    while len(found) < n and held.max() > 0:
        row, col = (int(i) for i in np.unravel_index(int(held.argmax()), held.shape))
        found.append(((col + cols / 2) * step_x, (row + rows / 2) * step_y))
        high, wide = rows + APART, cols + APART
        held[max(0, row - high) : row + high + 1, max(0, col - wide) : col + wide + 1] = 0
    return found


class Frames:
    """Notes when a frame was drawn that shows results: their number in the view, and when."""

    def __init__(self, viewer: Any, dock: EmbeddingWidget) -> None:
        self.drawn: list[tuple[float, int, int]] = []  # when, embedded, wanted
        self._viewer, self._dock, self._counted = viewer, dock, (0, 0)
        self._layer: Any = None
        window.on_drawn(viewer, self._on_drawn)

    def begin(self) -> None:
        """Forget what was drawn."""
        self.drawn.clear()
        self._counted = 0, 0
        tiles = self._dock.tile_layer
        if tiles is not None and tiles.layer is not None and tiles.layer is not self._layer:
            self._layer = tiles.layer
            self._layer.events.set_data.connect(self._count)

    @property
    def complete(self) -> bool:
        """Whether a frame with everything in view was drawn."""
        return any(there == wanted > 0 for _, there, wanted in self.drawn)

    def _count(self, event: object = None) -> None:
        """Count what the next frame will show."""
        view, shown = slide_view(self._viewer, self._dock._layer), self._dock.tile_layer.shown
        rect = view.rect.intersect(Rect(0, 0, self._dock._slide.width, self._dock._slide.height))
        tiles = np.array(list(shown.grid.tiles_in(rect))).reshape(-1, 2)
        states = self._layer.data[tiles[:, 0], tiles[:, 1]] % 8
        there = int((states == TileState.EMBEDDED).sum())
        self._counted = there, there + int((states == TileState.WAITING).sum())

    def _on_drawn(self) -> None:
        self.drawn.append((time.perf_counter(), *self._counted))


def measure_views(viewer: Any, dock: EmbeddingWidget, n: int) -> dict[str, Any]:
    """Go to `n` places that nobody has seen, and time what the user waits for."""
    session, slide, layer = dock.session, dock._slide, dock._layer
    assert slide is not None and layer is not None
    grid = slide.grid(MPP)
    places = tissue_views(slide, grid, session.tissue(slide, grid), n + 1)
    settled: list[float] = []
    dock._camera.settled.connect(lambda: settled.append(time.perf_counter()))
    frames, found = Frames(viewer, dock), []
    for x, y in places:
        window.wait(lambda: session.wait(0.0))
        window.rest(0.3)
        frames.begin()
        settled.clear()
        moved = time.perf_counter()
        look_at(viewer, layer, x, y)
        window.wait(lambda: settled and frames.complete)
        first = next(when for when, there, _ in frames.drawn if there and when > settled[0])
        whole = next(when for when, there, wanted in frames.drawn if there == wanted > 0)
        found.append(
            (first - moved, first - settled[0], whole - moved, whole - settled[0], there_of(frames))
        )
    rows = 1e3 * np.array([row[:4] for row in found[1:]])  # the first opens store and layers
    names = "first_ms", "first_after_settled_ms", "whole_ms", "whole_after_settled_ms"
    out: dict[str, Any] = {"views": len(rows), "tiles": statistics.median(r[4] for r in found[1:])}
    for name, column in zip(names, rows.T, strict=True):
        out[name] = {"median": statistics.median(column), "worst": float(column.max())}
    return out


def there_of(frames: Frames) -> int:
    """Return how many tiles were in the last frame."""
    return frames.drawn[-1][1]


def measure_moves(viewer: Any, layer: Any, n: int) -> list[float]:
    """Move the camera `n` times, and return the milliseconds of each on the Qt thread."""
    camera, took = viewer.scene.camera, []
    y, x = camera.center[-2:]
    for number in range(n):
        began = time.perf_counter()
        camera.center = (y + number * float(layer.scale[0]), x)
        took.append(1e3 * (time.perf_counter() - began))
    window.rest(0.5)
    return took


def measure_panning(viewer: Any, layer: Any, seconds: float) -> dict[str, Any]:
    """Let the camera go over the slide for a while, and watch the Qt thread and memory."""
    camera, ticks = viewer.scene.camera, window.Ticks()
    height, width = layer.data[0].shape[:2]
    scale_y, scale_x = np.asarray(layer.scale)[-2:]
    step = STEP_PX / camera.zoom
    way = np.array([0.6, 0.8]) * step
    began, memory = time.perf_counter(), [memory_mb()]

    def move() -> None:
        now = time.perf_counter() - began
        if len(memory) == 1 and now > seconds / 2:
            memory.append(memory_mb())
        if now % (MOVES_S + REST_S) > MOVES_S:
            return
        at = np.array(camera.center[-2:]) + way
        for axis, end in enumerate((height * scale_y, width * scale_x)):
            if not 0.2 * end < at[axis] < 0.8 * end:  # back, one window further
                way[axis] = abs(way[axis]) * (1 if at[axis] < end / 2 else -1)
        camera.center = tuple(at)

    timer = QTimer()
    timer.setInterval(FRAME_MS)
    timer.timeout.connect(move)
    frames: list[float] = []
    window.on_drawn(viewer, lambda: frames.append(time.perf_counter()))
    timer.start()
    ticks.begin()
    window.rest(seconds)
    ticks.end()
    timer.stop()
    memory.append(memory_mb())
    gaps, works = np.sort(1e3 * np.array(ticks.gaps), axis=0)[::-1].T
    return {
        "seconds": seconds,
        "frames_per_s": len(frames) / seconds,
        "longest_ms": float(gaps[0]),
        "longest_work_ms": float(works[0]),
        "next_longest_ms": [round(float(gap), 1) for gap in gaps[1:6]],
        "share_above_50_ms": float(gaps[gaps > 50].sum() / gaps.sum()),
        "memory_mb": [round(value) for value in memory],
    }


def measure(path: Path, n_views: int, seconds: float) -> dict[str, Any]:
    """Measure everything in one window after another."""
    viewer = window.viewer_of(WIDE, HIGH)
    viewer.open(str(path), plugin="napari-virchow")
    dock = EmbeddingWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Embeddings")
    window.wait(lambda: dock.session.encoder is not None and dock._slide is not None)
    slide, layer = dock._slide, dock._layer
    assert slide is not None and slide.mpp is not None and layer is not None
    window.fit_canvas(viewer, WIDE, HIGH)
    viewer.scene.camera.zoom = slide.mpp[0] / MPP / float(layer.scale[-1])
    window.wait(lambda: dock.mpp is not None and dock.session.wait(0.0))
    high, wide = viewer.canvas.size
    found: dict[str, Any] = {
        "slide": f"{slide.width:,} × {slide.height:,}",
        "canvas": f"{wide} × {high}",
        "views": measure_views(viewer, dock, n_views),
    }
    took: list[float] = []
    settle = dock._on_settled

    def timed() -> None:
        began = time.perf_counter()
        settle()
        took.append(1e3 * (time.perf_counter() - began))

    dock._camera.settled.disconnect(dock._on_settled)
    dock._camera.settled.connect(timed)
    moves = measure_moves(viewer, layer, 200)
    panned = measure_panning(viewer, layer, seconds)
    shape, scale, zoom = layer.data[0].shape, layer.scale, viewer.scene.camera.zoom
    viewer.close()
    window.rest(0.5)
    viewer = window.viewer_of(WIDE, HIGH)
    levels = [BlankLevel(shape[0] >> n, shape[1] >> n) for n in range(8) if shape[0] >> n > 300]
    blank = viewer.add_image(
        levels, rgb=True, multiscale=True, scale=scale, contrast_limits=(0, 255)
    )
    window.fit_canvas(viewer, WIDE, HIGH)
    viewer.scene.camera.zoom = zoom
    window.rest(0.5)
    alone = measure_moves(viewer, blank, 200)
    found["moves"] = {
        "with_dock_ms": {"median": statistics.median(moves), "worst": max(moves)},
        "napari_alone_ms": {"median": statistics.median(alone), "worst": max(alone)},
        "settled_ms": {"median": statistics.median(took), "worst": max(took)},
    }
    found["panning"] = panned
    found["panning, napari alone"] = measure_panning(viewer, blank, min(seconds, 20))
    viewer.close()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    found = measure(big_slide(given.folder), given.views, given.seconds)
    if given.json:
        print(json.dumps(found | {"load": load}, indent=1))
        return
    print(f"{os.cpu_count()} processors, load {load:.1f} at the start")
    for name, value in found.items():
        print(f"{name}: {json.dumps(value) if isinstance(value, dict) else value}")


if __name__ == "__main__":
    main()
