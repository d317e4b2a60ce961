"""ASAP's annotations and WSInfer's tiles, in and out."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.slides import picture, write_svs

from napari_virchow.cli import main
from napari_virchow.cli.formats import recognise
from napari_virchow.interop import InteropError
from napari_virchow.interop.asap import read_asap, write_asap
from napari_virchow.interop.wsinfer import read_wsinfer
from napari_virchow.labels import LabelSet
from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.geojson import read_geojson
from napari_virchow.qupath.objects import PathObject
from napari_virchow.slide import open_slide
from napari_virchow.tiles import Tile

ASAP = """<?xml version="1.0"?>
<ASAP_Annotations>
  <Annotations>
    <Annotation Name="Annotation 0" Type="Polygon" PartOfGroup="Tumor" Color="#F4FA58">
      <Coordinates>
        <Coordinate Order="1" X="460" Y="0" />
        <Coordinate Order="0" X="0" Y="0" />
        <Coordinate Order="2" X="460.5" Y="460,5" />
        <Coordinate Order="3" X="0" Y="460" />
      </Coordinates>
    </Annotation>
    <Annotation Name="edge" Type="Spline" PartOfGroup="Stroma" Color="#F4FA58">
      <Coordinates>
        <Coordinate Order="1" X="1344" Y="0" />
        <Coordinate Order="0" X="896" Y="0" />
        <Coordinate Order="2" X="1344" Y="448" />
        <Coordinate Order="3" X="896" Y="448" />
      </Coordinates>
    </Annotation>
    <Annotation Name="here" Type="Dot" PartOfGroup="None" Color="#64FE2E">
      <Coordinates><Coordinate Order="0" X="7.5" Y="9" /></Coordinates>
    </Annotation>
    <Annotation Name="odd" Type="Balloon" PartOfGroup="None" Color="#64FE2E">
      <Coordinates><Coordinate Order="0" X="7.5" Y="9" /></Coordinates>
    </Annotation>
    <Annotation Name="thin" Type="Polygon" PartOfGroup="None" Color="#64FE2E">
      <Coordinates><Coordinate Order="0" X="7.5" Y="9" /></Coordinates>
    </Annotation>
  </Annotations>
  <AnnotationGroups>
    <Group Name="Tumor" PartOfGroup="None" Color="#c80000"><Attributes /></Group>
  </AnnotationGroups>
</ASAP_Annotations>
"""

CSV = """minx,miny,width,height,prob_Tumor,prob_Stroma
0,0,448,448,0.9,0.1
448,0,448,448,0.2,0.8
896,0,448,448,0.4,0.35
"""


def annotation(shape, name="Tumor", number=0):
    kind = None if name is None else PathClass.of(name, (200, 0, 0))
    return PathObject(f"id-{number}", "annotation", shape, path_class=kind)


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects")
    return write_svs(folder / "some.svs", picture(1536, 2048), mpp=0.5)


@pytest.fixture
def run(capsys):
    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


# ---- ASAP


def test_annotations_of_asap_are_read_with_groups_and_problems(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(ASAP)
    objects, problems = read_asap(path)
    assert [(p.index, p.reason) for p in problems] == [
        (0, "a coordinate is no number: could not convert string to float: '460,5'"),
        (3, "its type 'Balloon' is not known"),
        (4, "a polygon needs 3 points, it has 1"),
    ]
    edge, here = objects
    assert edge.geometry.bounds == (896, 0, 1344, 448) and edge.name == "edge"
    assert edge.path_class == PathClass(("Stroma",), (0xF4, 0xFA, 0x58))
    assert here.geometry.equals(shapely.Point(7.5, 9)) and here.path_class is None


def test_reading_again_gives_the_same_ids(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(ASAP)
    assert [o.id for o in read_asap(path)[0]] == [o.id for o in read_asap(path)[0]]


def test_the_colour_of_a_class_is_its_groups(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(ASAP.replace("460,5", "460.5"))
    assert read_asap(path)[0][0].path_class == PathClass(("Tumor",), (200, 0, 0))


def test_annotations_go_to_asap_and_come_back(tmp_path):
    objects = [
        annotation(shapely.box(1.5, 2, 700000.25, 400)),
        annotation(shapely.MultiPolygon([shapely.box(0, 0, 9, 9), shapely.box(20, 0, 29, 9)]), "B"),
        annotation(shapely.Point(3, 4), None),
        annotation(shapely.LineString([(0, 0), (5, 5), (9, 0)]), "A: B"),
        annotation(shapely.Polygon(), "A"),
    ]
    assert write_asap(tmp_path / "a.xml", objects) == (5, 1)
    back, problems = read_asap(tmp_path / "a.xml")
    assert not problems and len(back) == 5
    assert back[0].geometry.equals(objects[0].geometry)
    assert shapely.union_all([o.geometry for o in back[1:3]]).equals(objects[1].geometry)
    assert back[3].geometry.equals(objects[2].geometry) and back[3].path_class is None
    assert back[4].geometry.equals(objects[3].geometry)
    assert [o.path_class.name for o in (back[0], back[1], back[4])] == ["Tumor", "B", "A: B"]
    assert back[0].path_class.color == (200, 0, 0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 9)), max_size=5),
    st.booleans(),
)
def test_pieces_of_an_area_with_holes_cover_the_same(tmp_path_factory, holes, turned):
    shape = shapely.box(-1, -1, 41, 41)
    for x, y, side in holes:
        shape = shape.difference(shapely.box(x, y, x + side, y + side))
    if turned:
        shape = shapely.affinity.rotate(shape, 30)
    path = tmp_path_factory.mktemp("holes") / "a.xml"
    write_asap(path, [annotation(shape)])
    pieces = [o.geometry for o in read_asap(path)[0]]
    assert not any(shapely.get_num_interior_rings(piece) for piece in pieces)
    assert shapely.union_all(pieces).symmetric_difference(shape).area < 0.1  # rounded to 0.001 px
    assert sum(piece.area for piece in pieces) == pytest.approx(shape.area, abs=0.1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ASAP[:900], "damaged"),
        ("<Annotations MicronsPerPixel='0.5'></Annotations>", "begins with Annotations"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + ASAP[22:], "document type"),
    ],
)
def test_what_is_not_of_asap_is_refused_by_name(text, reason, tmp_path):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(InteropError, match=rf"a\.xml.*{reason}"):
        read_asap(tmp_path / "a.xml")


def test_asap_is_what_its_own_reader_expects(tmp_path):
    write_asap(tmp_path / "a.xml", [annotation(shapely.box(0, 0, 9, 9))])
    root = ET.parse(tmp_path / "a.xml").getroot()
    assert [part.tag for part in root] == ["Annotations", "AnnotationGroups"]
    [one] = root[0]
    assert one.attrib.keys() == {"Name", "Type", "PartOfGroup", "Color"}
    assert one.get("PartOfGroup") == root[1][0].get("Name") == "Tumor"
    points = one.findall("./Coordinates/Coordinate")
    assert [at.get("Order") for at in points] == ["0", "1", "2", "3"]  # not closed: ASAP does that


# ---- WSInfer


def test_wsinfers_tiles_have_their_likeliest_class_and_all_probabilities(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text(CSV)
    tiles = read_wsinfer(path)
    assert [t.path_class and t.path_class.name for t in tiles] == ["Tumor", "Stroma", None]
    assert tiles[1].geometry.bounds == (448, 0, 896, 448)
    assert tiles[1].measurements == {"p(Tumor)": 0.2, "p(Stroma)": 0.8}
    assert len({t.id for t in tiles}) == 3
    assert read_wsinfer(path, min_probability=0.3)[2].path_class.name == "Tumor"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n", "no table of WSInfer"),
        ("minx,miny,width,height,prob_\n0,0,1,1,1\n", "no table of WSInfer"),
        (CSV + "1,2,x,4,0.5,0.5\n", "line 5"),
        (CSV + "1,2,0,4,0.5,0.5\n", "line 5"),
        (CSV + "1,2,3\n", "line 5"),
        (CSV + "1,2,3,4,nan,0.5\n", "line 5"),
    ],
)
def test_a_damaged_table_is_refused_with_its_line(text, reason, tmp_path):
    (tmp_path / "some.csv").write_text(text)
    with pytest.raises(InteropError, match=rf"some\.csv.*{reason}"):
        read_wsinfer(tmp_path / "some.csv")


# ---- the command line


def test_asap_becomes_labels_and_geojson(run, slide_file, tmp_path):
    path, journal, out = tmp_path / "a.bin", tmp_path / "me.sqlite", tmp_path / "a.geojson"
    path.write_text(ASAP.replace("460,5", "460.5"))
    assert recognise(path) == "asap"
    code, text, _ = run(
        *("import", path, "--slide", slide_file, "--labels", journal, "--json"),
        *("--geojson", out),
    )
    facts = json.loads(text)
    assert code == 0 and facts["plan"]["tiles"] == {"Tumor": 4, "Stroma": 4}
    assert [p["index"] for p in facts["malformed"]] == [3, 4]
    found = read_geojson(out)
    assert len(found.objects) == 3 and found.block is not None
    with open_slide(slide_file) as slide, LabelSet(journal) as labels:
        assert labels.undo_text == "import 8 tiles from ASAP"
        names = {c.id: c.name for c in labels.classes}
        assert names[labels.get(slide.identity, "224px-0.5mpp")[Tile(1, 1)]] == "Tumor"
    back = tmp_path / "back.xml"
    code, text, _ = run("export", slide_file, "--to", "asap", "--labels", journal, "--out", back)
    assert code == 0 and "annotations in" in text
    objects, _ = read_asap(back)
    tumor = [o.geometry for o in objects if o.path_class.name == "Tumor"]
    assert shapely.union_all(tumor).equals(shapely.box(0, 0, 448, 448))
    words = ("export", slide_file, "--to", "asap", "--labels", journal, "--out", back)
    code, text, _ = run(*words, "--what", "labels", "--json")
    assert code == 0 and json.loads(text)["written"] == 8


def test_wsinfer_becomes_labels(run, slide_file, tmp_path):
    path, journal = tmp_path / "some.txt", tmp_path / "me.sqlite"
    path.write_text(CSV)
    assert recognise(path) == "wsinfer"
    words = ("import", path, "--slide", slide_file, "--labels", journal, "--json")
    code, text, _ = run(*words, "--dry-run")
    assert code == 0 and json.loads(text)["plan"]["tiles"] == {"Tumor": 4, "Stroma": 4}
    assert not journal.exists()
    code, text, _ = run(*words)
    facts = json.loads(text)
    assert code == 0 and facts["changed"] == 8 and facts["plan"]["unclassified"] == 1


def test_tiles_without_a_class_do_not_go_to_asap(run, slide_file, tmp_path):
    words = ("--to", "asap", "--what", "tiles", "--out", tmp_path / "a.xml")
    code, _, err = run("export", slide_file, *words, "--store", tmp_path)
    assert code == 2 and not (tmp_path / "a.xml").exists() and err.count("\n") == 1


def test_a_file_of_every_format_is_recognised_by_its_content(tmp_path):
    files = {
        "geojson": b'\xef\xbb\xbf {"type": "FeatureCollection", "features": []}',
        "asap": ASAP.encode(),
        "wsinfer": CSV.encode(),
        "csv": b"slide,grid,row,col,class,annotator,time\n",
    }
    for name, data in files.items():
        (tmp_path / "file.dat").write_bytes(data)
        assert recognise(tmp_path / "file.dat") == name
    np.save(tmp_path / "file.npy", np.arange(3))
    with pytest.raises(ValueError, match=r"file\.npy is of no format"):
        recognise(tmp_path / "file.npy")
    with pytest.raises(FileNotFoundError):
        recognise(tmp_path / "none.json")
