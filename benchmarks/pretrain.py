"""The paper's ablation at a very small scale: {KoLeo, KDE} x {crop-and-resize, translation}.

    NAPARI_VIRCHOW_TEST_DATA=… python benchmarks/pretrain.py [--steps N] [--seeds N] [--out FILE]

A small network is pretrained on the sample slide and CMU-1 (CC0), and tested frozen on tiles of
other laboratories. It shows whether the parts work together, not what they do at scale.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from itertools import product
from pathlib import Path

from napari_virchow.encoders import load_encoder
from napari_virchow.evaluate import Protocol, evaluate
from napari_virchow.evaluate.published import read_sets
from napari_virchow.pretrain import Config
from napari_virchow.pretrain.checkpoints import export_encoder
from napari_virchow.pretrain.config import Crops, Data, Loss, Model, Optimiser, Run
from napari_virchow.pretrain.network import Network, initialise
from napari_virchow.pretrain.train import train

DATA = Path(os.environ.get("NAPARI_VIRCHOW_TEST_DATA", "../shared/data"))
WEIGHT = {"kde": 0.05, "koleo": 0.1}  # the published one, and DINOv2's
SETS = (("crc_polito", None), ("kather2016_100", r"label_(?P<class>\d+)"))
WORDS = {"kde": "KDE", "koleo": "KoLeo", "translate": "ECT", "resize": "crop-and-resize"}


def config_of(regulariser: str, method: str, seed: int, steps: int) -> Config:
    return Config(
        name=f"{regulariser}-{method}-{seed}",
        data=Data(
            slides=("sample", str(DATA / "slides" / "CMU-1-Small-Region.svs")),
            mpp=(0.5, 1.0, 2.0),
            mpp_share=(0.5, 0.3, 0.2),
            field_px=98,
        ),
        crops=Crops(method=method, global_px=56, local_px=28, n_local=4),
        model=Model(width=96, depth=4, heads=4, hidden=192, image_px=56),
        loss=Loss(
            regulariser=regulariser,
            regulariser_weight=WEIGHT[regulariser],
            prototypes=256,
            bottleneck=64,
            head_hidden=192,
            masks="single",  # as in the table that is kept
        ),
        optimiser=Optimiser(
            batch=32, steps=steps, warmup=steps // 10, lr=0.01, momentum_start=0.99
        ),
        run=Run(seed=seed, precision="float32", checkpoint_every=10**6, log_every=50),
    )


def figures(encoder_folder: Path, sets, store: Path) -> list[float]:
    encoder = load_encoder(str(encoder_folder), device="cpu", pooling="class+mean")
    protocol = Protocol(shots=(5,), draws=10, robust_tiles=0)
    found = [r for r in evaluate(sets, [encoder], store, protocol=protocol) if r.knn is not None]
    return [100 * value for r in found for value in (r.knn.value, r.linear.value, r.few[5].value)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pretrain.md"))
    options = parser.parse_args()
    sets = [s for name, p in SETS for s in read_sets(DATA / "tiles" / name, pattern=p, mpp=None)]
    rows: dict[str, list[list[float]]] = defaultdict(list)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for seed, regulariser, method in product(
            range(options.seeds), ("koleo", "kde"), ("resize", "translate")
        ):
            config = config_of(regulariser, method, seed, options.steps)
            if (regulariser, method) == ("koleo", "resize"):
                network = initialise(Network(config), seed)
                named = replace(config, name=f"random-{seed}")
                start = export_encoder(work / named.name, network, named, 0)
                rows["random weights"].append(figures(start, sets, work / "store"))
            began = time.process_time()
            done = train(config, work / config.name, device="cpu")
            seconds.append(time.process_time() - began)
            rows[f"{WORDS[regulariser]}, {WORDS[method]}"].append(
                figures(done.encoder, sets, work / "store")
            )
            print(
                config.name,
                [f"{v:.1f}" for v in rows[f"{WORDS[regulariser]}, {WORDS[method]}"][-1]],
            )
        texture = [
            r
            for r in evaluate(
                sets,
                [load_encoder("texture")],
                work / "store",
                protocol=Protocol(shots=(5,), draws=10, robust_tiles=0),
            )
            if r.knn is not None
        ]
        rows["`texture`, for comparison"].append(
            [100 * v for r in texture for v in (r.knn.value, r.linear.value, r.few[5].value)]
        )
    write(options, sets, rows, seconds)


def write(options, sets, rows, seconds) -> None:
    heads = [f"{s.title}: {what}" for s in sets for what in ("kNN", "linear", "5 per class")]
    lines = [
        "# Ablation at a very small scale (`benchmarks/pretrain.py`)",
        "",
        f"Weighted F1 × 100 of frozen encoders, mean ± standard deviation over {options.seeds} seeds. "
        f"{options.steps} steps of 32 samples, a network of 96 × 4, crops of 56 and 28 px from fields of "
        f"98 px of the sample slide and CMU-1; {statistics.mean(seconds):.0f} s of CPU a run, "
        f"{time.strftime('%Y-%m-%d')}.",
        "",
        "| what | " + " | ".join(heads) + " |",
        "|---|" + "---:|" * len(heads),
    ]
    for name, values in rows.items():
        cells = []
        for column in zip(*values, strict=True):
            spread = f" ± {statistics.stdev(column):.1f}" if len(column) > 1 else ""
            cells.append(f"{statistics.mean(column):.1f}{spread}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
