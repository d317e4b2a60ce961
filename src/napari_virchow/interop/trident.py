"""TRIDENT's HDF5 files: places of tiles, with or without embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_virchow.interop.hdf5 import (
    add_rows,
    embeddings_in,
    is_hdf5,
    number,
    reading,
    text,
)
from napari_virchow.interop.table import (
    OURS,
    SlideEmbeddings,
    TileTable,
    corners_of,
    read_block,
    taking_shape,
)

FORM = "trident"


def is_trident(path: Path) -> bool:
    """Say whether a file has tiles as TRIDENT describes them."""
    if not is_hdf5(path):
        return False
    with reading(path) as file:
        return "coords" in file and "patch_size_level0" in file["coords"].attrs


def read_trident(path: Path | str) -> TileTable:
    """Read ``<slide>.h5`` of TRIDENT with embeddings, or ``<slide>_patches.h5`` without.

    Raises
    ------
    InteropError
        If it is damaged.
    FileNotFoundError
        If it is not there.
    """
    path = Path(path)
    with reading(path) as file:
        facts = dict(file["coords"].attrs)
        width, height = number(facts, "level0_width"), number(facts, "level0_height")
        features = file.get("features")
        return TileTable(
            form=FORM,
            path=path,
            corners=corners_of(file["coords"][()], path),
            side=number(facts, "patch_size_level0"),
            embeddings=None if features is None else embeddings_in(file),
            encoder=None if features is None else text(dict(features.attrs), "encoder"),
            size=None if width is None or height is None else (int(width), int(height)),
            block=read_block(file.attrs.get(OURS)),
        )


def write_trident(path: Path | str, ours: SlideEmbeddings) -> None:
    """Write embeddings as TRIDENT does: ``features`` and ``coords`` with all their attributes.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    _write(Path(path), ours, features=True)


def write_trident_coords(path: Path | str, ours: SlideEmbeddings) -> None:
    """Write where the tiles are as TRIDENT does, to embed them there with another encoder.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    _write(Path(path), ours, features=False)


def _write(path: Path, ours: SlideEmbeddings, *, features: bool) -> None:
    import h5py

    folder = str(path.resolve().parent)
    with taking_shape(path) as part, h5py.File(part, "w") as file:
        if features:
            said = {"name": ours.name, "savetodir": folder, "encoder": ours.encoder_name}
            add_rows(file, "features", ours.embeddings.astype(np.float32), said)
        add_rows(file, "coords", np.rint(ours.corners).astype(np.int64), _facts(ours, folder))
        file.attrs[OURS] = ours.block


def _facts(ours: SlideEmbeddings, folder: str) -> dict[str, Any]:
    grid = ours.grid
    source = ours.magnification or 10 / grid.slide_mpp[0]
    return {
        "patch_size": grid.tile_px,
        "patch_size_level0": ours.side,
        "level0_magnification": _whole(source),
        "target_magnification": _whole(source * grid.slide_mpp[0] / grid.mpp),
        "overlap": 0,
        "name": ours.name,
        "savetodir": folder,
        "level0_width": grid.width,
        "level0_height": grid.height,
    }


def _whole(magnification: float) -> int | float:
    """Return a magnification as people count it: 20 rather than 19.8."""
    near = round(magnification)
    return near if near and abs(magnification - near) <= 0.06 * near else round(magnification, 3)
