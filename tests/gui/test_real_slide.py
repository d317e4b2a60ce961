"""The product in one test: a real slide in a real window, panned and zoomed, embedded and kept."""

from __future__ import annotations

import numpy as np
import pytest

from napari_virchow._napari.layers import states_of
from napari_virchow._napari.pixels import redraw_of
from napari_virchow._napari.viewer import slide_view
from napari_virchow.states import EngineState, TileState


@pytest.fixture
def slide_path(data_dir):
    return data_dir / "slides" / "CMU-1-Small-Region.svs"


def tiles_in_view(widget, viewer, layer):
    return list(widget.tile_layer.shown.grid.tiles_in(slide_view(viewer, layer).rect))


def test_what_i_look_at_on_a_real_slide_is_embedded(
    viewer, open_slide, dock, slide_path, until, tmp_path
):
    layer = open_slide(slide_path)
    assert layer.scale.tolist() == pytest.approx([0.499, 0.499])
    widget = dock()
    widget.magnification.setCurrentIndex(widget.magnification.findData(0.5))
    viewer.scene.camera.zoom *= 2
    viewer.scene.camera.center = (900, 550)
    viewer.scene.camera.center = (700, 500)

    def stored():
        if widget.tile_layer is None or not widget.tile_layer.present:
            return False
        if widget.session.state is not EngineState.IDLE or redraw_of(layer).busy:
            return False
        drawn = states_of(widget.tile_layer.layer.data)
        wanted = tiles_in_view(widget, viewer, layer)
        return all(drawn[tile] in (TileState.EMBEDDED, TileState.GLASS) for tile in wanted)

    until(stored, timeout=120_000)

    slide = widget.slide_box.slide_of(layer)
    wanted = set(map(tuple, tiles_in_view(widget, viewer, layer)))

    def drawn_as(state):
        return set(map(tuple, np.argwhere(states_of(widget.tile_layer.layer.data) == state)))

    tiles, matrix = widget.session.embeddings(slide, 0.5)
    stored_tiles = set(map(tuple, tiles))
    until(lambda: drawn_as(TileState.EMBEDDED) == stored_tiles)
    assert stored_tiles >= wanted - drawn_as(TileState.GLASS)
    assert len(stored_tiles & wanted) >= 10
    assert np.isfinite(matrix).all()

    with_tiles = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    widget.tiles.setChecked(False)
    without = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    assert without.std() > 10  # a blank canvas has no contrast
    shift = (with_tiles - without).reshape(-1, 3).mean(0)
    assert shift[0] < -5 and shift[0] < shift[1]  # the tiles are seen, and greenish
