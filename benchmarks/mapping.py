"""The embedding map, measured: reading and principal components, drawing, UMAP, clusters.

    python benchmarks/mapping.py map|draw|umap|clusters|agreement|all [--rows 10000,100000] [--dim 2560]

Prints Markdown; `benchmarks/results/mapping.md` keeps a run. Embeddings are made up: 12 kinds of
tiles of different size, with 40 directions of variation each. Stores lie in a temporary folder
that is removed. `draw` needs a display (`xvfb-run -a` will do).
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from napari_virchow.mapping import MAX_HDBSCAN, MAX_UMAP, Scope
from napari_virchow.mapping.gather import gather, sources_of
from napari_virchow.mapping.job import Job
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Tile, TileGrid

KINDS, DIRECTIONS = 12, 40
SIDE = 320  # tiles along a slide's side: 102,400 on a slide
POOL = 20_480  # different embeddings in a store: making them takes longer than reading many
ENCODER = "made-up-0-class"


def made_up(n: int, dim: int, seed: int) -> np.ndarray:
    """Embeddings of n tiles, float16."""
    kinds = np.random.default_rng(7)
    middles = kinds.normal(size=(KINDS, dim)).astype(np.float32)
    ways = kinds.normal(size=(KINDS, DIRECTIONS, dim)).astype(np.float32) * 0.15
    rng = np.random.default_rng(seed)
    out = np.empty((n, dim), np.float16)
    for start in range(0, n, 4096):
        m = min(4096, n - start)
        kind = rng.choice(KINDS, m, p=np.arange(1, KINDS + 1) / 78)
        rows = middles[kind] + 0.4 * rng.standard_normal((m, dim), np.float32)
        for k in range(KINDS):
            mine = kind == k
            rows[mine] += rng.standard_normal((mine.sum(), DIRECTIONS), np.float32) @ ways[k]
        out[start : start + m] = rows
    return out


def fill(root: Path, n: int, dim: int) -> None:
    """Store n embeddings on as many slides as they need, of `POOL` different ones at most."""
    grid = TileGrid(SIDE * 224, SIDE * 224, (0.5, 0.5))
    pool, rng = made_up(min(n, POOL), dim, 0), np.random.default_rng(0)
    for number, start in enumerate(range(0, n, SIDE * SIDE)):
        m = min(SIDE * SIDE, n - start)
        with EmbeddingStore.open(
            root, slide=f"slide-{number}", encoder=ENCODER, grid=grid, dim=dim, writable=True
        ) as store:
            for at in range(0, m, 8 * SIDE):  # whole rows of blocks
                tiles = [Tile(*divmod(i, SIDE)) for i in range(at, min(at + 8 * SIDE, m))]
                store.append(tiles, pool[rng.integers(len(pool), size=len(tiles))])


def best(function: Callable[[], object], times: int = 3) -> float:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bench_map(rows: list[int], dim: int) -> None:
    print(f"\n## From the store to the first map ({dim} numbers per tile)\n")
    print("| tiles | slides | seconds | of that reading alone | ratio | peak memory |")
    print("|---|---|---|---|---|---|")
    for n in rows:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            fill(root, n, dim)
            sources = sources_of(root, Scope(0.5), ENCODER)

            def read(sources: list = sources) -> None:
                for source in sources:
                    with source.open() as store:
                        store.matrix()

            reading = best(read, 2)
            whole = best(lambda sources=sources: gather(sources), 2)
            print(
                f"| {n:,} | {len(sources)} | {whole:.2f} | {reading:.2f} "
                f"| {whole / reading:.1f} | {peak_mb():,.0f} MB |",
                flush=True,
            )


def bench_draw(rows: list[int]) -> None:
    os.environ.setdefault("QT_LOGGING_RULES", "*=false")
    from qtpy.QtGui import QColor
    from qtpy.QtWidgets import QApplication
    from vispy.scene import PanZoomCamera, SceneCanvas, visuals

    from napari_virchow._napari.scatter import Scatter

    app = QApplication.instance() or QApplication([])
    plot = Scatter()
    plot.resize(340, 300)
    plot.set_colors(QColor("black"), QColor("white"))
    plot.show()
    canvas = SceneCanvas(size=(340, 300), show=True)
    view = canvas.central_widget.add_view()
    view.camera = PanZoomCamera(aspect=1)
    palette = np.random.default_rng(0).integers(40, 255, (13, 3)).astype(np.uint8)
    print("\n## Drawing a map of 340 x 300 pixels, ms (median)\n")
    print("| tiles | one step of a drag | until all is drawn | a lasso | vispy, one step | ratio |")
    print("|---|---|---|---|---|---|")
    for n in rows:
        rng = np.random.default_rng(0)
        kind = rng.integers(0, 13, n).astype(np.uint16)
        xy = (rng.normal(size=(n, 2)) + rng.normal(size=(13, 2))[kind] * 5).astype(np.float32)
        plot.show_points(xy)
        plot.color_points(kind, palette)
        markers = visuals.Markers(parent=view.scene)
        colors = palette[kind].astype(np.float32) / 255
        markers.set_data(xy, face_color=colors, edge_width=0, size=3, symbol="square")
        view.camera.set_range((-15, 15), (-15, 15))
        canvas.render()
        step, whole, theirs = [], [], []
        for n_step in range(9):
            began = time.perf_counter()
            plot._center = plot._center + 0.05
            plot._begin()
            plot.repaint()
            step.append(time.perf_counter() - began)
            while not plot.complete:
                plot._go_on()
            whole.append(time.perf_counter() - began)
            began = time.perf_counter()
            view.camera.center = (n_step * 0.05, 0)
            canvas.render()
            theirs.append(time.perf_counter() - began)
        mask = np.ones((plot.raster.size[1], plot.raster.size[0]), np.bool_)
        lasso = best(lambda mask=mask: plot.raster.rows_in(mask))
        ms = [1000 * statistics.median(part) for part in (step, whole, theirs)]
        print(
            f"| {n:,} | {ms[0]:.1f} | {ms[1]:.1f} | {1000 * lasso:.1f} | {ms[2]:.1f} "
            f"| {ms[2] / ms[0]:.0f} |",
            flush=True,
        )
        markers.parent = None
    plot.close()
    canvas.close()
    app.processEvents()


def features_of(n: int) -> tuple[np.ndarray, np.ndarray]:
    from napari_virchow.classify.features import Projection

    rows = made_up(n, 256, 0)
    projection = Projection.fit(rows)
    features = projection.compact(projection.transform(rows))
    return features, np.ascontiguousarray(features[:, :2])


def bench_job(title: str, task: str, rows: list[int], options: dict[str, object]) -> None:
    print(f"\n## {title}\n")
    print("| tiles | seconds | until the first epoch or cluster step |")
    print("|---|---|---|")
    for n in rows:
        features, start = features_of(n)
        first: list[float] = []
        began = time.perf_counter()

        def tell(done: int, total: int, text: str, first: list = first, t: float = began) -> None:
            if text != "Starting UMAP" and (total or task != "umap") and not first:
                first.append(time.perf_counter() - t)

        Job(task, options).run(features, start, tell)
        print(f"| {n:,} | {time.perf_counter() - began:.1f} | {first[0]:.1f} |", flush=True)


def bench_agreement() -> None:
    """How far k-means of the sample slide's tiles agrees with the tissue that was painted."""
    from classify import cached, sample_data
    from sklearn.metrics import adjusted_rand_score

    from napari_virchow.classify.features import Projection
    from napari_virchow.mapping.child import kmeans

    data = cached("sample", sample_data)
    projection = Projection.fit(data.x)
    plain = projection.transform(data.x)
    half = projection.compact(plain)
    print("\n## Clusters and tissue: sample slide, `texture`, six k-means clusters\n")
    print("| of | adjusted Rand index |\n|---|---|")
    for name, features in (
        (f"{half.shape[1]} half-whitened components", half),
        ("as many plain ones", np.ascontiguousarray(plain[:, : half.shape[1]])),
    ):
        found = kmeans(features, {"n_clusters": len(np.unique(data.y))})
        print(f"| {name} | {adjusted_rand_score(data.y, found):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["map", "draw", "umap", "clusters", "agreement", "all"])
    parser.add_argument("--rows", default="")
    parser.add_argument("--dim", type=int, default=2560)
    args = parser.parse_args()
    given = [int(part) for part in args.rows.split(",") if part]
    print(f"# Embedding map ({os.cpu_count()} cores)")
    if args.what in ("map", "all"):
        bench_map(given or [10_000, 100_000], args.dim)
    if args.what in ("draw", "all"):
        bench_draw(given or [10_000, 100_000, 1_000_000])
    if args.what in ("umap", "all"):
        options = {"n_neighbors": 15, "min_dist": 0.1, "max_fitted": MAX_UMAP}
        bench_job(
            f"UMAP (at most {MAX_UMAP:,} arranged)",
            "umap",
            given or [1_000, 10_000, 50_000],
            options,
        )
    if args.what in ("agreement", "all"):
        bench_agreement()
    if args.what in ("clusters", "all"):
        bench_job(
            "k-means, 8 clusters",
            "k-means",
            given or [10_000, 100_000, 1_000_000],
            {"n_clusters": 8},
        )
        options = {"min_size": 30, "max_fitted": MAX_HDBSCAN}
        bench_job(
            f"HDBSCAN (at most {MAX_HDBSCAN:,} clustered)",
            "HDBSCAN",
            given or [10_000, 100_000],
            options,
        )


if __name__ == "__main__":
    main()
