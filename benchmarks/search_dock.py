"""From an example to the gallery and heat map in napari's window, on the sample slide.

    xvfb-run -a -s "-screen 0 1920x1200x24 +extension GLX" python benchmarks/search_dock.py [--clicks 20] [--while-embedding] [--json]

Each time a tile is added to the query, as Shift-click does, half a second after the last. Printed are the milliseconds until the
answer is there, until gallery and heat map have taken it in, and until the next frame is on the screen. With `--while-embedding` the slide is
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

from napari_virchow._napari.search_results import SearchResults
from napari_virchow.sample import sample_slide
from napari_virchow.tiles import Tile

AT_LEAST = 700  # tiles that are embedded before the first click


def note_when_taken_in() -> list[tuple[float, Any]]:
    """Return the list that gets (when, answer) each time the widget has taken in an answer."""
    taken: list[tuple[float, Any]] = []
    show_answer = SearchResults.show_answer

    def show_and_note(self: SearchResults, answer: Any) -> None:
        show_answer(self, answer)
        taken.append((time.perf_counter(), answer))

    SearchResults.show_answer = show_and_note
    return taken


def first(query: Any, noted: list[tuple[float, Any]]) -> float:
    """Return when a query was first answered."""
    return next(when for when, one in noted if one.query == query)


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
    taken = note_when_taken_in()
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
    frames: list[float] = []
    window.canvas(viewer).frameSwapped.connect(lambda: frames.append(time.perf_counter()))
    rng = np.random.default_rng(0)
    rows: dict[str, list[float]] = {"answer": [], "taken in": [], "on the screen": []}
    before, start = session.progress.done, time.perf_counter()
    for number, place in enumerate(rng.choice(tiles, given.clicks + 2, replace=False)):
        tile = Tile(*place.tolist())
        if number % 3 == 0:
            session.similarity.clear()
        window.rest(0.5)  # as long as a person's next click takes at least
        answers.clear(), taken.clear(), frames.clear()
        began = time.perf_counter()
        dock.add([tile], True)
        query = session.similarity.query
        wait(lambda q=query: all(any(one.query == q for _, one in n) for n in (answers, taken)))
        found = [first(query, answers), first(query, taken)]
        wait(lambda since=found[1]: frames and frames[-1] > since)
        found.append(next(when for when in frames if when > found[1]))
        if number >= 2:  # the first make layers
            for row, when in zip(rows.values(), found, strict=True):
                row.append(1000 * (when - began))
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
