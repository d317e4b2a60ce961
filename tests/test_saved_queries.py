"""Queries that were given a name: kept, found, renamed, deleted, and used on other slides."""

from __future__ import annotations

import numpy as np
import pytest

from fakes import FakeEncoder, FakeSlide
from napari_virchow.search import Options, Query, SavedQueries, SavedQueryError
from napari_virchow.search.facts import Example, Kind
from napari_virchow.session import Session
from napari_virchow.tiles import Tile
from search_stores import ENCODER

KIND = Kind(ENCODER, "224px-0.5mpp", 0.5)


def embedded(session, name="one"):
    slide = FakeSlide(name, tiles=(5, 7))
    slide.brightfield = False
    session.add_slide(slide)
    session.embed_slide(slide, mpp=0.5)
    assert session.wait(30)
    return slide


def example(n, slide="a"):
    vector = np.arange(3, dtype=np.float32) + n
    return Example(slide, Tile(n, n), f"{slide}.svs", 0.5, vector, ENCODER)


QUERY = Query((example(1), example(2)), (example(3),), Options(center=True, k=7, scope="store"))


@pytest.fixture
def saved(tmp_path):
    return SavedQueries(tmp_path)


def test_a_saved_query_comes_back_whole(saved):
    pictures = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)
    about = saved.save("Tumour, solid", QUERY, KIND, notes="seen on µ", pictures=pictures)
    assert saved.all() == [about]
    assert (about.n_positives, about.n_negatives, about.notes) == (2, 1, "seen on µ")
    loaded = saved.load(about, Options(k=9))
    assert (loaded.positives, loaded.negatives) == (QUERY.positives, QUERY.negatives)
    assert loaded.options == Options(center=True, k=9)
    np.testing.assert_array_equal(loaded.negatives[0].vector, [3, 4, 5])
    np.testing.assert_array_equal(saved.pictures(about), pictures)


def test_a_name_is_taken_once_whatever_its_case(saved):
    saved.save("Tumour", QUERY, KIND)
    with pytest.raises(SavedQueryError, match="choose another name"):
        saved.save(" tumour ", QUERY, KIND)
    with pytest.raises(SavedQueryError, match="needs a name"):
        saved.save("  ", QUERY, KIND)
    assert len(saved.all()) == 1


def test_renaming_keeps_all_but_the_name(saved):
    about = saved.save("Tumour", QUERY, KIND, notes="old")
    saved.save("Fat", QUERY, KIND)
    renamed = saved.rename(about, "Necrosis")
    assert [q.name for q in saved.all()] == ["Fat", "Necrosis"]
    assert saved.find("necrosis") == renamed
    assert saved.load(renamed).positives == QUERY.positives
    assert saved.rename(renamed, "NECROSIS", "new").notes == "new"
    with pytest.raises(SavedQueryError, match="choose another"):
        saved.rename(renamed, "fat")


def test_deleting_twice_is_fine(saved):
    about = saved.save("Tumour", QUERY, KIND)
    saved.delete(about)
    saved.delete(about)
    assert saved.all() == []
    with pytest.raises(SavedQueryError, match="not a saved query"):
        saved.load(about)


def test_damaged_files_are_left_out_of_the_list_and_kept(saved):
    about = saved.save("Tumour", QUERY, KIND)
    bad = saved.folder / "bad.safetensors"
    bad.write_bytes(about.path.read_bytes()[:99])
    assert saved.all() == [about]
    assert bad.exists()


def test_an_example_without_a_vector_cannot_be_saved(saved):
    with pytest.raises(ValueError, match="not embedded yet"):
        saved.save("Tumour", Query((Example("a", Tile(0, 0), "a"),)), KIND)
    with pytest.raises(ValueError, match="pick a tile"):
        saved.save("Tumour", Query(), KIND)
    assert saved.all() == []


def test_a_saved_query_is_used_on_another_slide_when_its_own_is_gone(tmp_path):
    with Session(tmp_path) as session:
        session.use_encoder(FakeEncoder())
        slide = embedded(session)
        search = session.similarity
        search.look_at(slide, 0.5)
        search.add(slide, Tile(2, 3))
        assert search.wait(30)
        about = search.save_query("This")
        session.delete_stored(session.stored(slide)[0])
        session.close_slide(slide)
        other = embedded(session, "other")
        search.clear()
        search.look_at(other, 0.5)
        search.load_query(about)
        assert search.wait(30)
        assert search.answer.hits[0].tile == Tile(2, 3)
        assert search.answer.hits[0].score == pytest.approx(1, abs=1e-5)
