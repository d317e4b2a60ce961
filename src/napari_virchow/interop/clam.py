"""CLAM's files: places of tiles in one, embeddings in another that does not say their size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.interop.hdf5 import (
    add_rows,
    embeddings_in,
    is_hdf5,
    number,
    reading,
)
from napari_virchow.interop.table import (
    OURS,
    InteropError,
    SlideEmbeddings,
    TileTable,
    corners_of,
    read_block,
    taking_shape,
)

FORM = "clam"


def is_clam(path: Path) -> bool:
    """Say whether a file is one of the kinds that CLAM writes."""
    if _is_torch(path):
        return True
    if not is_hdf5(path):
        return False
    with reading(path) as file:
        if "coords" not in file:
            return False
        facts = file["coords"].attrs
        return "patch_size_level0" not in facts and ("patch_level" in facts or "features" in file)


def read_clam(path: Path | str, patches: Path | str | None = None) -> TileTable:
    """Read CLAM's embeddings (``h5_files/<slide>.h5``, or ``.pt``) or its places of tiles.

    Parameters
    ----------
    path : Path or str
        With ``features`` and ``coords``; or ``coords`` alone; or a tensor.
    patches : Path or str, optional
        ``patches/<slide>.h5``, which says how large the tiles are; a tensor needs it.

    Raises
    ------
    InteropError
        If a file is damaged, or the two do not belong together.
    FileNotFoundError
        If one is not there.
    """
    path = Path(path)
    places = None if patches is None else _read_places(Path(patches))
    if _is_torch(path):
        return _with_places(path, _read_torch(path), places)
    with reading(path) as file:
        corners = corners_of(file["coords"][()], path)
        embeddings = embeddings_in(file) if "features" in file else None
        facts = dict(file["coords"].attrs)
        block = read_block(file.attrs.get(OURS))
    here = TileTable(FORM, path, corners, _side(facts), embeddings, size=_size(facts), block=block)
    if places is None:
        return here
    if len(places) != len(here) or not np.array_equal(places.corners, corners):
        raise InteropError(f"{patches} and {path} are of different tiles; give those of one run.")
    return TileTable(FORM, path, corners, places.side, embeddings, size=places.size, block=block)


def write_clam(path: Path | str, patches: Path | str, ours: SlideEmbeddings) -> None:
    """Write embeddings and places of tiles as CLAM does: a pair of files.

    Parameters
    ----------
    path : Path or str
        For ``features`` and ``coords``, without attributes.
    patches : Path or str
        For ``coords`` with its attributes.
    ours : SlideEmbeddings
        What to write.

    Raises
    ------
    OSError
        If one cannot be written.
    """
    import h5py

    path, patches = Path(path), Path(patches)
    corners = np.rint(ours.corners).astype(np.int32)
    with taking_shape(patches) as part, h5py.File(part, "w") as file:
        add_rows(file, "coords", corners.astype(np.int64), _facts(ours, patches))
        file.attrs[OURS] = ours.block
    with taking_shape(path) as part, h5py.File(part, "w") as file:
        add_rows(file, "features", ours.embeddings.astype(np.float32))
        add_rows(file, "coords", corners)
        file.attrs[OURS] = ours.block


def _facts(ours: SlideEmbeddings, path: Path) -> dict[str, Any]:
    size = (ours.grid.width, ours.grid.height)
    return {
        "patch_size": ours.side,
        "patch_level": 0,
        "downsample": (1.0, 1.0),
        "downsampled_level_dim": size,
        "level_dim": size,
        "name": ours.name,
        "save_path": str(path.resolve().parent),
    }


def _read_places(path: Path) -> TileTable:
    with reading(path) as file:
        facts = dict(file["coords"].attrs)
        corners = corners_of(file["coords"][()], path)
    side = _side(facts)
    if side is None:
        raise InteropError(f"{path} does not say how large its tiles are; it is no patches file.")
    return TileTable(FORM, path, corners, side, size=_size(facts))


def _with_places(path: Path, rows: NDArray[np.float32], places: TileTable | None) -> TileTable:
    if places is None:
        raise InteropError(
            f"{path} has embeddings but not the places of their tiles: give CLAM's file of these "
            "as --coords."
        )
    return TileTable(FORM, path, places.corners, places.side, rows, size=places.size)


def _side(facts: dict[str, Any]) -> float | None:
    """Return the side of a tile in level-0 pixels: as counted at its level, times that's factor."""
    size, factor = number(facts, "patch_size"), number(facts, "downsample")
    if size is not None and factor is None and facts.get("patch_level") == 0:
        factor = 1.0
    if size is None or factor is None:
        return None
    return size * factor * (number(facts, "custom_downsample") or 1.0)


def _size(facts: dict[str, Any]) -> tuple[int, int] | None:
    """Return the slide's size; CLAM says that of the level its tiles were cut from."""
    if facts.get("patch_level") != 0 or "level_dim" not in facts:
        return None
    width, height = np.ravel(facts["level_dim"])[:2]
    return int(width), int(height)


def _is_torch(path: Path) -> bool:
    """Say whether a file is a tensor as PyTorch saves it: a zip with a folder in it."""
    import zipfile

    if path.suffix.lower() not in (".pt", ".pth") or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def _read_torch(path: Path) -> NDArray[np.float32]:
    import pickle

    import torch

    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise InteropError(f"{path} is damaged, or holds more than a tensor.") from error
    if not isinstance(tensor, torch.Tensor):
        raise InteropError(f"{path} holds a {type(tensor).__name__}, not a tensor of embeddings.")
    rows: NDArray[np.float32] = tensor.float().numpy()
    return rows
