"""How fast the store appends, opens, looks up and loads, beside the plainest file there can be.

Prints a Markdown table, or JSON with --json. Ratios matter more than the numbers of one machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from napari_virchow.shelf import list_stored
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Tile, TileGrid


def timed(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the median seconds of some runs, after one that warms up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def forget_pages(folder: Path) -> None:
    """Ask the system to drop a folder's files from memory, so that the next read meets the disk."""
    os.sync()
    for file in folder.rglob("*"):
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def block_order(grid: TileGrid) -> list[Tile]:
    """Return all tiles as the engine's background work takes them."""
    rows, cols = grid.shape
    return sorted(
        (Tile(r, c) for r in range(rows) for c in range(cols)),
        key=lambda t: (t.row // 8, t.col // 8, t),
    )


def measure(root: Path, n_rows: int, dim: int, batch: int) -> dict[str, float]:
    """Return the name and value of every measurement."""
    cols = 320
    grid = TileGrid(224 * cols, 224 * (n_rows // cols), (0.5, 0.5))
    key = {"slide": "bench", "encoder": "random", "grid": grid, "dim": dim}
    tiles = block_order(grid)
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((batch, dim), np.float32)
    found: dict[str, float] = {"tiles": len(tiles), "dim": dim, "batch": batch}

    with EmbeddingStore.open(root, **key, writable=True) as store:
        start = time.perf_counter()
        for first in range(0, len(tiles), batch):
            part = tiles[first : first + batch]
            store.append(part, rows[: len(part)])
        found["append_rows_per_s"] = len(tiles) / (time.perf_counter() - start)
        view = [Tile(r, c) for r in range(50, 56) for c in range(101, 111)]
        start = time.perf_counter()
        for first in range(0, len(view), 8):
            store.append(view[first : first + 8], rows[: len(view[first : first + 8])])
        found["append_view_rows_per_s"] = len(view) / (time.perf_counter() - start)
        path = store.path

    plain = root / "plain.bin"
    start = time.perf_counter()
    with plain.open("wb") as file:
        for first in range(0, len(tiles), batch):
            file.write(rows[: len(tiles[first : first + batch])].astype(np.float16).tobytes())
    found["plain_append_rows_per_s"] = len(tiles) / (time.perf_counter() - start)

    def reopen() -> None:
        EmbeddingStore.open(root, **key, writable=False).close()

    found["open_ms"] = 1e3 * timed(reopen)
    found["list_stored_ms"] = 1e3 * timed(lambda: list_stored(root))
    with EmbeddingStore.open(root, **key, writable=False) as store:
        gigabytes = store.n_tiles * dim * 2 / 1e9
        found["matrix_gb_per_s"] = gigabytes / timed(store.matrix)
        found["fromfile_gb_per_s"] = gigabytes / timed(lambda: np.fromfile(plain, np.float16))
        found["lookup_view_ms"] = 1e3 * timed(lambda: store.lookup(view), 50)
        found["repair_ms"] = 1e3 * timed(store.repair)
    found["matrix_to_fromfile"] = found["matrix_gb_per_s"] / found["fromfile_gb_per_s"]
    if hasattr(os, "posix_fadvise"):
        forget_pages(path)
        start = time.perf_counter()
        reopen()
        found["open_cold_ms"] = 1e3 * (time.perf_counter() - start)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=2560)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = measure(Path(folder), options.tiles, options.dim, options.batch)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print("| what | value |\n|---|---|")
    for name, value in found.items():
        print(f"| {name} | {value:,.3g} |" if value < 1000 else f"| {name} | {value:,.0f} |")


if __name__ == "__main__":
    main()
