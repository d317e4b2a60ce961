"""One raster pixel lies exactly on one tile, and says what became of it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtCore import QObject

from napari_virchow._napari.layers import (
    FAINTER,
    REFRESH_MS,
    STATE_COLORS,
    TileLayer,
    over,
    place_slide,
    raster_of,
    spatial,
    state_colormap,
    states_of,
)
from napari_virchow.states import GridStates, TileState, TileUpdate
from napari_virchow.tiles import Tile, TileGrid

# 0.25 x 0.26 µm/px: a 112 µm tile is 448 px wide and 430.77 px high.
MPP = (0.25, 0.26)
GRID = TileGrid(width=3000, height=2000, slide_mpp=MPP, mpp=0.5)


def slide_layer():
    return Image(np.zeros((2000, 3000, 3), np.uint8), rgb=True, **spatial(MPP))


def raster(below, grid=GRID):
    return Image(np.zeros(grid.shape), **over(below, grid.step))


@pytest.mark.parametrize(
    ("column", "edge_px"), [(1, 448), (4, 4 * 448)], ids=["first edge", "fourth edge"]
)
def test_tiles_begin_where_the_grid_says(column, edge_px):
    below = slide_layer()
    # napari counts from the centre of a pixel, so the edge before pixel 448 is at 447.5.
    for offset, expected in ((-0.1, column - 1), (0.1, column)):
        world = below.data_to_world((0, edge_px - 0.5 + offset))
        assert round(raster(below).world_to_data(world)[1]) == expected


def test_rows_use_their_own_pixel_size():
    below = slide_layer()
    edge_px = 2 * 112 / 0.26  # two tiles down, 861.54 px
    for offset, expected in ((-0.1, 1), (0.1, 2)):
        world = below.data_to_world((edge_px - 0.5 + offset, 0))
        assert round(raster(below).world_to_data(world)[0]) == expected


def test_tiles_follow_a_layer_that_another_reader_placed():
    below = Image(np.zeros((2000, 3000)), scale=(2, 2), translate=(10, 20), affine=np.eye(3) * 3)
    world = below.data_to_world((215.5, 447.6))
    assert np.round(raster(below).world_to_data(world)).tolist() == [0, 1]


def test_the_layers_carry_micrometres():
    assert [str(unit) for unit in slide_layer().units] == ["micrometer", "micrometer"]
    assert spatial(None)["units"] == ("pixel", "pixel")


def states(values=None, grid=GRID, encoder="texture-v1-descriptor"):
    values = np.zeros(grid.shape, np.uint8) if values is None else values
    return GridStates("identity", grid, encoder, values)


def update(tiles, state, grid=GRID):
    return TileUpdate("identity", grid, "texture-v1-descriptor", 1, tuple(tiles), state)


@pytest.fixture
def tile_layer(qapp):
    viewer = ViewerModel()
    below = viewer.add_layer(slide_layer())
    below.name = "a"
    slide = SimpleNamespace(name="a", identity="identity", mpp=MPP)
    parent = QObject()
    made = TileLayer(viewer, slide, below, parent)
    made.keep = parent
    return made


def test_updates_are_drawn_together(tile_layer, qtbot, until):
    tile_layer.show(states(), "Texture")
    draws = []
    tile_layer.layer.events.set_data.connect(lambda: draws.append(1))

    for column in range(5):
        tile_layer.update(update([Tile(1, column)], TileState.EMBEDDED))

    until(lambda: bool(draws))
    qtbot.wait(120)
    assert len(draws) == 1
    drawn = states_of(tile_layer.layer.data)
    assert drawn[1].tolist() == [2, 2, 2, 2, 2, 0, 0]
    assert drawn[0].max() == 0


def test_a_first_result_is_drawn_at_once_but_what_waits_is_not(tile_layer, qtbot):
    tile_layer.show(states(), "Texture")
    qtbot.waitUntil(lambda: tile_layer._since.hasExpired(REFRESH_MS))
    tile_layer.update(update([Tile(0, 1)], TileState.WAITING))
    assert tile_layer._timer.interval() == REFRESH_MS
    tile_layer.update(update([Tile(0, 1)], TileState.EMBEDDED))
    assert tile_layer._timer.interval() == 0


def test_updates_of_another_grid_are_left_out(tile_layer):
    tile_layer.show(states(), "Texture")
    other = TileGrid(width=3000, height=2000, slide_mpp=MPP, mpp=1.0)
    tile_layer.update(update([Tile(0, 0)], TileState.FAILED, grid=other))
    assert states_of(tile_layer.layer.data).max() == 0


def test_another_magnification_uses_the_same_layer(tile_layer):
    tile_layer.show(states(), "Texture")
    layer = tile_layer.layer
    other = TileGrid(width=3000, height=2000, slide_mpp=MPP, mpp=1.0)
    tile_layer.show(states(grid=other), "Texture")
    assert tile_layer.layer is layer
    assert layer.data.shape == other.shape == (3, 4)
    assert layer.scale.tolist() == pytest.approx([224, 224])
    assert layer.name == "a tiles (Texture, 1 µm/px)"


def test_hovering_says_the_state_in_words(tile_layer):
    values = np.zeros(GRID.shape, np.uint8)
    values[0, :3] = TileState.EMBEDDED, TileState.GLASS, TileState.FAILED
    tile_layer.show(states(values), "Texture")
    said = [tile_layer.layer.get_status((0, column))["value"] for column in range(4)]
    assert [text.split("; ")[1] for text in said] == [
        "tile: embedded and stored",
        "tile: glass, skipped",
        "tile: could not be read",
        "tile: not asked for yet",
    ]


def test_the_raster_cannot_be_painted_on(tile_layer):
    tile_layer.show(states(), "Texture")
    assert not tile_layer.layer.editable


def test_updates_after_the_layer_was_removed_are_harmless(tile_layer, qtbot):
    tile_layer.show(states(), "Texture")
    tile_layer.update(update([Tile(0, 0)], TileState.EMBEDDED))
    tile_layer._viewer.layers.remove(tile_layer.layer)
    tile_layer.update(update([Tile(0, 1)], TileState.EMBEDDED))
    qtbot.wait(80)
    assert not tile_layer.present
    tile_layer.show(states(), "Texture")
    assert tile_layer.present


def test_raster_values_keep_the_states():
    values = np.random.default_rng(3).integers(0, 5, (5, 7)).astype(np.uint8)
    drawn = raster_of(values)
    assert (states_of(drawn) == values).all()
    assert ((drawn >= FAINTER) == (np.indices((5, 7)).sum(0) % 2 == 1)).all()


def test_every_state_but_none_is_seen_through():
    colors = state_colormap()
    for state in TileState:
        alpha = colors.map(np.array([[state]]))[0, 0, 3]
        assert alpha == pytest.approx(STATE_COLORS[state][3] if state else 0, abs=0.01)
        assert alpha < 1


def test_a_pixel_size_that_comes_later_keeps_the_view(qapp):
    told = []
    slide = SimpleNamespace(identity="identity", set_mpp=told.append)
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((50, 80, 3), np.uint8), rgb=True)
    overview = viewer.add_image(
        np.zeros((5, 8, 3), np.uint8),
        rgb=True,
        metadata={"overview_of": "identity", "step": (10.0, 10.0)},
        **spatial(None, (10, 10)),
    )
    layer.metadata["slide"] = slide
    viewer.scene.camera.center, viewer.scene.camera.zoom = (25, 40), 4.0

    place_slide(viewer, "identity", (0.5, 0.5))

    assert told == [(0.5, 0.5)]
    assert layer.scale.tolist() == [0.5, 0.5]
    assert overview.scale.tolist() == [5, 5]
    assert overview.translate.tolist() == [2.25, 2.25]
    assert viewer.scene.camera.zoom == 8.0
    assert tuple(viewer.scene.camera.center)[-2:] == (12.5, 20.0)
