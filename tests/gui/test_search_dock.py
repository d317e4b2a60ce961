"""The dock "Similarity search" in a real window, used as a person would."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_virchow._napari.gallery import Place
from napari_virchow._napari.label_tool import LabelMode
from napari_virchow._napari.left_button import left_button
from napari_virchow.tiles import Tile

LEFT = Qt.MouseButton.LeftButton
NONE, SHIFT = Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ShiftModifier
CONTROL = Qt.KeyboardModifier.ControlModifier


def canvas_point(viewer, dock, tile):
    rect = dock.grid.rect(tile)
    x, y = rect.center
    y, x = dock.layer.data_to_world((y - 0.5, x - 0.5))[-2:]
    height, width = viewer.canvas.size
    camera = viewer.scene.camera
    center_y, center_x = camera.center[-2:]
    return QPoint(
        round(width / 2 + (x - center_x) * camera.zoom),
        round(height / 2 + (y - center_y) * camera.zoom),
    )


def click(viewer, dock, tile, modifier=NONE):
    canvas = viewer.window._qt_viewer.canvas.native
    QTest.mouseClick(canvas, LEFT, modifier, canvas_point(viewer, dock, tile))
    QTest.qWait(20)


def press(viewer, key, modifier=NONE):
    canvas = viewer.window._qt_viewer.canvas.native
    canvas.setFocus()
    QTest.keyClick(canvas, key, modifier)
    QTest.qWait(20)


def click_hit(gallery, row, modifier=NONE):
    at = gallery.visualRect(gallery.tiles.index(row)).center()
    QTest.mouseClick(gallery.viewport(), LEFT, modifier, at)
    QTest.qWait(20)


def listed(dock):
    gallery = dock.page.gallery
    return [gallery.tiles.item(row).tile for row in range(gallery.tiles.rowCount())]


def asked(dock):
    query = dock.similarity.query
    return [e.tile for e in query.positives], [e.tile for e in query.negatives]


def centre_of(viewer, dock):
    y, x = dock.layer.world_to_data(viewer.scene.camera.center)[-2:] + 0.5
    return float(x), float(y)


def test_a_shift_click_fills_the_gallery_and_a_click_there_jumps(viewer, search, until):
    dock = search()
    assert "Pick a tile" in dock.page.nothing.text()
    click(viewer, dock, Tile(3, 4), SHIFT)
    until(lambda: len(listed(dock)) > 20)
    assert asked(dock) == ([Tile(3, 4)], [])
    assert [pin.positive for pin in dock.page.query.pins] == [True]
    hits = dock.answer.hits
    assert Tile(3, 4) not in listed(dock)
    heat = dock.results.layers.layers["heat"]
    assert heat.data.shape == dock.grid.shape
    assert np.isfinite(heat.data).all()
    assert np.nanargmax(heat.data) == 3 * dock.grid.shape[1] + 4
    until(lambda: "hits" in dock.results.layers.layers)
    squares = dock.results.layers.layers["hits"]
    until(lambda: len(squares.data) == len(hits) + 1)
    step = dock.grid.step[0]
    np.testing.assert_allclose(squares.data[0], (np.array(hits[0].tile) + 0.5) * step - 0.5)
    np.testing.assert_allclose(squares.scale, dock.layer.scale)
    until(lambda: dock.page.gallery.visualRect(dock.page.gallery.tiles.index(2)).isValid())
    click_hit(dock.page.gallery, 2)
    np.testing.assert_allclose(centre_of(viewer, dock), hits[2].rect.center, atol=0.5)
    before = viewer.scene.camera.center
    dock.page.show_box.back.click()
    assert viewer.scene.camera.center != before
    dock.page.show_box.forward.click()
    np.testing.assert_allclose(centre_of(viewer, dock), hits[2].rect.center, atol=0.5)


def test_a_counter_example_changes_the_order_and_undo_brings_it_back(viewer, search, until):
    dock = search()
    click(viewer, dock, Tile(3, 4), SHIFT)
    until(lambda: len(listed(dock)) > 20)
    first = listed(dock)
    click(viewer, dock, first[0], SHIFT | CONTROL)
    until(lambda: listed(dock) != first)
    assert asked(dock) == ([Tile(3, 4)], [first[0]])
    assert first[0] != listed(dock)[0]
    dock.page.query.undo.click()
    until(lambda: listed(dock) == first)
    assert asked(dock) == ([Tile(3, 4)], [])
    dock.page.query.redo.click()
    until(lambda: listed(dock) != first)
    minus = next(pin for pin in dock.page.query.pins if not pin.positive)
    QTest.mouseClick(minus, LEFT, NONE, minus.cross.center())
    until(lambda: listed(dock) == first)


def test_tiles_are_picked_by_tool_and_key(viewer, search, until):
    dock = search(whole=False)
    dock.page.query.modes[LabelMode.BRUSH].click()
    assert left_button(viewer).owner is dock.tool
    click(viewer, dock, Tile(2, 2))
    assert asked(dock)[0] == [Tile(2, 2)]
    until(lambda: dock.answer is not None)  # the tile was embedded for it
    dock.page.query.unlike.click()
    click(viewer, dock, Tile(5, 5))
    assert asked(dock) == ([Tile(2, 2)], [Tile(5, 5)])
    press(viewer, Qt.Key.Key_T)
    assert left_button(viewer).owner is None
    assert not dock.page.query.modes[LabelMode.BRUSH].isChecked()
    QTest.mouseMove(viewer.window._qt_viewer.canvas.native, canvas_point(viewer, dock, Tile(4, 4)))
    until(lambda: dock._hover == Tile(4, 4))
    press(viewer, Qt.Key.Key_P)
    assert asked(dock)[0] == [Tile(2, 2), Tile(4, 4)]
    press(viewer, Qt.Key.Key_P, SHIFT)
    assert asked(dock) == ([Tile(2, 2)], [Tile(5, 5), Tile(4, 4)])


def test_chosen_hits_get_a_label_and_undo_takes_it_back(viewer, search, until):
    dock = search()
    click(viewer, dock, Tile(3, 4), SHIFT)
    gallery = dock.page.gallery
    until(lambda: len(listed(dock)) > 20 and gallery.visualRect(gallery.tiles.index(2)).isValid())
    click_hit(gallery, 0)
    click_hit(gallery, 2, CONTROL)
    wanted = {dock.answer.hits[0].tile, dock.answer.hits[2].tile}
    QTest.keyClicks(dock.page.label_hits.classes.lineEdit(), "Stroma")
    dock.page.label_hits.label.click()
    identity, grid = dock._slide.identity, dock.grid.name
    assert set(dock.labels.get(identity, grid)) == wanted
    assert dock.labels.classes[0].name == "Stroma"
    until(lambda: gallery.tiles.mark(0).label == "Stroma")
    gallery.choose([Place(identity, dock.answer.hits[4].tile)])
    QTest.keyClick(gallery, Qt.Key.Key_1)
    assert set(dock.labels.get(identity, grid)) == {*wanted, dock.answer.hits[4].tile}
    dock.undo()
    assert set(dock.labels.get(identity, grid)) == wanted
    assert asked(dock) == ([Tile(3, 4)], [])


def test_the_threshold_counts_and_masks(viewer, search, until):
    dock = search()
    click(viewer, dock, Tile(3, 4), SHIFT)
    until(lambda: len(listed(dock)) > 20)
    show = dock.page.show_box
    show.boxes["mask"].click()
    show.slider.setValue(0)
    mask = dock.results.layers.layers["mask"]
    assert mask.data.sum() == mask.data.size == dock.answer.heat.above(show.threshold)
    show.slider.setValue(show.slider.maximum() // 2)
    n = dock.answer.heat.above(show.threshold)
    assert 0 < mask.data.sum() == n < mask.data.size
    assert show.count.text().endswith(f": {n}")
    show.above.click()
    assert len(dock.page.gallery.chosen) == dock.answer.hits.above(show.threshold)
    show.order.setCurrentIndex(show.order.findData("diversity"))
    assert sorted(listed(dock)) == sorted(hit.tile for hit in dock.answer.hits)


def test_the_search_follows_while_tiles_are_embedded(viewer, search, until):
    dock = search(whole=False)
    click(viewer, dock, Tile(3, 4), SHIFT)
    until(lambda: dock.answer is not None)
    dock.page.embed.click()
    until(lambda: dock.session.wait(0.01), 60_000)
    tissue = dock.session.tissue(dock._slide, dock.grid)
    until(lambda: dock.answer.compared.n_tiles >= tissue.sum())
    heat = dock.results.layers.layers["heat"]
    until(lambda: np.isfinite(heat.data).sum() >= tissue.sum())


def test_a_hit_on_another_slide_is_gone_to_and_its_slide_opened(
    viewer, search, open_slide, slide_file, tmp_path, until
):
    from napari_virchow.sample import write_sample

    other_file = tmp_path / "other.tif"
    write_sample(other_file, width=1536, height=1024, seed=5)
    dock = search(path=other_file)
    other = dock._slide
    viewer.layers.clear()
    until(lambda: other.identity not in dock.session.slides)
    assert dock.page.pages.currentIndex() == 0
    open_slide(slide_file)
    until(lambda: dock._slide is not None and dock._slide is not other and dock.grid is not None)
    first = dock._slide
    dock.session.embed_slide(first, mpp=dock.mpp, all_tiles=True)
    until(lambda: dock.session.wait(0.01), 60_000)
    viewer.reset_view()
    click(viewer, dock, Tile(3, 4), SHIFT)
    scope = dock.page.options.scope
    scope.setCurrentIndex(scope.findData("store"))
    scope.activated.emit(scope.currentIndex())
    until(lambda: dock.answer is not None and dock.answer.compared.n_slides == 2)
    hit = next(hit for hit in dock.answer.hits if hit.slide == other.identity)
    dock.jump(hit)
    until(lambda: dock._slide is not None and dock._slide.identity == other.identity)
    until(lambda: dock.jumper.visits.can_go_back)
    np.testing.assert_allclose(centre_of(viewer, dock), hit.rect.center, atol=0.5)
    shown = [layer.visible for layer in viewer.layers if layer.name == slide_file.name]
    assert shown == [False]
    assert not any(
        layer.visible for layer in viewer.layers if layer.metadata.get("tiles_of") == first.identity
    )
    dock.page.show_box.back.click()
    until(lambda: dock._slide is first)


def test_a_closed_dock_leaves_the_mouse_alone_and_a_new_one_finds_the_search(viewer, search, until):
    dock = search()
    click(viewer, dock, Tile(3, 4), SHIFT)
    until(lambda: len(listed(dock)) > 20)
    found = listed(dock)
    dock.hide()
    click(viewer, dock, Tile(1, 1), SHIFT)
    assert asked(dock) == ([Tile(3, 4)], [])
    n_layers = len(viewer.layers)
    viewer.window.remove_dock_widget(dock)
    again = search(whole=False)
    until(lambda: listed(again) == found)
    assert [pin.example.tile for pin in again.page.query.pins] == [Tile(3, 4)]
    assert len(viewer.layers) == n_layers


def test_other_embeddings_of_the_slide_can_be_compared(viewer, search, until):
    dock = search()
    dock.session.embed_slide(dock._slide, mpp=1.0, all_tiles=True)
    until(lambda: dock.session.wait(0.01), 60_000)
    click(viewer, dock, Tile(3, 4), SHIFT)
    kinds = dock.page.options.kinds
    until(lambda: kinds.count() == 2)
    assert "20×" in kinds.itemText(0)
    assert "10×" in kinds.itemText(1)
    kinds.setCurrentIndex(1)
    kinds.activated.emit(1)
    until(lambda: dock.answer is not None and dock.answer.compared.kind.mpp == 1.0)
    assert dock.mpp == 1.0
    assert dock.results.layers.layers["heat"].data.shape == dock.grid.shape
    assert "10×" in kinds.itemText(0)
    # The tile of 20x is looked up by its place: the larger tile around it.
    assert dock.answer.heat.scores.max() > 0.999
    dock.page.sizes.setCurrentIndex(dock.page.sizes.findData(0.5))
    until(lambda: dock.answer is not None and dock.answer.compared.kind.mpp == 0.5)
