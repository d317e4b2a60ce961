"""An encoder of one's own is chosen by its file once, and by its name from then on."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_virchow._napari.encoder_box import OWN
from napari_virchow.encoders import trained
from napari_virchow.encoders.specs import ViTConfig
from napari_virchow.encoders.vit import random_vit


@pytest.fixture
def own(tmp_path):
    """A small encoder as `pretrain` writes it."""
    config = ViTConfig(14, 24, 2, 2, 48, image_px=112)
    return trained.write_encoder(
        tmp_path / "encoder",
        random_vit(config).state_dict(),
        name="colon-1",
        architecture=config,
        allowed_mpp=(0.5, 1.0),
        licence="CC0",
        trained={"step": 7},
    )


def test_an_encoder_of_ones_own_is_loaded_listed_and_remembered(
    dock, open_slide, slide_file, own, monkeypatch, until
):
    layer = open_slide(slide_file)
    widget = dock()
    box = widget.encoder_box
    until(lambda: widget.session.progress.done > 0)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(own / trained.FACTS), ""))

    box.combo.setCurrentIndex(box.combo.findData(OWN))

    until(lambda: box.combo.currentText() == "colon-1 (your own)" and box.ready)
    assert widget.session.encoder.spec.name == "colon-1"
    assert box.terms.text() == "CC0 · on this machine"
    assert "48 numbers per tile" in box.status.text()
    slide = widget.slide_box.slide_of(layer)
    until(lambda: len(widget.session.embeddings(slide, widget.mpp)[0]) > 0, timeout=60_000)
    again = type(box)()
    assert again.combo.findData("colon-1") > 0
    again.deleteLater()


def choose(combo, title, qtbot):
    """Open a list and click an entry."""
    qtbot.mouseClick(combo, Qt.MouseButton.LeftButton)
    entries = combo.view()
    qtbot.waitUntil(entries.isVisible)
    at = entries.visualRect(combo.model().index(combo.findText(title), 0)).center()
    qtbot.mouseMove(entries.viewport(), at)
    qtbot.mouseClick(entries.viewport(), Qt.MouseButton.LeftButton, pos=at)


def test_the_device_is_chosen_in_the_dock(
    dock, open_slide, slide_file, own, monkeypatch, until, qtbot
):
    pytest.importorskip("openvino")
    layer = open_slide(slide_file)
    widget = dock()
    box = widget.encoder_box
    assert not box.device.isVisible()  # the built-in encoder has no choice
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(own / trained.FACTS), ""))
    box.combo.setCurrentIndex(box.combo.findData(OWN))
    until(lambda: box.ready and box.spec.name == "colon-1")
    usual = widget.session.encoder

    choose(box.device, "The CPU, through OpenVINO", qtbot)

    until(lambda: box.status.text().startswith("Ready on the CPU, through OpenVINO"))
    assert widget.session.encoder.device == "openvino"
    assert widget.session.encoder.identity == usual.identity
    slide = widget.slide_box.slide_of(layer)
    widget.session.embed_slide(slide, mpp=1.0, all_tiles=True)
    until(lambda: widget.session.wait(0.01))
    assert len(widget.session.embeddings(slide, 1.0)[0]) == np.prod(slide.grid(1.0).shape)


def test_choosing_nothing_changes_nothing(dock, monkeypatch, until):
    widget = dock()
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("", ""))
    widget.encoder_box.combo.setCurrentIndex(widget.encoder_box.combo.findData(OWN))
    assert widget.encoder_box.spec.name == "texture"
    assert widget.encoder_box.ready
