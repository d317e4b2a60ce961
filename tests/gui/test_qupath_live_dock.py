"""The tab Live of the dock "QuPath", linked to a stand-in for QuPath behind a real gateway."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from tests.qupath_stub import TOKEN, QuPathStub, be_patient, compile_stub

from napari_virchow._napari.live_box import LIGHTS
from napari_virchow.qupath.live_facts import LinkStatus
from napari_virchow.qupath.uris import uri_of_path

LEFT = Qt.MouseButton.LeftButton
ID = "01111111-2222-3333-4444-555555555555"


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    made = QuPathStub(compile_stub(tmp_path_factory.mktemp("stub")))
    yield made
    made.kill()


@pytest.fixture
def live(viewer, open_slide, slide_file, stub, until, monkeypatch):
    """The dock with its tab Live in front, linked to a stand-in that shows the open slide."""
    be_patient(monkeypatch)
    stub.control.reset()
    stub.show(uri_of_path(slide_file), 2048, 1536)
    open_slide(slide_file)
    _, dock = viewer.window.add_plugin_dock_widget("napari-virchow", "QuPath")
    until(lambda: dock.layers is not None and not dock.layers.busy, 60_000)
    dock.tabs.setCurrentIndex(4)
    dock.live_box.port.setValue(stub.port)
    QTest.keyClicks(dock.live_box.token, TOKEN)
    QTest.mouseClick(dock.live_box.connect_, LEFT)
    until(lambda: dock.live_box.pull.isEnabled())
    return dock


def test_annotations_are_pulled_edited_and_pushed_back_under_their_id(live, stub, until):
    box = live.live_box
    assert LIGHTS["ready"] in box.light.styleSheet()
    assert box.connect_.text() == "Disconnect"
    ring = [[300, 200], [900, 200], [900, 700], [300, 200]]
    feature = {
        "type": "Feature",
        "id": ID,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "objectType": "annotation",
            "classification": {"name": "Tumor", "color": [1, 2, 3]},
        },
    }
    stub.control.addObjects(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    QTest.mouseClick(box.pull, LEFT)
    until(lambda: live.layers.kept.get(ID) is not None)
    until(lambda: "1 new, 0 replaced" in live.said.text())
    kept = live.layers.kept
    kept.update({ID: replace(kept.get(ID), name="seen in napari")}, "name annotation")
    until(lambda: box.push.isEnabled())
    QTest.mouseClick(box.push, LEFT)
    until(lambda: "0 new, 1 replaced" in live.said.text())
    assert stub.control.count() == 1
    assert "seen in napari" in stub.control.describe(ID)


def test_views_follow_each_other(viewer, live, stub, until):
    box, canvas = live.live_box, stub.control.getCurrentViewer()
    at = box.follow.findText("Both follow each other")
    box.follow.setCurrentIndex(at)
    box.follow.activated.emit(at)
    until(lambda: live.session.live.state.follow == "both")
    canvas.setDownsampleFactor(1.5)
    canvas.setCenterPixelLocation(1200.0, 640.0)

    def looked_at():
        # Again and again, as a hand moves: following may begin with our view, after the first.
        canvas.setCenterPixelLocation(1200.0, 640.0)
        y, x = live._layer.world_to_data(viewer.scene.camera.center[-2:])
        return abs(x - 1199.5) < 2 and abs(y - 639.5) < 2

    until(looked_at)
    viewer.scene.camera.center = tuple(live._layer.data_to_world((399.5, 699.5)))
    until(
        lambda: abs(canvas.getCenterPixelX() - 700) < 3 and abs(canvas.getCenterPixelY() - 400) < 3
    )


def test_leaving_turns_the_light_off(live, until):
    QTest.mouseClick(live.live_box.connect_, LEFT)
    until(lambda: live.live_box.connect_.text() == "Connect")
    assert live.session.live.state.status is LinkStatus.OFF
    assert LIGHTS["off"] in live.live_box.light.styleSheet()
    assert live.live_box.traffic.isHidden()
