from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fakes import Diary, FakeEncoder, FakeSlide
from napari_virchow.layout import StoreBusy
from napari_virchow.session import Session
from napari_virchow.slide import MissingPixelSize
from napari_virchow.states import EngineState, TileState
from napari_virchow.tiles import Rect, Tile

VIEW = Rect(2240, 2240, 672, 672)  # tiles (10..12, 10..12); the ring adds two on each side


def plain(slide):
    """The slide, without a search for tissue."""
    slide.brightfield = False
    return slide


@pytest.fixture
def session(tmp_path):
    with Session(tmp_path / "store") as session:
        yield session


@pytest.fixture
def slide():
    return plain(FakeSlide())


def test_what_is_looked_at_is_embedded_and_can_be_had(session, slide):
    session.use_encoder(FakeEncoder())
    session.add_slide(slide)
    generation = session.look_at(slide, VIEW, mpp=0.5)
    assert session.wait(20)
    tiles, matrix = session.embeddings(slide, 0.5)
    assert len(tiles) == len(matrix) == 49
    np.testing.assert_array_equal(matrix[:, :2], tiles)
    assert (session.tile_states(slide, 0.5).states == TileState.EMBEDDED).sum() == 49
    assert session.tile_states(slide, 1.0) is None
    assert session.state == EngineState.IDLE
    assert (session.progress.done, session.progress.generation) == (49, generation)


def test_slides_are_told_opened_and_closed(session, slide):
    told = []
    session.slide_opened.connect(lambda s: told.append(("opened", s.identity)))
    session.slide_closed.connect(lambda identity: told.append(("closed", identity)))
    session.add_slide(slide)
    assert session.slides == {"slide-one": slide}
    session.close_slide(slide)
    session.close_slide(slide)
    assert told == [("opened", "slide-one"), ("closed", "slide-one")]
    assert session.slides == {}
    assert slide.closed


def test_the_same_content_is_open_once(session, slide):
    twin = plain(FakeSlide())
    assert session.add_slide(slide) is slide
    assert session.add_slide(twin) is slide
    assert twin.closed
    assert not slide.closed


def test_a_pixel_size_given_by_the_user_is_remembered(tmp_path, slide):
    with Session(tmp_path) as session:
        session.add_slide(slide)
        session.set_slide_mpp(slide, 0.25)
    moved = plain(FakeSlide(path=tmp_path / "moved.svs"))
    moved.mpp = None
    with Session(tmp_path) as session:
        session.add_slide(moved)
        assert moved.mpp == (0.25, 0.25)
    known = json.loads((tmp_path / "slide-one" / "slide.json").read_text())
    assert known == {"name": "one", "path": str(tmp_path / "moved.svs"), "mpp": [0.25, 0.25]}


def test_a_pixel_size_said_on_opening_wins_over_what_is_remembered(tmp_path):
    for mpp in (0.25, 0.3):
        with Session(tmp_path) as session:
            session.add_slide(plain(FakeSlide()), mpp=mpp)
    slide = plain(FakeSlide())
    with Session(tmp_path) as session:
        session.add_slide(slide)
    assert slide.mpp == (0.3, 0.3)


@pytest.mark.parametrize("text", ["", "[]", '{"mpp": "x"}', '{"mpp": [1]}'])
def test_a_memory_that_makes_no_sense_is_not_used(tmp_path, slide, text, caplog):
    (tmp_path / "slide-one").mkdir()
    (tmp_path / "slide-one" / "slide.json").write_text(text)
    with caplog.at_level(logging.WARNING), Session(tmp_path) as session:
        session.add_slide(slide)
    assert slide.mpp == (0.5, 0.5)
    assert "cannot be read and is not used" in caplog.text


def test_a_slide_opens_although_nothing_can_be_remembered(tmp_path, slide, caplog):
    (tmp_path / "store").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING), Session(tmp_path / "store") as session:
        session.add_slide(slide)
    assert "could not be remembered" in caplog.text


def test_another_pixel_size_moves_the_tiles_and_takes_up_the_view(session, slide):
    session.use_encoder(FakeEncoder())
    session.add_slide(slide)
    session.look_at(slide, VIEW, mpp=0.5)
    assert session.wait(20)
    session.set_slide_mpp(slide, 0.25)
    assert session.wait(20)
    states = session.tile_states(slide, 0.5).states
    assert states.shape == (10, 15)  # tiles are twice as large in pixels
    assert states[5, 5] == TileState.EMBEDDED
    assert len(session.stored()) == 2


def test_a_view_waits_for_an_encoder(session, slide):
    session.add_slide(slide)
    session.look_at(slide, VIEW, mpp=0.5)
    assert session.wait(5)
    assert slide.read == []
    session.use_encoder(FakeEncoder())
    assert session.wait(20)
    assert (session.tile_states(slide, 0.5).states == TileState.EMBEDDED).sum() == 49


def test_another_encoder_takes_up_the_view_at_a_magnification_it_allows(session, slide):
    told = []
    session.encoder_changed.connect(told.append)
    old, new = FakeEncoder("old"), FakeEncoder("new", allowed_mpp=(1.0, 2.0))
    session.use_encoder(old)
    session.add_slide(slide)
    session.look_at(slide, VIEW, mpp=0.5)
    assert session.wait(20)
    session.use_encoder(new)
    assert session.wait(20)
    assert told == [old, new]
    assert session.encoder is new
    assert session.tile_states(slide, 0.5) is None
    assert session.tile_states(slide, 1.0).encoder == "new-0-class"
    assert new.n_encoded > 0


def test_a_magnification_the_encoder_does_not_know_is_refused(session, slide):
    session.use_encoder(FakeEncoder())
    session.add_slide(slide)
    with pytest.raises(ValueError, match=r"works at 0.5, 1 µm per pixel, not at 0.7"):
        session.look_at(slide, VIEW, mpp=0.7)


def test_a_slide_that_is_not_open_is_refused(session, slide):
    with pytest.raises(ValueError, match="The slide one is not open"):
        session.look_at(slide, VIEW, mpp=0.5)


def test_work_without_an_encoder_is_refused(session, slide):
    session.add_slide(slide)
    with pytest.raises(ValueError, match="No encoder is loaded"):
        session.embed_slide(slide, mpp=0.5)
    with pytest.raises(ValueError, match="No encoder is loaded"):
        session.embeddings(slide, 0.5)


def test_embeddings_are_empty_where_nothing_is_stored_and_kept_after_closing(tmp_path):
    with Session(tmp_path) as session:
        slide = session.add_slide(plain(FakeSlide()))
        session.use_encoder(FakeEncoder())
        assert session.embeddings(slide, 0.5)[1].shape == (0, 5)
        session.embed_slide(slide, mpp=0.5)
        assert session.wait(20)
    with Session(tmp_path) as session:
        slide = session.add_slide(plain(FakeSlide()))
        session.use_encoder(FakeEncoder())
        assert session.embeddings(slide, 0.5)[1].shape == (600, 5)
        assert session.tile_states(slide, 0.5) is None  # nothing was looked at


def test_what_is_stored_is_listed_and_deleted_while_in_use(session, slide):
    session.use_encoder(FakeEncoder())
    session.add_slide(slide)
    diary = Diary(session)
    session.look_at(slide, VIEW, mpp=0.5)
    assert session.wait(20)
    [info] = session.stored(slide)
    assert session.stored("another") == []
    assert (info.n_tiles, info.n_total, info.mpp) == (49, 600, 0.5)
    session.delete_stored(info)
    assert session.wait(5)
    assert not (diary.states[slide.identity, slide.grid()] == TileState.EMBEDDED).any()
    assert not (session.tile_states(slide, 0.5).states == TileState.EMBEDDED).any()
    session.look_at(slide, VIEW, mpp=0.5)
    assert session.wait(20)
    assert [info.n_tiles for info in session.stored()] == [49]


def test_what_another_session_writes_is_not_deleted(session, slide, tmp_path):
    session.use_encoder(FakeEncoder())
    session.add_slide(slide)
    session.look_at(slide, VIEW, mpp=0.5)
    assert session.wait(20)
    with Session(tmp_path / "store") as other:
        [info] = other.stored()
        with pytest.raises(StoreBusy):
            other.delete_stored(info)
    assert [info.n_tiles for info in session.stored()] == [49]


def test_deleting_stops_our_own_work_first(session):
    encoder = FakeEncoder()
    slide = session.add_slide(plain(FakeSlide(tiles=(40, 40))))
    session.use_encoder(encoder)
    encoder.gate.clear()
    session.embed_slide(slide, mpp=0.5)
    assert encoder.started.wait(20)
    [info] = session.stored()
    deleter = threading.Thread(target=session.delete_stored, args=(info,))
    deleter.start()
    encoder.gate.set()
    deleter.join(20)
    assert not deleter.is_alive()
    assert session.wait(20)
    assert encoder.n_encoded < 40
    assert (session.tile_states(slide, 0.5).states == TileState.NONE).all()


def test_closing_a_slide_in_the_midst_of_reading_waits_for_the_batch(session):
    slide = session.add_slide(plain(FakeSlide()))
    session.use_encoder(FakeEncoder())
    diary = Diary(session)
    slide.gate.clear()
    session.embed_slide(slide, mpp=0.5)
    diary.wait_for(lambda: diary.of("states_reset"))
    closer = threading.Thread(target=session.close_slide, args=(slide,))
    closer.start()
    slide.gate.set()
    closer.join(20)
    assert slide.closed
    assert session.wait(20)
    assert not diary.of("failed")


def test_closing_the_session_closes_slides_and_joins_threads(tmp_path):
    session = Session(tmp_path)
    slide = session.add_slide(plain(FakeSlide(tiles=(60, 60))))
    session.use_encoder(FakeEncoder())
    session.embed_slide(slide, mpp=0.5)
    session.close()
    session.close()
    assert session.state == EngineState.CLOSED
    assert slide.closed
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("napari-virchow")]
    session.cancel()
    assert session.wait(5)


def test_verbs_from_many_threads_leave_a_true_picture(session):
    encoder = FakeEncoder()
    session.use_encoder(encoder)
    slides = [session.add_slide(plain(FakeSlide(str(n), tiles=(40, 40)))) for n in range(2)]
    diary = Diary(session)

    def look_around(seed):
        rng = np.random.default_rng(seed)
        for _ in range(25):
            x, y = rng.uniform(0, 8000, 2)
            slide = slides[rng.integers(2)]
            session.look_at(slide, Rect(x, y, 900, 700), mpp=(0.5, 1.0)[rng.integers(2)])
            if rng.integers(9) == 0:
                session.cancel()
            session.tile_states(slide, 0.5)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(look_around, range(4)))
    assert session.wait(30)
    assert not diary.of("failed")
    n_embedded = 0
    for slide in slides:
        for mpp in (0.5, 1.0):
            states = session.tile_states(slide, mpp)
            if states is not None:
                np.testing.assert_array_equal(
                    diary.states[slide.identity, slide.grid(mpp)], states.states
                )
                assert not (states.states == TileState.WAITING).any()
                n_embedded += int((states.states == TileState.EMBEDDED).sum())
    assert n_embedded == encoder.n_encoded  # nothing was computed twice


def test_a_tile_is_told_with_its_slide_grid_and_encoder(session, slide):
    session.use_encoder(FakeEncoder())
    session.add_slide(slide)
    diary = Diary(session)
    session.look_at(slide, Rect(0, 0, 100, 100), mpp=1.0)
    assert session.wait(20)
    update = diary.of("tiles_changed")[0]
    assert (update.slide, update.grid, update.encoder) == (
        "slide-one",
        slide.grid(1.0),
        "fake-0-class",
    )
    assert update.tiles[0] == Tile(0, 0)


def test_a_real_slide_is_embedded_once(data_dir, tmp_path):
    """The built-in encoder on a scanned slide, with its tissue; the second session finds it all."""
    path = data_dir / "slides" / "CMU-1-Small-Region.svs"
    counts = []
    for _ in range(2):
        with Session(tmp_path) as session:
            session.load_encoder("texture")
            slide = session.open_slide(path)
            session.embed_slide(slide, mpp=1.0)
            assert session.wait(60)
            states = session.tile_states(slide, 1.0).states
            tiles, matrix = session.embeddings(slide, 1.0)
            counts.append((session.progress.done, len(tiles)))
    assert set(np.unique(states)) <= {TileState.EMBEDDED, TileState.GLASS}
    assert np.isfinite(matrix).all()
    assert counts[0][0] == counts[0][1] == (states == TileState.EMBEDDED).sum() > 20
    assert counts[1] == (0, counts[0][1])


def test_a_real_slide_without_a_pixel_size_asks_for_it(data_dir, tmp_path):
    with Session(tmp_path) as session:
        session.use_encoder(FakeEncoder())
        slide = session.open_slide(data_dir / "slides" / "TCGA-CR-7395-01A-01-TS1.svs")
        with pytest.raises(MissingPixelSize):
            session.look_at(slide, VIEW, mpp=0.5)
        session.set_slide_mpp(slide, 0.25)
        session.look_at(slide, VIEW, mpp=0.5)
        assert session.wait(60)
        assert session.tile_states(slide, 0.5) is not None


def test_some_tiles_are_embedded_next_and_nothing_between_them(session, slide):
    session.use_encoder(FakeEncoder())
    session.add_slide(slide)
    far = [Tile(0, 0), Tile(12, 3)]
    session.embed_next(slide, far, mpp=0.5)
    assert session.wait(20)
    tiles, _ = session.embeddings(slide, 0.5)
    assert sorted(map(tuple, tiles.tolist())) == far

    session.look_at(slide, VIEW, mpp=0.5)
    assert session.wait(20)
    assert len(session.embeddings(slide, 0.5)[0]) == 49 + 2
