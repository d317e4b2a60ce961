"""Start-up and memory of store, search and labels by how much there is.

    python benchmarks/large.py [--rows 100000] [--folder FOLDER] [--json]

One size in a process: stores of so many made-up embeddings of 2560 numbers, 50,000 on a slide, are
written to FOLDER (5 GB per million) and removed afterwards. Timed are opening all of them, reading
them for a search, the queries, and opening the journal of as many labels, at most 100,000, given in
strokes of 50. Memory is what the process holds more than before.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from search import DIM, bandwidth, write_stores

from napari_virchow.labels import LabelSet
from napari_virchow.search.bank import Bank
from napari_virchow.search.facts import Example, Options, Query
from napari_virchow.search.lookup import search_bank
from napari_virchow.search.rows import SlideRows
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Tile

PER_SLIDE, MOST_LABELS, STROKE, QUERIES = 50_000, 100_000, 50, 12


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what some work gives, its seconds, and how many MB more the process holds."""
    process = psutil.Process()
    gc.collect()
    before, began = process.memory_info().rss, time.perf_counter()
    made = work()
    seconds = time.perf_counter() - began
    return made, seconds, (process.memory_info().rss - before) / 1e6


def write_labels(journal: Path, n: int) -> None:
    """Label `n` tiles with eight classes, in strokes."""
    with LabelSet(journal) as labels:
        classes = [labels.add_class(f"class {number}") for number in range(8)]
        for start in range(0, n, STROKE):
            tiles = [Tile(*divmod(number, 400)) for number in range(start, start + STROKE)]
            labels.label("slide", "grid", tiles, classes[start // STROKE % 8].id)


def measure(root: Path, n_rows: int) -> dict[str, float]:
    """Return every figure of one size."""
    kind = write_stores(root, n_rows, max(1, n_rows // PER_SLIDE))
    paths = Bank(root, kind).paths()

    def open_all() -> list[EmbeddingStore]:
        facts = [SlideRows(path) for path in paths]
        return [
            EmbeddingStore(path, one.grid, one.dim, None)
            for path, one in zip(paths, facts, strict=True)
        ]

    def read_all() -> Bank:
        bank = Bank(root, kind)
        bank.read_all()
        return bank

    stores, opened_s, opened_mb = timed(open_all)
    found: dict[str, float] = {"rows": sum(one.n_tiles for one in stores), "dim": DIM}
    found |= {"slides": len(stores), "opened_s": opened_s, "opened_mb": opened_mb}
    for store in stores:
        store.close()
    bank, read_s, read_mb = timed(read_all)
    slides, rng, times = bank.loaded(), np.random.default_rng(5), []
    how = Options(scope="store", k=200, exclude_within=0)
    for number in range(QUERIES + 1):
        one = slides[number % len(slides)]
        example = Example(one.slide, Tile(*one.tiles[rng.integers(len(one))].tolist()), "", 0.5)
        began = time.perf_counter()
        search_bank(bank, Query((example,), (), how), None, slides[0].slide, lambda s: (s, ""))
        times.append(1e3 * (time.perf_counter() - began))
    found |= {"search_read_s": read_s, "search_mb": read_mb}
    found |= {"query_ms": statistics.median(times[1:]), "query_worst_ms": max(times[1:])}
    del bank, slides
    found["memory_gb_per_s"] = bandwidth()
    journal = root / "labels"
    write_labels(journal, min(n_rows, MOST_LABELS))
    labels, labels_s, labels_mb = timed(lambda: LabelSet(journal))
    found |= {"labels": len(labels.labels()), "labels_s": labels_s, "labels_mb": labels_mb}
    labels.close()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=given.folder, prefix="napari-virchow-large-"))
    load = os.getloadavg()[0]
    try:
        found = measure(root, given.rows) | {"load": load}
    finally:
        shutil.rmtree(root)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(f"{name}: {value:,.4g}" if value < 1e4 else f"{name}: {value:,.0f}")


if __name__ == "__main__":
    main()
