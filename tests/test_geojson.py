"""QuPath's GeoJSON: everything is read, nothing is lost, and every QuPath reads what is written."""

import gzip
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_virchow.qupath.classes import (
    PathClass,
    packed_of_rgb,
    parse_class,
    rgb_of_packed,
)
from napari_virchow.qupath.geojson import (
    GeoJsonError,
    encode_objects,
    parse_geojson,
    read_geojson,
    repair_file,
    write_geojson,
)
from napari_virchow.qupath.objects import OBJECT_TYPES, PathObject, Plane, flatten
from napari_virchow.qupath.reading import is_uuid

ID = "f2bc55b0-1869-4f4a-99e4-0ba074a9fcca"
SQUARE = [[[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]]
BOWTIE = [[[0, 0], [100, 100], [100, 0], [0, 100], [0, 0]]]


def feature(coordinates=SQUARE, kind="Polygon", **properties):
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "id": ID, "geometry": geometry, "properties": properties}


def read(*features):
    return parse_geojson(json.dumps({"type": "FeatureCollection", "features": features}))


def written(objects, **options):
    return json.loads(encode_objects(objects, **options)[0])["features"]


def every_value(value, key=None):
    yield key, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from every_value(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from every_value(inner, key)


def refusals(document):
    """Name what some version of QuPath would refuse: an oracle written from its rules alone."""
    found = []
    for key, value in every_value(document["features"]):
        if value is None or (isinstance(value, float) and not np.isfinite(value)):
            found.append(f"{key} is {value}")
    stack = list(document["features"])
    while stack:
        one = stack.pop()
        properties = one.get("properties", {})
        stack += properties.get("childObjects", [])
        found += [*refused_shapes(one["geometry"]), *refused_properties(properties)]
        if "nucleusGeometry" in one:
            found += refused_shapes(one["nucleusGeometry"])
        if not is_uuid(one.get("id")):
            found.append("no id")
    return found


def refused_shapes(geometry):
    kind, polygons = geometry["type"], geometry["coordinates"]
    if kind not in ("Point", "MultiPoint", "LineString", "Polygon", "MultiPolygon"):
        return [kind]
    if not kind.endswith("Polygon"):
        return []
    rings = [r for p in ([polygons] if kind == "Polygon" else polygons) for r in p]
    found = ["unclosed" for ring in rings if ring[0] != ring[-1]]
    return found if shapely.geometry.shape(geometry).is_valid else [*found, "invalid"]


def refused_properties(properties):
    found = ["id in properties"] * ("id" in properties)
    if properties.get("objectType", "annotation") not in OBJECT_TYPES:
        found.append(properties["objectType"])
    if properties.get("object_type", "").isupper():
        found.append("object_type")
    said = properties.get("classification", {"name": "x", "color": [0, 0, 0]})
    names = said.get("names", [said.get("name")])
    if len(said["color"]) != 3 or not all(isinstance(n, str) and n.strip() for n in names):
        found.append(f"class {said}")
    if "names" in said and any(":" in n for n in names):
        found.append(f"class {said}")
    values = properties.get("measurements", {})
    if isinstance(values, list):
        values = {entry["name"]: entry["value"] for entry in values}
    wrong = [v for v in values.values() if isinstance(v, bool) or not isinstance(v, int | float)]
    return [*found, *wrong]


# Reading


@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: {"type": "FeatureCollection", "features": [f]},
        lambda f: [f],
        lambda f: f,
        lambda f: f["geometry"],
    ],
    ids=["collection", "array", "feature", "geometry"],
)
@pytest.mark.parametrize("suffix", [".geojson", ".json", ".geojson.gz", ".json.gz", ".zip"])
def test_any_container_in_any_packing_is_read(wrap, suffix, tmp_path):
    data = json.dumps(wrap(feature())).encode()
    path = tmp_path / f"file{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("one.geojson", data)
            archive.writestr("two.json", data)
            archive.writestr("readme.txt", "no")
    else:
        path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    objects = read_geojson(path).objects
    assert len(objects) == (2 if suffix == ".zip" else 1)
    assert objects[0].geometry.area == 10_000
    assert objects[0].object_type == "annotation"


def test_spellings_of_old_versions_are_read():
    [one] = read(
        feature(
            object_type="tma_core",
            measurements=[{"name": "a", "value": 1}, {"name": "b", "value": "NaN"}],
            classification={
                "name": "Positive",
                "colorRGB": -3670016,
                "parentClass": {"name": "Tumor", "colorRGB": -1},
            },
        )
    ).objects
    assert one.object_type == "tmaCore"
    assert one.measurements["a"] == 1 and np.isnan(one.measurements["b"])
    assert one.path_class == PathClass(("Tumor", "Positive"), (200, 0, 0))


@pytest.mark.parametrize(
    ("word", "kind"),
    [("TILE", "tile"), ("PathTileObject", "tile"), ("tmaCore", "tmaCore"), ("odd", "annotation")],
)
def test_object_types_are_understood_however_they_are_spelt(word, kind):
    assert read(feature(objectType=word)).objects[0].object_type == kind


def test_bare_nan_and_a_key_twice_are_read():
    text = json.dumps(feature(measurements={"a": 1}, metadata={"k": "v"}))
    text = text.replace('"a": 1', '"a": NaN, "b": -Infinity').replace(
        '"metadata"', '"metadata": {"k": "old"}, "metadata"'
    )
    [one] = parse_geojson(text).objects
    assert np.isnan(one.measurements["a"]) and one.measurements["b"] == -np.inf
    assert one.metadata == {"k": "v"}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (feature() | {"geometry": None}, "null"),
        (feature(kind="Circle"), "Circle"),
        (feature([[["a", 0], [1, 1], [2, 2], ["a", 0]]]), "numbers"),
        (feature([[1, 2], [3, 4]]), "pair"),
        (feature(5), "coordinates"),
        (feature([[1, 2]], "LineString"), "two points"),
        ({"type": "Thing"}, "Thing"),
        (7, "int"),
        (feature(classification=[1]), "classification"),
        (feature() | {"properties": 3}, "properties"),
    ],
)
def test_a_bad_feature_is_listed_while_the_others_load(bad, reason):
    found = read(feature(), bad, feature())
    assert len(found.objects) == 2
    [problem] = found.problems
    assert problem.index == 1 and reason in problem.reason


@pytest.mark.parametrize("text", ["hello", "{}", '{"type": "FeatureCollection"}', "3", b"\xff\xfe"])
def test_what_is_no_geojson_is_refused_in_a_sentence(text):
    with pytest.raises(GeoJsonError, match=r"the text .*\."):
        parse_geojson(text)


def test_features_without_an_id_get_the_same_one_each_time():
    bare = {k: v for k, v in feature().items() if k != "id"}
    one, two = read(bare, bare).objects
    assert is_uuid(one.id) and one.id != two.id
    assert [one.id, two.id] == [o.id for o in read(bare, bare).objects]


def test_all_given_files_are_read_and_come_back_as_they_are(data_dir):
    files = sorted((data_dir / "geojson").rglob("*.geojson"))
    assert len(files) > 70
    for path in files:
        document = json.loads(path.read_text())
        features = document if isinstance(document, list) else document["features"]
        found = read_geojson(path)
        assert len(found.objects) + len(found.problems) == len(features), path
        data, report = encode_objects(found.objects)
        again = json.loads(data)
        if not (report.repairs or report.dropped or found.problems):
            assert again["features"] == features, path
        else:
            clean = "14_three_pts" in path.name or not refusals(again)
            assert clean, (path, refusals(again))
        if "golden" in path.parts or path.parent.name == "geojson":
            assert set(report.repairs) <= {
                "id made",
                "measurement that is not a finite number left out",
            }, path


def test_an_ellipse_covers_what_qupath_says_it_does(data_dir):
    folder = data_dir / "geojson"
    [ours] = read_geojson(folder / "cases" / "22_ellipse.geojson").objects
    [theirs] = read_geojson(folder / "golden" / "v0.6.0" / "22_ellipse.geojson").objects
    assert ours.is_ellipse and theirs.is_ellipse
    assert ours.shape.symmetric_difference(theirs.geometry).area < 0.005 * theirs.geometry.area


# Round trips


FULL = {
    "type": "Feature",
    "id": ID,
    "mine": {"deep": [1, "two"]},
    "geometry": {
        "type": "MultiPolygon",
        "coordinates": [[SQUARE[0], [[20, 20], [20, 40], [40, 40], [40, 20], [20, 20]]]],
        "plane": {"c": -1, "z": 2, "t": 1},
        "odd": True,
    },
    "nucleusGeometry": {"type": "Polygon", "coordinates": SQUARE},
    "properties": {
        "objectType": "cell",
        "name": "n",
        "color": [1, 2, 3],
        "classification": {"names": ["Tumor", "Positive"], "color": [200, 50, 50]},
        "isLocked": True,
        "measurements": {"a": 1.5, "b": 2},
        "metadata": {"k": "v"},
        "unknown": "kept",
        "childObjects": [feature(objectType="tile") | {"id": ID.replace("f", "e")}],
    },
}


def test_an_untouched_object_is_written_as_it_was_read():
    assert written(read(FULL).objects) == [FULL]


@pytest.mark.parametrize(
    ("field", "value", "path", "expected"),
    [
        (
            "path_class",
            PathClass.of("Stroma", "#96c896"),
            ("properties", "classification"),
            {"name": "Stroma", "color": [150, 200, 150]},
        ),
        ("name", "other", ("properties", "name"), "other"),
        ("name", None, ("properties", "name"), ...),
        ("measurements", {"c": 3.0, "d": np.nan}, ("properties", "measurements"), {"c": 3.0}),
        ("is_locked", False, ("properties", "isLocked"), ...),
        ("object_type", "annotation", ("properties", "objectType"), "annotation"),
        ("plane", Plane(), ("geometry", "plane"), ...),
        ("nucleus", None, ("nucleusGeometry",), ...),
        ("children", (), ("properties", "childObjects"), ...),
    ],
)
def test_only_the_edited_field_changes(field, value, path, expected):
    [one] = read(FULL).objects
    [after] = written([replace(one, **{field: value})])
    wanted = json.loads(json.dumps(FULL))
    place = wanted
    for key in path[:-1]:
        place = place[key]
    if expected is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = expected
    assert after == wanted


def test_moving_a_vertex_changes_the_geometry_only():
    [one] = read(FULL).objects
    points = shapely.get_coordinates(one.geometry)
    points[2] = 120.004, 110
    moved = shapely.set_coordinates(shapely.from_wkb(one.geometry.wkb), points)
    [after] = written([replace(one, geometry=moved)])
    kept = after.pop("geometry")
    assert after == {k: v for k, v in FULL.items() if k != "geometry"}
    assert kept.pop("plane") == FULL["geometry"]["plane"] and kept.pop("odd") is True
    shape = shapely.geometry.shape(kept)
    assert kept["type"] == "Polygon"  # of one part
    assert shape.symmetric_difference(moved).area < 1 and len(shape.interiors) == 1


def test_a_child_is_edited_without_touching_its_parent():
    [one] = read(FULL).objects
    child = replace(one.children[0], name="new")
    [after] = written([replace(one, children=(child,))])
    [nested] = after["properties"].pop("childObjects")
    assert nested["properties"] == {"objectType": "tile", "name": "new"}
    assert {k: v for k, v in after["properties"].items()} == {
        k: v for k, v in FULL["properties"].items() if k != "childObjects"
    }


def test_what_the_collection_says_beside_its_features_is_kept(tmp_path):
    path, out = tmp_path / "a.geojson", tmp_path / "b.geojson.gz"
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": {"a": 1}, "features": [FULL]}))
    found = read_geojson(path)
    write_geojson(out, found.objects, foreign=found.foreign)
    assert json.loads(gzip.decompress(out.read_bytes())) == json.loads(path.read_text())


# The safe writer


@pytest.mark.parametrize(
    ("odd", "what"),
    [
        (feature(BOWTIE), "invalid polygon"),
        (feature([SQUARE[0][:-1]]), "unclosed ring"),
        (feature(classification={"name": "Tumor"}), "class"),
        (feature(classification={"name": "A", "color": "#ff0000"}), "class"),
        (feature(classification={"names": ["A: B"], "color": [1, 2, 3]}), "class"),
        (feature(classification={"name": " ", "color": [1, 2, 3]}), "class"),
        (feature(classification="Tumor: Positive"), "class"),
        (feature(object_type="TILE"), "object type"),
        (feature(name=None), "name"),
        (feature() | {"properties": None}, "properties"),
        (feature(measurements={"a": None, "b": 1, "c": "NaN", "d": True}), "measurement"),
        (feature(metadata={"a": None}), "metadata"),
        (feature(color=[1, 2, 3, 4]), "colour"),
        (feature(extra={"deep": [None, 1]}), "null"),
        (feature() | {"id": 7}, "id"),
        (feature(id=ID) | {"id": None}, "id"),
        (feature([[[0, 0], [5, 5]], [[7, 7], [9, 9]]], "MultiLineString"), "lines"),
        (feature(childObjects=[feature(BOWTIE)]), "nested"),
    ],
)
def test_what_qupath_refuses_is_repaired_and_counted(odd, what):
    data, report = encode_objects(read(odd, FULL).objects)
    document = json.loads(data)
    assert refusals(document) == []
    assert any(what in name for name in report.repairs), report.repairs
    assert not report.dropped
    assert FULL in document["features"]


def test_a_collection_becomes_the_polygons_in_it():
    parts = [{"type": "Polygon", "coordinates": SQUARE}, {"type": "Point", "coordinates": [1, 2]}]
    one = feature() | {"geometry": {"type": "GeometryCollection", "geometries": parts}}
    data, report = encode_objects(read(one).objects)
    [after] = json.loads(data)["features"]
    assert after["geometry"]["type"] == "Polygon"
    assert report.repairs["line or point beside polygons left out"] == 1


def test_several_lines_become_objects_with_ids_of_their_own():
    lines = feature([[[0, 0], [5, 5]], [[7, 7], [9, 9]]], "MultiLineString", name="x")
    first, second = written(read(lines).objects)
    assert first["id"] == ID != second["id"] and is_uuid(second["id"])
    assert first["properties"] == second["properties"] == {"name": "x"}


def test_what_has_no_area_is_dropped_by_a_repair_and_named(tmp_path):
    flat = feature([[[0, 0], [100, 0], [0, 0]]])
    path, out = tmp_path / "in.json", tmp_path / "out.geojson"
    path.write_text(json.dumps([flat, feature(BOWTIE), feature() | {"geometry": None}, FULL]))
    found, report = repair_file(path, out)
    assert [p.index for p in found.problems] == [2]
    assert [p.index for p in report.dropped] == [0] and report.written == 2
    assert report.repaired == 2  # the multipolygon of one part, too
    assert refusals(json.loads(out.read_text())) == []
    again = tmp_path / "again.geojson"
    _, second = repair_file(out, again)
    assert second.repaired == 0 and again.read_bytes() == out.read_bytes()


def test_a_file_is_not_repaired_over_itself(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(feature(BOWTIE)))
    with pytest.raises(GeoJsonError, match="another name"):
        repair_file(path, path)
    assert json.loads(path.read_text()) == feature(BOWTIE)


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.integers() | st.none() | st.booleans()
texts = st.text(max_size=8) | st.sampled_from(["Tumor: Positive", "a:b", " ", "Ignore*"])
colors = st.lists(st.integers(-5, 300), max_size=5) | numbers | texts
places = st.tuples(st.integers(-50, 50), st.integers(-50, 50)).map(list)
rings = st.lists(places, max_size=7) | st.lists(places, min_size=3, max_size=7).map(
    lambda ring: [*ring, ring[0]]
)
geometries = (
    st.fixed_dictionaries(
        {"type": st.just("Polygon"), "coordinates": st.lists(rings, max_size=2)},
        optional={"isEllipse": st.booleans(), "plane": st.none()},
    )
    | st.fixed_dictionaries(
        {"type": st.just("MultiPolygon"), "coordinates": st.lists(st.lists(rings, max_size=2))}
    )
    | st.fixed_dictionaries(
        {"type": st.just("MultiLineString"), "coordinates": st.lists(rings, max_size=3)}
    )
    | st.fixed_dictionaries({"type": st.just("LineString"), "coordinates": rings})
    | st.fixed_dictionaries({"type": st.just("MultiPoint"), "coordinates": rings})
    | st.none()
)
classes = texts | st.fixed_dictionaries(
    {},
    optional={
        "name": texts | st.none(),
        "names": st.lists(texts, max_size=3),
        "color": colors,
        "colorRGB": st.integers(-(2**31), 2**31),
    },
)
odd_features = st.recursive(
    st.fixed_dictionaries(
        {"type": st.just("Feature"), "geometry": geometries},
        optional={
            "id": texts | st.uuids().map(str) | st.integers(),
            "nucleusGeometry": geometries,
            "properties": st.none()
            | st.fixed_dictionaries(
                {},
                optional={
                    "id": texts | st.uuids().map(str),
                    "objectType": st.sampled_from(["TILE", "tile", "Cell", "", "odd"]),
                    "object_type": st.sampled_from(["TILE", "tma_core", "annotation"]),
                    "classification": classes | st.none(),
                    "color": colors,
                    "name": texts | numbers,
                    "isLocked": numbers,
                    "measurements": st.dictionaries(texts, numbers | texts, max_size=3)
                    | st.lists(st.fixed_dictionaries({"name": texts, "value": numbers}))
                    | st.none(),
                    "metadata": st.dictionaries(texts, numbers | texts, max_size=2) | st.none(),
                    "mine": st.lists(numbers, max_size=2) | st.dictionaries(texts, numbers),
                },
            ),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {
            "type": st.just("Feature"),
            "geometry": geometries,
            "properties": st.fixed_dictionaries({"childObjects": st.lists(inner, max_size=2)}),
        }
    ),
    max_leaves=3,
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(features=st.lists(odd_features, max_size=3))
def test_no_reader_and_no_input_brings_out_what_qupath_refuses(features):
    text = json.dumps({"type": "FeatureCollection", "features": features})
    found = parse_geojson(text)
    assert len({p.index for p in found.problems}) + len(found.objects) >= len(features)
    document = json.loads(encode_objects(found.objects, strict=True)[0])
    assert refusals(document) == []


def test_three_thousand_random_polygons_come_through():
    rng = np.random.default_rng(7)
    objects = []
    for number in range(3000):
        n = rng.integers(3, 9)
        center, size = rng.uniform(0, 50_000, 2), rng.choice([2.0, 50.0, 3000.0])
        parts = [
            shapely.Polygon(np.round(center + rng.normal(0, size, (n, 2)), 2))
            for _ in range(rng.integers(1, 3))
        ]
        shape = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
        objects.append(
            PathObject(
                id=f"00000000-0000-4000-8000-{number:012d}",
                object_type=("annotation", "tile", "detection")[number % 3],
                geometry=shape,
                path_class=PathClass.of(f"Class {number % 7}"),
                measurements={"a": float(rng.normal())},
            )
        )
    data, report = encode_objects(objects)
    assert refusals(json.loads(data)) == [] and not report.dropped
    back = parse_geojson(data).objects
    assert [o.id for o in back] == [o.id for o in objects]
    assert [o.object_type for o in back] == [o.object_type for o in objects]
    assert [o.path_class.name for o in back] == [o.path_class.name for o in objects]
    assert [o.measurements for o in back] == [o.measurements for o in objects]
    for old, new in zip(objects, back, strict=True):
        meant = shapely.make_valid(old.geometry)
        lost = meant.symmetric_difference(new.geometry).area
        assert lost <= 0.01 + 0.005 * meant.length  # what rounding the corners to 0.01 px moves
        qupath = shapely.set_precision(new.geometry, 0.01)
        lost = qupath.symmetric_difference(new.geometry).area
        assert lost <= max(1.1, 1e-4 * new.geometry.area)


# Classes


@pytest.mark.parametrize(
    ("said", "name", "color"),
    [
        ({"name": "Tumor", "color": [200, 0, 0]}, "Tumor", (200, 0, 0)),
        ({"names": ["Tumor", "Positive"], "color": [1, 2, 3, 4]}, "Tumor: Positive", (1, 2, 3)),
        ({"name": "Tumor:Positive", "color": -16777216}, "Tumor: Positive", (0, 0, 0)),
        ("Größe: αβ", "Größe: αβ", None),
        ({"name": "x", "color": "#0a0b0c"}, "x", (10, 11, 12)),
    ],
)
def test_classes_are_read_however_they_are_spelt(said, name, color):
    found = parse_class(said)
    assert (found.name, found.color) == (name, color)
    assert parse_class(found.to_json()).names == found.names


@pytest.mark.parametrize("nothing", [None, {}, "", " : ", {"name": None}, {"names": []}])
def test_no_class_is_none(nothing):
    assert parse_class(nothing) is None


def test_packed_colours_are_java_s():
    assert packed_of_rgb((200, 0, 0)) == -3670016
    for color in [(0, 0, 0), (255, 255, 255), (1, 2, 3)]:
        assert rgb_of_packed(packed_of_rgb(color)) == color


def test_starred_classes_are_ignored_ones():
    assert PathClass.of("Ignore*").is_ignored and PathClass.of("Region*").is_ignored
    assert not PathClass.of("Tumor").is_ignored


def test_flatten_gives_parents_before_children():
    objects = read(FULL).objects
    assert [o.object_type for o in flatten(objects)] == ["cell", "tile"]
