"""What the viewer shows, in level-0 pixels, and the camera's coming to rest."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_virchow._napari.camera import CameraFollower
from napari_virchow._napari.layers import spatial
from napari_virchow._napari.viewer import may_be_slide, session_of, slide_path, slide_view


def viewer_with(scale=(0.25, 0.5)):
    viewer = ViewerModel()
    viewer.canvas.size = (600, 800)
    layer = viewer.add_image(np.zeros((1000, 2000, 3), np.uint8), rgb=True, scale=scale)
    return viewer, layer


def test_the_view_is_told_in_slide_pixels():
    viewer, layer = viewer_with(scale=(0.25, 0.5))  # µm per pixel, down and across
    viewer.scene.camera.center, viewer.scene.camera.zoom = (100, 300), 4.0

    view = slide_view(viewer, layer)

    # 800 px at 4 px/µm are 200 µm = 400 px across, 600 px are 150 µm = 600 px down. The middle is
    # µm (300, 100) = pixel (600, 400), counted from pixel centres, so half a pixel on.
    assert (view.rect.x, view.rect.y) == pytest.approx((400.5, 100.5))
    assert (view.rect.width, view.rect.height) == pytest.approx((400, 600))
    assert view.downsample == pytest.approx(0.5)


def test_there_is_no_view_in_3d():
    viewer, layer = viewer_with()
    viewer.dims.ndisplay = 3
    assert slide_view(viewer, layer) is None


def test_other_layers_with_more_axes_do_not_disturb():
    viewer, layer = viewer_with(scale=(1, 1))
    viewer.add_image(np.zeros((5, 10, 10)))
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 50, 60), 1.0
    view = slide_view(viewer, layer)
    assert view.rect.center == pytest.approx((60.5, 50.5))


def test_only_rgb_images_from_files_may_be_slides():
    viewer, layer = viewer_with()
    assert not may_be_slide(layer)
    layer.metadata["path"] = "a.svs"
    assert may_be_slide(layer)
    layer.metadata["overview_of"] = "x"
    assert slide_path(layer) is None
    assert not may_be_slide(viewer.add_labels(np.zeros((4, 4), int)))


def test_a_viewer_has_one_session(tmp_path):
    from napari_virchow.session import Session
    from napari_virchow.states import EngineState

    viewer = ViewerModel()
    session = session_of(viewer, make=lambda: Session(tmp_path))
    assert session_of(viewer) is session
    del viewer
    import gc

    gc.collect()
    assert session.state is EngineState.CLOSED


@pytest.fixture
def follower(qtbot):
    from qtpy.QtCore import QObject

    parent = QObject()
    viewer, _ = viewer_with()
    made = CameraFollower(viewer, parent)
    made.keep, made.viewer, made.calls = parent, viewer, []
    made.settled.connect(lambda: made.calls.append(1))
    return made


def test_thirty_moves_are_one_rest(follower, qtbot, until):
    follower.attach()
    for step in range(30):
        follower.viewer.scene.camera.center = (step, step)
    until(lambda: bool(follower.calls))
    qtbot.wait(250)
    assert len(follower.calls) == 1


def test_a_detached_follower_hears_nothing(follower, qtbot):
    follower.attach()
    follower.attach()
    follower.detach()
    follower.viewer.scene.camera.zoom = 3
    qtbot.wait(250)
    assert follower.calls == []
    assert len(follower.viewer.scene.camera.events.zoom.callbacks) == 0


def test_spatial_shifts_by_half_a_pixel():
    place = spatial((0.5, 0.25), (4, 8))
    assert place["scale"] == (2, 2)
    assert place["translate"] == (0.875, 0.75)
