"""How long napari's window stands still while 100,000 tiles come in, are drawn and go out.

    xvfb-run -a -s "-screen 0 1920x1200x24 +extension GLX" python benchmarks/qupath_dock.py [n_tiles]

A timer of the window's own thread ticks every millisecond; printed are, for each part, seconds and
the longest time between two ticks. What napari needs to add a layer of its own is printed apart.
The last parts go through the tab Live to the stand-in for QuPath of the tests, which needs a JDK.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
import pytest
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from qtpy.QtCore import QEventLoop, Qt, QTimer
from qtpy.QtTest import QTest
from tests.qupath_stub import TOKEN, QuPathStub, compile_stub

from napari_virchow._napari.import_box import Here
from napari_virchow._napari.object_layers import ObjectLayers
from napari_virchow._napari.qupath import QuPathWidget
from napari_virchow._napari.viewer import session_of
from napari_virchow.labels.edits import LabelClass
from napari_virchow.qupath.export import SlideTiles, write_tiles
from napari_virchow.qupath.frame import SlideBox, whole_slide
from napari_virchow.qupath.uris import uri_of_path
from napari_virchow.sample import write_sample
from napari_virchow.session import Session
from napari_virchow.tiles import Tile

CLASSES = [LabelClass(1, "Tumor", "#c80000"), LabelClass(2, "Stroma", "#96c896")]


class Heart:
    """Beats in the window's thread and remembers the longest pause."""

    def __init__(self) -> None:
        self.last = time.perf_counter()
        self.longest = 0.0
        self.timer = QTimer()
        self.timer.setTimerType(Qt.TimerType.PreciseTimer)
        self.timer.setInterval(1)
        self.timer.timeout.connect(self.beat)
        self.timer.start()

    def beat(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self.last)
        self.last = now

    def timed(self, what, begin, done):
        QTest.qWait(300)
        self.longest, self.last = 0.0, time.perf_counter()
        start = time.perf_counter()
        begin()
        # No qWait: it sleeps 10 ms at a time.
        loop, look = QEventLoop(), QTimer()
        look.timeout.connect(lambda: loop.quit() if done() else None)
        look.start(10)
        loop.exec()
        look.stop()
        took, longest = time.perf_counter() - start, self.longest
        print(f"{what:<36}{took:8.2f} s, longest pause {1000 * longest:6.0f} ms", flush=True)


def main(n: int = 100_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        slide_path, path = Path(folder) / "slide.tif", Path(folder) / "tiles.geojson"
        width, height = 2048, 1536
        write_sample(slide_path, width=width, height=height)
        viewer = napari.Viewer(show=True)
        viewer.open(str(slide_path), plugin="napari-virchow")
        session = session_of(viewer, make=lambda: Session(Path(folder) / "store"))
        dock = QuPathWidget(viewer)
        viewer.window.add_dock_widget(dock, name="QuPath")
        while dock.layers is None or dock.layers.busy:
            QTest.qWait(20)
        run(viewer, session, dock, path, n)
        try:
            stub = QuPathStub(compile_stub(Path(folder)))
        except pytest.skip.Exception as error:
            print(error)
        else:
            stub.show(uri_of_path(slide_path), width, height)
            link(session, dock, stub, n)
            stub.kill()
        viewer.close()


def run(viewer, session, dock, path, n):
    slide = dock._slide
    grid = slide.grid(0.5, 4)  # tiles of 4 px: as many as wanted on a small slide
    tiles = np.column_stack(np.divmod(np.arange(n), grid.shape[1])).astype(np.int32)
    where = SlideTiles(slide.identity, grid, tiles, whole_slide(SlideBox.of(slide)))
    columns = {f"m{k}": np.random.default_rng(k).random(n) for k in range(4)}
    write_tiles(path, where, np.arange(n) % 2 + 1, CLASSES, columns)
    heart, box, out = Heart(), dock.import_box, dock.export_box
    heart.timed("nothing", lambda: None, lambda: time.perf_counter() - heart.last > 0.001)
    layer = []
    colors = DirectLabelColormap(color_dict={None: (0, 0, 0, 0), 1: (1, 0, 0, 1)})
    own = Labels(np.ones((9, 9), np.uint8), colormap=colors, scale=dock._layer.scale, units="um")
    # The first compiles, with numba, what maps labels to colours
    heart.timed("a layer of napari's own", lambda: layer.append(viewer.add_layer(own)), layer.copy)
    QTest.qWait(500)
    viewer.layers.remove(layer[0])
    heart.timed("read", lambda: box.look_into(path), lambda: box.incoming is not None)
    heart.timed(
        "take over and draw",
        box.take.click,
        lambda: dock.layers.picture is not None and not dock.layers.busy,
    )
    heart.timed("save what was taken over", lambda: None, lambda: dock.layers.kept.flush(0.001))
    out.here = Here(session, slide, dock.layers.kept)
    dock.tabs.setCurrentIndex(2)
    heart.timed("preview of the export", out.refresh, lambda: out.outgoing is not None)
    again = path.with_name("again.geojson")
    heart.timed(
        "export", lambda: out.write(again), lambda: again.exists() and out.progress.isHidden()
    )
    assert isinstance(dock.layers, ObjectLayers)


def link(session, dock, stub, n):
    """Push what was taken over, then as many labelled tiles; pull all of it."""
    heart, box, slide = Heart(), dock.live_box, dock._slide
    told = []
    for signal in (session.live.pushed, session.live.pulled, session.live.failed):
        signal.connect(told.append)
    box.told.connect(told.append)
    grid = slide.grid(0.5, 4)
    tumor = session.labels.add_class("Tumor", "#c80000").id
    tiles = [Tile(*divmod(number, grid.shape[1])) for number in range(n)]
    session.labels.label(slide.identity, grid.name, tiles, tumor)
    dock.tabs.setCurrentIndex(4)
    box.port.setValue(stub.port)
    QTest.keyClicks(box.token, TOKEN)

    def clicked(made, combo=None, text=""):
        if combo is not None:
            combo.setCurrentText(text)
        told.clear()
        QTest.mouseClick(made, Qt.MouseButton.LeftButton)

    heart.timed("connect", lambda: clicked(box.connect_), box.pull.isEnabled)
    for text in ("Annotations", "Labelled tiles", "Labelled tiles"):
        heart.timed(
            f"push: {text.lower()}",
            lambda text=text: clicked(box.push, box.push_what, text),
            lambda: len(told) > 1 and box.push.isEnabled(),
        )
        print(*told[1:], f"{stub.control.count():,} there")
    heart.timed(
        "pull: all objects",
        lambda: clicked(box.pull, box.pull_what, "All objects"),
        lambda: len(told) > 1 and not dock.layers.busy,
    )
    print(*told[1:])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
