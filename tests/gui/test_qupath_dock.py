"""The dock "QuPath" in a real window: objects come in, are edited, and go out as they should."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import shapely
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_virchow.qupath.geojson import parse_geojson, read_geojson
from napari_virchow.session import Session
from napari_virchow.tiles import Tile

LEFT = Qt.MouseButton.LeftButton
NONE = Qt.KeyboardModifier.NoModifier
CMU = Path(os.environ.get("NAPARI_VIRCHOW_TEST_DATA", "/nowhere")) / (
    "slides/CMU-1-Small-Region.svs"
)
TUMOR = {"name": "Tumor", "color": [200, 0, 0]}
IGNORE = {"name": "Ignore*", "color": [180, 180, 180]}


def uid(n):
    return f"00000000-0000-4000-8000-{n:012d}"


def a_feature(n, geometry, **properties):
    return {
        "type": "Feature",
        "id": uid(n),
        "geometry": geometry,
        "properties": {"objectType": "annotation", **properties},
        "nobody knows": {"this": [1, None]},
    }


def a_box(left, top, right, bottom, hole=None):
    rings = [[(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]]
    if hole is not None:
        x, y, x2, y2 = hole
        rings.append([(x, y), (x, y2), (x2, y2), (x2, y), (x, y)])
    return {"type": "Polygon", "coordinates": rings}


FEATURES = [
    a_feature(1, a_box(300, 200, 1300, 1000, hole=(500, 400, 700, 600)), classification=TUMOR),
    a_feature(2, {"type": "Point", "coordinates": [1500, 300]}, name="look here"),
    a_feature(3, a_box(1500, 900, 1900, 1200) | {"isEllipse": True}, classification=IGNORE),
    {"type": "Feature", "geometry": None},
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "from-qupath.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": FEATURES}))
    return path


@pytest.fixture
def qupath(viewer, open_slide, slide_file, until):
    """Open a slide and the dock; returns the dock once it can be used."""

    def show(path=slide_file):
        if not any("slide" in layer.metadata for layer in viewer.layers):
            open_slide(path)
        _, dock = viewer.window.add_plugin_dock_widget("napari-virchow", "QuPath")
        until(lambda: dock.layers is not None and not dock.layers.busy, 60_000)
        return dock

    return show


def drop(dock, path):
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    event = QDropEvent(QPointF(9, 9), Qt.DropAction.CopyAction, data, LEFT, NONE)
    dock.dropEvent(event)


def drawn(dock):
    scene = dock.layers.scene
    seen = 0 if scene is None else len(scene.drawn) + scene.pictured
    return not dock.layers.busy and seen == len(dock.layers.kept)


def bring_in(dock, path, until):
    """Drop a file, look at it, and press Import."""
    drop(dock, path)
    until(lambda: dock.import_box.incoming is not None)
    QTest.mouseClick(dock.import_box.take, LEFT)
    until(lambda: dock.import_box.incoming is None and drawn(dock))


def canvas_point(viewer, dock, x, y):
    world_y, world_x = dock._layer.data_to_world((y - 0.5, x - 0.5))[-2:]
    height, width = viewer.canvas.size
    camera = viewer.scene.camera
    center_y, center_x = camera.center[-2:]
    return QPoint(
        round(width / 2 + (world_x - center_x) * camera.zoom),
        round(height / 2 + (world_y - center_y) * camera.zoom),
    )


def drag(viewer, start, end):
    canvas = viewer.window._qt_viewer.canvas.native
    middle = (start + end) / 2
    QTest.mouseMove(canvas, start)
    QTest.qWait(20)
    QTest.mousePress(canvas, LEFT, NONE, start)
    for point in (middle, end):
        QTest.qWait(20)
        QTest.mouseMove(canvas, point)
    QTest.qWait(20)
    QTest.mouseRelease(canvas, LEFT, NONE, end)
    QTest.qWait(20)


def save(dock, path, until):
    dock.tabs.setCurrentIndex(2)
    until(lambda: dock.export_box.outgoing is not None)
    dock.export_box.write(path)
    until(lambda: path.exists() and dock.export_box.progress.isHidden())
    return json.loads(path.read_text())


def test_a_dropped_file_is_looked_into_before_anything_happens(qupath, file, until):
    dock = qupath()
    drop(dock, file)
    until(lambda: dock.import_box.incoming is not None)
    box = dock.import_box
    assert "3 objects" in box.facts.text()
    rows = [
        (box.tree.topLevelItem(n).text(0), box.tree.topLevelItem(n).text(1))
        for n in range(box.tree.topLevelItemCount())
    ]
    assert rows == [
        ("Tumor · annotation", "1"),
        ("unclassified · annotation", "1"),
        ("Ignore* · annotation", "1"),
        ("Number 3: geometry is null or missing", "left out"),
    ]
    assert "1 cannot be read" in box.alert.text()
    assert box.frame.currentText().startswith("whole slide (2048")
    assert len(dock.layers.kept) == 0


def test_what_comes_in_is_drawn_with_its_holes_in_its_colours(viewer, qupath, file, until):
    dock = qupath()
    bring_in(dock, file, until)
    shapes, points = dock.layers.shapes.layer, dock.layers.points.layer
    assert shapes in viewer.layers
    types = sorted(shapes.shape_type)
    assert types == ["ellipse", "path", "path"]  # the hole is an outline of its own
    tumor = [n for n, row in enumerate(dock.layers.shapes._rows) if row[0] == uid(1)]
    assert len(tumor) == 2
    np.testing.assert_allclose(shapes.edge_color[tumor], [[200 / 255, 0, 0, 1]] * 2, atol=1e-3)
    assert points.data.tolist() == [[299.5, 1499.5]]
    # A slide pixel is where a vertex of that pixel is, whatever the units
    np.testing.assert_allclose(shapes.data_to_world((7, 3)), dock._layer.data_to_world((7, 3)))
    assert dock.edit_box.list.count() == 3


def test_a_corner_that_is_dragged_changes_that_geometry_and_nothing_else(
    viewer, qupath, file, until, tmp_path
):
    dock = qupath()
    bring_in(dock, file, until)
    viewer.reset_view()
    QTest.mouseClick(dock.edit_box.corners, LEFT)
    QTest.qWait(50)
    start = canvas_point(viewer, dock, 1300, 200)
    # The shape must be chosen before its corners can be dragged
    dock.layers.select([uid(1)])
    dock.layers.shapes.layer.mode = "direct"
    QTest.qWait(50)
    drag(viewer, start, start + QPoint(40, -10))
    until(lambda: dock.layers.kept.undo_text == "edit annotation")
    one = dock.layers.kept.get(uid(1))
    assert one.edited == {"geometry"}
    corners = shapely.get_coordinates(one.geometry)
    assert (300, 200) in [tuple(xy) for xy in corners]
    assert (1300, 200) not in [tuple(xy) for xy in corners]
    assert len(one.geometry.interiors) == 1
    written = save(dock, tmp_path / "out.geojson", until)["features"]
    assert [one["id"] for one in written] == [uid(1), uid(2), uid(3)]
    without_null = {"this": [1]}  # which no QuPath reads
    as_they_came = json.loads(json.dumps(FEATURES))
    assert written[1:] == [one | {"nobody knows": without_null} for one in as_they_came[1:3]]
    assert written[0]["properties"] == FEATURES[0]["properties"]
    dock.tabs.setCurrentIndex(1)
    QTest.mouseClick(dock.edit_box.undo, LEFT)
    until(lambda: dock.layers.kept.get(uid(1)).edited == frozenset())
    until(
        lambda: (
            (1299.5, 199.5) in [tuple(v[::-1]) for d in dock.layers.shapes.layer.data for v in d]
        )
    )


def test_a_new_polygon_becomes_an_annotation_of_the_chosen_class(viewer, qupath, until):
    dock = qupath()
    viewer.reset_view()
    dock.tabs.setCurrentIndex(1)
    dock.edit_box.kind.setCurrentIndex(dock.edit_box.kind.findText("Stroma"))
    QTest.mouseClick(dock.edit_box.tools["polygon"], LEFT)
    QTest.qWait(50)
    canvas = viewer.window._qt_viewer.canvas.native
    places = [(400, 300), (900, 300), (900, 800)]
    for place in places:
        point = canvas_point(viewer, dock, *place)
        QTest.mouseMove(canvas, point)
        QTest.qWait(20)
        QTest.mouseClick(canvas, LEFT, NONE, point)
        QTest.qWait(20)
    QTest.mouseDClick(canvas, LEFT, NONE, canvas_point(viewer, dock, *places[-1]))
    until(lambda: len(dock.layers.kept) == 1)
    [one] = dock.layers.kept.objects
    assert one.path_class.name == "Stroma"
    assert one.geometry.area == pytest.approx(500 * 500 / 2, rel=0.05)
    until(lambda: dock.layers.shapes.layer.shape_type == ["path"])
    until(lambda: dock.edit_box.list.count() == 1)


def test_class_name_and_lock_are_changed_and_deleting_is_undone(qupath, file, until):
    dock = qupath()
    bring_in(dock, file, until)
    box = dock.edit_box
    until(lambda: box.list.count() == 3)
    row = next(n for n in range(3) if box.list.item(n).text() == "Tumor")
    box.list.setCurrentRow(row)
    QTest.keyClicks(box.name, "left margin")
    QTest.keyClick(box.name, Qt.Key.Key_Return)
    assert dock.layers.kept.get(uid(1)).name == "left margin"
    at = box.kind.findText("Necrosis")
    box.kind.setCurrentIndex(at)
    box.kind.activated.emit(at)
    assert dock.layers.kept.get(uid(1)).path_class.name == "Necrosis"
    shapes = dock.layers.shapes
    rows = [n for n, row in enumerate(shapes._rows) if row[0] == uid(1)]
    np.testing.assert_allclose(shapes.layer.edge_color[rows, :3], 50 / 255, atol=1e-3)
    QTest.mouseClick(box.delete, LEFT)
    assert dock.layers.kept.get(uid(1)) is None
    assert uid(1) not in shapes.ids
    QTest.mouseClick(box.undo, LEFT)
    assert dock.layers.kept.get(uid(1)).name == "left margin"
    assert uid(1) in shapes.ids


def test_text_of_qupath_is_pasted_and_other_text_refused(qupath, until):
    dock = qupath()
    clipboard = QApplication.clipboard()
    clipboard.setText("no objects at all")
    QTest.mouseClick(dock.import_box.paste, LEFT)
    until(lambda: "not GeoJSON" in dock.import_box.alert.text())
    clipboard.setText(json.dumps(FEATURES[0]))
    QTest.mouseClick(dock.import_box.paste, LEFT)
    until(lambda: dock.import_box.incoming is not None)
    QTest.mouseClick(dock.import_box.take, LEFT)
    until(lambda: dock.layers.kept.get(uid(1)) is not None)
    dock.tabs.setCurrentIndex(2)
    until(lambda: dock.export_box.copy.isEnabled())
    QTest.mouseClick(dock.export_box.copy, LEFT)
    until(lambda: '"FeatureCollection"' in clipboard.text())
    [copied] = json.loads(clipboard.text())["features"]
    assert copied["id"] == uid(1)
    assert copied["geometry"] == json.loads(json.dumps(FEATURES[0]["geometry"]))


def test_a_file_for_another_slide_is_refused_with_both_sizes(qupath, tmp_path, until):
    dock = qupath()
    path = tmp_path / "other.geojson"
    path.write_text(json.dumps([a_feature(1, a_box(70_000, 10, 70_100, 90))]))
    drop(dock, path)
    until(lambda: dock.import_box.incoming is not None)
    assert "70100" in dock.import_box.alert.text()
    assert "2048 × 1536 px" in dock.import_box.alert.text()
    assert not dock.import_box.take.isEnabled()
    box = dock.import_box.frame
    box.setCurrentIndex(1)
    box.activated.emit(1)
    until(lambda: "not one object" in dock.import_box.alert.text())
    assert len(dock.layers.kept) == 0


def test_annotations_become_labels_and_labels_go_out(viewer, qupath, file, until, tmp_path):
    dock = qupath()
    drop(dock, file)
    until(lambda: dock.import_box.incoming is not None)
    QTest.mouseClick(dock.import_box.as_labels, LEFT, NONE, QPoint(8, 8))
    until(lambda: dock.import_box.plan is not None)
    assert "Ignore* are left out" in dock.import_box.planned.text()
    QTest.mouseClick(dock.import_box.take, LEFT)
    labels, identity = dock.session.labels, dock._slide.identity
    until(lambda: bool(labels.counts(identity)))
    grid = dock._slide.grid(0.5)
    assert Tile(1, 3) in labels.get(identity, grid.name)
    dock.export_box.what.setCurrentIndex(1)
    written = save(dock, tmp_path / "labels.geojson", until)["features"]
    assert len(written) == sum(labels.counts(identity).values())
    assert {one["properties"]["classification"]["name"] for one in written} == {"Tumor"}


def test_very_many_tiles_are_a_picture_and_come_back_whole(qupath, tmp_path, until):
    dock = qupath()
    tiles = [
        {
            "type": "Feature",
            "id": uid(n),
            "geometry": a_box(n % 60 * 30, n // 60 * 30, n % 60 * 30 + 30, n // 60 * 30 + 30),
            "properties": {"objectType": "tile", "classification": TUMOR if n % 2 else IGNORE},
        }
        for n in range(2700)
    ]
    path = tmp_path / "tiles.geojson"
    path.write_text(json.dumps(tiles))
    bring_in(dock, path, until)
    until(lambda: dock.layers.picture is not None)
    assert dock.layers.picture.data.shape == (45, 60)
    assert dock.layers.shapes.layer is None
    np.testing.assert_allclose(
        dock.layers.picture.data_to_world((0, 0)), dock._layer.data_to_world((14.5, 14.5))
    )
    save(dock, tmp_path / "again.geojson", until)
    assert len(read_geojson(tmp_path / "again.geojson").objects) == 2700


def test_a_picture_of_tiles_follows_what_comes_in_later(qupath, tmp_path, until):
    dock = qupath()

    def tiles(left, color):
        features = [
            {
                "type": "Feature",
                "id": uid(n),
                "geometry": a_box(x := n % 60 * 20 + left, y := n // 60 * 20, x + 20, y + 20),
                "properties": {"objectType": "tile", "classification": TUMOR | {"color": color}},
            }
            for n in range(2400)
        ]
        path = tmp_path / f"{left}.geojson"
        path.write_text(json.dumps(features))
        return path

    def looks(left, color):
        picture = dock.layers.picture
        corner = dock._layer.data_to_world((9.5, left + 9.5))
        return (
            np.allclose(picture.data_to_world((0, 0)), corner)
            and np.round(picture.get_color(1)[:3] * 255).tolist() == color
        )

    bring_in(dock, tiles(40, [200, 10, 0]), until)
    first = dock.layers.picture
    assert looks(40, [200, 10, 0])
    bring_in(dock, tiles(80, [200, 10, 0]), until)
    until(lambda: looks(80, [200, 10, 0]))
    bring_in(dock, tiles(80, [0, 10, 200]), until)
    until(lambda: looks(80, [0, 10, 200]))
    assert dock.layers.picture is first


def test_a_second_dock_finds_the_layers_and_they_go_with_the_slide(viewer, qupath, file, until):
    dock = qupath()
    bring_in(dock, file, until)
    layer = dock.layers.shapes.layer
    viewer.window.remove_dock_widget(dock)
    again = qupath()
    until(lambda: again.edit_box.list.count() == 3)
    assert again.layers.shapes.layer is layer
    viewer.layers.remove(again._layer)
    until(lambda: layer not in viewer.layers)
    until(lambda: again.layers is None)


def test_what_was_kept_is_found_and_drawn_again(qupath, store, slide_file, until):
    with Session(store) as session:
        kept = session.objects(session.open_slide(slide_file))
        kept.add(parse_geojson(json.dumps(FEATURES)).objects, "import")
    dock = qupath()
    assert "3 objects of this slide were kept" in dock.said.text()
    until(lambda: dock.edit_box.list.count() == 3)


def test_a_project_is_shown_and_its_image_opened(viewer, qupath, slide_file, tmp_path, until):
    dock = qupath()
    folder = tmp_path / "study"
    folder.mkdir()
    image = {
        "serverBuilder": {
            "builderType": "uri",
            "uri": Path(slide_file).as_uri(),
            "metadata": {"name": "small.tif", "width": 2048, "height": 1536},
        },
        "entryID": 1,
        "imageName": "small.tif",
    }
    gone = {**image, "entryID": 2, "imageName": "gone.tif"}
    gone["serverBuilder"] = {**image["serverBuilder"], "uri": "file:/nowhere/gone.tif"}
    path = folder / "project.qpproj"
    path.write_text(json.dumps({"version": "0.6.0", "images": [image, gone]}))
    before = path.read_bytes()
    box = dock.project_box
    box.read(path)
    until(lambda: box.list.count() == 2)
    assert "study: 2 images, QuPath 0.6.0" in box.facts.text()
    box.list.setCurrentRow(1)
    assert not box.open.isEnabled()
    assert "gone.tif" in box.alert.text()
    box.list.setCurrentRow(0)
    n = len(viewer.layers)
    QTest.mouseClick(box.open, LEFT)
    until(lambda: len(viewer.layers) == n + 2)
    box.read(tmp_path / "nothing")
    until(lambda: box.alert.text() != "")
    assert path.read_bytes() == before


def test_without_a_gateway_the_link_says_so_and_stays_off(qupath, until):
    dock = qupath()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dock.tabs.setCurrentIndex(4)
    box = dock.live_box
    assert box.traffic.isHidden()
    box.port.setValue(port)
    QTest.keyClicks(box.token, "secret")
    QTest.mouseClick(box.connect_, LEFT)
    until(lambda: str(port) in box.alert.text())
    assert box.connect_.text() == "Connect"
    assert not box.address.isHidden()


@pytest.mark.skipif(not CMU.exists(), reason="needs NAPARI_VIRCHOW_TEST_DATA")
def test_a_fixture_lies_on_a_real_slide(viewer, qupath, file, until):
    dock = qupath(CMU)
    bring_in(dock, file, until)
    assert dock.layers.scene.at(600, 300).id == uid(1)
    assert dock.layers.scene.at(600, 500) is None  # the hole
    assert dock.layers.scene.at(1503, 302, reach=5).id == uid(2)
    canvas = viewer.window._qt_viewer.canvas.native
    viewer.reset_view()
    QTest.mouseMove(canvas, canvas_point(viewer, dock, 310, 700))
    QTest.mouseMove(canvas, canvas_point(viewer, dock, 320, 700))
    until(lambda: dock.under.text() == "Tumor · annotation")
