"""Where a store lies and what its zarr.json says: making it, and checking it on opening."""

from __future__ import annotations

import errno
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from napari_virchow import __version__
from napari_virchow.blocks import BLOCK
from napari_virchow.tiles import TileGrid

LAYOUT = 1  # goes up when an older version could no longer read what a newer one writes
SUFFIX = ".zarr"
_KEY = "napari_virchow"


class StoreError(Exception):
    """Stored embeddings cannot be read or written; one sentence says why and what to do."""


class StoreBusy(StoreError):  # noqa: N818  # a state of affairs more than an error
    """Another process, or another session of this one, is writing the same embeddings."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What a store says of itself."""

    slide: str
    encoder: str
    grid: TileGrid
    dim: int


def store_folder(root: Path, slide: str, encoder: str, grid: TileGrid) -> Path:
    """Return the folder of a store, which need not exist yet.

    Slides whose pixel size was corrected get a second folder, named after that pixel size, as the
    tiles lie elsewhere.

    Raises
    ------
    ValueError
        If an identity is empty or not fit for a folder name.
    StoreError
        If what is in the folder cannot be understood.
    """
    for identity in (slide, encoder):
        if not identity or identity.startswith(".") or set(identity) & set('/\\:*?"<>|'):
            raise ValueError(f"{identity!r} is not fit for a folder name")
    folder = root / slide / encoder / f"{grid.name}{SUFFIX}"
    if not (folder / "zarr.json").exists() or _same(read_facts(folder).grid, grid):
        return folder
    x, y = grid.slide_mpp
    return folder.with_name(f"{grid.name}-of-{x:.6g}x{y:.6g}{SUFFIX}")


def create_array(path: Path, *, slide: str, encoder: str, grid: TileGrid, dim: int) -> None:
    """Make the empty zarr array of a store.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    import zarr
    from zarr.codecs import Crc32cCodec

    facts: dict[str, Any] = {
        "layout": LAYOUT,
        "version": __version__,
        "slide": slide,
        "encoder": encoder,
        "dim": dim,
        "mpp": grid.mpp,
        "grid": {
            "name": grid.name,
            "mpp": grid.mpp,
            "tile_px": grid.tile_px,
            "slide_width": grid.width,
            "slide_height": grid.height,
            "slide_mpp": list(grid.slide_mpp),
        },
    }
    zarr.create_array(
        str(path),
        shape=(*grid.shape, dim),
        chunks=(BLOCK, BLOCK, dim),
        dtype="float16",
        compressors=[Crc32cCodec()],
        fill_value=math.nan,
        # All blocks in one folder: one listing finds them.
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=("row", "column", "feature"),
        attributes={_KEY: facts},
        zarr_format=3,
    )
    with (path / "zarr.json").open("r+b") as file:  # small, written once, and nothing works without
        os.fsync(file.fileno())


def read_facts(path: Path) -> StoreFacts:
    """Return what the store in a folder says of itself, after checking that we can read it.

    Raises
    ------
    FileNotFoundError
        If there is no store.
    StoreError
        If it is damaged, from a newer version, or not one of ours.
    """
    try:
        array = json.loads((path / "zarr.json").read_text("utf-8"))
        facts = array["attributes"][_KEY]
        layout = int(facts["layout"])
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise StoreError(f"{path} is not a folder; move it away.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} holds no embeddings of napari-virchow, or its zarr.json is damaged; move the "
            "folder away."
        ) from error
    if layout > LAYOUT:
        raise StoreError(
            f"{path} was written by a newer napari-virchow (layout {layout}; this version reads "
            f"up to {LAYOUT}); update napari-virchow or choose another folder."
        )
    try:
        return _understood(array, facts)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is not laid out as it says ({error}); move it away.") from error


def lock_store(path: Path, root: Path) -> FileLock:
    """Become the one writer of the store in `path`, before it is there or after.

    Raises
    ------
    StoreBusy
        If there is a writer already.
    StoreError
        If the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock", timeout=0, thread_local=False)
        lock.acquire()
    except Timeout as error:
        raise StoreBusy(
            f"Another napari-virchow is writing {path}; close it or wait until it is done."
        ) from error
    except OSError as error:
        raise unwritable(root, error) from error
    return lock


def unwritable(path: Path, error: OSError) -> StoreError:
    """Return one sentence about a disk that refuses."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"The disk of {path} is full; free some space and try again.")
    why = (error.strerror or str(error)).lower()
    return StoreError(f"{path} cannot be written ({why}); choose another folder for embeddings.")


def _understood(array: dict[str, Any], facts: dict[str, Any]) -> StoreFacts:
    numbers = facts["grid"]
    x, y = numbers["slide_mpp"]
    grid = TileGrid(
        width=int(numbers["slide_width"]),
        height=int(numbers["slide_height"]),
        slide_mpp=(float(x), float(y)),
        mpp=float(numbers["mpp"]),
        tile_px=int(numbers["tile_px"]),
    )
    dim = int(facts["dim"])
    expected = {
        "shape": [*grid.shape, dim],
        "data_type": "float16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [BLOCK, BLOCK, dim]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
    }
    for key, value in expected.items():
        if array[key] != value:
            raise ValueError(f"{key} is {array[key]}, not {value}")
    codecs = [codec["name"] for codec in array["codecs"]]
    if codecs != ["bytes", "crc32c"]:
        raise ValueError(f"codecs are {codecs}")
    return StoreFacts(str(facts["slide"]), str(facts["encoder"]), grid, dim)


def _same(one: TileGrid, other: TileGrid) -> bool:
    """Say whether two grids of one name put their tiles in the same places."""
    sizes = (one.width, one.height, one.shape), (other.width, other.height, other.shape)
    return sizes[0] == sizes[1] and all(
        math.isclose(a, b, rel_tol=1e-6)
        for a, b in zip(one.slide_mpp, other.slide_mpp, strict=True)
    )
