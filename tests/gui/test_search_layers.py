"""What a search draws on a slide."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtCore import QObject

from napari_virchow._napari.search_layers import SearchLayers
from napari_virchow.tiles import Tile, TileGrid

GRID = TileGrid(width=3000, height=2000, slide_mpp=(0.5, 0.5), mpp=0.5)


def test_other_squares_are_drawn_without_asking_how_large_the_viewer_is(qapp):
    viewer, parent = ViewerModel(), QObject()
    below = viewer.add_layer(Image(np.zeros((2000, 3000, 3), np.uint8), rgb=True))
    slide = SimpleNamespace(name="a", identity="identity")
    layers = SearchLayers(viewer, slide, below, parent)
    layers.show_squares(GRID, np.array([[0, 0], [1, 2]], np.int32))
    squares, asked, drawn = layers.layers["hits"], [], []
    viewer.dims.events.range.connect(asked.append)
    squares.events.data.connect(asked.append)  # the viewer does
    squares.events.set_data.connect(drawn.append)

    layers.show_squares(GRID, np.array([[3, 4]], np.int32), positives=[Tile(5, 6)])

    # The middles of tiles of 224 px, in napari's (row, column) from the middle of a pixel.
    assert squares.data.tolist() == [[3.5 * 224 - 0.5, 4.5 * 224 - 0.5], [1231.5, 1455.5]]
    assert len(drawn) > 0
    assert asked == []
