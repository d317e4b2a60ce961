"""How fast other packages go from a slide to embeddings, with the same network on the same device.

    PYTHON benchmarks/peers.py SLIDE [--tiles 128]

PYTHON is that of an environment with any of LazySlide, histolab and TIAToolbox beside torch and what
`napari_virchow.encoders` needs (it need not be installed there). `embedding.py --peers-python` calls this.
The network is a ViT-S with random weights in float32. Prints JSON: tiles per second, or why not.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from napari_virchow.encoders.specs import SPECS  # noqa: E402
from napari_virchow.encoders.vit import random_vit  # noqa: E402

NAME, TILE, BATCH, MPP = "kaiko-s16", 224, 32, 0.5
SPEC = SPECS[NAME]
KEPT: list[Any] = []  # a library's definitions go with it
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class ClassToken(nn.Module):
    """The network as those packages want it: images in, one row each out."""

    def __init__(self) -> None:
        super().__init__()
        self.model = random_vit(SPEC.architecture).to(DEVICE)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the class token of normalised images."""
        return self.model(images)[0]


def transform(image: Any) -> torch.Tensor:
    """Do what torchvision's ToTensor and Normalize do to a PIL image or an array."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (SPEC.mean, SPEC.std))
    return (pixels - mean) / std


def mend_torchvision() -> None:
    """Let torchvision's usual wheel be imported beside a torch without CUDA."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # its compiled part does not load, and operators of it are looked for
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        KEPT.append(library)
        for module in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[module]


def lazyslide(path: str, most: int) -> tuple[int, float]:
    """Embed the slide's tissue as LazySlide does: contours, tiles, features."""
    import lazyslide as zs
    from wsidata import open_wsi

    model = ClassToken()
    wsi = open_wsi(path)
    zs.pp.find_tissues(wsi)
    zs.pp.tile_tissues(wsi, TILE, mpp=MPP)
    wsi["tiles"] = wsi["tiles"].iloc[:most]
    n, start = len(wsi["tiles"]), time.perf_counter()
    zs.tl.feature_extraction(
        wsi, model, transform=transform, device=DEVICE, batch_size=BATCH, pbar=False
    )
    return n, time.perf_counter() - start


def histolab(path: str, most: int) -> tuple[int, float]:
    """Embed tiles that histolab's slide gives; it has no embedding of its own."""
    from histolab.slide import Slide
    from histolab.types import CoordinatePair

    model, slide = ClassToken(), Slide(path, "unused", use_largeimage=False)
    wide, high = (size // TILE for size in slide.dimensions)
    places = [(row, col) for row in range(high) for col in range(wide)]
    start, first = time.perf_counter(), max(0, len(places) - most) // 2
    batch: list[torch.Tensor] = []
    for number, (row, col) in enumerate(places[first : first + most], 1):
        x, y = col * TILE, row * TILE
        at = CoordinatePair(x, y, x + TILE, y + TILE)
        batch.append(transform(slide.extract_tile(at, (TILE, TILE), level=0).image.convert("RGB")))
        if len(batch) == BATCH or number == min(most, len(places)):
            with torch.inference_mode():
                model(torch.stack(batch).to(DEVICE)).cpu()
            batch = []
    return min(most, len(places)), time.perf_counter() - start


def tiatoolbox(path: str, most: int) -> tuple[int, float]:
    """Embed the rows in the middle of the slide by TIAToolbox's feature extractor."""
    import cv2
    from tiatoolbox.models.architecture.vanilla import TimmBackbone
    from tiatoolbox.models.engine.deep_feature_extractor import DeepFeatureExtractor
    from tiatoolbox.wsicore.wsireader import WSIReader

    model = TimmBackbone("efficientnet_b0", pretrained=False)  # how it calls a network; ours in it
    model.feat_extract = ClassToken()
    model.preproc_func = lambda tile: transform(tile).permute(1, 2, 0)
    wide, high = (size // TILE for size in WSIReader.open(path).slide_dimensions(MPP, "mpp"))
    rows = max(1, most // wide)
    mask = np.zeros((high, wide), np.uint8)  # a pixel per tile
    mask[(high - rows) // 2 :][:rows] = 255
    with tempfile.TemporaryDirectory() as folder:
        cv2.imwrite(f"{folder}/mask.png", mask)
        extractor = DeepFeatureExtractor(model, BATCH, device=DEVICE, verbose=False)
        start = time.perf_counter()
        found = extractor.run(
            [path],
            masks=[f"{folder}/mask.png"],
            patch_mode=False,
            input_resolutions=[{"units": "mpp", "resolution": MPP}],
            patch_input_shape=[TILE, TILE],
            save_dir=f"{folder}/out",
            output_type="zarr",
        )
        seconds = time.perf_counter() - start
        features = zarr.open(str(next(iter(found.values()))), mode="r")["features"]
        if features.shape[1] != SPEC.dim:
            raise ValueError(f"it wrote features of {features.shape}")
        return features.shape[0], seconds


def main() -> None:
    """Try each package and print what it did."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide")
    parser.add_argument("--tiles", type=int, default=128)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    mend_torchvision()
    found: dict[str, Any] = {}
    for work in (lazyslide, histolab, tiatoolbox):
        try:
            n, seconds = work(given.slide, given.tiles)
            found[work.__name__] = {"tiles": n, "tiles_per_s": n / seconds}
        except Exception as error:  # noqa: BLE001  # others' code: what it says is the result
            found[work.__name__] = {"missing": f"{type(error).__name__}: {error}"[:200]}
    print(json.dumps({"encoder": NAME, "device": DEVICE, "packages": found}))


if __name__ == "__main__":
    main()
