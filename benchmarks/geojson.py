"""How fast tiles go to a GeoJSON file for QuPath and come back.

    python benchmarks/geojson.py [n_tiles] [n_measurements]

Prints Markdown: seconds, the best of three runs, and the size of the file.
`benchmarks/results/geojson.md` keeps a run.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from napari_virchow.labels.edits import LabelClass
from napari_virchow.qupath.export import SlideTiles, region_objects, write_regions, write_tiles
from napari_virchow.qupath.geojson import read_geojson, write_geojson
from napari_virchow.qupath.regions import tiles_in_annotations
from napari_virchow.tiles import TileGrid

CLASSES = [LabelClass(1, "Tumor", "#c80000"), LabelClass(2, "Stroma", "#96c896")]


def timed(what, n, run):
    best, result = np.inf, None
    for _ in range(3):
        start = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - start)
    print(f"| {what} | {n:,} | {best:.2f} s |")
    return result


def main(n: int = 100_000, n_measurements: int = 4) -> None:
    side = int(np.ceil(np.sqrt(n)))
    grid = TileGrid(side * 448, side * 448, (0.25, 0.25))
    tiles = np.column_stack(np.divmod(np.arange(n), side)).astype(np.int32)
    rng = np.random.default_rng(1)
    columns = {f"m{k}": rng.random(n, np.float32) for k in range(n_measurements)}
    smooth = np.sin(tiles[:, 0] / 9) + np.cos(tiles[:, 1] / 7) + rng.normal(0, 0.3, n)
    ids = np.where(smooth > 0, 1, 2)
    where = SlideTiles("benchmark", grid, tiles)
    print(f"## {n:,} tiles × {n_measurements} measurements\n\n| | objects | |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiles.geojson"
        again = Path(folder) / "again.geojson"
        timed("write tiles", n, lambda: write_tiles(path, where, ids, CLASSES, columns))
        print(f"| size of the file | | {path.stat().st_size / 1e6:.1f} MB |")
        found = timed("read tiles", n, lambda: read_geojson(path))
        timed("write what was read", n, lambda: write_geojson(again, found.objects))
        regions = timed("merge to regions", n, lambda: region_objects(where, ids, CLASSES))
        regional = Path(folder) / "regions.geojson"
        timed("write regions", len(regions), lambda: write_regions(regional, where, regions))
        timed("tiles in regions", n, lambda: tiles_in_annotations(regions, grid))
        timed("tiles half in regions", n, lambda: tiles_in_annotations(regions, grid, "half"))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
