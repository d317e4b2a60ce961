"""How near embeddings stay to float32 when the linear layers compute in float8.

    python benchmarks/fp8.py [--tiles 8] [--json]

Simulated, so that it needs no GPU: weights are rounded to float8 (e4m3) with a scale per output row and
inputs with a scale per token, as `torch._scaled_mm` takes them, and multiplied in float32. What a GPU
adds, such as its output in bfloat16, comes on top. ViT-S whole, and of Virchow2 the first blocks, with
random weights: as `random_vit` makes them, and larger and uneven ones, which are nearer to trained ones.
The smallest cosine to float32 of some tiles counts, as they are and without what they have in common.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_virchow.encoders import SPECS
from napari_virchow.encoders.vit import TileNetwork, ViT, random_vit

LIMIT = 0.999  # what an option would have to keep
NETWORKS = (("kaiko-s16", (12,)), ("virchow2", (4, 8)))
LARGEST = torch.finfo(torch.float8_e4m3fn).max


class RoundedLinear(nn.Module):
    """A linear layer whose weights and inputs are rounded to float8."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = rounded(linear.weight), linear.bias

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the product in float32."""
        return functional.linear(rounded(tokens), self.weight, self.bias)


def rounded(values: Tensor) -> Tensor:
    """Round to float8 with one scale per row."""
    scale = values.abs().amax(-1, keepdim=True).clamp_min(1e-12) / LARGEST
    return (values / scale).to(torch.float8_e4m3fn).float() * scale


def round_linears(model: ViT) -> ViT:
    """Let all linear layers of the blocks compute in float8."""
    for block in model.blocks:
        for part in (block.attn, block.mlp):
            for name, layer in list(part.named_children()):
                if isinstance(layer, nn.Linear):
                    setattr(part, name, RoundedLinear(layer))
    return model


def uneven(model: ViT) -> ViT:
    """Make blocks matter more, and channels differ, as in a trained network."""
    generator = torch.Generator().manual_seed(9)
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and parameter.ndim == 2:
            parameter.mul_(2.5)
        elif parameter.ndim == 1:
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def soft_tiles(n: int) -> Tensor:
    """Return tiles of random blots, (n, 224, 224, 3) uint8."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.randint(60, 250, (n, 3, 8, 8), generator=generator).float()
    fine = functional.interpolate(coarse, (224, 224), mode="bicubic").clamp(0, 255)
    return fine.permute(0, 2, 3, 1).to(torch.uint8)


def measure(name: str, depth: int, n: int, *, is_uneven: bool) -> dict[str, Any]:
    """Compare one network with itself in bfloat16 and in simulated float8."""
    whole = SPECS[name].architecture
    spec = replace(SPECS[name], architecture=replace(whole, depth=depth))
    tiles = soft_tiles(n)

    def embed(how: str) -> Tensor:
        model = random_vit(spec.architecture)
        if is_uneven:
            uneven(model)
        if how == "bfloat16":
            model.lower(torch.bfloat16)
        elif how == "float8":
            round_linears(model)
        with torch.inference_mode():
            return TileNetwork(model, spec, spec.pooling)(tiles)

    exact = embed("float32")
    row: dict[str, Any] = {
        "encoder": name,
        "blocks": f"{depth} of {whole.depth}",
        "weights": "uneven" if is_uneven else "even",
    }
    for how in ("bfloat16", "float8"):
        found = embed(how)
        row[how] = functional.cosine_similarity(found, exact).min().item()
        middle = exact.mean(0)
        apart = functional.cosine_similarity(found - middle, exact - middle).min().item()
        row[f"{how}_centred"] = apart
    return row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = [
        measure(name, depth, given.tiles, is_uneven=is_uneven)
        for name, depths in NETWORKS
        for depth in depths
        for is_uneven in (False, True)
    ]
    if given.json:
        print(json.dumps({"limit": LIMIT, "rows": rows}, indent=1))
        return
    print(
        "| encoder | weights | bfloat16 | float8, simulated | bfloat16, centred | float8, centred |"
    )
    print("|---|---|---:|---:|---:|---:|")
    for row in rows:
        kinds = ("bfloat16", "float8", "bfloat16_centred", "float8_centred")
        figures = " | ".join(f"{row[kind]:.5f}" for kind in kinds)
        print(f"| {row['encoder']}, {row['blocks']} blocks | {row['weights']} | {figures} |")


if __name__ == "__main__":
    main()
