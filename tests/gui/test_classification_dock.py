"""The dock "Tile classification" in a real window, used as a person would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from tests.gui.hands import LEFT, click, drag, press, said, type_class

from napari_virchow._napari.label_tool import LabelMode
from napari_virchow.classify.predictions import UNKNOWN
from napari_virchow.tiles import Tile


@pytest.fixture
def classify(viewer, open_slide, slide_file, until):
    """Open the slide and the dock; returns the dock once it can be used."""

    def show(*, path=slide_file, whole=True):
        if not any("slide" in layer.metadata for layer in viewer.layers):
            open_slide(path)
        _, dock = viewer.window.add_plugin_dock_widget("napari-virchow", "Tile classification")
        until(lambda: dock.live is not None and dock.grid is not None, 60_000)
        if whole:
            dock.session.embed_slide(dock._slide, mpp=dock.mpp)
            until(lambda: dock.session.wait(0.01), 60_000)
        viewer.reset_view()
        QTest.qWait(50)
        return dock

    return show


def test_clicks_label_tiles_and_paint_the_slide(viewer, classify, until):
    dock = classify()
    type_class(dock, "Tumour")
    type_class(dock, "Stroma")
    press(viewer, Qt.Key.Key_B)
    assert dock.tool.mode is LabelMode.BRUSH
    before = tuple(viewer.scene.camera.center)
    click(viewer, dock, Tile(2, 2))
    press(viewer, Qt.Key.Key_1)  # the cursor is on the tile: it is labelled anew
    click(viewer, dock, Tile(2, 3))
    dock.classes.choose(dock.live.labels.classes[1].id)
    drag(viewer, dock, [Tile(4, 6), Tile(4, 7), Tile(4, 8)])
    assert said(dock) == {
        Tile(2, 2): "Tumour",
        Tile(2, 3): "Tumour",
        Tile(4, 6): "Stroma",
        Tile(4, 7): "Stroma",
        Tile(4, 8): "Stroma",
    }
    assert tuple(viewer.scene.camera.center) == before
    until(lambda: dock.live.painted is not None and dock.live.painted.n_labels == 5)
    until(lambda: "classes" in dock.layers.layers and dock.layers.shown_classes().any())
    drawn = dock.layers.layers["classes"].data
    assert drawn.shape == dock.grid.shape
    assert set(drawn.ravel().tolist()) <= {0, 1, 2}
    # A frame around what was said, and the tissue in it left to see.
    ring = dock.layers.layers["labels"].data[2 * 6 : 3 * 6, 2 * 6 : 3 * 6]
    assert ring[0, 0] == 1
    assert ring[3, 3] == 0
    until(lambda: dock.queue.said.text() != "")
    until(lambda: "oo few labels to tell" in dock.judge.figures.text())


def test_a_drag_is_one_step_of_undo_by_key_and_button(viewer, classify):
    dock = classify(whole=False)
    type_class(dock, "Tumour")
    dock.pen.buttons[LabelMode.BRUSH].click()
    drag(viewer, dock, [Tile(3, 2), Tile(3, 3), Tile(3, 4)])
    click(viewer, dock, Tile(5, 5))
    assert len(said(dock)) == 4
    press(viewer, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert set(said(dock)) == {Tile(3, 2), Tile(3, 3), Tile(3, 4)}
    QTest.mouseClick(dock.pen.undo, LEFT)
    assert said(dock) == {}
    QTest.mouseClick(dock.pen.redo, LEFT)
    assert len(said(dock)) == 3
    press(viewer, Qt.Key.Key_E)
    drag(viewer, dock, [Tile(3, 2), Tile(3, 3)])
    assert set(said(dock)) == {Tile(3, 4)}


def test_box_and_lasso_label_what_they_go_around(viewer, classify):
    dock = classify(whole=False)
    type_class(dock, "Fat")
    press(viewer, Qt.Key.Key_X)
    drag(viewer, dock, [Tile(1, 1), Tile(2, 3)])
    assert set(said(dock)) == {Tile(r, c) for r in (1, 2) for c in (1, 2, 3)}
    dock.labelling.undo()
    press(viewer, Qt.Key.Key_O)
    corners = [Tile(1, 1), Tile(1, 5), Tile(4, 5), Tile(4, 1), Tile(1, 1)]
    drag(viewer, dock, corners, at=(0.2, 0.2))
    assert {Tile(r, c) for r in (2, 3) for c in (2, 3, 4)} <= set(said(dock))
    assert Tile(5, 5) not in said(dock)


def test_classes_are_renamed_recoloured_and_merged_in_place(viewer, classify, until):
    dock = classify(whole=False)
    type_class(dock, "Tumor")
    type_class(dock, "Stroma")
    item = dock.classes.tree.topLevelItem(0)
    item.setText(0, "Tumour")
    assert [c.name for c in dock.live.labels.classes] == ["Tumour", "Stroma"]
    item.setText(0, "stroma")  # taken: refused in a sentence, and the old name is back
    assert dock.alert.text()
    assert dock.classes.tree.topLevelItem(0).text(0) == "Tumour"
    dock.classes.recolor_wanted.emit(1, "#123456")
    assert dock.live.labels.classes[0].color == "#123456"
    dock.classes.merge_wanted.emit(1, 2)
    assert [c.name for c in dock.live.labels.classes] == ["Stroma"]
    dock.labelling.undo()
    assert dock.classes.tree.topLevelItemCount() == 2


def test_the_next_tile_is_offered_shown_and_accepted_by_key(viewer, classify, until):
    dock = classify()
    type_class(dock, "Tumour")
    type_class(dock, "Stroma")
    one, two = (c.id for c in dock.live.labels.classes)
    dock.labelling.label([Tile(1, 1), Tile(5, 1)], one)
    dock.labelling.label([Tile(1, 8), Tile(5, 8)], two)
    until(lambda: any(f.predicted for f in dock.queue.strip.frames))  # and not "could be a second"
    press(viewer, Qt.Key.Key_N)
    queued = dock.queue.current
    rect = dock.grid.rect(queued.tile)
    y, x = dock._layer.world_to_data(viewer.scene.camera.center[-2:])
    assert abs(x - rect.x - rect.width / 2) < rect.width
    assert abs(y - rect.y - rect.height / 2) < rect.height
    assert queued.predicted != UNKNOWN
    press(viewer, Qt.Key.Key_A)
    assert queued.tile in said(dock)


def test_sliders_hide_what_is_uncertain_and_layers_come_back(viewer, classify, until):
    dock = classify()
    type_class(dock, "Tumour")
    type_class(dock, "Stroma")
    one, two = (c.id for c in dock.live.labels.classes)
    dock.labelling.label([Tile(1, 1), Tile(5, 1)], one)
    dock.labelling.label([Tile(1, 8), Tile(5, 8)], two)
    until(lambda: dock.live.painted is not None and dock.live.painted.n_labels == 4)
    until(lambda: "classes" in dock.layers.layers)
    dock.maps.unknown.setValue(100)
    until(lambda: (dock.layers.shown_classes() > 0).any())
    shown = (dock.layers.shown_classes() > 0).sum()
    dock.maps.confidence.setValue(100)
    assert (dock.layers.layers["classes"].data > 0).sum() < shown
    dock.maps.confidence.setValue(0)
    dock.maps.boxes["uncertainty"].setChecked(True)
    assert 0 <= float(dock.layers.layers["uncertainty"].data[1, 1]) <= 1
    viewer.layers.remove(dock.layers.layers["classes"])
    dock.maps.boxes["classes"].setChecked(False)
    dock.maps.boxes["classes"].setChecked(True)
    assert dock.layers.layers["classes"] in viewer.layers
    assert "Tumour" in dock.layers.hover_text(Tile(1, 1))


def test_a_closed_dock_leaves_the_mouse_alone_and_a_new_one_finds_all(viewer, classify, until):
    dock = classify(whole=False)
    type_class(dock, "Tumour")
    press(viewer, Qt.Key.Key_B)
    click(viewer, dock, Tile(2, 2))
    grid, before = dock.grid, said(dock)
    assert len(before) == 1
    live = dock.live
    dock.hide()
    click(viewer, dock, Tile(3, 3))
    assert len(live.labels.get(dock._slide.identity, grid.name)) == 1
    viewer.window.remove_dock_widget(dock)
    again = classify(whole=False)
    assert again.live is live
    assert said(again) == before
    assert again.classes.tree.topLevelItem(0).text(1) == "1"
    for one in (dock, again):  # what is still being painted must not reach a window that closes
        one._live_links.close()


KILLED = """
    import os, sys
    sys.path.insert(0, os.getcwd())
    import napari
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest
    from tests.gui.hands import click, press, type_class
    from napari_virchow.tiles import Tile

    viewer = napari.Viewer(show=True)
    viewer.open(sys.argv[1], plugin="napari-virchow")
    _, dock = viewer.window.add_plugin_dock_widget("napari-virchow", "Tile classification")
    while dock.live is None or dock.grid is None:
        QTest.qWait(50)
    if sys.argv[2] == "label":
        viewer.reset_view()
        QTest.qWait(50)
        type_class(dock, "Tumour")
        press(viewer, Qt.Key.Key_B)
        click(viewer, dock, Tile(1, 1))
        click(viewer, dock, Tile(2, 3))
        QTest.qWait(1000)  # what is labelled is on disk within a second
        print("labelled", flush=True)
        QTest.qWait(60000)
    else:
        found = dock.live.labels.get(dock._slide.identity, dock.grid.name)
        print(sorted((t.row, t.col) for t in found), dock.classes.tree.topLevelItem(0).text(0))
        viewer.close()
"""


def test_labels_are_found_again_after_the_process_was_killed(slide_file, tmp_path):
    script = tmp_path / "session.py"
    script.write_text(textwrap.dedent(KILLED))
    command = [sys.executable, str(script), str(slide_file)]
    first = subprocess.Popen([*command, "label"], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline().strip() == "labelled"
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        first.stdout.close()
    second = subprocess.run(
        [*command, "look"], capture_output=True, text=True, timeout=120, check=False
    )
    assert second.stdout.strip() == "[(1, 1), (2, 3)] Tumour", second.stderr
