"""Labels, predictions and regions for QuPath; annotations of QuPath as labels."""

import json
import uuid
from dataclasses import replace

import numpy as np
import pytest
import shapely

from napari_virchow.classify.predictions import Predictions
from napari_virchow.cli import main
from napari_virchow.labels import LabelSet
from napari_virchow.labels.edits import LabelClass
from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.export import (
    SlideTiles,
    region_objects,
    tile_ids,
    tiles_text,
    write_labels,
    write_predictions,
    write_regions,
    write_tiles,
)
from napari_virchow.qupath.frame import SlideBox, bounds_frame, frame_of_block, rotated
from napari_virchow.qupath.geojson import (
    GeoJsonError,
    encode_features,
    encode_objects,
    read_geojson,
)
from napari_virchow.qupath.labelling import apply_import, plan_import
from napari_virchow.qupath.objects import NAMESPACE, PathObject
from napari_virchow.qupath.placing import to_slide
from napari_virchow.qupath.regions import merge_tiles, tiles_in_annotations, tiles_of_objects
from napari_virchow.sample import write_sample
from napari_virchow.slide import open_slide
from napari_virchow.tiles import Rect, Tile, TileGrid

# Tiles of 100 x 100 level-0 px: 8 rows, the last one overhanging, and 10 columns.
GRID = TileGrid(1000, 750, (0.5, 0.5), 0.5, 100)
CLASSES = [LabelClass(1, "Tumor", "#c80000"), LabelClass(2, "Stroma: Dense", "#96c896")]
ID = "00000000-0000-4000-8000-{:012d}"


def annotation(shape, name, *, color=(1, 2, 3), kind="annotation", number=1, **more):
    found = None if name is None else PathClass.of(name, color)
    return PathObject(ID.format(number), kind, shape, path_class=found, **more)


def predictions(n=3):
    chance = np.tile(np.array([[0.75, 0.25]], np.float32), (n, 1))
    novelty = np.full(n, 0.5, np.float32)
    novelty[-1] = 0.99
    ids = np.ones(n, np.int32)
    return Predictions("classes", np.array([1, 2]), ids, chance, np.full(n, 0.5, "f4"), novelty)


def tiles_of(where, frame=None):
    return SlideTiles("slide", GRID, np.array(where).reshape(-1, 2), frame)


def test_predictions_carry_probabilities_and_no_embedding(tmp_path):
    path = tmp_path / "p.geojson"
    where = tiles_of([(0, 0), (2, 3), (7, 9)])
    similarity = np.array([0.5, np.nan, 0.25], np.float32)
    report = write_predictions(path, where, predictions(), CLASSES, similarity=similarity)
    assert report.written == 3
    first, second, third = json.loads(path.read_text())["features"]
    assert first["properties"] == {
        "objectType": "tile",
        "classification": {"name": "Tumor", "color": [200, 0, 0]},
        "measurements": {
            "p(Tumor)": 0.75,
            "p(Stroma: Dense)": 0.25,
            "margin": 0.5,
            "novelty": 0.5,
            "similarity": 0.5,
        },
    }
    assert "similarity" not in second["properties"]["measurements"]
    assert "classification" not in third["properties"]  # unlike anything labelled
    assert second["geometry"]["coordinates"][0][0] == [300, 200]
    back = read_geojson(path).objects
    assert [o.geometry.bounds for o in back][1] == (300, 200, 400, 300)


def test_ids_are_the_same_on_every_run_and_differ_between_grids():
    where = tiles_of([(0, 0), (2, 3)])
    assert tile_ids(where) == tile_ids(tiles_of([(0, 0), (2, 3)]))
    finer = replace(where, grid=TileGrid(1000, 750, (0.5, 0.5), 0.5, 50))
    other = replace(where, slide="another")
    every = [*tile_ids(where), *tile_ids(finer), *tile_ids(other)]
    assert len(set(every)) == 6


def plain_feature(where, row, class_id, measured):
    """What is written for one tile, put together member by member."""
    (r, c), (width, height) = where.tiles[row].tolist(), where.grid.step
    x, y = round(c * width, 2), round(r * height, 2)
    right, bottom = round((c + 1) * width, 2), round((r + 1) * height, 2)
    ring = [[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]
    properties = {"objectType": "tile"}
    for one in CLASSES:
        if one.id == class_id:
            properties["classification"] = PathClass.of(one.name, one.color).to_json()
    finite = {k: round(float(v), 6) for k, v in measured.items() if np.isfinite(v)}
    if finite:
        properties["measurements"] = finite
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(NAMESPACE, f"{where.slide}/{where.grid.name}/{x:.2f}/{y:.2f}")),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": properties,
    }


@pytest.mark.parametrize("n", [0, 1, 3, 2003])
def test_tiles_are_written_as_their_features_would_be_one_by_one(n):
    grid = replace(GRID, slide_mpp=(0.4321, 0.5))
    places = np.column_stack(np.divmod(np.arange(n), 53)).astype(np.int32)
    where = SlideTiles("slide ü/%s", grid, places)
    ids = np.arange(n) % 4
    rng = np.random.default_rng(3)
    columns = {'100 % "p" ä': rng.random(n, np.float32), "null": rng.normal(size=n) * 1e-5}
    columns["null"][::3] = np.nan
    columns['100 % "p" ä'][::9] = np.inf
    features = [
        plain_feature(where, row, ids[row], {k: v[row] for k, v in columns.items()})
        for row in range(n)
    ]
    expected = encode_features(features, foreign=where.foreign).decode()
    assert tiles_text(where, ids, CLASSES, columns) == expected


def test_replacing_by_id_twice_leaves_as_many_objects(tmp_path):
    hierarchy = {}
    for _ in range(2):
        write_tiles(tmp_path / "t.json", tiles_of([(0, 0), (2, 3)]))
        hierarchy |= {o.id: o for o in read_geojson(tmp_path / "t.json").objects}
    assert len(hierarchy) == 2


def test_labels_go_out_through_a_frame_and_come_back_as_labels(tmp_path):
    path = tmp_path / "labels.geojson.gz"
    box = SlideBox(1000, 750, Rect(100, 50, 600, 400))
    frame = rotated(bounds_frame(box), 90)
    said = {Tile(1, 2): 1, Tile(1, 3): 1, Tile(4, 5): 2}
    write_labels(path, tiles_of([], frame), said, CLASSES)
    found = read_geojson(path)
    objects = to_slide(found.objects, frame_of_block(found.block, box, "slide"))
    labels = LabelSet(None)
    plan = plan_import(labels, objects, "slide", GRID, kinds=("tile",))
    assert apply_import(labels, plan) == 3
    names = {c.id: (c.name, c.color) for c in labels.classes}
    assert {t: names[i] for t, i in labels.get("slide", GRID.name).items()} == {
        Tile(1, 2): ("Tumor", "#c80000"),
        Tile(1, 3): ("Tumor", "#c80000"),
        Tile(4, 5): ("Stroma: Dense", "#96c896"),
    }


def test_a_file_that_qupath_would_not_read_is_not_written(tmp_path):
    with pytest.raises(GeoJsonError, match=r"tiles\.txt"):
        write_tiles(tmp_path / "tiles.txt", tiles_of([(0, 0)]))
    assert list(tmp_path.iterdir()) == []


# Regions


def test_a_region_has_its_holes_and_ends_at_corners():
    ring = [(r, c) for r in range(3) for c in range(3) if (r, c) != (1, 1)]
    tiles = np.array([*ring, (3, 3), (5, 0)])
    regions = merge_tiles(GRID, tiles, np.ones(len(tiles), int))
    assert [len(region.members) for region in regions] == [8, 1, 1]
    first = regions[0].geometry
    assert first.area == 80_000 and len(first.interiors) == 1
    assert len(first.exterior.coords) == 5 and first.is_valid


def test_each_class_has_regions_of_its_own_and_unknown_none():
    tiles = np.array([(0, 0), (0, 1), (0, 2), (0, 3)])
    objects = region_objects(tiles_of(tiles), np.array([1, 1, 2, 0]), CLASSES)
    assert [(o.path_class.name, o.geometry.bounds) for o in objects] == [
        ("Tumor", (0, 0, 200, 100)),
        ("Stroma: Dense", (200, 0, 300, 100)),
    ]
    assert objects[0].measurements == {"tiles": 2}
    assert objects[0].id == region_objects(tiles_of(tiles), np.array([1, 1, 2, 0]), CLASSES)[0].id


def test_regions_cover_their_tiles_however_ragged_they_are(tmp_path):
    rng = np.random.default_rng(5)
    tiles = np.argwhere(np.ones((40, 50)))
    ids = rng.integers(0, 3, len(tiles))
    grid = TileGrid(5000, 4000, (0.5, 0.5), 0.5, 100)
    where = SlideTiles("slide", grid, tiles)
    objects = region_objects(where, ids, CLASSES)
    assert sum(o.geometry.area for o in objects) == 10_000 * (ids > 0).sum()
    assert all(o.geometry.is_valid and o.geometry.geom_type == "Polygon" for o in objects)
    report = write_regions(tmp_path / "r.geojson", where, objects)
    assert report.repaired == 0 and report.written == len(objects)
    found = tiles_in_annotations(read_geojson(tmp_path / "r.geojson").objects, grid)
    for name, class_id in (("Tumor", 1), ("Stroma: Dense", 2)):
        assert found[name] == [Tile(r, c) for r, c in tiles[ids == class_id].tolist()]
    assert len(region_objects(where, ids, CLASSES, min_tiles=3)) < len(objects)


def test_simplified_regions_are_valid_and_keep_a_common_border():
    rows, cols = np.mgrid[0:30, 0:30]
    tiles = np.column_stack([rows.ravel(), cols.ravel()])
    ids = np.where(rows.ravel() > cols.ravel() + 3 * np.sin(rows.ravel() / 4), 1, 2)
    grid = TileGrid(3000, 3000, (0.5, 0.5), 0.5, 100)
    regions = merge_tiles(grid, tiles, ids, simplify=1.5)
    shapes = [r.geometry for r in regions]
    assert all(shape.is_valid for shape in shapes)
    whole = merge_tiles(grid, tiles, ids)
    corners = [
        sum(len(shapely.get_coordinates(r.geometry)) for r in some) for some in (regions, whole)
    ]
    assert corners[0] < corners[1] / 2
    assert shapely.area(shapely.intersection(shapes[0], shapes[1])) < 1


# Annotations as labels


def by_hand(shape, rule):
    """Return the tiles in a shape, one after the other."""
    found = []
    for row in range(8):
        for col in range(10):
            box = shapely.box(col * 100, row * 100, col * 100 + 100, row * 100 + 100)
            if rule == "centre":
                inside = shape.covers(shapely.Point(col * 100 + 50, row * 100 + 50))
            else:
                inside = shape.intersection(box).area >= 5000
            found += [Tile(row, col)] * inside
    return found


@pytest.mark.parametrize("rule", ["centre", "half"])
@pytest.mark.parametrize(
    "shape",
    [
        shapely.box(120, 130, 370, 360),
        shapely.Polygon([(30, 40), (700, 100), (300, 600)]),
        shapely.box(0, 0, 900, 700).difference(shapely.box(200, 200, 500, 500)),
        shapely.MultiPolygon([shapely.box(0, 0, 250, 250), shapely.box(400, 400, 651, 651)]),
        shapely.box(-500, -500, 80, 80),
        shapely.box(960, 640, 5000, 5000),
        shapely.box(2000, 2000, 3000, 3000),
    ],
)
def test_tiles_in_an_annotation_are_those_found_one_by_one(shape, rule):
    found = tiles_in_annotations([annotation(shape, "Tumor")], GRID, rule)
    assert found.get("Tumor", []) == by_hand(shape, rule)


@pytest.mark.parametrize(
    ("shape", "tiles"),
    [
        pytest.param(
            shapely.box(100, 100, 400, 400).difference(shapely.box(210, 210, 290, 290)),
            [(r, c) for r in (1, 2, 3) for c in (1, 2, 3) if (r, c) != (2, 2)],
            id="a ring",
        ),
        pytest.param(
            shapely.MultiPolygon([shapely.box(0, 0, 60, 60), shapely.box(310, 0, 340, 40)]),
            [(0, 0), (0, 3)],
            id="two parts, one too small to hold a middle",
        ),
        pytest.param(shapely.LineString([(10, 150), (290, 150)]), [(1, 0), (1, 1), (1, 2)], id="l"),
        pytest.param(shapely.MultiPoint([(300, 90), (-5, 9)]), [(0, 3)], id="points, one outside"),
        pytest.param(shapely.Polygon(), [], id="nothing"),
        pytest.param(shapely.box(2000, 0, 2300, 300), [], id="beside the slide"),
    ],
)
def test_objects_mean_the_tiles_they_cover_or_touch(shape, tiles):
    assert tiles_of_objects([annotation(shape, None)], GRID) == [Tile(*at) for at in tiles]


def test_two_annotations_of_a_class_share_a_tile():
    objects = [
        annotation(shapely.box(0, 0, 30, 100), "A", number=1),
        annotation(shapely.box(70, 0, 100, 100), "A", number=2),
    ]
    assert tiles_in_annotations(objects, GRID, "half") == {"A": [Tile(0, 0)]}


def test_an_ellipse_holds_fewer_tiles_than_its_box():
    one = annotation(shapely.box(0, 0, 700, 700), "A")
    whole = tiles_in_annotations([one], GRID)["A"]
    inside = tiles_in_annotations([replace(one, is_ellipse=True)], GRID)["A"]
    assert len(whole) == 49 and len(inside) == 37 and Tile(0, 0) not in inside


def test_what_has_no_class_or_no_area_and_ignored_classes_are_left_out():
    big = shapely.box(0, 0, 300, 300)
    objects = [
        annotation(big, None),
        annotation(big, "Ignore*"),
        annotation(shapely.Point(50, 50), "A"),
        annotation(big, "B", kind="tile"),
    ]
    assert tiles_in_annotations(objects, GRID) == {}
    plan = plan_import(LabelSet(None), objects, "slide", GRID)
    assert (plan.ignored, plan.unclassified, plan.without_area) == ({"Ignore*": 1}, 1, 1)


def test_nested_annotations_count():
    child = annotation(shapely.box(0, 0, 100, 100), "A")
    parent = annotation(shapely.box(0, 0, 500, 500), None, children=(child,))
    assert tiles_in_annotations([parent], GRID) == {"A": [Tile(0, 0)]}


def test_an_import_is_one_step_with_a_report():
    labels = LabelSet(None)
    tumor = labels.add_class("tumor", "#112233")
    other = labels.add_class("Other")
    labels.label("slide", GRID.name, [(0, 0), (5, 5)], other.id)
    labels.label("slide", GRID.name, [(0, 1)], tumor.id)
    objects = [
        annotation(shapely.box(0, 0, 400, 100), "Tumor", color=(200, 0, 0)),
        annotation(shapely.box(300, 0, 500, 100), "Größe: αβ", color=(1, 2, 3), number=2),
    ]
    before = labels.get("slide", GRID.name)
    plan = plan_import(labels, objects, "slide", GRID)
    assert labels.get("slide", GRID.name) == before  # only looked
    assert plan.conflicts == {Tile(0, 3): ("tumor", "Größe: αβ")}
    assert plan.relabelled == {Tile(0, 0): ("Other", "tumor")}
    assert plan.new_classes == ("Größe: αβ",)
    assert plan.recolored == {"tumor": ("#112233", "#c80000")}
    assert plan.tiles == {"tumor": (Tile(0, 0), Tile(0, 1), Tile(0, 2)), "Größe: αβ": (Tile(0, 4),)}
    json.dumps(plan.to_json())
    assert plan.notes() == [
        "1 tiles lie in two classes and get no label.",
        "1 tiles have another label so far, which undo brings back.",
        "tumor keeps its colour #112233 (#c80000 in QuPath).",
    ]
    assert apply_import(labels, plan) == 3  # (0, 1) was that already
    assert labels.classes[-1].name == "Größe: αβ" and labels.classes[-1].color == "#010203"
    assert labels.label_at("slide", GRID.name, Tile(0, 3)) is None
    assert labels.undo()
    assert labels.get("slide", GRID.name) == before
    assert [c.name for c in labels.classes] == ["tumor", "Other"]


def test_thousands_of_tiles_are_written_and_read(tmp_path):
    n, side = 20_000, 200
    grid = TileGrid(side * 448, side * 448, (0.25, 0.25))
    tiles = np.column_stack(np.divmod(np.arange(n), side))
    columns = {f"m{k}": np.random.default_rng(k).random(n) for k in range(4)}
    where = SlideTiles("s", grid, tiles)
    write_tiles(tmp_path / "t.geojson", where, None, (), columns)
    found = read_geojson(tmp_path / "t.geojson").objects
    assert [one.id for one in found] == tile_ids(where)
    np.testing.assert_allclose([one.measurements["m3"] for one in found], columns["m3"], atol=1e-6)


# The command line


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "small.tiff"
    write_sample(path, width=2048, height=1536)
    return path


@pytest.fixture
def run(capsys):
    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_repair_says_what_it_did(run, tmp_path):
    bad, out = tmp_path / "bad.geojson", tmp_path / "good.geojson"
    twisted = annotation(shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)]), "A")
    document = json.loads(encode_objects([annotation(shapely.box(0, 0, 9, 9), "A")])[0])
    ring = [[float(x), float(y)] for x, y in twisted.geometry.exterior.coords]
    document["features"][0]["geometry"]["coordinates"] = [ring]
    document["features"].append({"type": "Feature", "geometry": None})
    bad.write_text(json.dumps(document))
    code, text, _ = run("qupath", "repair", bad, "--out", out, "--json")
    facts = json.loads(text)
    assert code == 0 and (facts["written"], facts["repaired"], facts["dropped"]) == (1, 1, 0)
    assert [one["index"] for one in facts["malformed"]] == [1]
    assert read_geojson(out).objects[0].geometry.is_valid
    code, text, _ = run("qupath", "repair", bad, "--out", out)
    assert code == 0 and "1 of them repaired" in text and "number 1" in text


def test_repair_refuses_what_it_cannot_read(run, tmp_path):
    (tmp_path / "a.geojson").write_text("no")
    code, _, err = run("qupath", "repair", tmp_path / "a.geojson", "--out", tmp_path / "b.geojson")
    assert code == 2 and "a.geojson" in err and err.count("\n") == 1
    assert not (tmp_path / "b.geojson").exists()
    code, _, err = run("qupath", "repair", tmp_path / "x.json", "--out", tmp_path / "b.geojson")
    assert code == 2 and "x.json" in err


def test_annotations_become_labels_and_labels_annotations(run, slide, tmp_path):
    journal, drawn = tmp_path / "me.sqlite", tmp_path / "drawn.geojson"
    objects = [annotation(shapely.box(0, 0, 460, 460), "Tumor", color=(200, 0, 0))]
    drawn.write_bytes(encode_objects(objects)[0])
    words = ("import", drawn, "--slide", slide, "--labels", journal, "--json")
    code, text, _ = run(*words, "--dry-run")
    assert code == 0 and json.loads(text)["plan"]["tiles"] == {"Tumor": 4}
    assert not journal.exists()
    code, text, _ = run(*words)
    assert code == 0 and json.loads(text)["changed"] == 4
    with open_slide(slide) as opened, LabelSet(journal) as labels:
        assert set(labels.get(opened.identity, "224px-0.5mpp")) == {
            Tile(r, c) for r in (0, 1) for c in (0, 1)
        }
        assert labels.undo_text == "import 4 tiles from QuPath"
    out = tmp_path / "regions.geojson"
    code, text, _ = run(
        *("export", slide, "--to", "geojson", "--what", "regions", "--labels", journal),
        *("--out", out, "--json"),
    )
    assert code == 0 and json.loads(text)["written"] == 1
    [region] = read_geojson(out).objects
    assert region.geometry.bounds == (0, 0, 448, 448) and region.path_class.name == "Tumor"
    table = tmp_path / "labels.csv"
    assert run("export", slide, "--to", "csv", "--labels", journal, "--out", table)[0] == 0
    assert table.read_text().splitlines()[0] == "row,col,x,y,class"
    tiles = tmp_path / "tiles.zip"
    assert run("export", slide, "--labels", journal, "--out", tiles)[0] == 0
    code, text, _ = run(
        *("import", tiles, "--slide", slide, "--objects", "tile"),
        *("--labels", tmp_path / "you.sqlite", "--json"),
    )
    assert code == 0 and json.loads(text)["changed"] == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "xml"), "xml is no format"),
        (("--what", "predictions"), "--model"),
        (("--what", "tiles"), "no embeddings"),
        (("--labels", "nowhere.sqlite"), "nowhere.sqlite"),
        (("--frame", "odd"), "odd"),
    ],
)
def test_an_export_that_cannot_be_is_refused_in_a_sentence(words, said, run, slide, tmp_path):
    out = tmp_path / "o.geojson"
    code, _, err = run("export", slide, "--out", out, "--store", tmp_path / "store", *words)
    assert code == 2 and said in err and not out.exists()


def test_annotations_beside_the_slide_are_refused(run, slide, tmp_path):
    drawn = tmp_path / "drawn.geojson"
    drawn.write_bytes(encode_objects([annotation(shapely.box(0, 0, 9000, 460), "A")])[0])
    journal = tmp_path / "me.sqlite"
    code, _, err = run("import", drawn, "--slide", slide, "--labels", journal)
    assert code == 2 and "2048 × 1536" in err and "--frame" in err
    assert not journal.exists()
