"""Stores of embeddings that tests make up, and the slow way to search them."""

from __future__ import annotations

import numpy as np

from napari_virchow.memory import remember_slide
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Tile, TileGrid

ENCODER = "fake-0-class"


def grid_of(rows, cols, mpp=0.5):
    return TileGrid(cols * 224, rows * 224, (0.5, 0.5), mpp)


def fill(root, slide, *, shape=(9, 11), dim=12, seed=0, tiles=None, encoder=ENCODER):
    """Store random embeddings of some tiles (all if None); returns them by tile."""
    rng = np.random.default_rng(seed)
    grid = grid_of(*shape)
    every = [Tile(r, c) for r in range(shape[0]) for c in range(shape[1])]
    drawn = (rng.normal(size=(len(every), dim)) + 0.5).astype(np.float16)
    made = dict(zip(every, drawn, strict=True))
    if tiles is not None:
        made = {tile: made[tile] for tile in tiles}
    with EmbeddingStore.open(
        root, slide=slide, encoder=encoder, grid=grid, dim=dim, writable=True
    ) as store:
        store.append(list(made), np.stack(list(made.values())))
    remember_slide(root, slide, name=f"{slide}.svs", path=f"/slides/{slide}.svs")
    return made


def cosine(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def by_hand(made, score, *, without=()):
    """Score every tile with a plain loop; [(slide, tile, score)], best first."""
    found = [
        (slide, tile, score(vector))
        for slide, tiles in made.items()
        for tile, vector in tiles.items()
        if (slide, tile) not in without
    ]
    return sorted(found, key=lambda one: -one[2])
