"""Small pictures of places on slides, also of slides that nobody has open."""

from __future__ import annotations

import numpy as np
import pytest
from tests.slides import picture, write_svs

from napari_virchow.pictures import SlidesAtHand, read_picture
from napari_virchow.session import Session
from napari_virchow.slide import SlideError, open_slide
from napari_virchow.tiles import Rect

PIXELS = picture(1100, 1300)


@pytest.fixture
def slide_file(tmp_path):
    return write_svs(tmp_path / "one.svs", PIXELS)


@pytest.fixture
def session(tmp_path):
    with Session(tmp_path / "store") as made:
        yield made


def test_a_picture_shows_its_place_at_the_size_asked_for(slide_file):
    with open_slide(slide_file) as slide:
        same = read_picture(slide, Rect(300, 200, 60, 40), 60)
        np.testing.assert_array_equal(same, PIXELS[200:240, 300:360])
        small = read_picture(slide, Rect(100, 200, 400, 200), 100)
        assert small.shape == (50, 100, 3)
        true = PIXELS[200:400, 100:500].reshape(50, 4, 100, 4, 3).mean((1, 3))
        assert np.abs(small - true).mean() < 4  # out of 255, and read from the coarser level


def test_a_picture_is_white_beside_the_slide(slide_file):
    with open_slide(slide_file) as slide:
        found = read_picture(slide, Rect(-50, -50, 100, 100), 100)
        assert (found[:50] == 255).all()
        np.testing.assert_array_equal(found[50:, 50:], PIXELS[:50, :50])


def test_a_picture_without_size_is_refused(slide_file):
    with open_slide(slide_file) as slide, pytest.raises(ValueError, match="has no size"):
        read_picture(slide, Rect(0, 0, 0, 9), 7)


def test_a_slide_that_is_not_open_is_found_again_and_closed_when_idle(session, slide_file):
    slide = session.open_slide(slide_file)
    at_hand = SlidesAtHand(session)
    assert at_hand.get(slide.identity) is slide
    session.close_slide(slide)
    own = at_hand.get(slide.identity)
    assert own is not slide
    assert own is at_hand.get(slide.identity)
    assert read_picture(own, Rect(0, 0, 9, 9), 9).shape == (9, 9, 3)
    assert at_hand.close_idle(1000) is not None
    assert at_hand.close_idle(0) is None
    assert at_hand.get(slide.identity) is not own
    at_hand.close()


def test_a_slide_that_lies_nowhere_is_said_so(session, slide_file, tmp_path):
    slide = session.open_slide(slide_file)
    session.close_slide(slide)
    at_hand = SlidesAtHand(session)
    with pytest.raises(SlideError, match="not known where"):
        at_hand.get("0" * 32)
    write_svs(slide_file, picture(1100, 1300, seed=7))
    with pytest.raises(SlideError, match=r"Another slide lies at .*one\.svs"):
        at_hand.get(slide.identity)
    slide_file.unlink()
    with pytest.raises(SlideError):
        at_hand.get(slide.identity)
    at_hand.close()
