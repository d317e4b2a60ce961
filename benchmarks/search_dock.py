"""From an example to the gallery and heat map in napari's window, on the sample slide.

    xvfb-run -a -s "-screen 0 1920x1200x24 +extension GLX" python benchmarks/search_dock.py [--clicks 20] [--while-embedding] [--json]

Each time a tile is added to the query, as Shift-click does, half a second after the last. Printed are the milliseconds until the
answer is there, until gallery and layers have taken it in, and until the window has drawn it. With `--while-embedding` the slide is
one of 100,000 x 100,000 px, and `texture` embeds it all the time.
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

import napari
import numpy as np
import window
from big_slide import big_slide
from window import wait

from napari_virchow.sample import sample_slide
from napari_virchow.tiles import Tile

AT_LEAST = 700  # tiles that are embedded before the first click


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clicks", type=int, default=20)
    parser.add_argument("--while-embedding", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    busy = given.while_embedding
    slide = big_slide(given.folder) if busy else sample_slide()
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1280, 720)
    viewer.open(str(slide), plugin="napari-virchow")
    _, dock = viewer.window.add_plugin_dock_widget("napari-virchow", "Similarity search")
    session = dock.session
    wait(lambda: session.encoder is not None and dock._slide is not None and dock.mpp is not None)
    session.embed_slide(dock._slide, mpp=dock.mpp)
    wait(lambda: session.progress.done > AT_LEAST if busy else session.wait(0.01))
    tiles, _ = session.embeddings(dock._slide, dock.mpp)
    answers: list[tuple[float, Any]] = []  # (when, answer), from the search's thread
    session.similarity.answered.connect(lambda one: answers.append((time.perf_counter(), one)))
    rng = np.random.default_rng(0)
    rows: dict[str, list[float]] = {"answer": [], "taken in": [], "drawn": []}

    def first_shown() -> float | None:
        """Return when the first answer to the present query came, once such a one is shown."""
        shown, query = dock.results.answer, session.similarity.query
        if shown is None or shown.query != query:
            return None
        return next((when for when, one in answers if one.query == query), None)

    before, start = session.progress.done, time.perf_counter()
    for number in range(given.clicks + 2):
        tile = Tile(*map(int, tiles[rng.integers(len(tiles))]))
        if number % 3 == 0:
            session.similarity.clear()
        window.rest(0.5)  # as long as a person's next click takes at least
        answers.clear()
        began = time.perf_counter()
        dock.add([tile], True)
        wait(lambda: first_shown() is not None)
        answered, taken = first_shown(), time.perf_counter()
        window.canvas(viewer).repaint()
        drawn = time.perf_counter()
        if number >= 2:  # the first make layers
            rows["answer"].append(1000 * (answered - began))
            rows["taken in"].append(1000 * (taken - began))
            rows["drawn"].append(1000 * (drawn - began))
    rate = (session.progress.done - before) / (time.perf_counter() - start)
    if busy and session.wait(0):
        raise SystemExit("The slide was embedded before the last click: nothing was measured.")
    session.cancel()
    viewer.close()
    found = {
        name: {"median": statistics.median(values), "worst": max(values)}
        for name, values in rows.items()
    }
    if given.json:
        print(
            json.dumps(
                {"tiles": len(tiles), "embedded_per_s": rate, "load": load, "ms": found}, indent=1
            )
        )
        return
    print(
        f"{len(tiles):,} tiles, {rate:.0f} more per second, load {load:.1f} at the start; "
        "milliseconds since the click"
    )
    print("| | median | worst |\n|---|---:|---:|")
    for name, row in found.items():
        print(f"| {name} | {row['median']:.0f} | {row['worst']:.0f} |")


if __name__ == "__main__":
    main()
