from __future__ import annotations

import logging
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from fakes import Diary, FakeEncoder, FakeSlide
from napari_virchow.blocks import block_name
from napari_virchow.engine import Engine
from napari_virchow.layout import StoreBusy, StoreError
from napari_virchow.states import EngineState, TileState
from napari_virchow.tiles import Rect, Tile

VIEW = Rect(2240, 2240, 672, 672)  # tiles (10..12, 10..12); the ring adds two on each side
CENTER = Tile(11, 11)


@pytest.fixture
def make(tmp_path):
    """Make engines that share a store and are closed at the end."""
    engines = []

    def make_engine(encoder=None, *, glass=(), root=tmp_path / "store"):
        def tissue(slide, grid):
            mask = np.ones(grid.shape, bool)
            for tile in glass:
                mask[tile] = False
            return mask

        engine = Engine(root, tissue)
        engines.append(engine)
        if encoder is not None:
            engine.set_encoder(encoder)
        return engine, Diary(engine)

    yield make_engine
    for engine in engines:
        engine.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("napari-virchow")]


def finished(engine):
    assert engine.wait(30)
    return engine


def states_of(engine, slide):
    return engine.states(slide.identity, slide.grid()).states


def embedded(diary):
    """The embedded tiles in the order in which they were told."""
    updates = diary.of("tiles_changed")
    return [
        tile for update in updates if update.state == TileState.EMBEDDED for tile in update.tiles
    ]


def test_the_view_is_embedded_from_its_centre_and_the_ring_after_it(make):
    slide, encoder = FakeSlide(), FakeEncoder()
    engine, diary = make(encoder)
    generation = engine.look_at(slide, slide.grid(), VIEW)
    finished(engine)
    order = embedded(diary)
    assert order[0] == CENTER
    assert set(order[:9]) == {(r, c) for r in (10, 11, 12) for c in (10, 11, 12)}
    assert set(order) == {(r, c) for r in range(8, 15) for c in range(8, 15)}
    assert encoder.n_encoded == len(order) == 49
    assert {update.generation for update in diary.of("tiles_changed")} == {generation}


def test_a_viewer_that_listens_has_the_true_picture(make):
    slide = FakeSlide()
    engine, diary = make(FakeEncoder(), glass=[(0, 0), (11, 12)])
    engine.look_at(slide, slide.grid(), VIEW)
    engine.embed(slide, slide.grid())
    engine.look_at(slide, slide.grid(), Rect(0, 0, 500, 500))
    finished(engine)
    picture = diary.states[slide.identity, slide.grid()]
    np.testing.assert_array_equal(picture, states_of(engine, slide))
    assert (picture == TileState.EMBEDDED).sum() == 598
    assert picture[0, 0] == picture[11, 12] == TileState.GLASS


def test_what_is_stored_is_what_the_encoder_gave(make):
    slide = FakeSlide()
    engine, _ = make(FakeEncoder())
    engine.embed(slide, slide.grid())
    finished(engine)
    tiles, matrix = engine.store_of(slide.identity, slide.grid()).matrix()
    assert len(tiles) == 600
    np.testing.assert_array_equal(matrix[:, :2], tiles)


def test_a_second_run_computes_nothing(make):
    slide, encoder = FakeSlide(), FakeEncoder()
    engine, _ = make(encoder)
    engine.embed(slide, slide.grid())
    finished(engine).close()
    again = FakeEncoder()
    engine, diary = make(again)
    engine.embed(slide, slide.grid())
    finished(engine)
    assert again.n_encoded == 0
    assert (states_of(engine, slide) == TileState.EMBEDDED).all()
    assert engine.progress.wanted == 0
    assert diary.of("state_changed")[-1] == EngineState.IDLE


def test_glass_is_embedded_when_all_tiles_are_asked_for(make):
    slide = FakeSlide()
    engine, _ = make(FakeEncoder(), glass=[CENTER])
    engine.look_at(slide, slide.grid(), VIEW)
    assert states_of(finished(engine), slide)[CENTER] == TileState.GLASS
    engine.look_at(slide, slide.grid(), VIEW, all_tiles=True)
    assert states_of(finished(engine), slide)[CENTER] == TileState.EMBEDDED


def test_a_view_overtakes_background_work(make):
    slide, encoder = FakeSlide(tiles=(40, 40)), FakeEncoder()
    engine, diary = make(encoder)
    encoder.gate.clear()
    engine.embed(slide, slide.grid())
    assert encoder.started.wait(20)  # a batch of the background is being encoded now
    engine.look_at(slide, slide.grid(), VIEW)
    # The view is read while the encoder is still busy.
    slide.wait_until_read(CENTER)
    encoder.gate.set()
    finished(engine)
    order = embedded(diary)
    assert order.index(CENTER) < 40  # not behind what had been read for the background
    assert len(order) == encoder.n_encoded == 1600


def test_a_view_comes_first_also_within_what_was_read_for_the_background(make):
    slide, encoder = FakeSlide(tiles=(40, 40)), FakeEncoder(batch_size=1)
    engine, diary = make(encoder)
    encoder.gate.clear()
    engine.embed(slide, slide.grid())
    assert encoder.started.wait(20)
    [(last, *_)] = [batch[::-1] for batch in slide.read[:1]]  # read ahead, but not yet encoded
    engine.look_at(slide, slide.grid(), Rect(last.col * 224 + 9, last.row * 224 + 9, 9, 9))
    diary.wait_for(lambda: len(diary.of("states_reset")) == 2)
    encoder.gate.set()
    finished(engine)
    assert embedded(diary).index(last) <= 4


def test_of_every_new_view_two_tiles_are_encoded_before_the_rest(make):
    slide, encoder = FakeSlide(tiles=(40, 40)), FakeEncoder()
    engine, _ = make(encoder)
    for x in (2240, 5600):
        before = len(encoder.calls)
        engine.look_at(slide, slide.grid(), Rect(x, 2240, 672, 672))
        finished(engine)
        assert encoder.calls[before] == 2
        assert max(encoder.calls[before + 1 :]) > 2


def test_a_new_view_drops_what_is_left_of_the_old_one(make):
    slide, encoder = FakeSlide(tiles=(60, 60)), FakeEncoder()
    engine, diary = make(encoder)
    encoder.gate.clear()
    engine.look_at(slide, slide.grid(), Rect(0, 0, 4480, 4480))  # 400 tiles and a ring
    assert encoder.started.wait(20)
    engine.look_at(slide, slide.grid(), Rect(11200, 11200, 672, 672))
    key = (slide.identity, slide.grid())
    diary.wait_for(lambda: key in diary.states and diary.states[key][51, 51] == TileState.WAITING)
    encoder.gate.set()
    finished(engine)
    states = states_of(engine, slide)
    assert (states[48:55, 48:55] == TileState.EMBEDDED).all()
    assert encoder.n_encoded < 49 + 20
    assert (states == TileState.EMBEDDED).sum() == encoder.n_encoded
    assert set(np.unique(states)) == {TileState.NONE, TileState.EMBEDDED}
    np.testing.assert_array_equal(diary.states[slide.identity, slide.grid()], states)


def test_another_magnification_of_a_slide_is_a_new_view_as_well(make):
    slide, encoder = FakeSlide(tiles=(60, 60)), FakeEncoder()
    engine, diary = make(encoder)
    encoder.gate.clear()
    engine.look_at(slide, slide.grid(), Rect(0, 0, 4480, 4480))
    assert encoder.started.wait(20)
    engine.look_at(slide, slide.grid(1.0), Rect(0, 0, 672, 672))
    diary.wait_for(lambda: (slide.identity, slide.grid(1.0)) in diary.states)
    encoder.gate.set()
    finished(engine)
    assert encoder.n_encoded < 100
    grids = [fact.grid.mpp for fact in diary.of("states_reset")]
    assert grids == [0.5, 1.0]
    engine.look_at(slide, slide.grid(), Rect(0, 0, 224, 224))
    finished(engine)
    assert [fact.grid.mpp for fact in diary.of("states_reset")] == [0.5, 1.0, 0.5]


def test_cancel_lets_the_running_batch_finish_and_drops_the_rest(make):
    slide, encoder = FakeSlide(tiles=(40, 40)), FakeEncoder()
    engine, diary = make(encoder)
    encoder.gate.clear()
    engine.embed(slide, slide.grid())
    assert encoder.started.wait(20)
    engine.cancel()
    assert engine.state == EngineState.CANCELLING
    encoder.gate.set()
    finished(engine)
    assert engine.state == EngineState.IDLE
    states = states_of(engine, slide)
    assert 0 < encoder.n_encoded < 40
    assert (states == TileState.EMBEDDED).sum() == encoder.n_encoded
    assert not (states == TileState.WAITING).any()
    np.testing.assert_array_equal(diary.states[slide.identity, slide.grid()], states)
    engine.embed(slide, slide.grid())
    finished(engine)
    assert encoder.n_encoded == 1600


def test_cancelling_an_idle_engine_does_nothing(make):
    engine, diary = make(FakeEncoder())
    engine.cancel()
    assert engine.wait(5)
    assert engine.state == EngineState.IDLE
    assert not diary.of("failed")


def test_a_tile_that_cannot_be_read_fails_alone(make, caplog):
    slide, encoder = FakeSlide(), FakeEncoder()
    slide.bad = {CENTER, Tile(9, 9)}
    engine, diary = make(encoder)
    with caplog.at_level(logging.WARNING):
        engine.look_at(slide, slide.grid(), VIEW)
        finished(engine)
    states = states_of(engine, slide)
    assert states[CENTER] == states[9, 9] == TileState.FAILED
    assert (states == TileState.EMBEDDED).sum() == encoder.n_encoded == 47
    assert (engine.progress.done, engine.progress.failed, engine.progress.wanted) == (47, 2, 49)
    assert "cannot be read: bad bytes" in caplog.text
    assert engine.state == EngineState.IDLE
    assert not diary.of("failed")
    slide.bad.clear()
    engine.look_at(slide, slide.grid(), VIEW)
    assert states_of(finished(engine), slide)[CENTER] == TileState.FAILED  # not again and again
    engine.embed(slide, slide.grid())
    assert states_of(finished(engine), slide)[CENTER] == TileState.EMBEDDED  # asked for anew


def test_a_tile_whose_embedding_is_not_finite_fails_alone(make):
    slide, encoder = FakeSlide(), FakeEncoder()
    encoder.hollow = {CENTER}
    engine, _ = make(encoder)
    engine.look_at(slide, slide.grid(), VIEW)
    states = states_of(finished(engine), slide)
    assert states[CENTER] == TileState.FAILED
    assert (states == TileState.EMBEDDED).sum() == 48


def test_an_encoder_that_breaks_stops_the_engine_and_looking_again_tries_again(make):
    slide, encoder = FakeSlide(), FakeEncoder()
    encoder.broken = RuntimeError("CUDA error: out of luck.")
    engine, diary = make(encoder)
    engine.look_at(slide, slide.grid(), VIEW)
    finished(engine)
    assert engine.state == EngineState.STOPPED
    [error] = diary.of("failed")
    assert str(error) == "The encoder fake-0-class failed (CUDA error: out of luck)."
    assert (states_of(engine, slide) == TileState.NONE).all()
    encoder.broken = None
    engine.look_at(slide, slide.grid(), VIEW)
    finished(engine)
    assert engine.state == EngineState.IDLE
    assert (states_of(engine, slide) == TileState.EMBEDDED).sum() == 49


def test_a_lost_file_stops_its_slide_but_not_another(make, tmp_path):
    lost, other = FakeSlide("lost", path=tmp_path / "gone.svs"), FakeSlide("other")
    lost.bad = {Tile(r, c) for r in range(20) for c in range(30)}
    engine, diary = make(FakeEncoder())
    engine.embed(lost, lost.grid())
    engine.embed(other, other.grid())
    finished(engine)
    [error] = diary.of("failed")
    assert "gone.svs can no longer be read (bad bytes); is it still there?" in str(error)
    assert (states_of(engine, lost) == TileState.NONE).all()
    assert (states_of(engine, other) == TileState.EMBEDDED).all()


def test_a_slide_that_cannot_be_read_at_all_stops_with_a_sentence(make):
    slide = FakeSlide()
    slide.broken = OSError("network is down")
    engine, diary = make(FakeEncoder())
    engine.look_at(slide, slide.grid(), VIEW)
    finished(engine)
    assert engine.state == EngineState.STOPPED
    [error] = diary.of("failed")
    assert str(error) == "Embedding one stopped unexpectedly (network is down)."


def test_a_store_deleted_while_in_use_stops_and_looking_again_makes_a_new_one(make):
    slide, encoder = FakeSlide(), FakeEncoder()
    engine, diary = make(encoder)
    engine.look_at(slide, slide.grid(), VIEW)
    finished(engine)
    shutil.rmtree(engine.store_of(slide.identity, slide.grid()).path)
    engine.look_at(slide, slide.grid(), Rect(0, 0, 224, 224))
    finished(engine)
    assert engine.state == EngineState.STOPPED
    [error] = diary.of("failed")
    assert isinstance(error, StoreError)
    assert "deleted while it was in use" in str(error)
    engine.look_at(slide, slide.grid(), VIEW)
    finished(engine)
    assert (states_of(engine, slide) == TileState.EMBEDDED).sum() == 49


def test_a_store_that_cannot_be_written_is_told(make, tmp_path):
    (tmp_path / "store").write_text("a file where the folder should be")
    slide = FakeSlide()
    engine, diary = make(FakeEncoder())
    engine.look_at(slide, slide.grid(), VIEW)
    finished(engine)
    [error] = diary.of("failed")
    assert "cannot be written" in str(error)
    assert engine.state == EngineState.STOPPED
    assert slide.read == []


def test_a_second_engine_on_the_same_grid_is_refused_until_the_first_lets_go(make):
    slide = FakeSlide()
    first, _ = make(FakeEncoder())
    second, diary = make(FakeEncoder())
    first.look_at(slide, slide.grid(), VIEW)
    finished(first)
    second.look_at(slide, slide.grid(), VIEW)
    finished(second)
    [error] = diary.of("failed")
    assert isinstance(error, StoreBusy)
    first.drop_slide(slide.identity)
    second.look_at(slide, slide.grid(), VIEW)
    finished(second)
    assert (states_of(second, slide) == TileState.EMBEDDED).sum() == 49


def test_a_damaged_block_is_found_when_it_is_looked_at_and_embedded_again(make):
    slide, encoder = FakeSlide(), FakeEncoder()
    engine, _ = make(encoder)
    engine.embed(slide, slide.grid())
    finished(engine)
    path = engine.store_of(slide.identity, slide.grid()).path
    engine.close()
    for block in ((1, 1), (0, 0)):
        file = path / block_name(*block)
        file.write_bytes(b"\x01" * file.stat().st_size)
    again = FakeEncoder()
    engine, diary = make(again)
    engine.look_at(slide, slide.grid(), Rect(2240, 2240, 224, 224))
    finished(engine)
    states = states_of(engine, slide)
    assert again.n_encoded == 9  # the view's and its ring's
    np.testing.assert_array_equal(diary.states[slide.identity, slide.grid()], states)
    assert (states == TileState.NONE).sum() == 64 - 9
    engine.embed(slide, slide.grid())
    finished(engine)
    assert again.n_encoded == 128
    assert (states_of(engine, slide) == TileState.EMBEDDED).all()


def test_several_slides_are_embedded_in_order_and_the_view_goes_before_all(make):
    one, two, three = (FakeSlide(name) for name in ("one", "two", "three"))
    encoder = FakeEncoder()
    engine, diary = make(encoder)
    encoder.gate.clear()
    engine.embed(one, one.grid())
    assert encoder.started.wait(20)
    engine.embed(two, two.grid())
    engine.look_at(three, three.grid(), VIEW)
    three.wait_until_read(CENTER)
    encoder.gate.set()
    finished(engine)
    updates = [u for u in diary.of("tiles_changed") if u.state == TileState.EMBEDDED]
    ends = {u.slide: place for place, u in enumerate(updates)}
    starts = {u.slide: -place for place, u in reversed(list(enumerate(updates)))}
    assert ends["slide-three"] < ends["slide-one"]
    assert ends["slide-one"] < -starts["slide-two"]
    assert encoder.n_encoded == 600 + 600 + 49


def test_another_encoder_takes_over_and_the_old_queue_is_dropped(make):
    slide, old, new = FakeSlide(tiles=(40, 40)), FakeEncoder("old"), FakeEncoder("new", dim=7)
    engine, diary = make(old)
    old.gate.clear()
    engine.embed(slide, slide.grid())
    assert old.started.wait(20)
    engine.set_encoder(new)
    engine.look_at(slide, slide.grid(), VIEW)
    old.gate.set()
    finished(engine)
    assert old.n_encoded < 40
    assert new.n_encoded == 49
    assert engine.store_of(slide.identity, slide.grid()).dim == 7
    assert diary.of("states_reset")[-1].encoder == "new-0-class"
    engine.set_encoder(old)  # what the old one had finished was stored
    engine.look_at(slide, slide.grid(), Rect(-9, -9, 1, 1))
    finished(engine)
    assert (states_of(engine, slide) == TileState.EMBEDDED).sum() == old.n_encoded


def test_without_an_encoder_nothing_happens(make):
    slide = FakeSlide()
    engine, diary = make()
    assert engine.look_at(slide, slide.grid(), VIEW) == 1
    assert engine.wait(5)
    assert slide.read == diary.told == []


def test_little_is_read_ahead_of_a_slow_encoder(make):
    slide, encoder = FakeSlide(tiles=(100, 100)), FakeEncoder()
    engine, _ = make(encoder)
    encoder.gate.clear()
    engine.embed(slide, slide.grid())
    desk, crew = engine._desk, engine._crew
    with crew.changed:
        assert crew.changed.wait_for(
            lambda: desk.jobs and desk.next_read() is None and "reader" not in desk.active, 20
        )
        n_read = sum(map(len, slide.read))
    assert n_read <= 4 * 8  # two batches, and the one that is being encoded
    engine.cancel()
    encoder.gate.set()
    finished(engine)


def test_a_listener_that_breaks_does_not_stop_the_engine(make, caplog):
    slide = FakeSlide()
    engine, _ = make(FakeEncoder())

    def break_down(_):
        raise RuntimeError("listener")

    engine.tiles_changed.connect(break_down)
    engine.look_at(slide, slide.grid(), VIEW)
    finished(engine)
    assert (states_of(engine, slide) == TileState.EMBEDDED).sum() == 49
    assert "was not taken well" in caplog.text


def test_progress_ends_with_everything_done_and_a_rate(make):
    slide = FakeSlide()
    engine, diary = make(FakeEncoder())
    generation = engine.embed(slide, slide.grid())
    finished(engine)
    told = diary.of("progressed")
    last = engine.progress
    assert told[-1] == last or told[-1].done == last.done
    assert (last.done, last.wanted, last.failed, last.generation) == (600, 600, 0, generation)
    assert last.tiles_per_s > 0
    assert last.seconds_left == 0
    shares = last.share_reading + last.share_encoding + last.share_storing
    assert shares == pytest.approx(1)
    assert [p.done for p in told] == sorted(p.done for p in told)


def test_asking_returns_at_once_while_the_engine_works(make):
    slide, encoder = FakeSlide(tiles=(100, 100)), FakeEncoder()
    engine, _ = make(encoder)
    engine.embed(slide, slide.grid())
    assert encoder.started.wait(20)
    seconds = []
    for step in range(50):
        start = time.perf_counter()
        engine.look_at(slide, slide.grid(), Rect(step * 100, step * 50, 1920, 1080))
        seconds.append(time.perf_counter() - start)
    engine.cancel()
    assert statistics.median(seconds) < 1e-3
    finished(engine)


def test_closing_in_the_midst_keeps_what_was_encoded_and_ends_the_threads(make):
    slide, encoder = FakeSlide(tiles=(40, 40)), FakeEncoder()
    engine, diary = make(encoder)
    encoder.gate.clear()
    engine.embed(slide, slide.grid())
    assert encoder.started.wait(20)
    closer = threading.Thread(target=engine.close)
    closer.start()
    encoder.gate.set()
    closer.join(20)
    assert not closer.is_alive()
    assert engine.state == diary.of("state_changed")[-1] == EngineState.CLOSED
    assert 0 < encoder.n_encoded < 40
    engine.close()
    assert engine.look_at(slide, slide.grid(), VIEW) > 0
    assert engine.wait(5)
    engine, _ = make(FakeEncoder())
    engine.look_at(slide, slide.grid(), Rect(-9, -9, 1, 1))
    finished(engine)
    assert (states_of(engine, slide) == TileState.EMBEDDED).sum() == encoder.n_encoded


def test_closing_from_a_listener_does_not_hang(make):
    slide = FakeSlide()
    engine, diary = make(FakeEncoder())
    engine.tiles_changed.connect(
        lambda update: update.state == TileState.EMBEDDED and engine.close()
    )
    engine.look_at(slide, slide.grid(), VIEW)
    diary.wait_for(lambda: EngineState.CLOSED in diary.of("state_changed"))


def test_a_program_that_ends_without_closing_ends(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nimport numpy as np\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from fakes import FakeEncoder, FakeSlide\n"
        "from napari_virchow.engine import Engine\n"
        "engine = Engine(Path(sys.argv[1]), lambda s, g: np.ones(g.shape, bool))\n"
        "engine.set_encoder(FakeEncoder())\n"
        "slide = FakeSlide(tiles=(200, 200))\n"
        "engine.embed(slide, slide.grid())\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=30)
