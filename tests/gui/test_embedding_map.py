"""The dock "Embedding map" in a real window, used as a person would."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_virchow._napari.label_tool import LabelMode
from napari_virchow.session import Session
from napari_virchow.tiles import Tile

LEFT, NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


@pytest.fixture(scope="module")
def embedded(slide_file, tmp_path_factory):
    """A store in which all tissue of the slide is embedded."""
    store = tmp_path_factory.mktemp("embedded")
    with Session(store, device="cpu") as session:
        slide = session.open_slide(slide_file)
        session.load_encoder("texture")
        session.embed_slide(slide, mpp=0.5)
        assert session.wait(120)
    return store


@pytest.fixture
def show(viewer, open_slide, slide_file, until, qtbot):
    """Open the slide and the dock."""

    def show_():
        if not any("slide" in layer.metadata for layer in viewer.layers):
            open_slide(slide_file)
        _, dock = viewer.window.add_plugin_dock_widget("napari-virchow", "Embedding map")
        until(lambda: dock.grid is not None and dock.labels is not None, 60_000)
        viewer.reset_view()
        return dock

    return show_


@pytest.fixture
def full(embedded, store, show, until):
    """The dock with a map of all tissue."""
    import shutil

    shutil.copytree(embedded, store)
    dock = show()
    until(lambda: dock.mapped is not None and dock.colors.shown is not None, 60_000)
    until(lambda: len(dock.colors.shown.value) == len(dock.mapped))
    return dock


def line(widget, points, modifier=NONE):
    QTest.mousePress(widget, LEFT, modifier, points[0])
    for point in points:
        QTest.mouseMove(widget, point)
        QTest.qWait(15)
    QTest.mouseRelease(widget, LEFT, modifier, points[-1])
    QTest.qWait(15)


def left_half(dock):
    """A line around the points in the left half of the plot, and their rows."""
    plot = dock.page.plot
    middle = plot.width() // 2
    x = np.array([plot.position(row).x() for row in range(len(dock.mapped))])
    corners = [(1, 1), (middle, 1), (middle, plot.height() - 2), (1, plot.height() - 2)]
    return [QPoint(*corner) for corner in corners], set(np.flatnonzero(x < middle - 1).tolist())


def canvas_point(viewer, dock, tile, at=0.5):
    rect = dock.grid.rect(tile)
    data = rect.y + at * rect.height - 0.5, rect.x + at * rect.width - 0.5
    y, x = dock._layer.data_to_world(data)[-2:]
    (high, wide), camera = viewer.canvas.size, viewer.scene.camera
    center_y, center_x = camera.center[-2:]
    return QPoint(
        round(wide / 2 + (x - center_x) * camera.zoom),
        round(high / 2 + (y - center_y) * camera.zoom),
    )


def said(dock):
    names = {c.id: c.name for c in dock.labels.classes}
    found = dock.labels.get(dock._slide.identity, dock.grid.name)
    return {tile: names[class_id] for tile, class_id in found.items()}


def test_a_lasso_on_the_map_selects_on_the_slide_and_labels_by_name_key_and_button(
    viewer, full, until
):
    dock = full
    corners, rows = left_half(dock)
    line(dock.page.plot, corners)
    chosen = set(dock.hand.rows.tolist())
    assert rows <= chosen
    assert 0 < len(chosen) < len(dock.mapped)
    tiles = {dock.mapped.tile(row)[1] for row in chosen}
    drawn = dock.layers.layers["selection"].data
    ring = drawn.shape[0] // dock.grid.shape[0]
    seen = drawn.reshape(dock.grid.shape[0], ring, dock.grid.shape[1], ring).any(axis=(1, 3))
    assert {tuple(at) for at in np.argwhere(seen).tolist()} <= tiles
    assert seen.any()
    assert f"{len(chosen):,} tiles selected" in dock.page.selection.count.text()

    QTest.keyClicks(dock.page.selection.name, "Tumour")
    QTest.keyClick(dock.page.selection.name, Qt.Key.Key_Return)
    until(lambda: said(dock) == dict.fromkeys(tiles, "Tumour"))
    until(lambda: (dock.colors.shown.value > 0).sum() == len(tiles))
    assert "Tumour" in dock.page.legend.text()
    QTest.mouseClick(dock.page.selection.undo, LEFT)
    until(lambda: said(dock) == {})
    QTest.keyClick(dock.page.plot, Qt.Key.Key_1)
    until(lambda: len(said(dock)) == len(tiles))
    QTest.mouseClick(dock.page.selection.undo, LEFT)
    until(lambda: said(dock) == {})
    QTest.mouseClick(next(iter(dock.page.selection.buttons.values())), LEFT)
    until(lambda: len(said(dock)) == len(tiles))
    # The legend selects, Escape lets go, and the outline on the slide goes with it.
    dock.page.legend.linkActivated.emit("0")
    assert set(dock.hand.rows.tolist()) == set(range(len(dock.mapped))) - chosen
    QTest.keyClick(dock.page.plot, Qt.Key.Key_Escape)
    assert "selection" not in dock.layers.layers


def test_what_is_drawn_or_pointed_at_on_the_slide_is_found_on_the_map(viewer, full, until):
    dock, canvas = full, viewer.window._qt_viewer.canvas.native
    QTest.mouseClick(dock.page.selection.picks[LabelMode.BOX], LEFT)
    assert dock.tool.mode is LabelMode.BOX
    corners = [canvas_point(viewer, dock, tile) for tile in (Tile(2, 3), Tile(3, 5))]
    line(canvas, corners)
    wanted = {Tile(r, c) for r in (2, 3) for c in (3, 4, 5)}
    on_map = {dock.mapped.tile(n)[1] for n in range(len(dock.mapped))}
    until(lambda: len(dock.hand.rows) > 0)
    assert {dock.mapped.tile(row)[1] for row in dock.hand.rows} == wanted & on_map
    tile = next(iter(wanted & on_map))
    QTest.mouseMove(canvas, canvas_point(viewer, dock, tile, 0.4))
    until(lambda: dock.page.plot.mark >= 0)
    assert dock.mapped.tile(dock.page.plot.mark)[1] == tile
    text = f"row {tile.row}, column {tile.col} · no label"
    assert text in dock.page.selection.about.text()
    until(lambda: not dock.page.selection.picture.pictures[0].pixmap().isNull(), 60_000)
    dock.tool.set_mode(LabelMode.OFF)
    assert not dock.page.selection.picks[LabelMode.BOX].isChecked()


def test_clusters_colour_map_and_slide_and_become_a_class(viewer, full, until):
    dock, page = full, full.page
    page.tabs.setCurrentWidget(page.clusters)
    page.clusters.number.setValue(3)
    QTest.mouseClick(page.clusters.find, LEFT)
    assert page.cluster_row.isVisible()
    until(lambda: page.clusters.tree.topLevelItemCount() == 3, 120_000)
    assert not page.cluster_row.isVisible()
    assert page.color_by.currentText() == "Cluster"
    until(lambda: (dock.colors.shown.value > 0).all())
    drawn = dock.layers.layers["clusters"].data
    assert drawn.shape == dock.grid.shape
    assert set(np.unique(drawn).tolist()) == {0, 1, 2, 3}
    page.clusters.tree.setCurrentItem(page.clusters.tree.topLevelItem(1))
    members = set(np.flatnonzero(dock.mapping.clusters.cluster == 2).tolist())
    assert set(dock.hand.rows.tolist()) == members
    assert page.clusters.name.text() == "Cluster 2"
    page.clusters.name.clear()
    QTest.keyClicks(page.clusters.name, "Stroma")
    QTest.mouseClick(page.clusters.accept_all, LEFT)
    until(lambda: len(said(dock)) == len(members))
    assert set(said(dock).values()) == {"Stroma"}
    dock.labels.undo()
    assert not dock.labels.classes
    # A double click brings the camera to the tile.
    row = next(iter(members))
    dock.page.plot.fit()
    QTest.mouseDClick(page.plot, LEFT, NONE, page.plot.position(row).toPoint())
    center = dock._layer.world_to_data(viewer.scene.camera.center[-2:])
    near = [dock.mapped.tile(n)[1] for n in range(len(dock.mapped))]
    at = dock.grid.tile_at(float(center[1]) + 0.5, float(center[0]) + 0.5)
    assert at in near


def test_umap_can_be_cancelled_and_the_map_stays(viewer, full, until):
    dock, page = full, full.page
    before = dock.page.plot.raster.xy.copy()
    page.arrange_by.setCurrentIndex(page.arrange_by.findData("umap"))
    assert page.umap_row.isVisible()
    until(lambda: "Starting" not in page.umap_row.sentence.text(), 120_000)
    QTest.mouseClick(page.umap_row.cancel, LEFT)
    until(lambda: not page.umap_row.isVisible())
    until(lambda: not dock.mapping.busy)
    assert page.arrange_by.currentData() == "pca"
    assert dock.mapping.arrangement is None
    assert np.array_equal(page.plot.raster.xy, before)


def test_similar_tiles_are_searched_from_a_selection_and_colour_the_map(viewer, full, until):
    dock, page = full, full.page
    page.color_by.setCurrentText("Similarity")
    until(lambda: "Find similar" in page.legend.text())
    line(page.plot, left_half(dock)[0])
    chosen = dock.hand.rows
    assert len(chosen)
    QTest.mouseClick(page.selection.alike, LEFT)
    query = dock.session.similarity.query
    assert 0 < len(query.positives) == min(25, len(chosen))
    until(lambda: dock.colors.shown.ramp is not None, 60_000)
    assert "█" in page.legend.text()
    alike = dock.colors.shown.value
    assert alike[chosen].mean() > np.delete(alike, chosen).mean()
    assert any("Similarity search" in name for name in viewer.window.dock_widgets)


def test_the_gallery_of_the_search_and_the_map_choose_the_same_tiles(viewer, full, until):
    dock = full
    dock.hand.pick([Tile(2, 2)])
    dock.hand._on_alike()
    _, search = viewer.window.add_plugin_dock_widget("napari-virchow", "Similarity search")
    gallery = search.page.gallery
    until(lambda: gallery.tiles.rowCount() > 5, 60_000)

    hits = [gallery.tiles.place(row) for row in (1, 3)]
    gallery.choose(hits)
    assert {dock.mapped.tile(row)[1] for row in dock.hand.rows.tolist()} == {h.tile for h in hits}

    corners, rows = left_half(dock)
    line(dock.page.plot, corners)
    on_map = {dock.mapped.tile(row)[1] for row in dock.hand.rows.tolist()}
    shown = {gallery.tiles.place(row).tile for row in range(gallery.tiles.rowCount())}
    assert {hit.tile for hit in gallery.chosen} == on_map & shown != set()


def test_predictions_and_slides_colour_the_map(viewer, full, until):
    dock, page = full, full.page
    page.color_by.setCurrentText("Prediction")
    until(lambda: dock.colors.live is not None and "two classes" in page.legend.text(), 60_000)
    names = ("Left", "Right")
    x = dock.mapped.xy[:, 0]
    for name, rows in zip(names, (x.argsort()[:9], x.argsort()[-9:]), strict=True):
        dock.hand.select(np.sort(rows), "new")
        QTest.keyClicks(page.selection.name, name)
        QTest.keyClick(page.selection.name, Qt.Key.Key_Return)
        until(lambda name=name: name in said(dock).values())
    until(lambda: (dock.colors.shown.value > 0).any(), 60_000)
    assert {e.text for e in dock.colors.shown.entries} == {*names, "No class"}
    assert all(name in page.legend.text() for name in names)
    page.color_by.setCurrentText("Slide")
    until(lambda: "small.tif" in page.legend.text())


def test_a_double_click_goes_to_a_tile_of_a_slide_that_is_not_open(
    viewer, full, until, tmp_path_factory, open_slide
):
    from napari_virchow.sample import write_sample

    dock, page = full, full.page
    other = tmp_path_factory.mktemp("other") / "other.tif"
    write_sample(other, width=1024, height=1024, seed=5)
    slide = dock.session.open_slide(other)
    dock.session.embed_slide(slide, mpp=0.5)
    until(lambda: dock.session.wait(0.01), 60_000)
    identity = slide.identity
    dock.session.close_slide(slide)
    page.scope.setCurrentIndex(page.scope.findData("store"))
    page.scope.activated.emit(page.scope.currentIndex())
    until(lambda: dock.mapped is not None and len(dock.mapped.slides) == 2, 60_000)
    assert page.count.text().endswith("2 slides")
    page.scope.setCurrentIndex(page.scope.findData("chosen"))
    page.scope.activated.emit(page.scope.currentIndex())
    until(lambda: dock.choice.dialog is not None, 60_000)
    items = dock.choice.dialog.list
    for n in range(items.count()):
        if items.item(n).text() == "other.tif":
            items.item(n).setCheckState(Qt.CheckState.Checked)
    dock.choice.dialog.accept()
    until(lambda: [s.identity for s in dock.mapped.slides] == [identity], 60_000)
    QTest.mouseDClick(page.plot, LEFT, NONE, page.plot.position(0).toPoint())
    until(lambda: dock._slide is not None and dock._slide.identity == identity, 60_000)
    assert len([y for y in viewer.layers if "slide" in y.metadata]) == 2


def test_an_empty_map_says_what_to_do_and_embeds_the_slide(viewer, show, until):
    dock = show()
    until(lambda: dock.page.embed.isVisible(), 60_000)
    assert "Nothing is embedded by texture" in dock.page.plot.sentence
    QTest.mouseClick(dock.page.embed, LEFT)
    until(lambda: dock.mapped is not None and dock.session.state != "running", 120_000)
    until(lambda: dock.page.count.text() == f"{len(dock.mapped)} tiles")
    assert dock.page.plot.sentence == ""
    assert not dock.page.embed.isVisible()


def test_a_closed_dock_leaves_the_mouse_alone_and_a_new_one_finds_the_clusters(viewer, full, until):
    dock, canvas = full, viewer.window._qt_viewer.canvas.native
    dock.mapping.find_clusters("k-means", n_clusters=2)
    until(lambda: "clusters" in dock.layers.layers, 120_000)
    QTest.mouseClick(dock.page.selection.picks[LabelMode.BOX], LEFT)
    dock.hide()
    line(canvas, [canvas_point(viewer, dock, tile) for tile in (Tile(2, 3), Tile(3, 5))])
    assert not len(dock.hand.rows)
    viewer.window.remove_dock_widget(dock)
    _, again = viewer.window.add_plugin_dock_widget("napari-virchow", "Embedding map")
    until(lambda: again.mapped is not None)
    assert again.mapped is dock.mapping.mapped
    until(lambda: again.page.clusters.tree.topLevelItemCount() == 2)
    assert sum(y.name.startswith("Clusters") for y in viewer.layers) == 1
    for theme in ("light", "dark"):
        viewer.theme = theme
        picture = again.page.plot.grab().toImage()
        assert len({picture.pixel(x, 90) for x in range(picture.width())}) > 1
