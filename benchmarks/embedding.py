"""How fast tiles are embedded, against the plain loop and against what the processor can do.

    python benchmarks/embedding.py [--encoders texture kaiko-s16@random] [--slide FILE] [--json]
        [--peers-python FILE]

The plain loop is what most programs do: for each tile `read_region` of tiffslide or openslide, PIL,
float tensor, normalise; then the model, in float32, 32 tiles at a time. Other packages are measured
where the Python given has them (see peers.py). "NAME on DEVICE" chooses a device. Ours is `Session.embed_slide`, from the file to the
store. Without `--slide` both read the sample slide (691 tiles on tissue). Weights are random: they
change no speed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import tiffslide
import torch

from napari_virchow.encoders import Encoder, load_encoder, texture
from napari_virchow.encoders.vit import random_vit
from napari_virchow.sample import sample_slide
from napari_virchow.session import Session
from napari_virchow.slide import open_slide
from napari_virchow.tiles import Tile
from napari_virchow.tissue import tissue_mask

TILE, BATCH, MPP = 224, 32, 0.5
ENCODERS = ("texture", "kaiko-s16@random", "kaiko-s16@random on openvino")


def rate(count: float, work: Callable[[], object], runs: int = 3) -> float:
    """Return `count` per second, the median of some runs after one that warms up."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return count / statistics.median(times)


def limits(device: str) -> dict[str, float]:
    """Measure the peak of matrix products in TFLOP/s, and of memory in GB/s."""
    n = 8192 if device.startswith("cuda") else 2048
    found = {}
    halves = (torch.bfloat16, torch.float16) if device.startswith("cuda") else (torch.bfloat16,)
    for kind in (torch.float32, *halves):
        a, b = (torch.randn(n, n, device=device).to(kind) for _ in range(2))
        found[f"matmul_{str(kind).removeprefix('torch.')}_tflops"] = rate(
            2e-12 * n**3, lambda a=a, b=b: a @ b
        )
    source = torch.ones(2**26, device=device)  # 256 MiB
    target = torch.empty_like(source)
    found["memory_gb_per_s"] = rate(2 * source.nbytes / 1e9, lambda: target.copy_(source))
    return found


def plain_model(encoder: Encoder) -> Callable[[list[np.ndarray]], np.ndarray]:
    """Return the model of the plain loop: tensors in float32, eager, on the encoder's device."""
    if encoder.spec.architecture is None:
        return lambda images: texture.describe(np.stack(images))
    device = "cpu" if encoder.device == "openvino" else encoder.device
    model = random_vit(encoder.spec.architecture).to(device)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (encoder.spec.mean, encoder.spec.std))

    def run(images: list[np.ndarray]) -> np.ndarray:
        tensors = [torch.from_numpy(i.copy()).permute(2, 0, 1).float() / 255 for i in images]
        batch = torch.stack([(t - mean) / std for t in tensors]).to(device)
        with torch.inference_mode():
            return model(batch)[0].float().cpu().numpy()

    return run


def measure(name: str, path: Path, n_plain: int, peaks: dict[str, float]) -> dict[str, Any]:
    """Time one encoder from memory, in the plain loop and from the slide to the store."""
    encoder_name, _, device = name.partition(" on ")
    encoder = load_encoder(encoder_name, device=device or "auto")
    with open_slide(path) as slide:
        grid = slide.grid(MPP)
        tiles = [Tile(*map(int, at)) for at in np.argwhere(tissue_mask(slide).tiles(grid))]
        pixels = slide.read_tiles(grid, tiles[:n_plain])
        if max(slide.mpp or (0,)) != MPP:
            raise SystemExit(f"{path} must have {MPP} µm per pixel, so that read_region will do.")
    model = plain_model(encoder)

    def plain(kind: type) -> np.ndarray:
        made = []
        with kind(path) as slide:
            for start in range(0, len(pixels), BATCH):
                images = []
                for tile in tiles[start : min(start + BATCH, len(pixels))]:
                    at = tile.col * TILE, tile.row * TILE
                    image = slide.read_region(at, 0, (TILE, TILE)).convert("RGB")
                    images.append(np.asarray(image))
                made.append(model(images))
        return np.concatenate(made)

    theirs = plain(tiffslide.TiffSlide)
    ours = encoder.encode(pixels)[:, : theirs.shape[1]]
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    row: dict[str, Any] = {
        "encoder": encoder_name,
        "device": encoder.device,
        "precision": encoder.precision,
        "cosine_to_float32": float(cosine.min()),
        "plain_tiles_per_s": rate(len(pixels), lambda: plain(tiffslide.TiffSlide), 1),
        "plain_openslide_tiles_per_s": rate(len(pixels), lambda: plain(openslide.OpenSlide), 1),
        "memory_tiles_per_s": rate(len(pixels), lambda: encoder.encode(pixels), 1),
    }
    with tempfile.TemporaryDirectory() as folder, Session(Path(folder)) as session:
        opened = session.open_slide(path)
        session.use_encoder(encoder)
        start = time.perf_counter()
        session.embed_slide(opened, mpp=MPP)
        session.wait()
        n = len(session.embeddings(opened, MPP)[0])
        row["slide_tiles_per_s"] = n / (time.perf_counter() - start)
        row["share_reading"] = session.progress.share_reading
    if encoder.spec.architecture is not None:
        gflop = encoder.spec.architecture.gflop(TILE)
        row["gflop_per_tile"] = gflop
        peak = peaks.get(f"matmul_{encoder.precision}_tflops", peaks["matmul_bfloat16_tflops"])
        row["of_matmul_peak"] = row["memory_tiles_per_s"] * gflop / 1e3 / peak
    return row


def ask_peers(python: Path | None, path: Path, n: int) -> dict[str, Any]:
    """Return what peers.py found with another Python; nothing without one."""
    if python is None:
        return {}
    command = [str(python), str(Path(__file__).with_name("peers.py")), str(path), "--tiles", str(n)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])["packages"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS))
    parser.add_argument("--slide", type=Path, help=f"at {MPP} µm per pixel; default: the sample")
    parser.add_argument("--tiles", type=int, default=96, help="in the plain loop and from memory")
    peers_python = os.environ.get("PEERS_PYTHON")  # so that `make bench` passes it on
    parser.add_argument("--peers-python", type=Path, default=peers_python, metavar="FILE")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    peaks = limits(device)
    path = given.slide or sample_slide()
    there = importlib.util.find_spec("openvino") is not None
    names = [name for name in given.encoders if there or not name.endswith(" on openvino")]
    rows = [measure(name, path, given.tiles, peaks) for name in names]
    peers = ask_peers(given.peers_python, path, given.tiles)
    if given.json:
        print(json.dumps({"limits": peaks, "rows": rows, "peers": peers}, indent=1))
        return
    print(", ".join(f"{name}: {value:.3g}" for name, value in peaks.items()) + "\n")
    print(
        "| encoder | precision | plain loop | with openslide | ours, slide → store | × | from memory | of peak |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        plain, whole = row["plain_tiles_per_s"], row["slide_tiles_per_s"]
        peak = f"{row['of_matmul_peak']:.2f}" if "of_matmul_peak" in row else ""
        kind = f"{row['precision']} (cosine {row['cosine_to_float32']:.4f})"
        print(
            f"| {row['encoder']} on {row['device']} | {kind} | {plain:.1f} "
            f"| {row['plain_openslide_tiles_per_s']:.1f} | {whole:.1f} "
            f"| {whole / plain:.1f} | {row['memory_tiles_per_s']:.1f} | {peak} |"
        )
    for name, found in peers.items():
        print(f"\n{name}, kaiko-s16@random in float32: {found}")


if __name__ == "__main__":
    main()
