"""Embeddings from another tool's file are used in the window like any others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from qtpy.QtCore import Qt

from napari_virchow._napari.layers import states_of
from napari_virchow.interop import TileTable, place_tiles, store_embeddings
from napari_virchow.states import TileState


def test_imported_embeddings_are_used_and_left_again(
    viewer, open_slide, dock, slide_file, until, qtbot
):
    layer = open_slide(slide_file)
    widget = dock()
    slide = widget.slide_box.slide_of(layer)
    side = 300.0
    corners = np.array([(0, 0), (300, 0), (0, 300)], float)
    rows = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
    table = TileTable("trident", Path("theirs.h5"), corners, side, rows, "uni_v1")
    stored = store_embeddings(
        table, place_tiles(table, slide), widget.session.store, slide.identity
    )
    widget.stored_box.refresh()
    box = widget.stored_box

    def item():
        found = [box.list.topLevelItem(n) for n in range(box.list.topLevelItemCount())]
        return next((one for one in found if one.text(0) == "uni_v1 (imported)"), None)

    until(lambda: item() is not None)
    assert not box.use.isVisible()
    item().setSelected(True)
    until(box.use.isVisible)
    qtbot.mouseClick(box.use, Qt.MouseButton.LeftButton)
    until(lambda: widget.encoder_box.combo.currentText() == "uni_v1 (imported)")
    assert widget.session.encoder.identity == stored.encoder and widget.encoder_box.ready
    assert widget.encoder_box.status.text().startswith("From a file")

    def drawn():
        layer = widget.tile_layer
        if not layer.present or layer.shown.encoder != stored.encoder:
            return 0
        return int(np.count_nonzero(states_of(layer.layer.data) == TileState.EMBEDDED))

    until(lambda: drawn() == 3)
    assert widget.mpp == stored.mpp
    tiles, matrix = widget.session.embeddings(slide, widget.mpp)
    assert len(tiles) == 3 and matrix.shape == (3, 6)
    widget.whole.click()  # what is not in the file stays empty, and nothing fails
    assert widget.session.wait(20)
    assert drawn() == 3 and not widget.alert.text()

    widget.encoder_box.combo.setCurrentIndex(widget.encoder_box.combo.findData("texture"))
    until(lambda: widget.encoder_box.combo.findData("imported-uni_v1") < 0)
    assert widget.session.encoder.spec.name == "texture" and widget.encoder_box.ready
