"""Similarity search, measured: what is found on labelled tiles, and how fast in large stores.

    python benchmarks/search.py sample|tiles|speed|index [--data DIR] [--rows N] [--folder DIR]
    python benchmarks/search.py tiles --encoder NAME     # also with the class token alone

`sample`: precision@50 per tissue type on the sample slide. `tiles`: mAP and precision@10 on labelled
tile sets against a colour histogram. `speed`: latency, memory, build time and recall@50 of the
package's search at --rows embeddings of 2560 numbers, in stores written to --folder for it (5 GB per
million; deleted at the end). `index`: approximate indexes of libraries against what the package does.
Prints Markdown; `benchmarks/results/search.md` keeps a run.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import torch
from classify import SAMPLE_CLASSES, Source, cached, folder_data, sample_data

from napari_virchow.blocks import BLOCK, block_name, write_block
from napari_virchow.layout import create_array, store_folder
from napari_virchow.search.axes import Axes
from napari_virchow.search.bank import Bank
from napari_virchow.search.facts import Example, Kind, Options, Query
from napari_virchow.search.lookup import search_bank
from napari_virchow.search.rows import SlideRows
from napari_virchow.search.scoring import best, direction
from napari_virchow.search.space import make_space
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Tile, TileGrid

DIM, K = 2560, 50
SOME = 200  # queries with negatives
GAMMAS = (0.15, 0.3, 0.5, 0.75, 1.0)
WAYS = {
    "cosine": Options(),
    "centred": Options(center=True),
    "whitened": Options(whiten=True),
}


def ways() -> dict[str, Options]:
    alone = {"class token only": Options(class_token_only=True)}
    return WAYS | (alone if Source.pooling == "class+mean" else {})


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def stored(x: np.ndarray) -> np.ndarray:
    """As they are in a store."""
    return x.astype(np.float16).astype(np.float32)


# --- what is found ------------------------------------------------------------------------------


def confused(y: np.ndarray, scores: np.ndarray, allowed: np.ndarray, own: int) -> int:
    """Return the class that is most often taken for a query's own: in the first hits, else after."""
    order = best(np.where(allowed, scores, -np.inf), len(y))
    wrong = [n for n in order[:K] if y[n] != own] or [n for n in order if y[n] != own][:K]
    return int(np.bincount(y[wrong]).argmax())


def bench_sample(_: argparse.Namespace) -> None:
    """Precision@50 per tissue type: one positive, and with two negatives of the type confused."""
    data = cached("sample", sample_data)
    x, y, where = stored(data.x), data.y, data.where
    rng = np.random.default_rng(0)
    queries = {c: rng.choice(np.flatnonzero(y == c), 20, replace=False) for c in np.unique(y)}
    print(
        f"`{Source.name}`, {len(y)} tiles; precision@{K} of 20 random queries per type: median (mean)\n"
    )
    print("| how | query | " + " | ".join(SAMPLE_CLASSES[c] for c in queries) + " | mean |")
    print("|---" * (len(queries) + 3) + "|")
    for way, options in ways().items():
        space = make_space(options, Source.pooling, x)
        f = space.features(x)
        for gamma in (0.0, *GAMMAS):
            cells, medians, means = [], [], []
            draw = np.random.default_rng(1)
            for some in queries.values():
                found = [one_query(f, (y, where), q, gamma, draw) for q in some]
                medians.append(statistics.median(found))
                means.append(statistics.fmean(found))
                cells.append(f"{medians[-1]:.2f} ({means[-1]:.3f})")
            what = "one positive" if gamma == 0 else f"and two negatives, γ = {gamma:g}"
            mean = f"{statistics.fmean(medians):.3f} ({statistics.fmean(means):.3f})"
            print(f"| {way} | {what} | " + " | ".join(cells) + f" | {mean} |")


def one_query(
    f: np.ndarray,
    tiles: tuple[np.ndarray, np.ndarray],
    q: int,
    gamma: float,
    draw: np.random.Generator,
) -> float:
    y, where = tiles
    allowed = np.abs(where - where[q]).max(axis=1) > 1  # as by default: not its own surroundings
    scores = f @ f[q]
    if gamma:
        other = confused(y, scores, allowed, int(y[q]))
        negatives = draw.choice(np.flatnonzero(y == other), 2, replace=False)
        scores = f @ direction(f[q][None], f[negatives], gamma)
        allowed[negatives] = False
    return float(np.mean(y[best(np.where(allowed, scores, -np.inf), K)] == y[q]))


def bench_tiles(options: argparse.Namespace) -> None:
    """Every tile is asked for once: mean average precision and precision@10."""
    tiles = options.data / "tiles"
    sets: list[tuple[str, str, Callable[[Path], str]]] = [
        ("crc_polito", "crc_polito/*/*.jpg", lambda p: p.parent.name),
        ("kather2016_100", "kather2016_100/*.png", lambda p: p.stem.split("label_")[1]),
    ]
    print("| tiles | embedding | how | mAP | precision@10 |\n|---|---|---|---|---|")
    for name, pattern, class_of in sets:
        data = cached(
            {"crc_polito": "crc", "kather2016_100": "kather"}[name],
            lambda pattern=pattern, class_of=class_of: folder_data(tiles, pattern, class_of),
        )
        colours = np.stack([histogram(p) for p in sorted(tiles.glob(pattern))])
        print(row(name, "colour histogram", "cosine", retrieval(unit(colours), data.y)))
        for way, how in ways().items():
            f = make_space(how, Source.pooling, stored(data.x)).features(stored(data.x))
            print(row(name, Source.name, way, retrieval(f, data.y)))
            for gamma in (0.0, *GAMMAS) if way == "cosine" else ():
                what = f"{SOME} queries, " + (f"two negatives, γ = {gamma:g}" if gamma else "alone")
                print(row(name, Source.name, what, retrieval(f, data.y, gamma, SOME)), flush=True)


def row(name: str, embedding: str, how: str, found: tuple[float, float]) -> str:
    return f"| {name} | {embedding} | {how} | {found[0]:.3f} | {found[1]:.3f} |"


def histogram(path: Path) -> np.ndarray:
    """8 bins for each of red, green and blue together: 512 numbers."""
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3) // 32
    return np.bincount(pixels @ [64, 8, 1], minlength=512).astype(np.float32)


def retrieval(
    f: np.ndarray, y: np.ndarray, gamma: float = 0.0, most: int = 10_000
) -> tuple[float, float]:
    draw = np.random.default_rng(2)
    precision, average = [], []
    for q in np.sort(draw.permutation(len(y))[:most]):
        scores = f @ f[q]
        scores[q] = -np.inf
        if gamma:
            other = confused(y, scores, np.arange(len(y)) != q, int(y[q]))
            negatives = draw.choice(np.flatnonzero(y == other), 2, replace=False)
            scores = f @ direction(f[q][None], f[negatives], gamma)
            scores[[q, *negatives]] = -np.inf
        right = y[best(scores, len(y))] == y[q]
        precision.append(right[:10].mean())
        reached = np.cumsum(right) / np.arange(1, len(right) + 1)
        average.append(float((reached * right).sum() / max(right.sum(), 1)))
    return float(np.mean(average)), float(np.mean(precision))


# --- how fast -----------------------------------------------------------------------------------


class Made:
    """Embeddings made up like those of tissue: types, slides that differ in stain, and a spread
    that falls with the number of the direction (variance 1/i), all around a common mean."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.scale = (1 / np.sqrt(1 + np.arange(DIM))).astype(np.float32)
        self.types = self.draw(40)
        self.mean = self.draw(1)[0] * 2
        self.mirror = unit(self.rng.standard_normal(DIM)).astype(np.float32)

    def draw(self, n: int) -> np.ndarray:
        return self.rng.standard_normal((n, DIM), np.float32) * self.scale

    def slide(self, n: int) -> Iterator[np.ndarray]:
        """Yield a slide's rows (float16) in parts of 64: the tiles of a block are of one type or two."""
        stain = 0.4 * self.draw(1)[0]
        for start in range(0, n, 4096):
            size = min(4096, n - start)
            some = np.repeat(self.rng.integers(0, 40, -(-size // 32)), 32)[:size]
            x = 0.7 * self.draw(size) + self.types[some] + stain + self.mean
            x -= np.outer(2 * x @ self.mirror, self.mirror)  # so that no number stands for one axis
            yield x.astype(np.float16)


def write_stores(root: Path, n_rows: int, n_slides: int) -> Kind:
    made, encoder = Made(), "made-up-0-class"
    side = int(np.ceil(np.sqrt(n_rows / n_slides / BLOCK**2)))
    grid = TileGrid(side * BLOCK * 224, side * BLOCK * 224, (0.5, 0.5))
    for number in range(n_slides):
        path = store_folder(root, f"slide{number:03d}", encoder, grid)
        create_array(path, slide=f"slide{number:03d}", encoder=encoder, grid=grid, dim=DIM)
        block = 0
        for rows in made.slide(n_rows // n_slides):
            for start in range(0, len(rows) - BLOCK**2 + 1, BLOCK**2):
                part = rows[start : start + BLOCK**2].reshape(BLOCK, BLOCK, DIM)
                write_block(path / block_name(*divmod(block, side)), part)
                block += 1
    return Kind(encoder, grid.name, grid.mpp, n_slides)


def true_hits(bank: Bank, queries: list[Example]) -> list[list[tuple[str, Tile, float]]]:
    """Search in single precision, slide by slide, without anything of the package's search."""
    vectors = np.stack([bank.of(q.slide).vector(q.tile) for q in queries]).astype(np.float32)
    vectors, found = unit(vectors), [[] for _ in queries]
    for path in bank.paths():
        slide = SlideRows(path)
        with EmbeddingStore(path, slide.grid, slide.dim, None) as store:
            tiles, matrix = store.matrix()
        for start in range(0, len(tiles), 8192):
            scores = unit(matrix[start : start + 8192].astype(np.float32)) @ vectors.T
            for number, query in enumerate(queries):
                top = np.argsort(-scores[:, number])[: K + 1]
                found[number] += [
                    (slide.slide, Tile(*tiles[start + n].tolist()), float(scores[n, number]))
                    for n in top
                    if (slide.slide, tuple(tiles[start + n])) != (query.slide, query.tile)
                ]
                found[number] = sorted(found[number], key=lambda one: -one[2])[:K]
    return found


def bandwidth() -> float:
    """Measure how fast all processors read memory together, in GB/s: the sum of 512 MB."""
    numbers = torch.ones(2**27)
    times = []
    for _ in range(9):
        began = time.perf_counter()
        numbers.sum()
        times.append(time.perf_counter() - began)
    return numbers.nbytes / min(times) / 1e9


def bench_speed(options: argparse.Namespace) -> None:
    """The package's search, in stores on disk."""
    n_rows = options.rows
    root = Path(tempfile.mkdtemp(dir=options.folder, prefix="napari-virchow-search-"))
    process = psutil.Process()
    try:
        kind = write_stores(root, n_rows, max(1, n_rows // 50_000))
        before = process.memory_info().rss
        began = time.perf_counter()
        bank = Bank(root, kind)
        bank.read_all()
        built = time.perf_counter() - began
        slides = bank.loaded()
        n = sum(map(len, slides))
        rng = np.random.default_rng(5)
        queries = [
            Example(one.slide, Tile(*one.tiles[rng.integers(len(one))].tolist()), "", 0.5)
            for one in (slides[number % len(slides)] for number in range(20))
        ]
        how = Options(scope="store", k=200, exclude_within=0)
        answers, times = [], []
        for example in [queries[0], *queries]:  # the first is to warm up
            began = time.perf_counter()
            answers.append(
                search_bank(
                    bank, Query((example,), (), how), None, slides[0].slide, lambda s: (s, "")
                )
            )
            times.append(1000 * (time.perf_counter() - began))
        truth = true_hits(bank, queries)
        recalls = [
            len({(h.slide, h.tile) for h in list(answer.hits)[:K]} & {t[:2] for t in true}) / K
            for answer, true in zip(answers[1:], truth, strict=True)
        ]
        axes = bank.axes
        query_s = statistics.median(times[1:]) / 1000
        share = sum(one.tiles.shape[0] for one in slides) * DIM * 2 / query_s / 1e9 / bandwidth()
        print(
            "| rows × 2560 | in memory | read and built | memory | of the process | query: median (slowest of 20) | of reading all at the memory's bandwidth | recall@50: mean (least) |"
        )
        print("|---|---|---|---|---|---|---|---|")
        print(
            f"| {n:,} | {'embeddings' if axes is None else f'{axes.directions.shape[1]} axes'} | "
            f"{built:.1f} s | {bank.nbytes / 1e9:.2f} GB | "
            f"{(process.memory_info().rss - before) / 1e9:.2f} GB | "
            f"{1000 * query_s:.0f} ({max(times[1:]):.0f}) ms | {share:.2f} | "
            f"{statistics.fmean(recalls):.3f} ({min(recalls):.2f}) |"
        )
    finally:
        shutil.rmtree(root)


# --- libraries ----------------------------------------------------------------------------------


def bench_index(options: argparse.Namespace) -> None:
    """Candidates of several indexes, all ranked exactly afterwards; needs faiss-cpu and usearch."""
    import torch

    x = np.concatenate([*Made().slide(options.rows)])
    norms = 1 / np.linalg.norm(x.astype(np.float32), axis=1)
    rng = np.random.default_rng(5)
    queries = rng.choice(len(x), 50, replace=False)
    true = []
    for q in queries:
        parts = [
            x[s : s + 8192].astype(np.float32) @ x[q].astype(np.float32)
            for s in range(0, len(x), 8192)
        ]
        scores = np.concatenate(parts) * norms
        scores[q] = -np.inf
        true.append(set(best(scores, K).tolist()))
    print(f"| {len(x):,} × {DIM} | built | memory | query | recall@50 |\n|---|---|---|---|---|")
    for name, make in indexes(x, norms, torch).items():
        began = time.perf_counter()
        try:
            candidates, n_bytes = make()
        except ImportError as error:
            print(f"| {name} | {error} | | | |")
            continue
        built = time.perf_counter() - began
        times, recalls = [], []
        for q, wanted in zip(queries, true, strict=True):
            began = time.perf_counter()
            some = candidates(x[q].astype(np.float32))
            some = some[(some != q) & (some >= 0)]
            exact = x[some].astype(np.float32) @ x[q].astype(np.float32) * norms[some]
            found = some[best(exact, K)]
            times.append(1000 * (time.perf_counter() - began))
            recalls.append(len(wanted & set(found.tolist())) / K)
        print(
            f"| {name} | {built:.0f} s | {n_bytes / 1e9:.2f} GB | {statistics.median(times):.1f} ms | "
            f"{statistics.fmean(recalls):.3f} |",
            flush=True,
        )


def indexes(x: np.ndarray, norms: np.ndarray, torch) -> dict[str, Callable]:
    axes = Axes.fit(x[:: max(1, len(x) // 8192)], 0)

    def short() -> np.ndarray:
        return axes.short(x)

    def flat(n: int) -> Callable:
        def make():
            z = torch.from_numpy(short())

            def find(q: np.ndarray) -> np.ndarray:
                w, c = axes.directions.T @ q, float(axes.mean @ q)
                length = float(np.linalg.norm(w))
                product = torch.mv(z, torch.from_numpy((w / length).astype(np.float16)))
                return best((product.float().numpy() * length + c) * norms, n)

            return find, z.numel() * 2 + norms.nbytes

        return make

    def faiss_index(recipe: str, n: int, tune: Callable) -> Callable:
        def make():
            import faiss

            z = short().astype(np.float32) if "PCA" in recipe else None
            data = (
                unit(z + (axes.mean @ axes.directions))
                if z is not None
                else unit(x.astype(np.float32))
            )
            index = faiss.index_factory(
                data.shape[1], recipe.removeprefix("PCA,"), faiss.METRIC_INNER_PRODUCT
            )
            index.train(data[:: max(1, len(data) // 20_000)])
            index.add(data)
            tune(index)
            size = len(faiss.serialize_index(index))

            def find(q: np.ndarray) -> np.ndarray:
                asked = q if z is None else axes.directions.T @ q
                return index.search(unit(asked)[None], n)[1][0]

            return find, size

        return make

    def usearch_index(dtype: str, n: int) -> Callable:
        def make():
            from usearch.index import Index

            data = unit(short().astype(np.float32) + (axes.mean @ axes.directions))
            index = Index(ndim=data.shape[1], metric="cos", dtype=dtype, expansion_search=n)
            index.add(np.arange(len(data)), data)
            return lambda q: index.search(unit(axes.directions.T @ q), n).keys.astype(
                np.intp
            ), index.memory_usage

        return make

    def probes(n: int) -> Callable:
        return lambda index: setattr(index, "nprobe", n)

    def wide(n: int) -> Callable:
        return lambda index: setattr(index.hnsw, "efSearch", n)

    return {
        "256 axes, torch fp16, best 500": flat(500),
        "256 axes, torch fp16, best 1000": flat(1000),
        "256 axes, torch fp16, best 2000": flat(2000),
        "faiss 256 axes, flat SQ8, best 1000": faiss_index("PCA,SQ8", 1000, lambda _: None),
        "faiss 256 axes, HNSW32 SQ8, best 1000": faiss_index("PCA,HNSW32_SQ8", 1000, wide(1000)),
        "usearch 256 axes, HNSW f16, best 1000": usearch_index("f16", 1000),
        "usearch 256 axes, HNSW i8, best 1000": usearch_index("i8", 1000),
        "faiss IVF256,PQ128, 32 lists, best 1000": faiss_index("IVF256,PQ128", 1000, probes(32)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("sample", "tiles", "speed", "index"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--encoder", help="instead of texture")
    parser.add_argument("--weights", help="of the encoder, on this machine")
    options = parser.parse_args()
    Source.take(options.encoder, options.weights)
    {"sample": bench_sample, "tiles": bench_tiles, "speed": bench_speed, "index": bench_index}[
        options.what
    ](options)


if __name__ == "__main__":
    main()
