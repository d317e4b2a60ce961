"""The search of a session: queries in, answers out, while slides are being embedded."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fakes import FakeEncoder, FakeSlide
from napari_virchow.search import Example, Kind, Options, Query
from napari_virchow.session import Session
from napari_virchow.tiles import Rect, Tile

KIND = Kind("fake-0-class", "224px-0.5mpp", 0.5)


def plain(slide):
    slide.brightfield = False
    return slide


class Ear:
    """Hears what a search says."""

    def __init__(self, search):
        self.answers, self.said, self.queries, self.errors = [], [], [], []
        self.heard = threading.Condition()
        for signal, told in (
            (search.answered, self.answers),
            (search.emptied, self.said),
            (search.changed, self.queries),
            (search.failed, self.errors),
        ):
            signal.connect(lambda fact, told=told: self._note(told, fact))

    def _note(self, told, fact):
        with self.heard:
            told.append(fact)
            self.heard.notify_all()

    def until(self, condition):
        with self.heard:
            assert self.heard.wait_for(condition, 30), (self.said, self.errors)


@pytest.fixture
def session(tmp_path):
    with Session(tmp_path / "store") as session:
        yield session


def embedded(session, name="one", tiles=(5, 7)):
    slide = session.add_slide(plain(FakeSlide(name, tiles=tiles)))
    session.embed_slide(slide, mpp=0.5)
    assert session.wait(30)
    return slide


@pytest.fixture
def slide(session):
    session.use_encoder(FakeEncoder())
    return embedded(session)


@pytest.fixture
def search(session, slide):
    session.similarity.look_at(slide, 0.5)
    return session.similarity


def test_a_click_is_answered_with_hits_and_a_map(search, slide):
    ear = Ear(search)
    generation = search.add(slide, Tile(2, 3))
    assert search.wait(30)
    answer = search.answer
    assert answer.generation == generation
    assert answer.query == Query((Example("slide-one", Tile(2, 3), "one", 0.5),))
    assert len(answer.hits) == 35 - 9
    assert answer.heat.raster().shape == (5, 7)
    assert np.isfinite(answer.heat.raster()).all()
    assert (answer.compared.kind, answer.compared.n_tiles, answer.compared.n_slides) == (
        KIND,
        35,
        1,
    )
    assert ear.answers[-1] is answer
    assert ear.queries == [answer.query]
    assert ear.errors == []


def test_it_says_what_to_do_while_there_is_nothing_to_show(session):
    ear = Ear(session.similarity)
    session.similarity.refresh()
    assert session.similarity.wait(30)
    slide = session.add_slide(plain(FakeSlide()))
    session.use_encoder(FakeEncoder())
    session.similarity.look_at(slide, 0.5)
    assert session.similarity.wait(30)
    assert ear.said[0] == "Open a slide and choose an encoder to search."
    assert ear.said[-1] == "Pick a tile to find more like it."
    assert session.similarity.answer is None


def test_a_tile_that_is_not_embedded_is_embedded_and_then_answered(session):
    session.use_encoder(FakeEncoder())
    slide = session.add_slide(plain(FakeSlide(tiles=(5, 7))))
    search = session.similarity
    ear = Ear(search)
    search.look_at(slide, 0.5)
    search.add(slide, Tile(2, 3))
    ear.until(lambda: ear.answers)
    assert any("being embedded" in sentence for sentence in ear.said)
    assert ear.answers[-1].heat.raster()[2, 3] == pytest.approx(1, abs=1e-3)


def test_answers_follow_while_tiles_are_being_embedded(session):
    session.use_encoder(FakeEncoder())
    slide = session.add_slide(plain(FakeSlide(tiles=(5, 7))))
    search = session.similarity
    ear = Ear(search)
    search.look_at(slide, 0.5)
    search.add(slide, Tile(2, 3))
    session.embed_slide(slide, mpp=0.5)
    ear.until(lambda: ear.answers and ear.answers[-1].compared.n_tiles == 35)


def test_the_whole_store_is_searched_without_its_slides_being_open(tmp_path, session, slide):
    two = embedded(session, "two", tiles=(3, 4))
    session.close_slide(two)
    search = session.similarity
    search.look_at(slide, 0.5)
    search.set_options(Options(scope="store"))
    ear = Ear(search)
    search.add(slide, Tile(2, 3))
    ear.until(lambda: ear.answers and ear.answers[-1].compared.n_slides == 2)
    hits = ear.answers[-1].hits
    there = next(hit for hit in hits if hit.slide == "slide-two")
    assert there.slide_name == "two"
    assert there.slide_path == two.path
    search.set_options(Options(scope="chosen", slides=("slide-two",)))
    assert search.wait(30)
    assert {hit.slide for hit in search.answer.hits} == {"slide-two"}
    assert search.answer.heat is None


def test_negatives_undo_and_removal_change_the_answer(search, slide):
    search.add(slide, Tile(0, 6))
    assert search.wait(30)
    first = search.answer
    search.add(slide, Tile(4, 6), positive=False)
    assert search.wait(30)
    second = search.answer
    assert [tuple(t) for t in first.hits.tiles] != [tuple(t) for t in second.hits.tiles]
    search.undo()
    assert search.wait(30)
    np.testing.assert_array_equal(search.answer.hits.tiles, first.hits.tiles)
    assert search.can_redo
    search.redo()
    search.remove(search.query.negatives[0])
    assert search.wait(30)
    np.testing.assert_array_equal(search.answer.hits.scores, first.hits.scores)
    search.clear()
    assert search.wait(30)
    assert search.answer is None


def test_a_region_adds_its_tiles_in_one_step(search, slide):
    search.add_region(slide, Rect(0, 0, 448, 448))
    assert [e.tile for e in search.query.positives] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    search.undo()
    assert search.query == Query()


def test_another_encoder_is_another_search_and_the_first_is_offered(session, search, slide):
    search.add(slide, Tile(2, 3))
    session.use_encoder(FakeEncoder("second", dim=6))
    session.embed_slide(slide, mpp=0.5)
    assert session.wait(30)
    ear = Ear(search)
    search.refresh()
    ear.until(lambda: ear.answers and ear.answers[-1].compared.others == (KIND,))
    assert ear.answers[-1].compared.kind.encoder == "second-0-class"
    search.compare(KIND)
    assert search.wait(30)
    assert search.answer.compared.kind == KIND
    assert search.answer.hits[0].score > 0


def test_no_encoder_is_needed_to_search_what_is_stored(session, search, slide):
    session.use_encoder(None)
    search.add(slide, Tile(2, 3))
    assert search.wait(30)
    assert search.answer.compared.kind == KIND


def test_a_deleted_store_leaves_nothing_behind(session, search, slide):
    search.add(slide, Tile(2, 3))
    assert search.wait(30)
    ear = Ear(search)
    session.use_encoder(None)
    search.compare(KIND)
    assert search.wait(30)
    session.delete_stored(session.stored(slide)[0])
    search.refresh()
    assert search.wait(30)
    assert search.answer is None
    assert "has no embedding by fake" in ear.said[-1]


def test_an_example_that_contradicts_itself_is_told_and_the_search_lives_on(search, slide):
    ear = Ear(search)
    search.set_options(Options(class_token_only=True, k=3))
    search.add(slide, Tile(2, 3))
    assert search.wait(30)  # the fake encoder has nothing but class tokens
    assert len(search.answer.hits) == 3
    assert ear.errors == []


def test_a_closed_session_has_no_threads_left(tmp_path):
    with Session(tmp_path) as session:
        session.similarity.refresh()
    assert not [t for t in threading.enumerate() if t.name.startswith("virchow-search")]
    session.close()
