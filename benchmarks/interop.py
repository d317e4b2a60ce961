"""How fast embeddings go to other tools' files and come back.

    python benchmarks/interop.py [n_tiles] [dim]

Prints a Markdown table of seconds and sizes; one run each, in a temporary folder.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from napari_virchow.interop import SlideEmbeddings
from napari_virchow.interop.anndata import read_anndata, write_anndata
from napari_virchow.interop.clam import read_clam, write_clam
from napari_virchow.interop.spatialdata import read_spatialdata, write_spatialdata
from napari_virchow.interop.trident import read_trident, write_trident
from napari_virchow.tiles import TileGrid


def main(n: int = 100_000, dim: int = 1280) -> None:
    side = int(np.ceil(np.sqrt(n)))
    grid = TileGrid(side * 448, side * 448, (0.25, 0.25))
    tiles = np.column_stack(np.divmod(np.arange(n), side)).astype(np.int32)
    rows = np.random.default_rng(1).random((n, dim), np.float32).astype(np.float16)
    ours = SlideEmbeddings("some", "slide", "virchow2-0123456789ab-class", grid, tiles, rows)
    print(
        f"{n:,} tiles of {dim} numbers\n\n| format | write, s | read, s | MB |\n|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        formats = {
            "trident": ("t.h5", write_trident, read_trident),
            "clam": ("c.h5", lambda p, o: write_clam(p, folder / "p.h5", o), read_clam),
            "anndata .h5ad": ("a.h5ad", write_anndata, read_anndata),
            "anndata .zarr": ("a.zarr", write_anndata, read_anndata),
            "spatialdata": ("s.zarr", write_spatialdata, read_spatialdata),
        }
        for form, (file, write, read) in formats.items():
            path = folder / file
            start = time.perf_counter()
            write(path, ours)
            middle = time.perf_counter()
            table = read(path)
            end = time.perf_counter()
            assert np.array_equal(table.embeddings, rows)
            files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
            size = sum(p.stat().st_size for p in files) / 1e6
            print(f"| {form} | {middle - start:.1f} | {end - middle:.1f} | {size:.0f} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
