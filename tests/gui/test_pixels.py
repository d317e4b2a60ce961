"""napari's drawing gets pixels at once, everybody else gets exact ones."""

from __future__ import annotations

import threading

import napari
import numpy as np
import pytest
from napari.layers import Image

from napari_virchow._napari.pixels import ViewLevel, levels_of, redraw_of, view_levels
from napari_virchow.slide import open_slide

EXACT, ROUGH = 200, 50


class FakeLevel:
    """A level that cannot be read before somebody opens the gate."""

    def __init__(self, height, width):
        self.shape, self.chunks = (height, width, 3), (512, 512, 3)
        self.ndim, self.dtype = 3, np.dtype(np.uint8)
        self.gate = threading.Event()
        self.reads, self.on_gui_thread, self.broken = [], False, False

    def __getitem__(self, key):
        self.reads.append(key)
        if threading.current_thread() is threading.main_thread():
            self.on_gui_thread = True
        else:
            assert self.gate.wait(30)
        if self.broken:
            raise OSError("a damaged chunk")
        return np.full(self.shape, EXACT, np.uint8)[key]


@pytest.fixture
def fine():
    level = FakeLevel(4000, 5000)
    yield level
    level.gate.set()


@pytest.fixture
def layer(fine, make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    coarse = FakeLevel(500, 625)
    overview = np.full((50, 62, 3), ROUGH, np.uint8)
    levels = view_levels([fine, coarse], overview, lambda: None)
    shown = viewer.add_image(levels, rgb=True, multiscale=True, contrast_limits=(0, 255))
    viewer.scene.camera.zoom = 2
    return shown


def drawn(viewer):
    """The colour in the middle of the window."""
    picture = viewer.screenshot(canvas_only=True, flash=False)
    return picture[picture.shape[0] // 2, picture.shape[1] // 2, 0]


def test_drawing_never_waits_and_is_repeated_once_the_pixels_are_there(layer, fine, qtbot, until):
    viewer = napari.current_viewer()
    until(lambda: bool(fine.reads))  # napari drew, and what was missing is asked for
    assert layer.data_level == 0
    assert drawn(viewer) == ROUGH

    fine.gate.set()

    until(lambda: drawn(viewer) == EXACT)
    assert not fine.on_gui_thread
    draws = []
    layer.events.set_data.connect(lambda: draws.append(1))

    def peace():
        draws.clear()
        qtbot.wait(200)
        return not draws and not redraw_of(layer).busy

    until(peace)


def test_the_middle_of_the_view_comes_first(layer, fine, until):
    until(lambda: len(fine.reads) == 2)  # one for each worker
    viewer = napari.current_viewer()
    center = np.array(viewer.scene.camera.center[-2:])
    first = np.array([part.start for part in fine.reads[0][:2]])
    assert (np.abs(first + 256 - center) <= 512).all()


def test_a_damaged_part_is_not_tried_for_ever(layer, fine, qtbot, until):
    fine.broken = True
    fine.gate.set()
    until(lambda: bool(fine.reads) and not redraw_of(layer).busy)
    count = len(fine.reads)
    for _ in range(5):
        layer.refresh()
        qtbot.wait(80)
    assert len(fine.reads) == count
    assert drawn(napari.current_viewer()) == ROUGH


def test_a_cache_that_is_too_small_does_not_redraw_for_ever(layer, fine, qtbot, until):
    redraw_of(layer).squares._limit = 1  # nothing is kept
    fine.gate.set()
    until(lambda: bool(fine.reads))
    until(lambda: not redraw_of(layer).busy)
    count = len(fine.reads)
    qtbot.wait(400)
    assert len(fine.reads) == count


def test_pixels_that_come_after_the_layer_was_removed_are_dropped(layer, fine, qtbot, until):
    until(lambda: bool(fine.reads))
    napari.current_viewer().layers.remove(layer)
    fine.gate.set()
    qtbot.wait(150)


def test_no_thread_is_left_when_everything_was_read(layer, fine, until):
    fine.gate.set()
    until(lambda: bool(fine.reads))
    names = lambda: [t.name for t in threading.enumerate()]  # noqa: E731
    until(lambda: "virchow-view" not in names())


def test_scripts_and_other_threads_get_exact_pixels(layer, fine):
    level = layer.data[0]
    assert isinstance(level, ViewLevel)
    assert level[:3, :3].tolist() == np.full((3, 3, 3), EXACT).tolist()
    fine.gate.set()
    seen = []
    thread = threading.Thread(target=lambda: seen.append(level[5, 6, 0]))
    thread.start()
    thread.join()
    assert seen == [EXACT]
    assert np.asarray(level).shape == fine.shape


def test_the_coarsest_level_is_in_memory_and_exact(layer):
    assert isinstance(layer.data[-1], np.ndarray)
    assert (layer.data[-1] == EXACT).all()


def test_a_layer_that_is_not_ours_has_nobody_to_redraw_it():
    assert redraw_of(Image(np.zeros((4, 4)))) is None


def test_levels_far_apart_get_one_in_between(slide_file):
    with open_slide(slide_file) as slide:
        assert [round(level.downsample) for level in slide.levels][:2] == [1, 4]
        levels = levels_of(slide)
        assert [level.shape[1] for level in levels][:3] == [2048, 1024, 512]
        whole = levels[0][:64, :64].astype(float).reshape(32, 2, 32, 2, 3).mean((1, 3))
        assert np.abs(levels[1][:32, :32] - whole).max() <= 1
