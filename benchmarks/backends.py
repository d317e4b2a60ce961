"""Which way of computing a network is fastest on this processor, and how near it stays to float32.

    python benchmarks/backends.py [--encoders kaiko-s16 virchow2] [--rounds 5] [--compile] [--json]

Torch as it is (in float32 and bfloat16), compiled where that is asked for, OpenVINO, and ONNX Runtime
where it and `onnx` are installed. Weights are random; of a deep network a few blocks do: all are the
same. The ways take turns, forwards and backwards, so that a noisy machine is noisy for all; the median
counts. Tiles per second are of the whole network by its GFLOP, and beside them tiles per second of
processor time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embedding import limits

from napari_virchow.encoders import SPECS
from napari_virchow.encoders.checking import least_cosine
from napari_virchow.encoders.openvino import openvino_embedder
from napari_virchow.encoders.specs import EncoderSpec
from napari_virchow.encoders.vit import random_vit, vit_embedder

BLOCKS = 4  # of a network of more than 12
WORK_GFLOP = 200  # of a batch: half a second or so
Embed = Callable[[np.ndarray], np.ndarray]


def ways(spec: EncoderSpec, *, compiles: bool) -> Iterator[tuple[str, Embed]]:
    """Yield every way of computing a network that works here, the exact one first."""
    config = spec.architecture
    yield "torch, float32", vit_embedder(random_vit(config), spec, "class", "cpu")
    lowered = random_vit(config).lower(torch.bfloat16)
    yield "torch, bfloat16", vit_embedder(lowered, spec, "class", "cpu")
    if compiles:
        model = random_vit(config).lower(torch.bfloat16)
        for block in model.blocks:  # as `compile_encoder` does
            block.compile(dynamic=False, fullgraph=True)
        yield "torch compiled, bfloat16", vit_embedder(model, spec, "class", "cpu")
    if importlib.util.find_spec("openvino"):
        for dtype in (torch.float32, torch.bfloat16):
            embed = openvino_embedder(random_vit(config), spec, "class", dtype)
            yield f"OpenVINO, {str(dtype).removeprefix('torch.')}", embed
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        yield "ONNX Runtime, float32", onnx_embedder(spec)


def onnx_embedder(spec: EncoderSpec) -> Embed:
    """Return a network through ONNX Runtime, whose processor kernels have no bfloat16."""
    import onnxruntime

    model, example = random_vit(spec.architecture), torch.zeros(2, 3, spec.input_px, spec.input_px)
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (spec.mean, spec.std))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = str(Path(folder, "network.onnx"))
        axes = {"tiles": {0: "n"}}
        torch.onnx.export(
            model, (example,), path, input_names=["tiles"], dynamic_axes=axes, dynamo=False
        )
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def embed(tiles: np.ndarray) -> np.ndarray:
        images = (tiles.transpose(0, 3, 1, 2).astype(np.float32) / 255 - mean) / std
        return session.run(None, {"tiles": images})[0]

    return embed


def measure(
    name: str, rounds: int, peaks: dict[str, float], *, compiles: bool
) -> list[dict[str, Any]]:
    """Time all ways of one network in turns."""
    spec, whole = SPECS[name], SPECS[name].architecture
    config = replace(whole, depth=BLOCKS) if whole.depth > 12 else whole
    spec = replace(spec, architecture=config)
    n = max(2, round(WORK_GFLOP / config.gflop(spec.input_px)))
    tiles = np.random.default_rng(5).integers(0, 256, (n, 224, 224, 3), np.uint8)
    found, missing = {}, {}
    exact = None
    for way, embed in ways(spec, compiles=compiles):
        try:
            made = embed(tiles)
        except Exception as error:  # noqa: BLE001  # such as no compiler: said in the table
            missing[way] = (str(error).splitlines() or [type(error).__name__])[0][:200]
            continue
        exact = made if exact is None else exact
        found[way] = embed, least_cosine(made, exact), [], []
    for number in range(rounds):
        for embed, _, clock, cpu in list(found.values())[:: 1 if number % 2 else -1]:
            start = time.perf_counter(), time.process_time()
            embed(tiles)
            clock.append(time.perf_counter() - start[0])
            cpu.append(time.process_time() - start[1])
    part = config.gflop(spec.input_px) / whole.gflop(spec.input_px)
    rows = []
    for way, (_, cosine, clock, cpu) in found.items():
        rate, kind = n * part / statistics.median(clock), way.split(", ")[1]
        gflops = rate * whole.gflop(spec.input_px)
        rows.append(
            {
                "encoder": name,
                "blocks": f"{config.depth} of {whole.depth}",
                "way": way,
                "tiles_per_s": rate,
                "tiles_per_cpu_s": n * part / statistics.median(cpu),
                "gflop_per_s": gflops,
                "of_matmul_peak": gflops / 1e3 / peaks[f"matmul_{kind}_tflops"],
                "cosine_to_float32": cosine,
            }
        )
    return rows + [{"encoder": name, "way": way, "missing": why} for way, why in missing.items()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", nargs="+", default=["kaiko-s16", "virchow2"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="compiled by torch too")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    peaks = limits("cpu")
    rows = [
        row
        for name in given.encoders
        for row in measure(name, given.rounds, peaks, compiles=given.compile)
    ]
    if given.json:
        print(json.dumps({"limits": peaks, "rows": rows}, indent=1))
        return
    print("| encoder | way | tiles/s | per CPU second | GFLOP/s | of matmul peak | cosine |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for row in rows:
        if "missing" in row:
            print(f"| {row['encoder']} | {row['way']} | not here: {row['missing']} |")
            continue
        print(
            f"| {row['encoder']}, {row['blocks']} blocks | {row['way']} | {row['tiles_per_s']:.2f} "
            f"| {row['tiles_per_cpu_s']:.2f} | {row['gflop_per_s']:.0f} "
            f"| {row['of_matmul_peak']:.2f} | {row['cosine_to_float32']:.5f} |"
        )


if __name__ == "__main__":
    main()
