"""From an example to the gallery and heat map in napari's window, on the sample slide.

    xvfb-run -a -s "-screen 0 1920x1200x24 +extension GLX" python benchmarks/search_dock.py [n]

Each time a tile is added to the query, as Shift-click does. Printed are the milliseconds until the
answer is there, until gallery and layers have taken it in, and until the window has drawn it.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time

os.environ["NAPARI_CONFIG"] = tempfile.mkdtemp() + "/settings.yaml"
os.environ.setdefault("NAPARI_VIRCHOW_STORE", tempfile.mkdtemp())

import napari  # noqa: E402
import numpy as np  # noqa: E402
from qtpy.QtWidgets import QApplication  # noqa: E402

from napari_virchow.sample import sample_slide  # noqa: E402
from napari_virchow.tiles import Tile  # noqa: E402


def wait(until, seconds=120.0):
    end = time.perf_counter() + seconds
    while not until():
        QApplication.processEvents()
        if time.perf_counter() > end:
            raise TimeoutError(until)


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1280, 720)
    viewer.open(str(sample_slide()), plugin="napari-virchow")
    _, dock = viewer.window.add_plugin_dock_widget("napari-virchow", "Similarity search")
    session = dock.session
    wait(lambda: session.encoder is not None and dock._slide is not None and dock.mpp is not None)
    session.embed_slide(dock._slide, mpp=dock.mpp)
    wait(lambda: session.wait(0.01))
    tiles, _ = session.embeddings(dock._slide, dock.mpp)
    answers = []  # (when, answer), from the search's thread
    session.similarity.answered.connect(lambda one: answers.append((time.perf_counter(), one)))
    rng = np.random.default_rng(0)
    rows: dict[str, list[float]] = {"answer": [], "taken in": [], "drawn": []}
    for number in range(n + 2):
        tile = Tile(*map(int, tiles[rng.integers(len(tiles))]))
        if number % 3 == 0:
            session.similarity.clear()
            wait(lambda: not session.similarity.busy)
        answers.clear()
        began = time.perf_counter()
        dock.add([tile], True)
        wait(lambda: answers and dock.results.answer is answers[-1][1])
        taken = time.perf_counter()
        viewer.window._qt_viewer.canvas.native.repaint()
        drawn = time.perf_counter()
        if number >= 2:  # the first make layers
            rows["answer"].append(1000 * (answers[-1][0] - began))
            rows["taken in"].append(1000 * (taken - began))
            rows["drawn"].append(1000 * (drawn - began))
        wait(lambda: not session.similarity.busy)
    print(f"{len(tiles):,} tiles, load {os.getloadavg()[0]:.1f}; milliseconds since the click")
    print("| | median | worst |\n|---|---:|---:|")
    for name, values in rows.items():
        print(f"| {name} | {statistics.median(values):.0f} | {max(values):.0f} |")
    viewer.close()


if __name__ == "__main__":
    main()
