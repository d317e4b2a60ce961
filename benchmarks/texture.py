"""Compare the `texture` encoder with colour histograms, and time it on one core.

    OMP_NUM_THREADS=1 python benchmarks/texture.py [--data DIR] [--json]

Every row is the same standardised logistic regression (C = 1). Folds are random, as the tile sets
carry no slide names: tiles of one slide lie on both sides, which favours what remembers a slide's
colour. So compare rows, and mind the few-label columns. "other stain" trains on the tiles as they
are and tests on tiles stained differently, the nearest to another laboratory these sets allow.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from napari_virchow.encoders import texture
from napari_virchow.sample import CLASSES, read_truth, sample_slide
from napari_virchow.tiles import TILE_PX

Features = NDArray[np.float32]
Describe = Callable[[NDArray[np.uint8]], Features]
SEEDS = 10


def histogram_3x8(tiles: NDArray[np.uint8]) -> Features:
    """Count 8 shades of red, of green and of blue."""
    fine = histogram_3x32(tiles).reshape(len(tiles), 3, 8, 4)
    return fine.sum(-1).reshape(len(tiles), -1)


def histogram_4x4x4(tiles: NDArray[np.uint8]) -> Features:
    """Count 64 colours."""
    fine = histogram_8x8x8(tiles).reshape(-1, 4, 2, 4, 2, 4, 2)
    return fine.sum((2, 4, 6)).reshape(len(tiles), -1)


def histogram_3x32(tiles: NDArray[np.uint8]) -> Features:
    """Count 32 shades of red, of green and of blue."""
    flat = tiles.reshape(len(tiles), -1, 3) >> 3
    rows = [[np.bincount(tile[:, c], minlength=32) for c in range(3)] for tile in flat]
    return np.array(rows, np.float32).reshape(len(tiles), -1) / flat.shape[1]


def histogram_8x8x8(tiles: NDArray[np.uint8]) -> Features:
    """Count 512 colours."""
    flat = tiles.reshape(len(tiles), -1, 3).astype(np.int32) >> 5
    codes = flat[..., 0] * 64 + flat[..., 1] * 8 + flat[..., 2]
    counts = [np.bincount(tile, minlength=512) for tile in codes]
    return np.array(counts, np.float32) / flat.shape[1]


ROWS: dict[str, Describe] = {
    "colour histogram 3 × 8": histogram_3x8,
    "colour histogram 3 × 32": histogram_3x32,
    "colour histogram 4 × 4 × 4": histogram_4x4x4,
    "colour histogram 8 × 8 × 8": histogram_8x8x8,
    f"texture {texture.VERSION}": texture.describe,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("NAPARI_VIRCHOW_TEST_DATA"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = {"sample": _sample(), "rate per core": _rate()}
    if options.data:
        tiles = Path(options.data) / "tiles"
        files = sorted((tiles / "crc_polito").glob("*/*.jpg"))
        result["crc_polito"] = _compare(files, [f.parent.name for f in files])
        files = sorted((tiles / "kather2016_100").glob("*.png"))
        result["kather2016_100"] = _compare(files, [f.stem[-1] for f in files])
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for name, table in result.items():
        if isinstance(table, dict):
            print(f"\n### {name}\n\n{_markdown(table)}")
        else:
            print(f"\n{name}: {table:.0f} tiles of 224 px a CPU second")


def _compare(files: list[Path], names: list[str]) -> dict[str, dict[str, float]]:
    tiles = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    y = np.unique(names, return_inverse=True)[1]
    restained = _restained(tiles)
    table = {}
    for name, describe in ROWS.items():
        x, other = describe(tiles), describe(restained)
        row = _folds(x, other, y)
        for n in (5, 20):
            if n < np.bincount(y).min():
                row[f"{n} per class"] = _few(x, y, n)
        row["precision@10"] = float(np.mean(_precision(x, y, 10)))
        row["mAP"] = _mean_average_precision(x, y)
        table[name] = row
    return table


def _model() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))


def _folds(x: Features, other: Features, y: NDArray[np.intp]) -> dict[str, float]:
    same, stained = np.empty_like(y), np.empty_like(y)
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(x, y):
        model = _model().fit(x[train], y[train])
        same[test], stained[test] = model.predict(x[test]), model.predict(other[test])
    return {
        "5-fold": balanced_accuracy_score(y, same),
        "5-fold, other stain": balanced_accuracy_score(y, stained),
    }


def _restained(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stain tiles differently: haematoxylin and eosin 25 % up or down, another for each tile."""
    rng = np.random.default_rng(1)
    back = np.linalg.inv(texture._UNMIX)
    done = np.empty_like(tiles)
    for i, tile in enumerate(tiles):
        factor = np.diag(1 + 0.25 * rng.choice([-1, 1], 3) * (1, 1, 0)).astype(np.float32)
        density = texture._DENSITY[tile] @ (texture._UNMIX @ factor @ back)
        done[i] = np.clip(256 * 10**-density - 1, 0, 255)
    return done


def _few(x: Features, y: NDArray[np.intp], n: int) -> float:
    """Balanced accuracy from `n` labels a class, the mean of `SEEDS` draws."""
    scores = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        train = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:n] for c in np.unique(y)])
        test = np.setdiff1d(np.arange(len(y)), train)
        scores.append(
            balanced_accuracy_score(y[test], _model().fit(x[train], y[train]).predict(x[test]))
        )
    return float(np.mean(scores))


def _ranked(x: Features, y: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """For each query row, which of the others are of its class, most similar first."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    scores = unit[rows] @ unit.T
    scores[np.arange(len(rows)), rows] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :-1]
    return y[order] == y[rows][:, None]


def _precision(
    x: Features, y: NDArray[np.intp], k: int, rows: NDArray[np.intp] | None = None
) -> NDArray[np.float64]:
    rows = np.arange(len(y)) if rows is None else rows
    return _ranked(x, y, rows)[:, :k].mean(1)


def _mean_average_precision(x: Features, y: NDArray[np.intp]) -> float:
    hits = _ranked(x, y, np.arange(len(y)))
    precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
    return float(((precision * hits).sum(1) / np.maximum(hits.sum(1), 1)).mean())


def _sample() -> dict[str, dict[str, float]]:
    """Few labels and similarity on the sample slide's tissue, every tile by its majority."""
    from tiffslide import TiffSlide

    truth = read_truth(sample_slide().with_suffix(".csv"))
    rows, cols = truth.classes.shape
    with TiffSlide(sample_slide()) as slide:
        size = cols * TILE_PX, rows * TILE_PX
        whole = np.asarray(slide.read_region((0, 0), 0, size, as_array=True))[..., :3].copy()
        whole[slide.dimensions[1] :], whole[:, slide.dimensions[0] :] = 255, 255
    tiles = whole.reshape(rows, TILE_PX, cols, TILE_PX, 3).swapaxes(1, 2)
    tissue = truth.classes > 0
    tiles, y = tiles[tissue], truth.classes[tissue].astype(np.intp)
    table = {}
    for name, describe in ROWS.items():
        x = describe(tiles)
        row = {f"{n} per class": _few(x, y, n) for n in (1, 2, 5, 10, 20)}
        rng = np.random.default_rng(0)
        for c in np.unique(y):
            queries = rng.permutation(np.flatnonzero(y == c))[:20]
            row[f"P@50 {CLASSES[c]}"] = float(np.median(_precision(x, y, 50, queries)))
        table[name] = row
    return table


def _rate() -> float:
    """Tiles a second of this process's CPU time, best of three."""
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (64, 224, 224, 3), np.uint8)
    tiles[:, ::2] //= 2
    rates = []
    for _ in range(3):
        start = time.process_time()
        texture.describe(tiles)
        rates.append(len(tiles) / (time.process_time() - start))
    return max(rates)


def _markdown(table: dict[str, dict[str, float]]) -> str:
    columns = list(next(iter(table.values())))
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in table.items():
        lines.append(f"| {name} | {' | '.join(f'{row[c]:.3f}' for c in columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
