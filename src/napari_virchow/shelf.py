"""What is stored: listing the stores under a folder, loading one and deleting one."""

from __future__ import annotations

import logging
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_virchow.layout import SUFFIX, StoreError, lock_store, read_facts, unwritable
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import TileGrid

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredInfo:
    """One store: whose embeddings, how many of how many tiles, and how large on disk."""

    slide: str
    encoder: str
    grid: str
    mpp: float
    n_tiles: int
    n_total: int
    nbytes: int
    path: Path


def list_stored(root: Path, slide: str | None = None) -> list[StoredInfo]:
    """List the stores under a folder, of one slide or of all, in the order of their paths.

    What cannot be read is left out, and said so in the log.
    """
    found = []
    for path in sorted(root.glob(f"{slide or '*'}/*/*{SUFFIX}")):
        try:
            facts = read_facts(path)
            with EmbeddingStore(path, facts.grid, facts.dim, None) as store:
                n_tiles, nbytes = store.n_tiles, store.nbytes
        except (StoreError, OSError) as error:
            _log.warning("Not listed: %s", error)
            continue
        rows, cols = facts.grid.shape
        found.append(
            StoredInfo(
                slide=facts.slide,
                encoder=facts.encoder,
                grid=facts.grid.name,
                mpp=facts.grid.mpp,
                n_tiles=n_tiles,
                n_total=rows * cols,
                nbytes=nbytes,
                path=path,
            )
        )
    return found


def load_stored(
    root: Path, slide: str, encoder: str, grid: TileGrid, dim: int
) -> tuple[NDArray[np.int32], NDArray[np.float16]]:
    """Return the tiles (n, 2) and embeddings (n, dim) of one store; none if it is not there.

    Raises
    ------
    StoreError
        If what is there cannot be read.
    """
    try:
        store = EmbeddingStore.open(
            root, slide=slide, encoder=encoder, grid=grid, dim=dim, writable=False
        )
    except FileNotFoundError:
        return np.empty((0, 2), np.int32), np.empty((0, dim), np.float16)
    with store:
        return store.matrix()


def delete_stored(info: StoredInfo) -> None:
    """Delete one store; if it is gone already, nothing happens.

    Raises
    ------
    StoreBusy
        If it is being written.
    StoreError
        If it cannot be deleted.
    """
    if not info.path.exists():
        return
    with lock_store(info.path, info.path.parent):
        # Renamed first: what is half deleted must not look like a store.
        doomed = info.path.with_name(f".{info.path.name}.{uuid.uuid4().hex}.deleted")
        try:
            info.path.rename(doomed)
            shutil.rmtree(doomed)
        except OSError as error:
            raise unwritable(info.path, error) from error
