"""How near a GPU comes to what it can do: one command on a machine that has one.

    python benchmarks/gpu.py [--encoders virchow2 kaiko-s16] [--seconds 10] [--out FILE.md]

Virchow2's shape and a ViT-S with random weights. The matrix products' peak and the memory's are
measured in the same run. From memory: in bfloat16 and float16, as it is loaded and with `--compile`
(compiled, and recorded as a CUDA graph); each beside its cosine to float32. Then from a slide of
100,000 x 100,000 px to the store, with the shares of reading and encoding. Without a GPU it says so
and ends well; `--device cpu --seconds 1 --batch 2 --encoders kaiko-s16` tries the script itself.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from big_slide import big_slide
from embedding import limits

from napari_virchow.encoders import Encoder, EncoderUnavailable, load_encoder
from napari_virchow.encoders.checking import least_cosine
from napari_virchow.encoders.compiled import compile_encoder
from napari_virchow.encoders.vit import TileNetwork, embedder, random_vit
from napari_virchow.session import Session

TARGETS = {"virchow2": 1400, "kaiko-s16": 15_000}  # tiles/s from memory, on an H200
EXACT = 16  # tiles whose embeddings are compared with float32


def lowered(encoder: Encoder, dtype: torch.dtype) -> Encoder:
    """Return the same encoder with its matrix products in `dtype`."""
    model = random_vit(encoder.spec.architecture).lower(dtype)
    network = TileNetwork(model, encoder.spec, encoder.pooling).to(encoder.device)
    return replace(
        encoder,
        precision=str(dtype).removeprefix("torch."),
        network=network,
        embed_batch=embedder(network, encoder.device),
    )


def from_memory(
    name: str, device: str, seconds: float, batch: int | None, peaks: dict[str, float]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each way: tiles/s, share of the peak and cosine to float32."""
    loaded = load_encoder(f"{name}@random", device=device)
    loaded.batch_size = batch or loaded.batch_size
    tiles = np.random.default_rng(5).integers(0, 256, (EXACT, 224, 224, 3), np.uint8)
    torch.backends.cuda.matmul.allow_tf32 = False
    exact = lowered(loaded, torch.float32).encode(tiles)
    for dtype in (torch.bfloat16, torch.float16):
        encoder = lowered(loaded, dtype)
        yield rated(encoder, encoder.precision, exact, tiles, seconds, peaks)
        way = f"{encoder.precision}, compiled"
        try:
            compile_encoder(encoder)
        except EncoderUnavailable as error:  # such as no compiler: said in the table
            yield {"encoder": name, "way": way, "missing": str(error)[:200]}
            continue
        yield rated(encoder, way, exact, tiles, seconds, peaks)


def rated(
    encoder: Encoder,
    way: str,
    exact: np.ndarray,
    tiles: np.ndarray,
    seconds: float,
    peaks: dict[str, float],
) -> dict[str, Any]:
    """Return the row of one way."""
    made, spec, n = encoder.encode(tiles), encoder.spec, encoder.batch_size
    many = np.resize(tiles, (n, *tiles.shape[1:]))
    for _ in range(3):
        encoder.encode(many)  # warm
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:  # each call ends with the result on the host
        encoder.encode(many)
        calls += 1
    rate = calls * n / (time.perf_counter() - start)
    tflops = rate * spec.architecture.gflop(spec.input_px) / 1e3
    return {
        "encoder": spec.name,
        "way": way,
        "batch": n,
        "tiles_per_s": rate,
        "tflops": tflops,
        "of_matmul_peak": tflops / peaks["matmul_bfloat16_tflops"],
        "cosine_to_float32": least_cosine(made, exact),
    }


def from_slide(
    name: str, device: str, path: Path, seconds: float, *, compiles: bool
) -> dict[str, Any]:
    """Embed the slide for a while, or to its end; return the rate and how busy the stages were."""
    with tempfile.TemporaryDirectory() as folder, Session(Path(folder)) as session:
        opened = session.open_slide(path)
        session.load_encoder(f"{name}@random", device=device, compile=compiles)
        start = time.perf_counter()
        session.embed_slide(opened, mpp=0.5)
        ended = session.wait(timeout=30 * seconds)
        progress = session.progress
        session.cancel()
        session.wait()  # for the batches that were begun, which count
        took = time.perf_counter() - start
        n = len(session.embeddings(opened, 0.5)[0])
        busy = {
            stage: getattr(progress, f"share_{stage}")
            for stage in ("reading", "encoding", "storing")
        }
    way = f"{name}, compiled" if compiles else name
    return {"encoder": way, "tiles": n, "tiles_per_s": n / took, "ended": ended, "shares": busy}


def report(facts: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    limits_text = ", ".join(f"{key} {value:.4g}" for key, value in facts["limits"].items())
    lines = [f"{facts['device']}, torch {torch.__version__}; {limits_text}", ""]
    lines += ["| encoder | way | batch | tiles/s | TFLOP/s | of bf16 peak | cosine | target |"]
    lines += ["|---|---|---:|---:|---:|---:|---:|---:|"]
    for row in facts["memory"]:
        name = f"| {row['encoder']} | {row['way']} "
        if "missing" in row:
            lines.append(f"{name}| not here: {row['missing']} |")
            continue
        lines.append(
            f"{name}| {row['batch']} | {row['tiles_per_s']:,.0f} | {row['tflops']:.1f} | "
            f"{row['of_matmul_peak']:.2f} | {row['cosine_to_float32']:.5f} | "
            f"{TARGETS.get(row['encoder'], '')} |"
        )
    lines += [
        "",
        "| encoder | slide → store, tiles/s | tiles | busy reading : encoding : storing |",
    ]
    lines += ["|---|---:|---:|---|"]
    for row in facts["slide"]:
        shares = " : ".join(f"{share:.2f}" for share in row["shares"].values())
        lines.append(
            f"| {row['encoder']} | {row['tiles_per_s']:,.0f} | {row['tiles']:,} | {shares} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write; without a GPU only say so."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", nargs="+", default=["virchow2", "kaiko-s16"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=10, help="per row from memory")
    parser.add_argument("--batch", type=int, help="tiles at a time; default: the encoder's own")
    parser.add_argument("--slide", type=Path, help="at 0.5 µm/px; default: the large synthetic one")
    parser.add_argument(
        "--out", type=Path, help="a Markdown file; the figures go beside it as JSON"
    )
    given = parser.parse_args()
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print("There is no GPU here that torch can use: nothing was measured.")
        return
    on_gpu = given.device.startswith("cuda")
    name = torch.cuda.get_device_name(given.device) if on_gpu else given.device
    facts: dict[str, Any] = {"device": f"{name}, {len(os.sched_getaffinity(0))} cores"}
    facts["limits"] = limits(given.device)
    facts["memory"] = [
        row
        for encoder in given.encoders
        for row in from_memory(encoder, given.device, given.seconds, given.batch, facts["limits"])
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = given.slide or big_slide(Path(folder))
        facts["slide"] = [
            from_slide(encoder, given.device, path, given.seconds, compiles=compiles)
            for encoder in given.encoders
            for compiles in (False, True)
        ]
    text = report(facts)
    print(text)
    if given.out:
        given.out.write_text(text, "utf-8")
        given.out.with_suffix(".json").write_text(json.dumps(facts, indent=1), "utf-8")


if __name__ == "__main__":
    main()
