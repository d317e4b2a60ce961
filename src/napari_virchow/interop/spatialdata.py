"""SpatialData folders as LazySlide (wsidata) has them: tiles as shapes, embeddings as tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_virchow.interop.anndata import (
    is_zarr,
    side_of_spec,
    size_in,
    slide_properties,
    tile_spec,
)
from napari_virchow.interop.elements import (
    Categories,
    Frame,
    Node,
    matrix_in,
    read_frame,
    reading_group,
    write_anndata_group,
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

FORM = "spatialdata"
TILES = "tiles"
_AXES: Any = [{"name": name, "type": "space", "unit": "unit"} for name in ("x", "y")]
_IDENTITY: Any = {
    "type": "identity",
    "input": {"name": "xy", "axes": _AXES},
    "output": {"name": "global", "axes": _AXES},
}


def is_spatialdata(path: Path) -> bool:
    """Say whether a folder is of SpatialData."""
    if not is_zarr(path):
        return False
    with reading_group(path) as group:
        return "spatialdata_attrs" in group.attrs or ("shapes" in group and "tables" in group)


def read_spatialdata(path: Path | str, *, key: str | None = None) -> TileTable:
    """Read embeddings and their tiles from a folder of LazySlide.

    Parameters
    ----------
    path : Path or str
        The folder.
    key : str, optional
        Name of the table, where there are several.

    Raises
    ------
    InteropError
        If it is damaged; there is no table of embeddings, or several and no `key`; or pyarrow,
        which reads the tiles, is not installed.
    FileNotFoundError
        If it is not there.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no folder {path}.")
    with reading_group(path) as group:
        name = _table_named(group, key, path)
        table = group["tables"][name]
        region = str(table.attrs["region"])
        instances = read_frame(table["obs"])[str(table.attrs["instance_key"])]
        embeddings = matrix_in(table["X"], path)
        specs = group.attrs.get("tile_spec", {})
        size = size_in(group.attrs.get("slide_properties"))
        block = read_block(table.attrs.get(OURS))
    corners, side = _read_tiles(path / "shapes" / region / "shapes.parquet", instances)
    said = str(block["encoder"]) if block is not None and "encoder" in block else None
    return TileTable(
        form=FORM,
        path=path,
        corners=corners,
        side=side_of_spec(specs.get(region)) or side,
        embeddings=embeddings,
        encoder=said or name.removesuffix(f"_{region}"),
        size=size,
        block=block,
    )


def write_spatialdata(path: Path | str, ours: SlideEmbeddings) -> None:
    """Write embeddings as LazySlide does; open it with ``wsidata.open_wsi(slide, store=path)``.

    Raises
    ------
    InteropError
        If the folder is there already, or pyarrow is not installed.
    OSError
        If it cannot be written.
    """
    import zarr

    path = Path(path)
    arrow = _arrow()
    with taking_shape(path) as part:
        root = zarr.open_group(str(part), mode="w", zarr_format=3)
        root.attrs["spatialdata_attrs"] = {
            "version": "0.2",
            "spatialdata_software_version": "0.7.3",
        }
        root.attrs["tile_spec"] = {TILES: {**tile_spec(ours), "tissue_name": None}}
        root.attrs["slide_properties"] = slide_properties(ours)
        shapes = root.create_group("shapes").create_group(TILES)
        shapes.attrs.update(
            {
                "encoding-type": "ngff:shapes",
                "axes": ["x", "y"],
                "coordinateTransformations": [_IDENTITY],
                "spatialdata_attrs": {"version": "0.3"},
            }
        )
        _write_tiles(arrow, part / "shapes" / TILES / "shapes.parquet", ours)
        tables = root.create_group("tables")
        _write_table(tables.create_group(f"{ours.encoder_name}_{TILES}"), ours)


def _write_table(table: Node, ours: SlideEmbeddings) -> None:
    n = len(ours)
    keys = {"region": TILES, "region_key": "library_id", "instance_key": "tile_id"}
    columns = {"tile_id": np.arange(n), "library_id": Categories([TILES] * n)}
    obs = Frame([str(number) for number in range(n)], columns)
    x = ours.embeddings.astype(np.float32)
    write_anndata_group(table, x, obs, uns={"spatialdata_attrs": keys})
    table.attrs.update(
        {"spatialdata-encoding-type": "ngff:regions_table", **keys, "version": "0.2"}
    )
    table.attrs[OURS] = ours.block


def _write_tiles(arrow: Any, path: Path, ours: SlideEmbeddings) -> None:
    """Write the tiles as GeoParquet, as geopandas does."""
    import pyarrow.parquet

    n = len(ours)
    x, y = np.rint(ours.corners).astype(np.int64).T
    side = int(side_of_spec(tile_spec(ours)) or ours.side)
    boxes = shapely.box(x, y, x + side, y + side)
    geo = {
        "primary_column": "geometry",
        "columns": {
            "geometry": {
                "encoding": "WKB",
                "crs": None,
                "geometry_types": ["Polygon"],
                "bbox": shapely.total_bounds(boxes).tolist(),
            }
        },
        "version": "1.1.0",
        "creator": {"library": "napari-virchow", "version": "1"},
    }
    columns = {
        "tile_id": np.arange(n),
        "x": x,
        "y": y,
        "tissue_id": np.zeros(n, np.int64),
        "geometry": arrow.array(shapely.to_wkb(boxes).tolist(), arrow.binary()),
    }
    table = arrow.table(columns).replace_schema_metadata({"geo": json.dumps(geo)})
    pyarrow.parquet.write_table(table, path)


def _read_tiles(path: Path, instances: Any) -> tuple[NDArray[np.float64], float | None]:
    """Return the corners of some tiles by their number, and the side they all have."""
    arrow = _arrow()
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
        columns = set(table.column_names)
        boxes = shapely.bounds(shapely.from_wkb(table["geometry"].to_pylist()))
        ids = table["tile_id"].to_numpy() if "tile_id" in columns else np.arange(len(boxes))
    except (
        OSError,
        KeyError,
        TypeError,
        arrow.ArrowInvalid,
        shapely.errors.GEOSException,
    ) as error:
        raise InteropError(f"{path} is damaged or missing; make it anew.") from error
    rows = {int(number): row for row, number in enumerate(ids)}
    try:
        chosen = boxes[[rows[int(number)] for number in instances]]
    except (KeyError, ValueError) as error:
        raise InteropError(f"{path} has no tile {error.args[0]} that a table names.") from error
    sides = np.unique(np.round(chosen[:, 2:] - chosen[:, :2], 6))
    side = float(sides[0]) if len(sides) == 1 and sides[0] > 0 else None
    return corners_of(chosen[:, :2], path), side


def _table_named(group: Node, key: str | None, path: Path) -> str:
    """Return which table to read: of those about a set of shapes, with numbers in X."""
    tables, shapes = group.get("tables", {}), group.get("shapes", {})
    names = [
        name
        for name in tables
        if str(tables[name].attrs.get("region")) in shapes and hasattr(tables[name]["X"], "ndim")
    ]
    if key is not None and key in names:
        return key
    if key is not None or len(names) > 1:
        what = f"no table of embeddings {key}" if key is not None else "several tables"
        raise InteropError(f"{path} has {what}; say --key with one of {', '.join(sorted(names))}.")
    if not names:
        raise InteropError(f"{path} has no table of embeddings of tiles.")
    return str(names[0])


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise InteropError(
            "SpatialData keeps tiles as Parquet: run pip install 'napari-virchow[spatialdata]'."
        ) from error
    return pyarrow
