"""The menus of the dock "Similarity search": images, shapes, saved searches, exports."""

from __future__ import annotations

import csv
import json
from uuid import uuid4

import numpy as np
import shapely
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_virchow._napari.search_options import SlidesDialog
from napari_virchow.pictures import read_picture
from napari_virchow.qupath.objects import PathObject
from napari_virchow.tiles import Tile

CONTAINS = Qt.MatchFlag.MatchContains


def asked(dock):
    query = dock.similarity.query
    return [e.tile for e in query.positives], [e.tile for e in query.negatives]


def test_an_image_file_and_drawn_shapes_are_searched_for(viewer, search, tmp_path, until):
    dock = search()
    pixels = read_picture(dock._slide, dock.grid.rect(Tile(3, 4)), 224)
    Image.fromarray(pixels).save(tmp_path / "like this.png")
    dock.more.add_image(str(tmp_path / "like this.png"))
    until(lambda: dock.answer is not None)
    assert dock.answer.hits[0].tile == Tile(3, 4)
    (pin,) = dock.page.query.pins
    assert pin.example.name == "like this.png"
    assert dock.page.query.picture(pin.example).width() == 48
    dock.similarity.clear()
    dock.more.add_shapes()
    assert "Draw shapes first" in dock.page.alert.text()
    step, mpp = dock.grid.step[0], dock.layer.scale[0]
    corners = np.array([[2.1, 3.1], [2.1, 4.9], [3.9, 4.9], [3.9, 3.1]]) * step * mpp
    viewer.add_shapes([corners], shape_type="rectangle", units=dock.layer.units)
    dock.more.add_shapes()
    assert asked(dock) == ([Tile(2, 3), Tile(2, 4), Tile(3, 3), Tile(3, 4)], [])
    viewer.layers[-1].data = []
    viewer.layers[-1].add(corners, shape_type="ellipse")
    dock.page.query.unlike.setChecked(True)
    dock.more.add_shapes()
    assert len(asked(dock)[1]) == 4
    dock.more.add_image(str(tmp_path / "nowhere.png"))
    until(lambda: "nowhere.png" in dock.page.alert.text())


def test_chosen_annotations_of_qupath_are_asked_without_their_holes(viewer, search, until):
    dock = search()
    step = dock.grid.step[0]

    def box(left, top, right, bottom):
        return shapely.box(left * step, top * step, right * step, bottom * step)

    ring = box(2.1, 1.1, 4.9, 3.9).difference(box(3.1, 2.1, 3.9, 2.9))
    shapes = {"ring": ring, "spot": shapely.Point(7.5 * step, 5.5 * step), "other": box(6, 0, 8, 2)}
    made = [PathObject(str(uuid4()), "annotation", one, name=n) for n, one in shapes.items()]
    dock.session.objects(dock._slide).add(made, "test")
    _, qupath = viewer.window.add_plugin_dock_widget("napari-virchow", "QuPath")
    listed = qupath.edit_box.list
    until(lambda: qupath.layers is not None and not qupath.layers.busy and listed.count() == 3)
    items = {name: item for name in shapes for item in listed.findItems(name, CONTAINS)}
    items["ring"].setSelected(True)
    inside = [Tile(r, c) for r in (1, 2, 3) for c in (2, 3, 4) if (r, c) != (2, 3)]
    dock.page.query.menu.actions()[1].trigger()
    until(lambda: asked(dock) == (inside, []))
    dock.similarity.clear()
    listed.clearSelection()
    items["spot"].setSelected(True)
    dock.page.query.unlike.setChecked(True)
    dock.page.query.menu.actions()[1].trigger()
    until(lambda: asked(dock) == ([], [Tile(5, 7)]))
    listed.clearSelection()  # all, then
    dock.similarity.clear()
    dock.page.query.menu.actions()[1].trigger()
    until(lambda: len(asked(dock)[1]) == 8 + 1 + 4)


def test_a_search_is_saved_and_asked_again_by_its_name(viewer, search, until):
    dock = search()
    dock.add([Tile(3, 4)])
    dock.add([Tile(5, 5)], False)
    until(lambda: dock.answer is not None and len(dock.answer.query.negatives) == 1)
    dock.page.query.menu.actions()[2].trigger()
    dialog = dock.more.dialog
    assert not dialog.use.isEnabled()
    QTest.keyClicks(dialog.name, "Nests")
    QTest.keyClicks(dialog.notes, "as on slide 7")
    dialog.save.click()
    until(lambda: dialog.list.count() == 1)
    dialog.save.click()  # the name is taken
    until(lambda: "Nests" in dialog.alert.text())
    dialog.list.setCurrentRow(0)
    dialog.name.setText("Nests of cells")
    dialog.change.click()
    until(lambda: dialog.list.item(0).text().startswith("Nests of cells\n1 like, 1 unlike"))
    assert "as on slide 7" in dialog.list.item(0).text()
    dialog.reject()
    until(lambda: dock.more.dialog is None)
    dock.similarity.clear()
    dock.more.show_saved()
    dialog = dock.more.dialog
    until(lambda: dialog.list.count() == 1)
    dialog.list.setCurrentRow(0)
    dialog.use.click()
    until(lambda: asked(dock) == ([Tile(3, 4)], [Tile(5, 5)]))
    until(lambda: dock.more.dialog is None and dock.answer is not None)
    dock.more.show_saved()
    dialog = dock.more.dialog
    until(lambda: dialog.list.count() == 1)
    dialog.list.setCurrentRow(0)
    dialog.delete.click()
    until(lambda: dialog.list.count() == 0 and dialog.none.isVisible())
    dialog.reject()


def test_hits_are_written_as_table_for_qupath_and_as_picture(viewer, search, tmp_path, until):
    dock = search()
    dock.add([Tile(3, 4)])
    until(lambda: dock.answer is not None and len(dock.answer.hits) > 20)
    hits = dock.answer.hits
    dock.more.export_csv(str(tmp_path / "hits.csv"))
    until(lambda: "hits.csv" in dock.page.said.text() and "written" in dock.page.said.text())
    with (tmp_path / "hits.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(hits)
    assert (int(rows[2]["row"]), int(rows[2]["col"])) == hits[2].tile
    dock.page.gallery.setCurrentIndex(dock.page.gallery.tiles.index(2))
    dock.more.only_chosen.setChecked(True)
    dock.more.export_geojson(str(tmp_path / "hits.geojson"))
    until(lambda: "hits.geojson" in dock.page.said.text() and "written" in dock.page.said.text())
    (feature,) = json.loads((tmp_path / "hits.geojson").read_text())["features"]
    corners = np.array(feature["geometry"]["coordinates"][0])
    rect = hits[2].rect
    np.testing.assert_allclose(corners.min(0), (rect.x, rect.y), atol=1)
    dock.more.only_chosen.setChecked(False)
    dock.more.export_picture(str(tmp_path / "hits.png"))
    until(lambda: "hits.png" in dock.page.said.text() and "written" in dock.page.said.text())
    with Image.open(tmp_path / "hits.png") as picture:
        assert picture.size[0] > 1000
    dock.more.export_csv(str(tmp_path / "nowhere" / "hits.csv"))
    until(lambda: "nowhere" in dock.page.alert.text())


def test_options_and_slides_can_be_chosen(viewer, search, until):
    dock = search()
    dock.add([Tile(3, 4)])
    until(lambda: dock.answer is not None)
    assert Tile(3, 5) not in [hit.tile for hit in dock.answer.hits]
    options = dock.page.options
    options.fold.click()
    options.within.setValue(0)
    until(lambda: dock.answer.query.options.exclude_within == 0)
    assert Tile(3, 5) in [hit.tile for hit in dock.answer.hits]
    options.boxes["center"].click()
    until(lambda: dock.answer.query.options.center)
    options.scope.setCurrentIndex(options.scope.findData("chosen"))
    options.scope.activated.emit(options.scope.currentIndex())
    until(lambda: dock.findChild(SlidesDialog) is not None)
    dialog = dock.findChild(SlidesDialog)
    assert dialog.slides == ()
    dialog.list.item(0).setCheckState(Qt.CheckState.Checked)
    dialog.accept()
    until(lambda: dock.answer.query.options.slides == (dock._slide.identity,))
    assert options.scope.currentText() == "Chosen slides (1)…"
