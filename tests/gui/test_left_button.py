"""One tool at a time has the left button of a canvas."""

from __future__ import annotations

import numpy as np

from napari_virchow._napari.label_tool import LabelMode, LabelTool
from napari_virchow._napari.left_button import left_button


class Tool:
    """Remembers that it lost the button."""

    lost = 0

    def button_lost(self):
        self.lost += 1


def test_a_tool_that_claims_the_button_takes_it_from_the_one_before(viewer):
    button, first, second = left_button(viewer), Tool(), Tool()
    button.claim(first)
    button.claim(first)
    assert first.lost == 0
    button.claim(second)
    assert (first.lost, second.lost) == (1, 0)
    button.release(first)  # not its own any more
    assert button.owner is second
    assert not viewer.scene.camera.mouse_pan
    button.release(second)
    assert button.owner is None
    assert viewer.scene.camera.mouse_pan


def test_choosing_another_layer_does_not_free_the_camera(viewer):
    button, tool = left_button(viewer), Tool()
    layers = [viewer.add_image(np.zeros((3, 3))) for _ in range(2)]
    button.claim(tool)
    viewer.layers.selection.active = layers[0]
    assert not viewer.scene.camera.mouse_pan
    viewer.layers.selection.active = None
    assert not viewer.scene.camera.mouse_pan
    button.release(tool)


def test_a_tool_that_is_gone_has_nothing(viewer):
    button, tool = left_button(viewer), Tool()
    button.claim(tool)
    del tool
    assert button.owner is None


def test_the_label_tool_stops_when_it_loses_the_button_and_takes_it_back(viewer, qtbot):
    pen, other = LabelTool(viewer, viewer.window._qt_window), Tool()
    modes = []
    pen.mode_changed.connect(modes.append)
    pen.attach()
    pen.set_mode(LabelMode.BOX)
    left_button(viewer).claim(other)
    assert pen.mode is LabelMode.OFF
    assert modes == [LabelMode.BOX, LabelMode.OFF]
    pen.detach()
    pen.attach()  # a window that was minimised: the other tool keeps the button
    assert left_button(viewer).owner is other
    pen.set_mode(LabelMode.LASSO)
    assert other.lost == 1
    pen.detach()
    assert viewer.scene.camera.mouse_pan
