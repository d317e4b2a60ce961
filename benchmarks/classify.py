"""Tile classification, measured: methods, sample slide, queue, honesty of figures, latency.

    python benchmarks/classify.py methods|novelty|sample|queue|honesty|latency|all [--data DIR]
    python benchmarks/classify.py methods --encoder virchow2 --weights FILE   # class token and mean

Prints Markdown; `benchmarks/results/classify.md` keeps a run. Embeddings are those of `texture`
unless another encoder is named, cached in a temporary file. Nothing is written anywhere else, except that the sample slide is
painted into the cache when it is not there yet.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from napari_virchow.classify import TileClassifier, evaluate_labels
from napari_virchow.classify.features import FeatureBank, Projection
from napari_virchow.classify.folds import TilePlaces, plan_folds
from napari_virchow.classify.learner import scorer
from napari_virchow.classify.metrics import calibration_error
from napari_virchow.classify.suggest import suggest_tiles
from napari_virchow.encoders import texture
from napari_virchow.sample import CLASSES as SAMPLE_CLASSES
from napari_virchow.sample import read_truth, sample_slide

SIZES = (1, 2, 5, 10, 20)
THRESHOLDS = (0.95, 0.9, 0.8)  # of novelty; the middle one is the default
CLASSES = [(i, f"class {i}", "#000000") for i in range(1, 30)]


class Source:
    """What embeds tiles: the built-in encoder, unless `main` is told otherwise."""

    identity = f"texture-{hashlib.sha256(Path(texture.__file__).read_bytes()).hexdigest()[:12]}"
    embed: Callable[[np.ndarray], np.ndarray] = staticmethod(texture.describe)


class Data(NamedTuple):
    """Embeddings, class ids from 1, and rows and columns where tiles are of one slide."""

    x: np.ndarray
    y: np.ndarray
    where: np.ndarray | None = None


# --- data ---------------------------------------------------------------------------------------


def cached(name: str, make: Callable[[], Data]) -> Data:
    path = Path(tempfile.gettempdir(), f"napari-virchow-classify-{name}-{Source.identity}.npz")
    if path.is_file():
        with np.load(path) as kept:
            return Data(*(kept[f] for f in Data._fields if f in kept))
    data = make()
    np.savez(path, **{f: v for f, v in zip(Data._fields, data, strict=True) if v is not None})
    return data


def describe(paths: list[Path]) -> np.ndarray:
    from PIL import Image

    def load(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))

    parts = [paths[i : i + 64] for i in range(0, len(paths), 64)]
    return np.concatenate([Source.embed(np.stack([load(p) for p in part])) for part in parts])


def folder_data(root: Path, pattern: str, class_of: Callable[[Path], str]) -> Data:
    paths = sorted(root.glob(pattern))
    return Data(
        describe(paths), np.unique([class_of(p) for p in paths], return_inverse=True)[1] + 1
    )


def sample_data() -> Data:
    from napari_virchow.slide import open_slide
    from napari_virchow.tiles import Tile

    path = sample_slide()
    truth = read_truth(path.with_suffix(".csv")).classes
    where = np.argwhere(truth > 0)
    with open_slide(path) as slide:
        grid = slide.grid(0.5)
        parts = np.array_split(where, max(1, len(where) // 64))
        x = [Source.embed(slide.read_tiles(grid, [Tile(*p) for p in part])) for part in parts]
    return Data(np.concatenate(x), truth[truth > 0].astype(np.intp), where)


def data_sets(root: Path) -> Iterator[tuple[str, Data]]:
    tiles = root / "tiles"
    crc = lambda: folder_data(tiles, "crc_polito/*/*.jpg", lambda p: p.parent.name)  # noqa: E731
    kather = lambda: folder_data(  # noqa: E731
        tiles, "kather2016_100/*.png", lambda p: p.stem.split("label_")[1]
    )
    yield "crc_polito (5 classes, 1,700 tiles)", cached("crc", crc)
    yield "kather2016_100 (8 classes, 100 tiles)", cached("kather", kather)
    yield "sample slide (6 classes)", cached("sample", sample_data)


# --- methods ------------------------------------------------------------------------------------


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def standardised(x: np.ndarray, by: np.ndarray | None = None) -> np.ndarray:
    by = x if by is None else by
    return (x - by.mean(0)) / np.maximum(by.std(0), 1e-6)


def principal(z: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    _, spread, axes = np.linalg.svd(z - z.mean(0), full_matrices=False)
    n = min(n, int((spread > 1e-4 * spread[0]).sum()))
    return (z - z.mean(0)) @ axes[:n].T, spread[:n]


def logistic(strength: float) -> Callable[..., np.ndarray]:
    def fit_predict(f: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray):
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)
        return model.fit(f[train], y[train]).predict(f[test])

    return fit_predict


def nearest_mean(f: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    ids = np.unique(y[train])
    means = np.stack([f[train][y[train] == c].mean(0) for c in ids])
    return ids[((f[test][:, None] - means) ** 2).sum(2).argmin(1)]


def neighbours(k: int) -> Callable[..., np.ndarray]:
    def fit_predict(f: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray):
        likeness = unit(f[test]) @ unit(f[train]).T
        ids, n = np.unique(y[train]), min(k, len(train))
        nearest = np.argpartition(-likeness, n - 1, axis=1)[:, :n]
        weight = np.exp(5 * np.take_along_axis(likeness, nearest, 1))
        votes = [np.where(y[train][nearest] == c, weight, 0).sum(1) for c in ids]
        return ids[np.argmax(votes, axis=0)]

    return fit_predict


def draw(y: np.ndarray, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    train = [rng.permutation(np.flatnonzero(y == c))[:per_class] for c in np.unique(y)]
    rows = np.concatenate(train)
    return rows, np.setdiff1d(np.arange(len(y)), rows)


def balanced(y: np.ndarray, said: np.ndarray) -> float:
    return float(np.mean([(said[y == c] == c).mean() for c in np.unique(y)]))


def sizes_for(y: np.ndarray) -> list[int]:
    return [n for n in SIZES if n < np.bincount(y)[1:].min()]


def methods(root: Path, seeds: int) -> None:
    print("## Methods: balanced accuracy on all other tiles, by labels per class\n")
    for name, (x, y, _) in data_sets(root):
        x = x.astype(np.float32)
        z = standardised(x)
        turned, spread = principal(z, 256)
        ours = Projection.fit(x).transform(x)
        compact = Projection.fit(x).compact(ours)
        half = x[:, : x.shape[1] // 2]
        halved = "class token" if Source.identity.endswith("+mean") else "first half of the numbers"
        ways = {
            "**default: standardise by all tiles, PCA-256, length 1, LR C=30**": (
                ours,
                logistic(30),
            ),
            "same, C=3": (ours, logistic(3)),
            "same, C=300": (ours, logistic(300)),
            "without PCA": (unit(z), logistic(30)),
            "PCA-64": (unit(turned[:, :64]), logistic(30)),
            "not length 1, C=1/mean squared length": (
                z / np.sqrt((z**2).sum(1).mean()),
                logistic(30),
            ),
            "half-whitened, 32": (compact, logistic(30)),
            "whitened, 64": (unit((turned / spread)[:, :64]), logistic(30)),
            "raw, length 1": (unit(x), logistic(30)),
            "raw": (x / np.sqrt((x**2).sum(1).mean()), logistic(30)),
            f"{halved} only": (unit(standardised(half)), logistic(30)),
            "nearest class mean": (ours, nearest_mean),
            "nearest neighbour": (ours, neighbours(1)),
            "5 nearest neighbours": (ours, neighbours(5)),
        }
        sizes = sizes_for(y)
        print(f"{name}, {seeds} seeds\n\n| | {' | '.join(map(str, sizes))} |")
        print("|---" * (len(sizes) + 1) + "|")
        cuts = {n: [draw(y, n, s) for s in range(seeds)] for n in sizes}
        local = []
        for n in sizes:  # statistics of the labelled tiles only: what most tools do
            per = []
            for train, test in cuts[n]:
                f = unit(standardised(x, x[train]))
                per.append(balanced(y[test], logistic(30)(f, y, train, test)))
            local.append(np.mean(per))
        for label, (f, way) in ways.items():
            per = [[balanced(y[e], way(f, y, t, e)) for t, e in cuts[n]] for n in sizes]
            print(f"| {label} | {' | '.join(f'{np.mean(p):.3f}' for p in per)} |", flush=True)
        print(f"| standardised by labelled tiles | {' | '.join(f'{v:.3f}' for v in local)} |\n")
    print("Kept to 256 of 2560 numbers (texture lifted by a random layer with ReLU, float16):\n")
    print("| crc_polito | 1 | 2 | 5 | 10 | 20 |\n|---|---|---|---|---|---|")
    _, (x, y, _) = next(data_sets(root))
    lift = np.random.default_rng(0).normal(size=(x.shape[1], 2560)).astype(np.float32)
    wide = np.maximum(standardised(x) @ lift, 0).astype(np.float16)
    for label, f in {
        "all 2560": unit(standardised(wide.astype(np.float32))),
        "256": Projection.fit(wide).transform(wide),
        "128": Projection.fit(wide, n_features=128).transform(wide),
    }.items():
        cells = [
            np.mean([balanced(y[e], logistic(30)(f, y, t, e)) for t, e in
                     (draw(y, n, s) for s in range(seeds))])
            for n in SIZES
        ]  # fmt: skip
        print(f"| {label} | {' | '.join(f'{v:.3f}' for v in cells)} |", flush=True)
    print()


# --- what nobody labelled, and calibration -------------------------------------------------------


def novelty(root: Path, seeds: int) -> None:
    print("## Unknown: one class left out of the labels; calibration\n")
    heads = [f"false alarms at {t:g} | found at {t:g}" for t in THRESHOLDS]
    print(f"| | labels per class | AUC | {' | '.join(heads)} | ECE, T = 1 |")
    print("|---" * (2 * len(THRESHOLDS) + 4) + "|")
    for name, (x, y, _) in data_sets(root):
        projection, features, compact = FeatureBank(x).snapshot()
        for n in [n for n in sizes_for(y) if n in (2, 5, 10)]:
            rows = []
            for seed in range(seeds):
                for left_out in np.unique(y):
                    train, test = draw(y, n, seed)
                    train = train[y[train] != left_out]
                    said = fit(features, y, train, projection).predict_features(
                        features[test], compact[test]
                    )
                    new = y[test] == left_out
                    row = [roc_auc_score(new, said.novelty)]
                    for above in THRESHOLDS:
                        unknown = said.confident(unknown_above=above) == 0
                        row += [unknown[~new].mean(), unknown[new].mean()]
                    rows.append(row)
            errors = []
            for seed in range(seeds):
                train, test = draw(y, n, seed)
                said = fit(features, y, train, projection).predict_features(features[test])
                errors.append(calibration_error(said.probability, y[test] - 1))
            cells = " | ".join(f"{v:.2f}" for v in [*np.mean(rows, 0), np.mean(errors)])
            print(f"| {name} | {n} | {cells} |", flush=True)
    print()


def fit(features: np.ndarray, y: np.ndarray, rows: np.ndarray, projection: Projection):
    return TileClassifier.fit_features(
        features[rows], y[rows], classes=CLASSES, projection=projection
    )


# --- the sample slide ----------------------------------------------------------------------------


def sample(root: Path, seeds: int) -> None:
    x, y, _ = cached("sample", sample_data)
    projection, features, compact = FeatureBank(x).snapshot()
    print("## Sample slide: balanced accuracy over all tissue tiles that are not labelled\n")
    print(f"{len(y)} tissue tiles, classes {', '.join(SAMPLE_CLASSES[1:])}; {Source.identity}.\n")
    print(f"| labels per class | {' | '.join(f'seed {s}' for s in range(seeds))} | mean |")
    print("|---" * (seeds + 2) + "|")
    for n in SIZES:
        found = []
        for seed in range(seeds):
            train, test = draw(y, n, seed)
            said = fit(features, y, train, projection).predict_features(
                features[test], compact[test]
            )
            found.append(balanced(y[test], said.class_id))
        print(f"| {n} | {' | '.join(f'{v:.3f}' for v in [*found, np.mean(found)])} |")
    print()


def queue(root: Path, seeds: int) -> None:
    print("## Queue against random choice: labels until the goal, from one random tile on\n")
    print("| | goal | queue: mean (worst) | random: mean (worst) |\n|---|---|---|---|")
    for (name, data), goal in zip(data_sets(root), (0.65, 0.60, 0.85), strict=True):
        bank = FeatureBank(data.x)
        needed = {
            way: [labels_to(goal, data, bank, seed, way) for seed in range(seeds)]
            for way in (True, False)
        }
        cells = " | ".join(f"{np.mean(v):.1f} ({max(v)})" for v in needed.values())
        print(f"| {name}, {seeds} seeds | {goal} | {cells} |", flush=True)
    print()
    queue_curve(data, seeds)


def growing(data: Data, bank: FeatureBank, seed: int, by_queue: bool) -> Iterator[float]:
    """Yield the balanced accuracy on all other tiles with one label more each time, from one on."""
    x, y, where = data
    projection, features, compact = bank.snapshot()
    where = np.stack([np.zeros(len(y), int), 3 * np.arange(len(y))], 1) if where is None else where
    places = TilePlaces(["slide"] * len(y), where[:, 0], where[:, 1])
    order = np.random.default_rng(seed).permutation(len(y))
    labels = {int(order[0]): int(y[order[0]])}
    while True:
        rows = np.array([*labels])
        said = fit(features, y, rows, projection).predict_features(features, compact)
        rest = np.setdiff1d(np.arange(len(y)), rows)
        yield balanced(y[rest], said.class_id[rest])
        if by_queue:
            row = suggest_tiles(compact, said, labels, places, k=1)[0].row
        else:
            row = int(order[len(labels)])
        labels[row] = int(y[row])


def labels_to(goal: float, data: Data, bank: FeatureBank, seed: int, by_queue: bool) -> int:
    limit = min(80, len(data.y) - 20)
    found = zip(range(1, limit), growing(data, bank, seed, by_queue), strict=False)
    return next((n for n, accuracy in found if accuracy >= goal), limit)


def queue_curve(data: Data, seeds: int) -> None:
    bank, k = FeatureBank(data.x), len(np.unique(data.y))
    print("The same as a curve: balanced accuracy on all other tiles of the sample slide, mean")
    print(
        f"(worst) of {seeds} seeds. Random choice draws from all tiles, so a class may wait for its first label.\n"
    )
    print(f"| labels in all ({k} classes) | queue | random |\n|---|---|---|")
    curves = {
        way: np.array([
            [a for _, a in zip(range(max(SIZES) * k), growing(data, bank, seed, way), strict=False)]
            for seed in range(seeds)
        ])
        for way in (True, False)
    }  # fmt: skip
    for n in (k * size for size in SIZES):
        at = [curve[:, n - 1] for curve in curves.values()]
        print(f"| {n} | {' | '.join(f'{v.mean():.3f} ({v.min():.3f})' for v in at)} |")
    print()


def honesty(root: Path, seeds: int) -> None:
    x, y, where = cached("sample", sample_data)
    assert where is not None
    print("## Honesty: what cross-validation says and what is true (sample slide)\n")
    print(
        "Labels are dragged over: `k × m` are k strokes of m adjoining tiles per class. *Drift* adds"
    )
    print("a smooth field to the embeddings, as uneven staining does. Mean over seeds; where there")
    print("were too few labels to tell, there is no figure, and the seed counts as such.\n")
    print(
        "| strokes | drift | truth | blocked | its interval | random split | ECE said (true) | too few |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for drift in (0.0, 1.5):
        moved = x + drift * drift_field(where, x)
        projection, features, compact = FeatureBank(moved).snapshot()
        for k, m in ((10, 1), (5, 4), (5, 9), (8, 4)):
            found, none = [], 0
            for seed in range(seeds):
                rows = strokes(y, where, k, m, seed)
                places = TilePlaces(["s"] * len(rows), where[rows, 0], where[rows, 1])
                plan = plan_folds(y[rows], places)
                told = evaluate_labels(features[rows], y[rows], plan)
                if told.interval is None or told.calibration_error is None:
                    none += 1
                    continue
                rest = np.setdiff1d(np.arange(len(y)), rows)
                said = (
                    fit(features, y, rows, projection)
                    .calibrated(told)
                    .predict_features(features[rest], compact[rest])
                )
                found.append([
                    balanced(y[rest], said.class_id), told.balanced_accuracy, *told.interval,
                    _random_split(features[rows], y[rows], seed), told.calibration_error,
                    calibration_error(said.probability, y[rest] - 1),
                ])  # fmt: skip
            if not found:
                print(f"| {k} × {m} | {drift} | | | | | | {none} of {seeds} |")
                continue
            t, b, low, high, r, e, te = np.mean(found, 0)
            print(
                f"| {k} × {m} | {drift} | {t:.3f} | **{b:.3f}** | {low:.2f}–{high:.2f} | {r:.3f} "
                f"| {e:.2f} ({te:.2f}) | {none} of {seeds} |",
                flush=True,
            )
    print()


def strokes(y: np.ndarray, where: np.ndarray, k: int, m: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = []
    for c in np.unique(y):
        mine = np.flatnonzero(y == c)
        for start in rng.permutation(mine)[:k]:
            away = np.abs(where[mine] - where[start]).max(axis=1)
            rows.append(mine[np.argsort(away, kind="stable")][:m])
    return np.unique(np.concatenate(rows))


def drift_field(where: np.ndarray, x: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(5)
    shape = (*(where.max(axis=0) + 1), 12)
    field = ndimage.gaussian_filter(rng.normal(size=shape), (2.5, 2.5, 0))
    field = field[where[:, 0], where[:, 1]]
    return (field / field.std(0)) @ rng.normal(size=(12, x.shape[1])) / np.sqrt(12) * x.std(0)


def _random_split(features: np.ndarray, y: np.ndarray, seed: int) -> float:
    """Ten-fold cross-validation that forgets where tiles lie: here to be shown wrong, only here."""
    fold = np.random.default_rng(seed).permutation(len(y)) % 10
    ids, score = np.unique(y), scorer(features, y)
    said = np.empty(len(y), int)
    for k in range(10):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        said[test] = ids[score(train, test).argmax(1)]
    return balanced(y, said)


# --- latency --------------------------------------------------------------------------------------


def latency(root: Path, seeds: int) -> None:
    print(
        "## Latency: one click to predictions for all tiles, 2560 numbers per embedding, 8 classes\n"
    )
    print(
        f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}. Wall milliseconds, median of 15"
    )
    print("(smallest); *processor* is time on all cores.\n")
    print("| tiles | labels | fit | predict, novelty | confident | total | processor |")
    print("|---|---|---|---|---|---|---|")
    notes = []
    for n in (10_000, 100_000):
        x, y = synthetic(n)
        begin = time.perf_counter()
        projection = Projection.fit(x)
        fitted = time.perf_counter()
        bank = FeatureBank(projection=projection)
        bank.append(x)
        appended = time.perf_counter()
        bank.append(x[:64])
        once = time.perf_counter()
        notes.append(
            f"- {n:,} tiles, once and in the background: projection {fitted - begin:.1f} s, features "
            f"{appended - fitted:.1f} s; each batch of 64 tiles {1e3 * (once - appended):.1f} ms."
        )
        _, features, compact = bank.snapshot()
        features, compact = features[:n], compact[:n]
        rng = np.random.default_rng(0)
        for n_labels in (16, 80, 160):
            timings = []
            for _ in range(15):
                rows = rng.choice(n, n_labels, replace=False)
                t = [time.perf_counter()]
                used = time.process_time()
                classifier = fit(features, y, rows, projection)
                t.append(time.perf_counter())
                said = classifier.predict_features(features, compact)
                t.append(time.perf_counter())
                said.confident()
                t.append(time.perf_counter())
                used = time.process_time() - used
                timings.append([*np.diff(t), t[-1] - t[0], used])
            table = 1e3 * np.array(timings)
            cells = [f"{statistics.median(c):.0f} ({min(c):.0f})" for c in table.T]
            print(f"| {n:,} | {n_labels} | {' | '.join(cells)} |", flush=True)
        del x
        labels = {int(r): int(y[r]) for r in rows}
        places = TilePlaces(["s"] * n, *np.divmod(np.arange(n), 317))
        begin = time.perf_counter()
        suggest_tiles(compact, said, labels, places)
        queued = time.perf_counter()
        where = TilePlaces(["s"] * len(rows), rows // 317, rows % 317)
        evaluate_labels(features[rows], y[rows], plan_folds(y[rows], where))
        notes.append(
            f"- {n:,} tiles, after the repaint: queue {1e3 * (queued - begin):.0f} ms, blocked "
            f"cross-validation of 160 labels {1e3 * (time.perf_counter() - queued):.0f} ms."
        )
    print("\n" + "\n".join(notes) + "\n")


def synthetic(n: int, dim: int = 2560) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(64, dim)).astype(np.float32)
    y = np.arange(n) % 8 + 1
    x = np.empty((n, dim), np.float16)
    for start in range(0, n, 5000):
        part = slice(start, min(start + 5000, n))
        inner = rng.normal(size=(part.stop - part.start, 64)).astype(np.float32)
        inner[:, :8] += 3 * np.eye(8, dtype=np.float32)[y[part] - 1]
        x[part] = inner @ mix + rng.standard_normal((len(inner), dim), np.float32)
    return x, y


def main() -> None:
    parts = {f.__name__: f for f in (methods, novelty, sample, queue, honesty, latency)}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", default="all", choices=[*parts, "all"])
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("NAPARI_VIRCHOW_TEST_DATA", "."),
        help="folder with tiles/crc_polito and tiles/kather2016_100",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--encoder", help="instead of texture")
    parser.add_argument("--weights", help="of the encoder, on this machine")
    given = parser.parse_args()
    if given.encoder:
        from napari_virchow.encoders import load_encoder

        encoder = load_encoder(given.encoder, weights=given.weights)
        Source.identity, Source.embed = encoder.identity, encoder.encode
    for part in parts.values() if given.part == "all" else [parts[given.part]]:
        part(Path(given.data), given.seeds)


if __name__ == "__main__":
    main()
