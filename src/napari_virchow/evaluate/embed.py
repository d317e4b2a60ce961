"""Embed tile sets, and keep the embeddings in the store, so that a second run is quick."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_virchow.blocks import BLOCK
from napari_virchow.encoders import Encoder
from napari_virchow.encoders.specs import FOUR_MPP, EncoderSpec
from napari_virchow.encoders.weights import short_hash
from napari_virchow.evaluate.tilesets import Rows, TileSet
from napari_virchow.evaluate.views import ASSUMED_MPP, PLAIN, Pixels, alter
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import TILE_PX, Tile, TileGrid

FOLDER = "tile-sets"  # inside the store, deeper than where slides lie: they are never mixed
HISTOGRAM = "histogram"
_HISTOGRAM_BATCH = 64
_COUNTED = 512.0  # a share of one colour in 512, so that half precision holds it well

Features = NDArray[np.float32]
Progress = Callable[[int, int], None]


def histogram_encoder() -> Encoder:
    """Return the baseline: the shares of 512 colours. Who does not beat it has learnt nothing."""
    spec = EncoderSpec(
        HISTOGRAM,
        "Colour histogram",
        None,
        None,
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
        FOUR_MPP,
        "descriptor",
        512,
        "BSD-3-Clause (part of this plugin)",
        "none",
    )
    return Encoder(
        spec=spec,
        pooling="descriptor",
        dim=512,
        device="cpu",
        device_note="counting needs no GPU",
        precision="float32",
        weights_hash="v1",
        batch_size=_HISTOGRAM_BATCH,
        embed_batch=_count_colours,
    )


def embed_set(
    tiles: TileSet,
    encoder: Encoder,
    store: Path,
    *,
    rows: Rows | None = None,
    view: str = PLAIN,
    on_progress: Progress | None = None,
) -> Features:
    """Embed the tiles of a set, or take from the store what is there.

    Parameters
    ----------
    tiles : TileSet
    encoder : Encoder
    store : Path
        Folder of the user's store.
    rows : ndarray of intp, optional
        Which tiles; all if not given.
    view : str
        How they are altered first; see `views.alter`.
    on_progress : callable, optional
        Told (done, of how many) after every batch.

    Returns
    -------
    ndarray of shape (n, dim), float32
        In the order of `rows`, as half precision keeps them.

    Raises
    ------
    TileSetError
        If a tile cannot be read.
    StoreError
        If the store cannot be written.
    """
    wanted = np.arange(len(tiles)) if rows is None else rows
    mpp = tiles.mpp or ASSUMED_MPP
    height = -(-len(tiles) // BLOCK) * TILE_PX
    grid = TileGrid(BLOCK * TILE_PX, height, (mpp, mpp), mpp)
    identity = f"tiles-{tiles.source.identity}"
    if view != PLAIN:
        identity += f"-{short_hash(f'{view} {mpp:g} 1'.encode())}"
    places = [Tile(int(row) // BLOCK, int(row) % BLOCK) for row in wanted]
    with EmbeddingStore.open(
        store / FOLDER,
        slide=identity,
        encoder=encoder.identity,
        grid=grid,
        dim=encoder.dim,
        writable=True,
    ) as kept:
        found, embeddings = kept.lookup(places)
        missing = np.flatnonzero(~found)
        step = -(-encoder.batch_size // BLOCK**2) * BLOCK**2
        parts = [missing[start : start + step] for start in range(0, len(missing), step)]

        def read(part: Rows) -> Pixels:
            return alter(tiles.source.read(wanted[part]), view, tiles.mpp)

        with ThreadPoolExecutor(1) as reader:  # reads the next batch while this one is computed
            coming = reader.submit(read, parts[0]) if parts else None
            for number, part in enumerate(parts):
                pixels = coming.result() if coming else read(part)
                coming = reader.submit(read, parts[number + 1]) if number + 1 < len(parts) else None
                computed = encoder.encode(pixels)
                kept.append([places[i] for i in part], computed)
                embeddings[part] = computed
                if on_progress:
                    on_progress(int(found.sum()) + int(part[-1]) + 1, len(wanted))
    return np.asarray(embeddings, np.float32)


def _count_colours(tiles: Pixels) -> Features:
    flat = tiles.reshape(len(tiles), -1, 3).astype(np.int32) >> 5
    codes = flat[..., 0] * 64 + flat[..., 1] * 8 + flat[..., 2]
    counts = np.stack([np.bincount(tile, minlength=512) for tile in codes])
    return np.asarray(counts * (_COUNTED / flat.shape[1]), np.float32)
