"""AnnData files, as scanpy, squidpy and LazySlide read them: .h5ad, or .zarr."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_virchow.interop.elements import (
    Categories,
    Frame,
    Node,
    matrix_in,
    read_element,
    read_frame,
    reading_group,
    write_anndata_group,
)
from napari_virchow.interop.hdf5 import is_hdf5
from napari_virchow.interop.table import (
    OURS,
    InteropError,
    SlideEmbeddings,
    TileTable,
    corners_of,
    read_block,
    taking_shape,
)

FORM = "anndata"
Spatial = Literal["corner", "centre"]


def is_anndata(path: Path) -> bool:
    """Say whether a file or folder holds one AnnData object."""
    if not (is_hdf5(path) or is_zarr(path)):
        return False
    with reading_group(path) as group:
        return group.attrs.get("encoding-type") == "anndata" or ("X" in group and "obs" in group)


def is_zarr(path: Path) -> bool:
    """Say whether a folder is a zarr group."""
    return (path / "zarr.json").is_file() or (path / ".zgroup").is_file()


def read_anndata(
    path: Path | str, *, key: str | None = None, spatial: Spatial | None = None
) -> TileTable:
    """Read embeddings from an AnnData file.

    Parameters
    ----------
    path : Path or str
        .h5ad, or a folder .zarr.
    key : str, optional
        Name of a matrix in ``obsm``; X if left out.
    spatial : {"corner", "centre"}, optional
        What ``obsm["spatial"]`` is of a tile. LazySlide puts corners there and squidpy expects
        centres, so a file of which neither is certain has to be asked about.

    Raises
    ------
    InteropError
        If it is damaged, is of several slides, or does not say where its tiles are.
    FileNotFoundError
        If it is not there.
    """
    path = Path(path)
    with reading_group(path) as group:
        obs = read_frame(group["obs"])
        uns = read_element(group["uns"]) if "uns" in group else {}
        embeddings = matrix_in(_matrix_of(group, key, path), path)
        places = group["obsm"]["spatial"][()] if "spatial" in group.get("obsm", {}) else None
    _check_one_slide(obs, path)
    block = read_block(uns.get(OURS))
    side = _side(uns)
    return TileTable(
        form=FORM,
        path=path,
        corners=_corners(obs, uns, places, spatial, side, path),
        side=side,
        embeddings=embeddings,
        encoder=str(block["encoder"]) if block is not None and "encoder" in block else None,
        size=size_in(uns.get("slide_properties")),
        block=block,
    )


def write_anndata(path: Path | str, ours: SlideEmbeddings) -> None:
    """Write embeddings as AnnData: to HDF5, or to zarr where the name ends in .zarr.

    X are the embeddings; ``obs`` has row, col, and x and y of the top left corner;
    ``obsm["spatial"]`` the centres, as squidpy draws them; ``uns["spatial"]`` the size of a tile.

    Raises
    ------
    InteropError
        If `path` is a folder that is there already.
    OSError
        If it cannot be written.
    """
    path = Path(path)
    n = len(ours)
    obs = Frame(
        [str(number) for number in range(n)],
        {
            "tile_id": np.arange(n),
            "row": ours.tiles[:, 0],
            "col": ours.tiles[:, 1],
            "x": ours.corners[:, 0],
            "y": ours.corners[:, 1],
            "library_id": Categories([ours.name] * n),
        },
    )
    step = np.array(ours.grid.step)
    library = {
        "images": {},
        "scalefactors": {"spot_diameter_fullres": float(step[0])},
        "metadata": {"slide": ours.slide, "encoder": ours.encoder},
    }
    content: dict[str, Any] = {
        "obsm": {"spatial": ours.corners + step / 2},
        "uns": {
            "spatial": {ours.name: library},
            "tile_spec": tile_spec(ours),
            "slide_properties": slide_properties(ours),
            OURS: ours.block,
        },
    }
    x = ours.embeddings.astype(np.float32)
    with taking_shape(path) as part:
        if path.suffix.lower() == ".zarr":
            import zarr

            write_anndata_group(
                zarr.open_group(str(part), mode="w", zarr_format=3), x, obs, **content
            )
        else:
            import h5py

            with h5py.File(part, "w") as file:
                write_anndata_group(file, x, obs, **content)


def tile_spec(ours: SlideEmbeddings) -> dict[str, Any]:
    """Return how wsidata describes the tiles: as wished, as read, and at level 0."""
    px, grid = ours.grid.tile_px, ours.grid
    factor = grid.mpp / grid.slide_mpp[0]
    return {
        "height": px,
        "width": px,
        "stride_height": px,
        "stride_width": px,
        "mpp": grid.mpp,
        "ops_level": 0,
        "ops_downsample": factor,
        "base_level": 0,
        "base_downsample": factor,
    }


def slide_properties(ours: SlideEmbeddings) -> dict[str, Any]:
    """Return what wsidata is told of the slide: its size and that of its pixels."""
    grid = ours.grid
    return {"shape": [grid.height, grid.width], "mpp": grid.slide_mpp[0]}


def side_of_spec(spec: object) -> float | None:
    """Return the side of a tile in level-0 pixels by wsidata's description, as it rounds it."""
    if not isinstance(spec, Mapping):
        return None
    try:
        side = int(int(spec["width"]) * float(spec["base_downsample"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return float(side) if side > 0 else None


def size_in(properties: object) -> tuple[int, int] | None:
    """Return the slide's size by wsidata's description."""
    shape = properties.get("shape") if isinstance(properties, Mapping) else None
    if shape is None or np.size(shape) != 2:
        return None
    return int(shape[1]), int(shape[0])


def _matrix_of(group: Node, key: str | None, path: Path) -> Node:
    if key is None or key == "X":
        return group["X"]
    obsm = group.get("obsm", {})
    if key not in obsm:
        names = ", ".join(["X", *(name for name in obsm if name != "spatial")])
        raise InteropError(f"{path} has no matrix {key}; say --key with one of {names}.")
    return obsm[key]


def _check_one_slide(obs: Mapping[str, Any], path: Path) -> None:
    found = obs.get("library_id")
    names = sorted({str(name) for name in found}) if found is not None else []
    if len(names) > 1:
        some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise InteropError(f"{path} is of {len(names)} slides ({some}); write one file for each.")


def _side(uns: Mapping[str, Any]) -> float | None:
    side = side_of_spec(uns.get("tile_spec"))
    if side is not None:
        return side
    libraries = uns.get("spatial")
    for one in libraries.values() if isinstance(libraries, Mapping) else ():
        factors = one.get("scalefactors") if isinstance(one, Mapping) else None
        if isinstance(factors, Mapping):
            width = float(factors.get("spot_diameter_fullres", math.nan))
            return width if math.isfinite(width) and width > 0 else None
    return None


def _corners(
    obs: Mapping[str, Any],
    uns: Mapping[str, Any],
    places: Any,
    spatial: Spatial | None,
    side: float | None,
    path: Path,
) -> NDArray[np.float64]:
    """Return the corners: columns x and y if wsidata or we wrote them, else as `spatial` says."""
    if spatial is None and "tile_spec" in uns and "x" in obs and "y" in obs:
        return corners_of(np.column_stack([obs["x"], obs["y"]]), path)
    if places is None:
        raise InteropError(f"{path} does not say where its tiles are: obsm has no 'spatial'.")
    if spatial is None:
        raise InteropError(
            f"{path} does not say what obsm['spatial'] is of a tile: say --spatial corner or "
            "--spatial centre."
        )
    corners = corners_of(places, path)
    if spatial == "corner":
        return corners
    if side is None:
        raise InteropError(
            f"{path} does not say how large its tiles are, so their corners cannot be found from "
            "their centres: write the size to uns['spatial']."
        )
    return corners - side / 2
