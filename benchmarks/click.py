"""From a click on a tile to the repainted map: the whole way, at 10,000 and 100,000 tiles × 2560.

    python benchmarks/click.py [--tiles 10000 100000] [--labels 80] [--clicks 25] [--json]

A slide of random embeddings with eight classes is put into a store; then tiles are labelled one by
one, as the dock does it, in napari's own layers without a window. What is timed is what the user
waits for: the label is set, the classifier trained, every tile predicted, and the new class raster
in its layer. The time to send the raster to the graphics card and to draw a frame is not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from napari.components import ViewerModel

from napari_virchow._napari.class_layers import ClassLayers
from napari_virchow.session import Session
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Tile, TileGrid

DIM, N_CLASSES = 2560, 8
ENCODER = "random-0-class+mean"


class BareSlide(SimpleNamespace):
    """A slide of which only embeddings are needed."""

    def grid(self, mpp: float = 0.5, tile_px: int = 224) -> TileGrid:
        return TileGrid(self.width, self.height, self.mpp, mpp, tile_px)

    def close(self) -> None:
        pass


def fill(root: Path, slide: BareSlide) -> np.ndarray:
    """Store embeddings of clusters that overlap; returns the class of each tile, from 1."""
    rng = np.random.default_rng(0)
    rows, cols = slide.grid().shape
    kinds = (np.arange(rows)[:, None] // 9 + np.arange(cols) // 9) % N_CLASSES + 1
    mix = rng.normal(size=(64, DIM)).astype(np.float32)
    key: dict[str, Any] = {"slide": slide.identity, "encoder": ENCODER, "grid": slide.grid()}
    with EmbeddingStore.open(root, **key, dim=DIM, writable=True) as store:
        for row in range(rows):
            inner = rng.normal(size=(cols, 64)).astype(np.float32)
            inner[:, :N_CLASSES] += 3 * np.eye(N_CLASSES, dtype=np.float32)[kinds[row] - 1]
            made = inner @ mix + rng.standard_normal((cols, DIM), np.float32)
            store.append([Tile(row, col) for col in range(cols)], made)
    return kinds


def measure(n_tiles: int, n_labels: int, n_clicks: int) -> dict[str, Any]:
    """Click `n_clicks` times with `n_labels` labels there, and time each part."""
    side = round(n_tiles**0.5)
    size = {"width": side * 224, "height": side * 224, "mpp": (0.5, 0.5)}
    names = {"identity": "bench", "name": "bench", "path": "bench", "brightfield": False}
    slide = BareSlide(**size, **names)
    encoder: Any = SimpleNamespace(
        identity=ENCODER, dim=DIM, spec=SimpleNamespace(name="random", allowed_mpp=(0.5,))
    )
    viewer = ViewerModel()
    below = viewer.add_image(np.zeros((64, 64)), scale=(size["height"] / 64,) * 2)
    with tempfile.TemporaryDirectory() as folder, Session(Path(folder)) as session:
        kinds = fill(Path(folder), slide)
        session.add_slide(slide)  # type: ignore[arg-type]
        session.use_encoder(encoder)
        live = session.classification
        classes = [live.labels.add_class(f"class {n}") for n in range(N_CLASSES)]
        layers = ClassLayers(viewer, slide, below, None)  # type: ignore[arg-type]
        layers.set_classes(classes)
        layers.show_labels({}, slide.grid())
        order = np.random.default_rng(1).permutation(side * side)
        tiles = [Tile(int(n) // side, int(n) % side) for n in order]
        for tile in tiles[:n_labels]:
            live.labels.label("bench", slide.grid().name, [tile], classes[kinds[tile] - 1].id)
        began = time.perf_counter()
        live.look_at(slide, 0.5)  # type: ignore[arg-type]
        assert live.wait(600)
        opened = time.perf_counter() - began
        arrived, given = threading.Event(), n_labels
        live.predicted.connect(lambda map_: map_.n_labels == given and arrived.set())
        times = []
        for tile in tiles[n_labels : n_labels + n_clicks]:
            while live.busy:  # a person pauses between clicks: metrics and queue are done then
                live.wait(60)
            arrived.clear()
            given += 1
            t = [time.perf_counter()]
            live.label(slide, 0.5, [tile], classes[kinds[tile] - 1].id)  # type: ignore[arg-type]
            layers.show_labels(live.labels.get("bench", slide.grid().name), slide.grid())
            t.append(time.perf_counter())
            assert arrived.wait(60)
            t.append(time.perf_counter())
            painted = live.painted
            layers.show_painted(painted)
            t.append(time.perf_counter())
            assert painted is not None and painted.n_labels == given
            times.append([t[3] - t[0], t[1] - t[0], painted.seconds, t[3] - t[2]])
    found = 1e3 * np.array(times)
    parts = ("total", "label set and drawn", "trained and predicted", "map drawn")
    row: dict[str, Any] = {"tiles": side * side, "labels": n_labels, "opened_s": opened}
    for part, column in zip(parts, found.T, strict=True):
        row[part] = {"median_ms": statistics.median(column), "worst_ms": float(column.max())}
    return row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--labels", type=int, default=80)
    parser.add_argument("--clicks", type=int, default=25)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    rows = [measure(n, given.labels, given.clicks) for n in given.tiles]
    if given.json:
        print(json.dumps({"processors": os.cpu_count(), "load": load, "rows": rows}, indent=1))
        return
    print(
        f"{os.cpu_count()} processors, load {load:.1f} at the start. Milliseconds: median (worst)"
    )
    print(f"of {given.clicks} clicks, {DIM} numbers per tile, {N_CLASSES} classes.\n")
    print("| tiles | labels | click → map | label set and drawn | trained, predicted | map drawn |")
    print("|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        cells = [f"{v['median_ms']:.0f} ({v['worst_ms']:.0f})" for v in list(row.values())[3:]]
        print(f"| {row['tiles']:,} | {row['labels']} | {' | '.join(cells)} |")
    print()
    for row in rows:
        print(f"- {row['tiles']:,} tiles: first map {row['opened_s']:.1f} s after looking at it.")


if __name__ == "__main__":
    main()
