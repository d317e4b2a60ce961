"""AnnData and SpatialData: written as their own libraries do, read as LazySlide writes them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import shapely
import zarr
from tests.foreign_files import CORNERS, embed_slide, rows_for, write_slide

from napari_virchow.cli import main
from napari_virchow.cli.formats import recognise
from napari_virchow.encoders import load_encoder
from napari_virchow.interop import InteropError, place_tiles
from napari_virchow.interop.anndata import read_anndata, write_anndata
from napari_virchow.interop.elements import Categories, Frame, read_element, write_element
from napari_virchow.interop.spatialdata import read_spatialdata, write_spatialdata
from napari_virchow.slide import open_slide
from napari_virchow.tiles import Tile


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    with open_slide(write_slide(tmp_path_factory.mktemp("anndata"))) as slide:
        yield slide


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def ours(slide, store):
    return embed_slide(store, slide, load_encoder("texture"))


def opened(path):
    return zarr.open_group(str(path), mode="r") if path.suffix == ".zarr" else h5py.File(path)


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_every_part_says_how_anndata_reads_it(ending, ours, tmp_path):
    path = tmp_path / f"some.{ending}"
    write_anndata(path, ours)
    group = opened(path)

    def kind(name):
        facts = group[name].attrs
        return facts["encoding-type"], facts["encoding-version"]

    assert (group.attrs["encoding-type"], group.attrs["encoding-version"]) == ("anndata", "0.1.0")
    assert kind("X") == ("array", "0.2.0") and group["X"].dtype == np.float32
    for name in ("obs", "var"):
        assert kind(name) == ("dataframe", "0.2.0") and group[name].attrs["_index"] == "_index"
    for name in ("obsm", "uns", "layers", "obsp", "varm", "varp", "uns/spatial/some/images"):
        assert kind(name) == ("dict", "0.1.0")
    assert kind("obs/_index") == ("string-array", "0.2.0")
    assert kind("obs/library_id") == ("categorical", "0.2.0")
    assert not group["obs/library_id"].attrs["ordered"]
    assert kind("uns/napari_virchow") == ("string", "0.2.0")
    assert kind("uns/spatial/some/scalefactors/spot_diameter_fullres") == (
        "numeric-scalar",
        "0.2.0",
    )
    obs = read_element(group["obs"])
    assert list(group["obs"].attrs["column-order"]) == (
        ["tile_id", "row", "col", "x", "y", "library_id"]
    )
    assert obs["library_id"].tolist() == ["some"] * 19 and obs["row"][-1] == 3
    # squidpy draws at centres
    centres = group["obsm/spatial"][()]
    np.testing.assert_allclose(centres[0], np.array(ours.grid.step) / 2)
    np.testing.assert_allclose(centres[:, 0] - obs["x"], ours.grid.step[0] / 2)
    assert group["var/_index"].shape == (ours.dim,)


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_our_anndata_comes_back_as_it_went(ending, slide, ours, tmp_path):
    path = tmp_path / f"some.{ending}"
    write_anndata(path, ours)
    assert recognise(path) == "anndata"
    table = read_anndata(path)
    assert table.encoder == ours.encoder and table.size == (2300, 1700)
    placed = place_tiles(table, slide)
    assert placed.grid == ours.grid
    np.testing.assert_array_equal(placed.tiles, ours.tiles)
    np.testing.assert_array_equal(table.embeddings, ours.embeddings.astype(np.float32))


def squidpy_file(path, places, rows, *, width=None, libraries=("some",), tile_spec=False):
    """Write a file as AnnData of other tools has it."""
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"], file.attrs["encoding-version"] = "anndata", "0.1.0"
        write_element(file, "X", rows)
        names = [libraries[n % len(libraries)] for n in range(len(rows))]
        columns = {"library_id": Categories(names)}
        uns = {}
        if width is not None:
            uns["spatial"] = {"some": {"scalefactors": {"spot_diameter_fullres": width}}}
        if tile_spec:  # as wsidata's fetch.features_anndata gives it
            uns["tile_spec"] = {"width": 224, "base_downsample": 2.0}
            columns |= {"x": np.array(places)[:, 0], "y": np.array(places)[:, 1]}
        write_element(file, "obs", Frame([str(n) for n in range(len(rows))], columns))
        write_element(file, "var", Frame([str(n) for n in range(rows.shape[1])]))
        write_element(file, "obsm", {"spatial": np.array(places, float), "X_other": rows * 2})
        write_element(file, "uns", uns)
    return path


def test_what_spatial_means_is_asked_not_guessed(slide, tmp_path):
    path = squidpy_file(tmp_path / "a.h5ad", CORNERS, rows_for(3), width=448.0)
    with pytest.raises(InteropError, match="--spatial corner or --spatial centre"):
        read_anndata(path)
    assert read_anndata(path, spatial="corner").corners.tolist()[1] == [896, 448]
    table = read_anndata(path, spatial="centre")
    assert table.corners.tolist()[1] == [672, 224] and table.encoder is None
    assert table.side == 448


def test_what_lazyslide_fetched_says_where_its_tiles_are(slide, tmp_path):
    path = squidpy_file(tmp_path / "a.h5ad", CORNERS, rows_for(3), tile_spec=True)
    placed = place_tiles(read_anndata(path), slide)
    assert placed.tile_list() == [Tile(0, 0), Tile(1, 2), Tile(2, 4)]


def test_a_matrix_of_obsm_is_chosen_by_name(tmp_path):
    rows = rows_for(3)
    path = squidpy_file(tmp_path / "a.h5ad", CORNERS, rows, width=448.0)
    found = read_anndata(path, key="X_other", spatial="corner")
    np.testing.assert_array_equal(found.embeddings, rows * 2)
    with pytest.raises(InteropError, match="no matrix odd; say --key with one of X, X_other"):
        read_anndata(path, key="odd", spatial="corner")


def test_a_file_of_several_slides_is_refused(tmp_path):
    path = squidpy_file(tmp_path / "a.h5ad", CORNERS, rows_for(3), libraries=("a", "b"))
    with pytest.raises(InteropError, match=r"2 slides \(a, b\)"):
        read_anndata(path, spatial="corner")


def test_a_sparse_matrix_is_refused(tmp_path):
    path = squidpy_file(tmp_path / "a.h5ad", CORNERS, rows_for(3))
    with h5py.File(path, "a") as file:
        del file["X"]
        file.create_group("X").attrs["encoding-type"] = "csr_matrix"
    with pytest.raises(InteropError, match="X is no dense matrix"):
        read_anndata(path, spatial="corner")


def test_a_zarr_with_a_part_missing_is_refused(ours, tmp_path):
    write_anndata(tmp_path / "some.zarr", ours)
    shutil.rmtree(tmp_path / "some.zarr" / "X" / "c")
    with pytest.raises(InteropError, match="not complete"):
        read_anndata(tmp_path / "some.zarr")


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_values_come_back_from_either_container(ending, tmp_path):
    values = {
        "number": 3,
        "text": "µm",
        "texts": ["a", "", "ü"],
        "none": [],
        "array": np.arange(6).reshape(2, 3),
        "few": Categories(["b", "a", "b"]),
        "table": Frame(["p", "q"], {"v": np.array([0.5, 1.5])}),
        "nested": {"deep": {"x": 1.5}},
    }
    path = tmp_path / f"v.{ending}"
    group = zarr.open_group(str(path), mode="w") if ending == "zarr" else h5py.File(path, "w")
    write_element(group, "all", values)
    found = read_element(group["all"])
    assert (found["number"], found["text"], found["texts"].tolist()) == (3, "µm", ["a", "", "ü"])
    assert found["none"].tolist() == [] and found["few"].tolist() == ["b", "a", "b"]
    assert found["table"]["_index"].tolist() == ["p", "q"] and found["table"]["v"][1] == 1.5
    assert found["nested"] == {"deep": {"x": 1.5}} and found["array"].tolist()[1] == [3, 4, 5]


# ---- SpatialData


def test_our_folder_has_what_wsidata_looks_for(ours, tmp_path):
    write_spatialdata(tmp_path / "some.zarr", ours)
    root = zarr.open_group(str(tmp_path / "some.zarr"), mode="r")
    assert root.attrs["spatialdata_attrs"]["version"] == "0.2"
    spec = root.attrs["tile_spec"]["tiles"]
    assert (spec["width"], spec["height"], spec["mpp"]) == (224, 224, 0.5)
    assert spec["base_downsample"] == pytest.approx(0.5 / 0.2527)
    assert root.attrs["slide_properties"] == {"shape": [1700, 2300], "mpp": 0.2527}
    table = root["tables/texture_tiles"]
    assert table.attrs["spatialdata-encoding-type"] == "ngff:regions_table"
    keys = {"region": "tiles", "region_key": "library_id", "instance_key": "tile_id"}
    assert {key: table.attrs[key] for key in keys} == keys
    assert read_element(table["uns"])["spatialdata_attrs"] == keys
    import pyarrow.parquet

    tiles = pyarrow.parquet.read_table(tmp_path / "some.zarr/shapes/tiles/shapes.parquet")
    assert tiles.column_names == ["tile_id", "x", "y", "tissue_id", "geometry"]
    geo = json.loads(tiles.schema.metadata[b"geo"])
    assert geo["columns"]["geometry"]["encoding"] == "WKB" and geo["primary_column"] == "geometry"
    boxes = shapely.from_wkb(tiles["geometry"].to_pylist())
    assert boxes[1].bounds == (443, 0, 886, 443)


def test_our_folder_comes_back_as_it_went(slide, ours, tmp_path):
    write_spatialdata(tmp_path / "some.zarr", ours)
    assert recognise(tmp_path / "some.zarr") == "spatialdata"
    table = read_spatialdata(tmp_path / "some.zarr")
    placed = place_tiles(table, slide)
    assert placed.grid == ours.grid and table.encoder == ours.encoder
    np.testing.assert_array_equal(placed.tiles, ours.tiles)
    np.testing.assert_array_equal(table.embeddings, ours.embeddings.astype(np.float32))


def test_without_what_only_we_say_it_is_read_as_lazyslides(slide, ours, tmp_path):
    write_spatialdata(tmp_path / "some.zarr", ours)
    root = zarr.open_group(str(tmp_path / "some.zarr"), mode="a")
    del root["tables/texture_tiles"].attrs["napari_virchow"]
    table = read_spatialdata(tmp_path / "some.zarr")
    assert (table.encoder, table.side, table.size) == ("texture", 443, (2300, 1700))
    placed = place_tiles(table, slide)  # 443.2 rounded to 443 is a pixel off after five tiles
    np.testing.assert_array_equal(placed.tiles, ours.tiles)


def test_one_of_several_tables_is_asked_for(ours, tmp_path):
    path = tmp_path / "some.zarr"
    write_spatialdata(path, ours)
    shutil.copytree(path / "tables" / "texture_tiles", path / "tables" / "uni_tiles")
    with pytest.raises(InteropError, match="several tables; say --key with one of texture_tiles"):
        read_spatialdata(path)
    assert read_spatialdata(path, key="uni_tiles").side == 443
    with pytest.raises(InteropError, match="no table of embeddings odd"):
        read_spatialdata(path, key="odd")


@pytest.mark.parametrize("gone", ["shapes/tiles/shapes.parquet", "tables", "zarr.json"])
def test_a_damaged_folder_is_refused_by_name(gone, ours, tmp_path):
    path = tmp_path / "some.zarr"
    write_spatialdata(path, ours)
    target = path / gone
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(InteropError, match=r"some\.zarr"):
        read_spatialdata(path)


def test_a_folder_that_is_there_is_not_replaced(ours, tmp_path):
    write_spatialdata(tmp_path / "some.zarr", ours)
    with pytest.raises(InteropError, match="there already"):
        write_anndata(tmp_path / "some.zarr", ours)
    assert recognise(tmp_path / "some.zarr") == "spatialdata"


@pytest.mark.parametrize(("form", "ending"), [("anndata", "h5ad"), ("spatialdata", "zarr")])
def test_the_command_line_writes_and_reads_them(form, ending, slide, store, ours, tmp_path, capsys):
    out = tmp_path / f"some.{ending}"
    words = ["export", slide.path, "--to", form, "--out", out, "--store", store]
    assert main([*map(str, words)]) == 0
    words = ["import", out, "--slide", slide.path, "--store", tmp_path / "s", "--json"]
    capsys.readouterr()
    assert main([*map(str, words)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["format"] == form and facts["tiles"] == 19
    assert facts["check"]["agrees"] and facts["encoder"].endswith(f"d-{form}")


# ---- their own libraries, where they are installed


@pytest.fixture
def wsidata():
    name = os.environ.get("NAPARI_VIRCHOW_WSIDATA_PYTHON", "")
    if not name or not Path(name).exists():
        pytest.skip("set NAPARI_VIRCHOW_WSIDATA_PYTHON to a Python that has wsidata")

    def run(code, *words):
        done = subprocess.run(
            [name, "-W", "ignore", "-c", code, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])

    return run


def test_wsidata_opens_our_folder(wsidata, slide, ours, tmp_path):
    write_spatialdata(tmp_path / "some.zarr", ours)
    code = """
import json, sys
from wsidata import open_wsi
wsi = open_wsi(sys.argv[1], store=sys.argv[2])
found = wsi.fetch.features_anndata("texture")
spec = wsi.tile_spec("tiles")
print(json.dumps({"shape": found.X.shape, "sum": float(found.X.sum()), "mpp": wsi.properties.mpp,
  "spatial": found.obsm["spatial"][:2].tolist(), "base": spec.base_width, "n": len(wsi["tiles"])}))
"""
    facts = wsidata(code, slide.path, tmp_path / "some.zarr")
    assert facts["shape"] == [19, ours.dim] and facts["n"] == 19 and facts["base"] == 443
    assert facts["spatial"] == [[0, 0], [443, 0]] and facts["mpp"] == 0.2527
    assert facts["sum"] == pytest.approx(float(ours.embeddings.astype("f4").sum()), rel=1e-4)


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_anndata_opens_our_files(ending, wsidata, ours, tmp_path):
    path = tmp_path / f"some.{ending}"
    write_anndata(path, ours)
    code = """
import json, sys, anndata
read = anndata.read_zarr if sys.argv[1].endswith(".zarr") else anndata.read_h5ad
found = read(sys.argv[1])
print(json.dumps({"shape": found.shape, "obs": list(found.obs.columns),
  "kind": str(found.obs["library_id"].dtype), "uns": sorted(found.uns), "obsm": list(found.obsm)}))
"""
    assert wsidata(code, path) == {
        "shape": [19, ours.dim],
        "obs": ["tile_id", "row", "col", "x", "y", "library_id"],
        "kind": "category",
        "uns": ["napari_virchow", "slide_properties", "spatial", "tile_spec"],
        "obsm": ["spatial"],
    }


def test_what_wsidata_wrote_is_read(wsidata, slide, tmp_path):
    code = """
import sys, numpy as np
from wsidata import open_wsi, TileSpec
from wsidata.io import add_tiles, add_features
wsi = open_wsi(sys.argv[1], store=None)
spec = TileSpec.from_wsidata(wsi, tile_px=224, mpp=0.5054)
add_tiles(wsi, "tiles", np.array([[0, 0], [896, 448], [1792, 896]]), spec, np.zeros(3, int))
add_features(wsi, "uni_tiles", "tiles", np.arange(18, dtype=np.float32).reshape(3, 6))
wsi.write(sys.argv[2])
wsi.fetch.features_anndata("uni").write_h5ad(sys.argv[3])
print("{}")
"""
    wsidata(code, slide.path, tmp_path / "w.zarr", tmp_path / "w.h5ad")
    assert recognise(tmp_path / "w.zarr") == "spatialdata"
    for table in (read_spatialdata(tmp_path / "w.zarr"), read_anndata(tmp_path / "w.h5ad")):
        assert (table.side, table.size) == (448, (2300, 1700))
        assert place_tiles(table, slide).tile_list() == [Tile(0, 0), Tile(1, 2), Tile(2, 4)]
        assert table.embeddings.tolist()[1] == [6, 7, 8, 9, 10, 11]
    assert read_spatialdata(tmp_path / "w.zarr").encoder == "uni"
