"""Thumbnails come in the background, also of slides that are not open."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from qtpy.QtCore import QObject
from tests.slides import picture, write_svs

from napari_virchow._napari import thumbnails as module
from napari_virchow._napari.thumbnails import Thumbnail, Thumbnails, TileAt
from napari_virchow.session import Session
from napari_virchow.tiles import Rect, Tile

PIXELS = picture(1100, 1300)
RECT = Rect(300, 200, 100, 100)


@pytest.fixture
def session(tmp_path):
    with Session(tmp_path / "store") as made:
        yield made


@pytest.fixture
def identity(session, tmp_path):
    """A slide that the session knows, but has not open."""
    slide = session.open_slide(write_svs(tmp_path / "one.svs", PIXELS))
    session.close_slide(slide)
    return slide.identity


@pytest.fixture
def thumbnails(qtbot, session):
    parent = QObject()
    made = Thumbnails(session, parent)
    yield made
    made.close()


def pixels_of(image):
    image = image.convertToFormat(image.Format.Format_RGB888)
    data = np.frombuffer(image.constBits().asstring(image.sizeInBytes()), np.uint8)
    return data.reshape(image.height(), image.bytesPerLine())[:, : 3 * image.width()].reshape(
        image.height(), image.width(), 3
    )


def test_a_thumbnail_is_told_once_it_is_there(thumbnails, identity, until):
    told = []
    thumbnails.ready.connect(told.append)
    assert thumbnails.get(identity, RECT, 100) is None
    until(lambda: told == [Thumbnail(identity, RECT, 100, 0.0)])
    image = thumbnails.get(identity, RECT, 100)
    np.testing.assert_array_equal(pixels_of(image), PIXELS[200:300, 300:400])
    assert thumbnails.reason(identity, RECT, 100) is None


def test_a_tile_is_found_by_its_place_in_a_grid(thumbnails, identity, until):
    at = TileAt(Tile(1, 2), 0.5)
    until(lambda: thumbnails.get(identity, at, 224) is not None)
    shown = pixels_of(thumbnails.get(identity, at, 224))
    np.testing.assert_array_equal(shown, PIXELS[224:448, 448:672])


def test_context_shows_more_with_a_frame_around_the_tile(thumbnails, identity, until):
    until(lambda: thumbnails.get(identity, RECT, 200, 0.5) is not None)
    shown = pixels_of(thumbnails.get(identity, RECT, 200, 0.5))
    assert shown.shape == (200, 200, 3)
    np.testing.assert_array_equal(shown[:40, :40], PIXELS[150:190, 250:290])
    assert tuple(shown[50, 100]) == (255, 212, 0)


def test_what_cannot_be_read_is_grey_and_says_why(thumbnails, until):
    until(lambda: thumbnails.get("0" * 32, RECT, 31) is not None)
    assert thumbnails.get("0" * 32, RECT, 31).width() == 31
    assert "not known where" in thumbnails.reason("0" * 32, RECT, 31)
    thumbnails.try_again()
    assert thumbnails.get("0" * 32, RECT, 31, ask=False) is None


def test_the_oldest_pictures_go_when_memory_is_full(thumbnails, identity, until, monkeypatch):
    monkeypatch.setattr(module, "CACHE_BYTES", 3 * 3 * 10_000)
    rects = [Rect(x, 0, 100, 100) for x in range(0, 500, 100)]
    for rect in rects:
        until(lambda rect=rect: thumbnails.get(identity, rect, 100) is not None)
    kept = [thumbnails.get(identity, rect, 100, ask=False) is not None for rect in rects]
    assert kept == [False, False, True, True, True]


def test_the_end_joins_the_threads(qtbot, session, identity, until):
    parent = QObject()
    made = Thumbnails(session, parent)
    until(lambda: made.get(identity, RECT, 50) is not None)
    threads = made._desk._threads
    assert all(thread.is_alive() for thread in threads)
    made.close()
    assert not any(thread.is_alive() for thread in threads)
    assert made.get(identity, Rect(0, 0, 7, 7), 50) is None


def test_what_is_told_after_the_end_reaches_nobody(session, identity, qtbot):
    parent = QObject()
    made = Thumbnails(session, parent)
    tell, heard = made._desk._tell, []
    made.ready.connect(heard.append)
    teller = threading.Thread(target=tell, args=(Thumbnail(identity, RECT, 50),))
    teller.start()  # queued for this thread
    teller.join()
    del parent  # and with it the C++ object behind `made`
    qtbot.wait(20)
    assert heard == []
