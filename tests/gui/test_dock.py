"""The dock in a real window: opening, following, closing, in every order users find."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from qtpy.QtWidgets import QMessageBox

from napari_virchow._napari.layers import states_of
from napari_virchow._napari.viewer import slide_view
from napari_virchow.states import EngineState, TileState

DONE = (TileState.EMBEDDED, TileState.GLASS)


def in_view_done(widget, viewer, layer):
    """Whether every tile in view was drawn as embedded, or as glass."""
    tiles, view = widget.tile_layer, slide_view(viewer, layer)
    if tiles is None or not tiles.present or tiles.shown.grid.mpp != widget.mpp:
        return False
    drawn = states_of(tiles.layer.data)
    wanted = list(tiles.shown.grid.tiles_in(view.rect))
    return bool(wanted) and all(drawn[tile] in DONE for tile in wanted)


def our_threads():
    names = ("virchow", "engine", "planner", "reader", "encoder", "writer")
    return [t.name for t in threading.enumerate() if t.name.lower().startswith(names)]


def test_what_is_looked_at_is_embedded_and_kept(viewer, open_slide, dock, slide_file, until):
    layer = open_slide(slide_file)
    widget = dock()
    until(lambda: in_view_done(widget, viewer, layer))
    first = widget.mpp

    viewer.scene.camera.zoom *= 4
    until(lambda: widget.mpp != first and in_view_done(widget, viewer, layer))

    slide = widget.slide_box.slide_of(layer)
    tiles, matrix = widget.session.embeddings(slide, widget.mpp)
    assert len(tiles) > 0
    assert np.isfinite(matrix).all()
    until(lambda: widget.stored_box.list.topLevelItemCount() == 2)
    assert "tiles" in widget.progress_box.sentence.text()


def test_nothing_is_embedded_while_live_is_off(viewer, open_slide, dock, slide_file, qtbot):
    layer = open_slide(slide_file)
    widget = dock()
    widget.live.setChecked(False)
    widget.session.cancel()
    widget.session.wait(10)
    viewer.scene.camera.zoom *= 8
    qtbot.wait(400)
    before = widget.session.progress.generation
    viewer.scene.camera.center = (100, 100)
    qtbot.wait(400)
    assert widget.session.progress.generation == before
    assert widget.mpp is not None  # auto still follows
    assert layer in viewer.layers


def test_the_whole_slide_at_a_chosen_magnification(viewer, open_slide, dock, slide_file, until):
    layer = open_slide(slide_file)
    widget = dock()
    until(lambda: widget.slide_box.slide_of(layer) is not None)
    widget.live.setChecked(False)
    widget.magnification.setCurrentIndex(widget.magnification.findData(0.5))
    until(widget.whole.isEnabled)
    assert widget.whole.text() == "Embed whole slide at 20×"

    widget.whole.click()

    def all_done():
        tiles = widget.tile_layer
        return (
            tiles.present
            and tiles.shown.grid.mpp == 0.5
            and bool(np.isin(states_of(tiles.layer.data), DONE).all())
        )

    until(all_done)
    assert widget.tile_layer.layer.data.shape == (7, 10)


def test_a_reopened_dock_does_not_look_twice(viewer, open_slide, dock, slide_file, qtbot, until):
    open_slide(slide_file)
    widget = dock()
    until(lambda: widget.mpp is not None)
    shell = widget.parent()
    shell.close()
    assert not widget._camera.attached
    shell.show()
    assert widget._camera.attached
    widget.session.wait(10)
    qtbot.wait(400)
    asked = []
    look_at = widget.session.look_at
    widget.session.look_at = lambda *args, **options: asked.append(1) or look_at(*args, **options)
    viewer.scene.camera.zoom *= 1.5
    qtbot.wait(600)
    assert len(asked) == 1


def test_without_a_slide_the_dock_says_what_to_do(viewer, dock):
    widget = dock()
    assert widget.pages.currentIndex() == 0
    assert widget.empty_page.sample.isVisible()


def test_removing_the_slide_closes_it(viewer, open_slide, dock, slide_file, until):
    layer = open_slide(slide_file)
    widget = dock()
    until(lambda: in_view_done(widget, viewer, layer))
    viewer.layers.remove(layer)
    until(lambda: not widget.session.slides)
    assert widget.pages.currentIndex() == 0
    until(lambda: len(viewer.layers) == 0)  # its tiles and overview went with it


def test_removing_the_tiles_hides_them_until_asked_for(viewer, open_slide, dock, slide_file, until):
    layer = open_slide(slide_file)
    widget = dock()
    until(lambda: in_view_done(widget, viewer, layer))
    viewer.layers.remove(widget.tile_layer.layer)
    assert not widget.tiles.isChecked()
    viewer.scene.camera.zoom *= 1.1
    until(lambda: widget.session.state is EngineState.IDLE)
    assert not widget.tile_layer.present

    widget.tiles.setChecked(True)

    assert widget.tile_layer.present


def test_the_eye_and_the_check_box_agree(viewer, open_slide, dock, slide_file, until):
    layer = open_slide(slide_file)
    widget = dock()
    until(lambda: in_view_done(widget, viewer, layer))
    widget.tile_layer.layer.visible = False
    assert not widget.tiles.isChecked()
    widget.tiles.setChecked(True)
    assert widget.tile_layer.layer.visible


def test_a_second_slide_is_taken_up_and_the_first_kept(
    viewer, open_slide, dock, slide_file, data_dir, until
):
    first = open_slide(slide_file)
    widget = dock()
    until(lambda: in_view_done(widget, viewer, first))
    second = open_slide(data_dir / "slides" / "CMU-1-Small-Region.svs")
    until(lambda: widget.slide_box.slide_of(second) is not None)
    until(lambda: in_view_done(widget, viewer, second))
    assert len(widget.session.slides) == 2

    widget.slide_box.combo.value = first

    until(lambda: widget.tile_layer is not None and widget._layer is first)
    until(lambda: in_view_done(widget, viewer, first))


def test_closing_the_viewer_mid_run_leaves_nothing_running(make_napari_viewer, slide_file, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.open(str(slide_file), plugin="napari-virchow")
    _, widget = viewer.window.add_plugin_dock_widget("napari-virchow", "Embeddings")
    session = widget.session
    qtbot.waitUntil(lambda: session.state is EngineState.RUNNING, timeout=60_000)

    viewer.close()

    qtbot.waitUntil(lambda: session.state is EngineState.CLOSED, timeout=10_000)
    qtbot.waitUntil(lambda: not our_threads(), timeout=10_000)


def test_deleting_what_is_stored(viewer, open_slide, dock, slide_file, until):
    layer = open_slide(slide_file)
    widget = dock()
    until(lambda: in_view_done(widget, viewer, layer))
    widget.live.setChecked(False)
    until(lambda: widget.stored_box.list.topLevelItemCount() == 1)
    widget.stored_box.list.topLevelItem(0).setSelected(True)
    widget.stored_box.delete.click()
    question = next(box for box in widget.stored_box.findChildren(QMessageBox))
    assert "Delete" in question.text()
    question.button(QMessageBox.StandardButton.Yes).click()
    until(lambda: widget.stored_box.list.topLevelItemCount() == 0)
    until(lambda: TileState.EMBEDDED not in states_of(widget.tile_layer.layer.data))


def test_an_unreadable_encoder_is_said_in_one_sentence(viewer, dock, tmp_path, until):
    widget = dock()
    bad = tmp_path / "weights.safetensors"
    bad.write_bytes(b"no weights")
    widget._load("virchow2", bad)
    until(lambda: bool(widget.alert.text()))
    assert "weights.safetensors" in widget.alert.text()
    assert "Traceback" not in widget.alert.text()
    assert widget.session.encoder.spec.name == "texture"  # still in use


def test_a_slide_without_pixel_size_is_asked_for_once(
    viewer, open_slide, dock, data_dir, until, qtbot
):
    layer = open_slide(data_dir / "slides" / "TCGA-CR-7395-01A-01-TS1.svs")
    assert [str(unit) for unit in layer.units] == ["pixel", "pixel"]
    widget = dock()
    until(lambda: widget.slide_box.dialog is not None)
    dialog = widget.slide_box.dialog
    assert dialog.mpp is None  # nothing is chosen for the user
    dialog.choice.value = dialog.choice.choices[1]
    assert dialog.mpp == 0.25
    dialog.accept()
    until(lambda: [str(unit) for unit in layer.units] == ["micrometer", "micrometer"])
    assert layer.scale.tolist() == [0.25, 0.25]
    until(lambda: in_view_done(widget, viewer, layer))

    viewer.layers.clear()
    until(lambda: not widget.session.slides)
    again = open_slide(data_dir / "slides" / "TCGA-CR-7395-01A-01-TS1.svs")
    until(lambda: again.scale.tolist() == [0.25, 0.25])  # remembered
    assert widget.slide_box.dialog is None


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_dock_follows_the_theme(viewer, dock, theme):
    widget = dock()
    viewer.theme = theme
    assert "color" in widget.styleSheet()


def test_a_slide_that_another_reader_opened_is_embedded_too(viewer, dock, slide_file, until):
    pixels = np.zeros((1536, 2048, 3), np.uint8)  # what it shows does not matter, its size does
    layer = viewer.add_image(pixels, rgb=True, metadata={"path": str(slide_file)})
    widget = dock()
    until(lambda: in_view_done(widget, viewer, layer))
    assert layer.scale.tolist() == [1, 1]  # not ours to change
    tiles = widget.tile_layer
    assert tiles.layer.scale.tolist() == pytest.approx(list(tiles.shown.grid.step))


def test_a_picture_that_is_no_slide_is_left_out(viewer, dock, tmp_path, until):
    path = tmp_path / "photo.txt"
    path.write_text("no slide")
    viewer.add_image(np.zeros((8, 9, 3), np.uint8), rgb=True, metadata={"path": str(path)})
    widget = dock()
    until(lambda: not widget.slide_box.layers)
    assert widget.pages.currentIndex() == 0
    assert widget.alert.text() == ""


def test_a_slide_layer_can_be_duplicated(open_slide, slide_file):
    from copy import deepcopy

    data, state, kind = open_slide(slide_file).as_layer_data_tuple()
    from napari.layers import Layer

    twin = Layer.create(deepcopy(data), state, kind)
    assert twin.data[0][:2, :2].shape == (2, 2, 3)


def test_the_sample_button_opens_the_sample(viewer, dock, slide_file, until, monkeypatch):
    from napari_virchow._napari import sample_data

    monkeypatch.setattr(sample_data, "sample_slide", lambda: slide_file)
    widget = dock()
    widget.empty_page.sample.click()
    until(lambda: len(viewer.layers) >= 2)
    assert "Synthetic H&E" in viewer.layers
    until(lambda: in_view_done(widget, viewer, viewer.layers["Synthetic H&E"]))


def test_a_file_that_cannot_be_opened_becomes_a_notification(viewer, tmp_path, until, monkeypatch):
    from qtpy.QtWidgets import QFileDialog

    from napari_virchow._napari import open_slide

    said = []
    broken = tmp_path / "broken.svs"
    broken.write_bytes(b"II*\0 and then nothing")
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: ([str(broken)], ""))
    monkeypatch.setattr(open_slide, "show_warning", said.append)
    open_slide.ask_for_slide(viewer)
    until(lambda: bool(said))
    assert "broken.svs" in said[0]


def test_closing_the_viewer_while_the_encoder_loads(make_napari_viewer, slide_file, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.open(str(slide_file), plugin="napari-virchow")
    _, widget = viewer.window.add_plugin_dock_widget("napari-virchow", "Embeddings")
    session = widget.session
    viewer.close()
    qtbot.waitUntil(lambda: session.state is EngineState.CLOSED, timeout=30_000)
    qtbot.waitUntil(lambda: not our_threads(), timeout=10_000)


def test_two_docks_share_one_session(viewer, open_slide, dock, slide_file, until):
    from napari_virchow._napari.embedding import EmbeddingWidget

    open_slide(slide_file)
    first = dock()
    second = EmbeddingWidget(viewer)
    viewer.window.add_dock_widget(second, name="another")
    assert second.session is first.session
    until(lambda: second.encoder_box.ready)
