"""Keys on the canvas while several docks want them: the one used last has them."""

from __future__ import annotations

import numpy as np
import pytest
from hands import LEFT, canvas_point, click, press, said, type_class
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_virchow._napari.label_tool import LabelMode
from napari_virchow.tiles import Tile

CONTROL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def docks(viewer, search, until):
    """Open "Similarity search" and "Tile classification" side by side."""
    finder = search(whole=False)
    _, labeller = viewer.window.add_plugin_dock_widget("napari-virchow", "Tile classification")
    until(lambda: labeller.live is not None and labeller.grid is not None, 60_000)
    viewer.reset_view()
    window = viewer.window._qt_window
    window.activateWindow()  # else Qt tells of no focus
    until(window.isActiveWindow)
    assert finder.isVisible() and labeller.isVisible()
    return labeller, finder


def ask(viewer, labeller, tile):
    """Shift-click a tile, as an example for the search."""
    canvas = viewer.window._qt_viewer.canvas.native
    QTest.mouseClick(canvas, LEFT, SHIFT, canvas_point(viewer, labeller, tile))
    QTest.qWait(20)


def asked(finder):
    return [example.tile for example in finder.similarity.query.positives]


def undo(viewer):
    press(viewer, Qt.Key.Key_Z, CONTROL)


def test_undo_goes_to_the_dock_that_was_used_last(viewer, docks, until):
    labeller, finder = docks
    type_class(labeller, "Tumour")
    press(viewer, Qt.Key.Key_B)
    click(viewer, labeller, Tile(2, 2))
    ask(viewer, labeller, Tile(3, 4))
    ask(viewer, labeller, Tile(4, 4))
    undo(viewer)
    assert asked(finder) == [Tile(3, 4)]
    assert said(labeller) == {Tile(2, 2): "Tumour"}
    click(viewer, labeller, Tile(2, 3))  # the brush: the labels are meant again
    undo(viewer)
    assert said(labeller) == {Tile(2, 2): "Tumour"}
    assert asked(finder) == [Tile(3, 4)]
    QTest.mouseClick(finder.page.query.unlike, LEFT, pos=QPoint(9, 9))
    undo(viewer)
    assert asked(finder) == []
    press(viewer, Qt.Key.Key_E)  # only the labels have this key: they are meant from now on
    assert labeller.pen.erase.isChecked()
    undo(viewer)
    assert said(labeller) == {}


def test_a_dock_that_hides_gives_its_keys_to_the_other(viewer, docks):
    labeller, finder = docks
    type_class(labeller, "Tumour")
    ask(viewer, labeller, Tile(3, 4))
    press(viewer, Qt.Key.Key_B)
    click(viewer, labeller, Tile(2, 2))
    finder.parent().hide()
    viewer.add_labels(np.zeros((3, 5), int))  # a layer that comes does not change whose turn it is
    viewer.layers.selection.active = labeller._layer
    undo(viewer)
    assert said(labeller) == {}
    finder.parent().show()
    labeller.parent().hide()
    press(viewer, Qt.Key.Key_X)
    assert labeller.tool.mode is LabelMode.BRUSH
    undo(viewer)
    assert asked(finder) == []
    finder.parent().hide()
    assert not labeller._layer.keymap
