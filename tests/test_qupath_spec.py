"""What QuPath made of given files and what we make of them; slides with bounds, end to end."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.slides import picture, write_svs
from tests.test_geojson import refusals

from napari_virchow.cli.interop import import_asap
from napari_virchow.cli.qupath import Job, export_geojson, import_geojson
from napari_virchow.interop.asap import write_asap
from napari_virchow.labels import LabelSet
from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.frame import (
    SlideBox,
    bounds_frame,
    cropped,
    flipped,
    rotated,
    whole_slide,
)
from napari_virchow.qupath.geojson import encode_objects, parse_geojson, read_geojson
from napari_virchow.qupath.objects import OBJECT_TYPES, PathObject, Plane, flatten
from napari_virchow.qupath.placing import to_slide
from napari_virchow.qupath.reading import is_uuid
from napari_virchow.slide import open_slide
from napari_virchow.tiles import Rect, Tile

BOX = SlideBox(9000, 7000, Rect(100, 50, 6000, 4000))
FRAMES = {
    "whole": whole_slide(BOX),
    "bounds": bounds_frame(BOX),
    "bounds+90": rotated(bounds_frame(BOX), 90),
    "bounds+270": rotated(bounds_frame(BOX), 270),
    "flipped": flipped(bounds_frame(BOX), horizontally=True, vertically=False),
    "cropped": cropped(bounds_frame(BOX), Rect(10, 20, 100, 80)),
}


# ---- A, B, D: given cases and what each version of QuPath wrote of them


def differences(ours: PathObject, theirs: PathObject) -> list[str]:
    """Name what is not the same in two objects; QuPath gives classes it knows its own colours."""
    found = []
    if ours.object_type != theirs.object_type:
        found.append(f"type {ours.object_type} / {theirs.object_type}")
    names = [one.path_class.name if one.path_class else None for one in (ours, theirs)]
    if names[0] != names[1]:
        found.append(f"class {names}")
    for name in ("name", "plane", "is_locked", "color"):
        if getattr(ours, name) != getattr(theirs, name):
            found.append(name)
    if ours.measurements.keys() != theirs.measurements.keys():
        found.append(f"measurements {ours.measurements} / {theirs.measurements}")
    else:
        pairs = [(value, theirs.measurements[key]) for key, value in ours.measurements.items()]
        if pairs and not np.allclose(*np.float32(pairs).T, rtol=1e-6, equal_nan=True):
            found.append("values of measurements")
    shapes = [shapely.make_valid(one.shape) for one in (ours, theirs)]
    # An ellipse is a curve in QuPath and a polygon of many corners here.
    allowed = max(1.1, 1e-4 * shapes[0].area, 0.005 * shapes[0].area * ours.is_ellipse)
    if shapes[0].symmetric_difference(shapes[1]).area > allowed:
        found.append("geometry")
    return found


def test_each_case_means_to_us_what_it_means_to_every_qupath(data_dir):
    goldens = sorted((data_dir / "geojson" / "golden").rglob("*.geojson"))
    assert len(goldens) >= 49
    for golden in goldens:
        case = data_dir / "geojson" / "cases" / golden.name
        read = read_geojson(case)
        theirs = read_geojson(golden).objects  # these were written without nested objects
        # as it stands, and as we would hand it on
        for ours in (read.objects, parse_geojson(encode_objects(read.objects)[0]).objects):
            assert len(ours) == len(theirs), golden
            for one, other in zip(ours, theirs, strict=True):
                wrong = differences(one, other)
                if "TILE" in golden.name:  # we read the type as it is meant
                    wrong.remove("type tile / annotation")
                if "24_nan" in golden.name or "25_nan" in golden.name:  # left out when written
                    wrong = [what for what in wrong if not what.startswith("measurements")]
                assert not wrong, (golden, wrong)


def test_ids_that_are_uuids_are_those_that_qupath_keeps(data_dir):
    for golden in sorted((data_dir / "geojson" / "golden").rglob("*.geojson")):
        case = json.loads((data_dir / "geojson" / "cases" / golden.name).read_text())
        features = case if isinstance(case, list) else case["features"]
        kept = {one.id for one in flatten(read_geojson(golden).objects)}
        for feature in features:
            if is_uuid(feature.get("id")):
                assert feature["id"] in kept, golden


def test_what_a_qupath_refuses_is_fit_for_all_when_we_hand_it_on(data_dir):
    folder = data_dir / "geojson"
    accepted = {path.name for path in (folder / "golden").rglob("*.geojson")}
    refused = [p for p in sorted((folder / "cases").glob("*.geojson")) if p.name not in accepted]
    assert len(refused) >= 6
    for path in refused:
        found = read_geojson(path)
        document = json.loads(encode_objects(found.objects, strict=True)[0])
        assert refusals(document) == [], path
        assert document["features"] or [p.reason for p in found.problems], path


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_no_fixture_loses_anything_through_any_frame(frame, data_dir):
    for path in sorted((data_dir / "geojson").rglob("*.geojson")):
        found = read_geojson(path).objects
        plain, _ = encode_objects(found)
        through, _ = encode_objects(to_slide(found, frame), frame=frame)
        assert through == plain, path


# ---- E: whatever is made in Python is fit for every QuPath

names = st.text(max_size=6) | st.sampled_from(["Tumor: Positive", "Ignore*", "µ", " "])
points = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=4, max_size=7, unique=True
)
polygons = points.map(shapely.Polygon)
shapes = (
    polygons
    | st.lists(polygons, max_size=3).map(shapely.MultiPolygon)
    | st.lists(polygons, max_size=2).map(shapely.GeometryCollection)
    | points.map(shapely.LineString)
    | points.map(shapely.MultiPoint)
    | points.map(lambda p: shapely.MultiLineString([p[:2], p[2:]]))
)
path_classes = st.none() | st.builds(
    PathClass,
    st.lists(
        st.sampled_from(["Tumor", "Positive", "Größe", "Ignore*"]), min_size=1, max_size=3
    ).map(tuple),
    st.none() | st.tuples(*[st.integers(0, 255)] * 3),
)
objects = st.builds(
    PathObject,
    id=st.uuids().map(str) | names,
    object_type=st.sampled_from(OBJECT_TYPES),
    geometry=shapes,
    is_ellipse=st.booleans(),
    plane=st.builds(Plane, st.integers(-1, 3), st.integers(0, 3), st.integers(0, 3)),
    path_class=path_classes,
    name=st.none() | names,
    color=st.none() | st.tuples(*[st.integers(0, 255)] * 3),
    measurements=st.dictionaries(names, st.floats(), max_size=3),
    is_locked=st.booleans(),
    metadata=st.dictionaries(names, names, max_size=2),
    nucleus=st.none() | polygons,
)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(objects, max_size=4))
def test_no_object_brings_out_what_qupath_refuses(made):
    document = json.loads(encode_objects(made, strict=True)[0])
    assert refusals(document) == []
    ids = [feature["id"] for feature in document["features"]]
    assert all(map(is_uuid, ids))


# ---- F: a slide with bounds, from the command to the file and back


@pytest.fixture
def bounded(tmp_path):
    """A slide of 1000 × 700 pixels of which QuPath shows 600 × 400."""
    path = write_svs(tmp_path / "some.svs", picture(700, 1000), mpp=0.5, tile=128, factors=(1,))
    with open_slide(path) as slide:
        slide.bounds = Rect(100, 50, 600, 400)
        yield slide


def options(**said):
    plain = {
        "what": None,
        "model": None,
        "mpp": None,
        "frame": "auto",
        "rule": "centre",
        "objects": "annotation",
        "dry_run": False,
        "geojson": None,
        "simplify": 0.0,
        "min_tiles": 1,
    }
    return argparse.Namespace(**(plain | said))


def test_labels_of_a_slide_with_bounds_are_shifted_for_qupath_and_back(bounded, tmp_path):
    journal, out = tmp_path / "me.sqlite", tmp_path / "tiles.geojson"
    with LabelSet(journal) as labels:
        one = labels.add_class("Tumor")
        labels.label(bounded.identity, "224px-0.5mpp", [Tile(1, 2)], one.id)
    export_geojson(Job(options(out=out, labels=journal), bounded, tmp_path))
    [feature] = json.loads(out.read_text())["features"]
    assert shapely.geometry.shape(feature["geometry"]).bounds == (348, 174, 572, 398)
    asked = options(file=out, labels=tmp_path / "you.sqlite", objects="tile")
    _, facts = import_geojson(Job(asked, bounded, tmp_path))
    assert facts["changed"] == 1 and facts["frame"]["name"] == "bounds"
    with LabelSet(tmp_path / "you.sqlite") as labels:
        assert list(labels.get(bounded.identity, "224px-0.5mpp")) == [Tile(1, 2)]


def test_a_file_of_qupath_is_shifted_by_the_bounds_of_the_slide(bounded, tmp_path):
    drawn = [
        PathObject("", "annotation", shapely.box(-30, 0, 560, 390), path_class=PathClass.of("A"))
    ]
    (tmp_path / "a.geojson").write_bytes(encode_objects(drawn)[0])
    asked = options(file=tmp_path / "a.geojson", labels=tmp_path / "me.sqlite", frame="bounds")
    _, facts = import_geojson(Job(asked, bounded, tmp_path))
    # 70..660 by 50..440 on the slide: middles at 112, 336, 560 and 112, 336
    assert facts["plan"]["tiles"] == {"A": 6}


def test_other_tools_do_not_crop_so_their_annotations_are_shifted_for_qupath_only(
    bounded, tmp_path
):
    whole = [
        PathObject("", "annotation", shapely.box(224, 224, 448, 448), path_class=PathClass.of("A"))
    ]
    write_asap(tmp_path / "a.xml", whole)
    out = tmp_path / "a.geojson"
    asked = options(file=tmp_path / "a.xml", labels=tmp_path / "me.sqlite", geojson=out)
    _, facts = import_asap(Job(asked, bounded, tmp_path))
    assert facts["plan"]["tiles"] == {"A": 1}
    [one] = read_geojson(out).objects
    assert one.geometry.bounds == (124, 174, 348, 398)


# ---- the list of what holds


def test_every_test_that_the_list_names_is_there():
    here = Path(__file__).parent
    text = (here.parent / "docs" / "qupath-tests.md").read_text("utf-8")
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    assert len(named) > 50
    for file, name in named:
        path = next(here.rglob(file), None)
        assert path is not None, file
        assert f"def {name}(" in path.read_text("utf-8"), f"{file}::{name}"
