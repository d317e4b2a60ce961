from __future__ import annotations

import numpy as np
import pytest

from napari_virchow.schedule import TileQueue, Want, snap_mpp
from napari_virchow.states import TileState
from napari_virchow.tiles import Rect, Tile, TileGrid

# 9 rows x 11 columns of tiles, 10 px each.
GRID = TileGrid(width=110, height=90, slide_mpp=(1, 1), mpp=1, tile_px=10)
VIEW = Rect(40, 30, 30, 30)  # rows 3-5, columns 4-6; the ring adds two tiles on each side


def queue(grid=GRID, *, done=(), glass=()):
    done_mask, tissue = np.zeros(grid.shape, bool), np.ones(grid.shape, bool)
    for tile in done:
        done_mask[tile] = True
    for tile in glass:
        tissue[tile] = False
    return TileQueue(grid, done_mask, tissue)


def take_all(q, n=4, settle=True):
    """Take everything, as (want, tiles) per batch."""
    batches = []
    while (batch := q.take(n)) is not None:
        batches.append((batch.want, list(q.tiles(batch.indices))))
        if settle:
            q.finish(batch.indices)
    return batches


def flat(batches, want=None):
    return [tile for why, tiles in batches for tile in tiles if want in (None, why)]


def test_a_new_queue_wants_nothing():
    q = queue()
    assert q.take(5) is None
    assert q.next_want() == Want.NOT
    assert q.n_waiting == 0


def test_the_view_comes_from_its_centre_outwards():
    q = queue()
    q.set_view(VIEW)
    view = flat(take_all(q), Want.VIEW)
    assert view[0] == (4, 5)
    assert set(view[1:5]) == {(3, 5), (5, 5), (4, 4), (4, 6)}
    assert set(view[5:]) == {(3, 4), (3, 6), (5, 4), (5, 6)}


def test_the_ring_comes_after_the_view_and_goes_outwards():
    q = queue()
    q.set_view(VIEW)
    batches = take_all(q)
    assert [want for want, _ in batches] == sorted(want for want, _ in batches)
    ring = flat(batches, Want.RING)
    expected = {(r, c) for r in range(1, 8) for c in range(2, 9)}  # half a view is 1.5 tiles
    assert set(ring) == expected - set(flat(batches, Want.VIEW))
    far = [(r - 4) ** 2 + (c - 5) ** 2 for r, c in ring]
    assert far == sorted(far)


def test_the_rest_comes_after_the_ring_and_everything_comes_once():
    q = queue()
    q.want_all()
    q.set_view(VIEW)
    assert q.n_waiting == 99
    batches = take_all(q)
    assert [want for want, _ in batches] == sorted(want for want, _ in batches)
    assert sorted(flat(batches)) == [(r, c) for r in range(9) for c in range(11)]
    assert (q.states() == TileState.EMBEDDED).all()
    assert q.n_waiting == 0


def test_the_rest_comes_block_by_block_and_near_the_view_first():
    grid = TileGrid(width=1000, height=800, slide_mpp=(1, 1), mpp=1, tile_px=10)
    q = queue(grid)
    q.set_view(Rect(990, 790, 10, 10))
    q.want_all()
    rest = flat(take_all(q, 64), Want.REST)
    blocks = list(dict.fromkeys((row // 8, col // 8) for row, col in rest))
    assert len(blocks) == 10 * 13  # no block was left and come back to
    assert blocks[0][0] >= 8
    assert blocks[0][1] >= 8
    assert blocks[-1][1] <= 3


def test_a_new_view_drops_what_only_the_old_one_wanted():
    q = queue()
    q.set_view(Rect(0, 0, 10, 10))  # tile (0, 0), ring (0, 1), (1, 0), (1, 1)
    change = q.set_view(Rect(10, 0, 10, 10))  # tile (0, 1), ring up to column 2
    assert set(q.tiles(change.dropped)) == set()
    change = q.set_view(Rect(30, 0, 10, 10))
    assert set(q.tiles(change.dropped)) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert set(q.tiles(change.waiting)) == {(0, 3), (1, 3), (0, 4), (1, 4)}
    assert set(flat(take_all(q))) == {(r, c) for r in (0, 1) for c in (2, 3, 4)}


def test_what_the_whole_slide_wants_survives_a_new_view():
    q = queue()
    q.want_all()
    q.set_view(VIEW)
    assert q.set_view(Rect(0, 0, 10, 10)).dropped.size == 0
    assert len(flat(take_all(q))) == 99


def test_a_view_beside_the_slide_wants_nothing():
    q = queue()
    q.set_view(VIEW)
    change = q.set_view(Rect(500, 500, 50, 50))
    assert change.dropped.size == 49
    assert q.take(5) is None
    assert q.n_waiting == 0


def test_done_tiles_are_not_handed_out():
    q = queue(done=[(4, 5), (3, 4)])
    q.set_view(VIEW)
    taken = flat(take_all(q))
    assert not {(4, 5), (3, 4)} & set(taken)
    assert len(taken) == 47


def test_tiles_on_glass_are_skipped_unless_all_are_wanted():
    glass = [(4, 5), (0, 0)]
    q = queue(glass=glass)
    q.want_all()
    q.set_view(VIEW)
    assert not set(glass) & set(flat(take_all(q)))
    assert q.states()[4, 5] == TileState.GLASS
    q.set_view(VIEW, all_tiles=True)
    assert flat(take_all(q)) == [(4, 5)]
    q.want_all(all_tiles=True)
    assert flat(take_all(q)) == [(0, 0)]
    assert (q.states() == TileState.EMBEDDED).all()


def test_glass_that_a_dropped_view_wanted_is_glass_again():
    q = queue(glass=[(4, 5)])
    q.set_view(VIEW, all_tiles=True)
    assert q.states()[4, 5] == TileState.WAITING
    q.set_view(VIEW)
    assert q.states()[4, 5] == TileState.GLASS


def test_running_tiles_are_not_handed_out_twice_by_a_new_view():
    q = queue()
    q.set_view(VIEW)
    running = q.take(9)
    q.set_view(VIEW)
    again = flat(take_all(q))
    assert not set(q.tiles(running.indices)) & set(again)
    assert q.n_waiting == 9
    q.finish(running.indices)
    assert q.n_waiting == 0


def test_a_running_tile_that_nobody_wants_is_known_as_such_and_can_be_given_back():
    q = queue()
    q.set_view(Rect(0, 0, 10, 10))
    running = q.take(1)
    assert q.wanted(running.indices).all()
    q.set_view(Rect(80, 80, 10, 10))
    assert not q.wanted(running.indices).any()
    assert q.states()[0, 0] == TileState.WAITING
    q.give_back(running.indices)
    assert q.states()[0, 0] == TileState.NONE
    assert q.n_waiting == 6  # rows 7 and 8, columns 7 to 9


def test_tiles_given_back_that_are_still_wanted_are_handed_out_again():
    q = queue()
    q.want_all()
    q.set_view(VIEW)
    for n in (3, 60, 99):
        for batch in iter(lambda n=n: q.take(n), None):
            q.give_back(batch.indices)
            break
    assert q.n_waiting == 99
    assert len(flat(take_all(q))) == 99


def test_the_most_urgent_reason_counts():
    q = queue()
    q.want_all()
    q.set_view(VIEW)
    assert q.reason(q.indices([Tile(0, 0)])) == Want.REST
    assert q.reason(q.indices([Tile(0, 0), Tile(4, 5)])) == Want.VIEW
    q.drop()
    assert q.reason(q.indices([Tile(4, 5)])) == Want.NOT


def test_a_failed_tile_is_tried_again_only_when_the_whole_slide_is_asked_for():
    q = queue()
    q.set_view(VIEW)
    first = q.take(1)
    q.fail(first.indices)
    take_all(q)
    q.set_view(VIEW)
    assert q.take(9) is None
    assert q.states()[4, 5] == TileState.FAILED
    q.want_all()
    assert (4, 5) in flat(take_all(q))


def test_drop_wants_nothing_more_but_lets_running_tiles_finish():
    q = queue()
    q.want_all()
    q.set_view(VIEW)
    running = q.take(5)
    q.drop()
    assert q.take(5) is None
    assert q.n_waiting == 5
    q.finish(running.indices)
    assert q.n_waiting == 0
    assert (q.states() == TileState.EMBEDDED).sum() == 5
    assert (q.states() == TileState.NONE).sum() == 94


def test_forgotten_tiles_are_wanted_again_where_the_whole_slide_is():
    q = queue(done=[(0, 0), (8, 10)], glass=[(8, 10)])
    q.want_all()
    take_all(q)
    q.forget(q.indices([Tile(0, 0), Tile(8, 10)]))
    assert q.n_waiting == 1
    assert flat(take_all(q)) == [(0, 0)]
    assert q.states()[8, 10] == TileState.GLASS


def test_embedded_tiles_are_found_in_a_view_with_its_ring():
    q = queue(done=[(0, 0), (4, 5), (1, 2)])
    assert set(q.tiles(q.embedded())) == {(0, 0), (4, 5), (1, 2)}
    assert set(q.tiles(q.embedded(VIEW))) == {(4, 5), (1, 2)}
    assert q.embedded(Rect(-50, -50, 5, 5)).size == 0


def test_a_view_of_very_many_tiles_is_ordered_by_blocks_from_its_centre():
    grid = TileGrid(width=1000, height=1000, slide_mpp=(1, 1), mpp=1, tile_px=10)
    q = queue(grid)
    q.set_view(Rect(0, 0, 1000, 1000))
    tiles = flat(take_all(q, 64))
    blocks = list(dict.fromkeys((row // 8, col // 8) for row, col in tiles))
    assert len(tiles) == 100 * 100
    assert len(blocks) == 13 * 13
    assert blocks[0] == (6, 6)


def test_the_count_of_waiting_tiles_is_right_after_any_order_of_events():
    rng = np.random.default_rng(3)
    q = queue(glass=[(r, 10) for r in range(9)])
    running = []
    for _ in range(400):
        what = rng.integers(7)
        if what <= 1:
            x, y, w, h = rng.uniform(0, 80, 4)
            q.set_view(Rect(x, y, w, h), all_tiles=bool(rng.integers(2)))
        elif what == 2 and rng.integers(5) == 0:
            q.want_all(all_tiles=bool(rng.integers(2)))
        elif what == 3 and rng.integers(5) == 0:
            q.drop()
        elif what == 4 and rng.integers(3) == 0:
            q.forget(q.embedded()[:5])
        elif what == 5 and (batch := q.take(int(rng.integers(1, 9)))) is not None:
            assert (q.states().ravel()[batch.indices] == TileState.WAITING).all()
            assert not np.isin(batch.indices, np.concatenate([[-1], *running])).any()
            running.append(batch.indices)
        elif running:
            (q.finish, q.fail, q.give_back, q.finish)[rng.integers(4)](running.pop(0))
        assert q.n_waiting == (q.states() == TileState.WAITING).sum()


def test_masks_must_have_the_shape_of_the_grid():
    with pytest.raises(ValueError, match="are not the grid's"):
        TileQueue(GRID, np.zeros((9, 11), bool), np.zeros((11, 9), bool))


@pytest.mark.parametrize(
    ("wanted", "finest", "expected"),
    [
        pytest.param(0.5, 0.25, 0.5, id="as it is"),
        pytest.param(0.69, 0.25, 0.5, id="below the middle of 0.5 and 1 on a log scale"),
        pytest.param(0.72, 0.25, 1.0, id="above it"),
        pytest.param(0.01, 0.25, 0.25, id="zoomed far in"),
        pytest.param(50, 0.25, 2.0, id="zoomed far out"),
        pytest.param(0.25, 0.5, 0.5, id="never finer than the slide"),
        pytest.param(0.5, 0.52, 0.5, id="a tenth finer is forgiven"),
        pytest.param(0.5, 4.0, 2.0, id="a slide coarser than all"),
    ],
)
def test_the_magnification_snaps_to_what_the_encoder_allows(wanted, finest, expected):
    assert snap_mpp(wanted, (2.0, 1.0, 0.5, 0.25), finest) == expected


def test_snapping_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="empty"):
        snap_mpp(0.5, (), 0.25)
    with pytest.raises(ValueError, match="got nan"):
        snap_mpp(float("nan"), (0.5,), 0.25)
