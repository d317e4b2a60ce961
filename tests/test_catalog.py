"""A set of slides: what each one is, what is stored of it, and keeping the set."""

from __future__ import annotations

import numpy as np

from napari_virchow.catalog import embedded_before, load_list, look_again, look_up, save_list
from napari_virchow.sample import write_sample
from napari_virchow.session import Session


def test_a_slide_says_what_it_is_and_what_is_stored(tmp_path):
    path, store = tmp_path / "a.tif", tmp_path / "store"
    write_sample(path, width=1024, height=768)
    one = look_up(str(path), store)
    assert (one.name, one.width, one.height, one.mpp) == ("a.tif", 1024, 768, (0.5, 0.5))
    assert one.stored == ()
    assert embedded_before(store) == []

    with Session(store) as session:
        slide = session.open_slide(path)
        session.load_encoder("texture")
        session.embed_slide(slide, mpp=1.0)
        session.wait()
        n = len(session.embeddings(slide, 1.0)[0])
    again = look_again(one, store)
    assert n > 0
    assert again.n_embedded == n
    assert look_up(str(path), store) == again
    assert embedded_before(store) == [str(path)]


def test_what_cannot_be_opened_says_why(tmp_path):
    (tmp_path / "broken.svs").write_bytes(np.arange(99, dtype=np.uint8).tobytes())
    one = look_up(str(tmp_path / "broken.svs"), tmp_path / "store")
    assert one.identity == ""
    assert "broken.svs" in one.reason
    assert look_again(one, tmp_path / "store") is one
    assert "missing.svs" in look_up(str(tmp_path / "missing.svs"), tmp_path).reason


def test_a_set_is_found_again_and_a_damaged_one_is_empty(tmp_path):
    assert load_list(tmp_path) == []
    save_list(tmp_path, ["b.svs", "a.svs"])
    assert load_list(tmp_path) == ["b.svs", "a.svs"]
    (tmp_path / "slides.json").write_text("{")
    assert load_list(tmp_path) == []
