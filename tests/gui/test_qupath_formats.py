"""The dock "QuPath" in a real window: files of other tools, and scripts for QuPath."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import shapely
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtTest import QTest

from napari_virchow.encoders import load_encoder
from napari_virchow.interop.asap import write_asap
from napari_virchow.interop.clam import read_clam, write_clam
from napari_virchow.interop.table import OURS, SlideEmbeddings
from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.objects import PathObject
from napari_virchow.session import Session
from napari_virchow.tiles import Tile
from napari_virchow.training import stored_of

LEFT = Qt.MouseButton.LeftButton
EXPORT, PROJECT = 2, 3


@pytest.fixture
def embedded(store, slide_file):
    """Embed tiles of the slide; returns their embeddings in raster order."""
    with Session(store) as session:
        session.use_encoder(load_encoder("texture"))
        slide = session.open_slide(slide_file)
        session.embed_slide(slide, mpp=0.5, all_tiles=True)
        session.wait(60)
        tiles, matrix = session.embeddings(slide, 0.5)
        return matrix[np.lexsort(tiles.T[::-1])]


@pytest.fixture
def qupath(viewer, open_slide, slide_file, until):
    """Open a slide and the dock; returns the dock once it can be used."""

    def show():
        open_slide(slide_file)
        _, dock = viewer.window.add_plugin_dock_widget("napari-virchow", "QuPath")
        until(lambda: dock.layers is not None and not dock.layers.busy, 60_000)
        return dock

    return show


def choose(box, name):
    at = next(n for n in range(box.format.count()) if box.format.itemData(n).name == name)
    box.format.setCurrentIndex(at)


def test_embeddings_go_to_clam_and_annotations_to_no_table(qupath, embedded, tmp_path, until):
    dock = qupath()
    box = dock.export_box
    dock.tabs.setCurrentIndex(EXPORT)
    choose(box, "clam")
    until(lambda: box.going is not None)
    assert box.stored.isVisible() and not box.what.isVisible() and not box.copy.isVisible()
    assert box.preview.text().startswith(f"{len(embedded)} embeddings by texture")
    box.write(tmp_path / "some.h5")
    until(lambda: f"{len(embedded)} embeddings in some.h5" in dock.said.text())
    table = read_clam(tmp_path / "some.h5", tmp_path / "some_patches.h5")
    assert table.side == 224
    np.testing.assert_allclose(table.embeddings, embedded.astype(np.float32))
    choose(box, "csv")
    until(lambda: "do not fit a table" in box.preview.text())
    assert not box.save.isEnabled()


def drop(dock, path):
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    none = Qt.KeyboardModifier.NoModifier
    dock.dropEvent(QDropEvent(QPointF(9, 9), Qt.DropAction.CopyAction, data, LEFT, none))


def test_embeddings_of_clam_are_asked_about_verified_and_kept(qupath, embedded, tmp_path, until):
    dock = qupath()
    session, slide = dock.session, dock._slide
    stored = stored_of(session.store, slide.identity, "texture", slide.grid(0.5).name)
    files = tmp_path / "some.h5", tmp_path / "places.h5"
    write_clam(*files, SlideEmbeddings.of(slide, stored))
    for path in files:  # as CLAM has it, without what we add
        with h5py.File(path, "r+") as file:
            del file.attrs[OURS]
    drop(dock, files[0])
    box = dock.import_box.embeddings
    until(lambda: "does not say which encoder" in box.alert.text())
    assert "\u201cEncoder\u201d above" in box.alert.text()
    assert not box.take.isEnabled() and not dock.import_box.found.isVisible()
    QTest.keyClicks(box.encoder, "texture")
    QTest.keyClick(box.encoder, Qt.Key.Key_Return)
    until(lambda: "\u201cTile side\u201d above" in box.alert.text())
    box.take_places(files[1])
    until(lambda: box.take.isEnabled())
    assert f"{len(embedded)} tiles with {embedded.shape[1]} numbers each" in box.facts.text()
    QTest.mouseClick(box.take, LEFT)
    until(lambda: f"{len(embedded)} embeddings by texture are kept" in dock.said.text(), 60_000)
    assert "Verified: cosine" in dock.said.text()
    assert dock.import_box.alert.text() == ""
    assert not box.isVisible()
    [kept] = [one for one in session.stored(slide) if one.encoder.startswith("imported-texture")]
    assert kept.n_tiles == len(embedded)
    drop(dock, files[1])
    until(lambda: "no embeddings" in box.alert.text())


def test_annotations_of_asap_and_tiles_of_wsinfer_come_in(qupath, tmp_path, until):
    dock = qupath()
    box = dock.import_box
    shape = shapely.box(300, 200, 1300, 1000)
    write_asap(
        tmp_path / "some.xml",
        [PathObject("", "annotation", shape, path_class=PathClass.of("Tumor"))],
    )
    drop(dock, tmp_path / "some.xml")
    until(lambda: box.incoming is not None)
    assert box.facts.text() == "some.xml: 1 object"
    QTest.mouseClick(box.take, LEFT)
    until(lambda: box.incoming is None and len(dock.layers.kept) == 1)
    until(lambda: not dock.layers.busy)
    table = tmp_path / "some.csv"
    table.write_text("minx,miny,width,height,prob_Tumor\n0,0,224,224,0.9\n224,0,224,224,0.1\n")
    drop(dock, table)
    until(lambda: box.incoming is not None)
    rows = [box.tree.topLevelItem(n).text(0) for n in range(box.tree.topLevelItemCount())]
    assert rows == ["Tumor · tile", "unclassified · tile"]
    table.write_text("nothing,known\n1,2\n")
    drop(dock, table)
    until(lambda: "some.csv is of no format" in box.alert.text())


def test_labels_go_to_a_table_and_to_asap(qupath, tmp_path, until):
    dock = qupath()
    labels, slide = dock.session.labels, dock._slide
    tumor = labels.add_class("Tumor")
    labels.label(slide.identity, slide.grid(0.5).name, [Tile(1, 3)], tumor.id)
    box = dock.export_box
    dock.tabs.setCurrentIndex(EXPORT)
    box.what.setCurrentIndex(1)
    for form, suffix in (("csv", ".csv"), ("asap", ".xml")):
        choose(box, form)
        until(lambda: box.save.isEnabled() and box.going is not None)
        path = tmp_path / f"labels{suffix}"
        box.write(path.with_suffix(""))
        until(lambda path=path: path.exists() and path.name in dock.said.text())
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert lines == [
        "row,col,x,y,class",
        "1,3,672.00,224.00,Tumor",
    ]


def test_a_script_takes_files_over_into_the_images_that_were_chosen(
    qupath, slide_file, tmp_path, until
):
    dock = qupath()
    server = {
        "builderType": "uri",
        "uri": Path(slide_file).as_uri(),
        "metadata": {"name": "small.tif", "width": 2048, "height": 1536},
    }
    images = [
        {"serverBuilder": server, "entryID": n, "imageName": name}
        for n, name in ((1, "small.tif"), (7, "again.tif"))
    ]
    images[1]["serverBuilder"] = {**server, "uri": "file:/nowhere/again.tif"}
    project = tmp_path / "project.qpproj"
    project.write_text(json.dumps({"version": "0.6.0", "images": images}))
    labels, slide = dock.session.labels, dock._slide
    tumor = labels.add_class("Tumor")
    labels.label(slide.identity, slide.grid(0.5).name, [Tile(1, 3)], tumor.id)
    dock.tabs.setCurrentIndex(EXPORT)
    dock.export_box.what.setCurrentIndex(1)
    until(lambda: dock.export_box.outgoing is not None)
    dock.export_box.write(tmp_path / "labels.geojson")
    until(lambda: "labels.geojson written" in dock.said.text())
    dock.tabs.setCurrentIndex(PROJECT)
    box, script = dock.project_box, dock.project_box.script
    assert not script.isVisible()
    box.read(project)
    until(lambda: box.list.count() == 2)
    assert "1 image gets a file: small.tif ← labels.geojson" in script.note.text()
    assert not script.add.isEnabled()
    box.list.setCurrentRow(1)
    assert script.add.isEnabled() and not script.remove.isEnabled()
    script.take_file(tmp_path / "other.geojson")
    QTest.mouseClick(script.remove, LEFT)
    script.take_file(tmp_path / "other.geojson")
    assert "2 images get a file" in script.note.text()
    script.write(tmp_path / "take")
    until(lambda: "Script editor" in dock.said.text())
    text = (tmp_path / "take.groovy").read_text()
    assert f"'1': '{(tmp_path / 'labels.geojson').as_posix()}'" in text
    assert f"'7': '{(tmp_path / 'other.geojson').as_posix()}'" in text
