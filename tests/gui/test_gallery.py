"""A gallery of thousands of tiles in a real window, used with mouse and keys."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QVBoxLayout, QWidget
from tests.slides import picture, write_svs

from napari_virchow._napari.gallery import Gallery, Place
from napari_virchow._napari.gallery_item import Mark
from napari_virchow._napari.thumbnails import Thumbnails
from napari_virchow.session import Session
from napari_virchow.tiles import Tile

LEFT, NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
COLS = 11


@pytest.fixture
def hits(tmp_path):
    """Ten thousand tiles of a slide of 5 x 4, those from 20 on beyond its edge."""
    with Session(tmp_path / "store") as session:
        slide = session.open_slide(write_svs(tmp_path / "one.svs", picture(800, 1100)))
        grid = slide.grid(0.5)
        tiles = [Tile(n // COLS, n % COLS) for n in range(10_000)]
        yield SimpleNamespace(
            session=session,
            slide=slide.identity,
            all=[
                SimpleNamespace(
                    slide=slide.identity,
                    slide_name=slide.name,
                    tile=tile,
                    rect=grid.rect(tile),
                    score=1 - n / 10_000,
                )
                for n, tile in enumerate(tiles)
            ],
        )


@pytest.fixture
def gallery(qtbot, until, hits):
    window = QWidget()
    qtbot.addWidget(window)
    thumbnails = Thumbnails(hits.session, window)
    made = Gallery(thumbnails)
    QVBoxLayout(window).addWidget(made)
    window.resize(380, 400)
    window.show()
    qtbot.waitExposed(window)
    made.show_tiles(hits.all, range(len(hits.all)), 112.0)
    until(lambda: made.visualRect(made.tiles.index(4)).y() > 0)
    yield made
    thumbnails.close()


def click(gallery, row, modifier=NONE):
    at = gallery.visualRect(gallery.tiles.index(row)).center()
    QTest.mouseClick(gallery.viewport(), LEFT, modifier, at)


def test_only_what_is_on_the_screen_is_read(gallery, hits, until):
    first = hits.all[0]
    until(lambda: gallery.thumbnails.get(first.slide, first.rect, 88, ask=False) is not None)
    gallery.verticalScrollBar().setValue(gallery.verticalScrollBar().maximum())
    last = hits.all[-1]
    until(lambda: gallery.thumbnails.get(last.slide, last.rect, 88, ask=False) is not None)
    middle = hits.all[5000]
    assert gallery.thumbnails.get(middle.slide, middle.rect, 88, ask=False) is None
    assert gallery.thumbnails.n_known < 100


def test_a_click_jumps_and_keys_choose_and_jump(gallery, hits):
    jumps, keys = [], []
    gallery.jump_wanted.connect(jumps.append)
    gallery.key_pressed.connect(keys.append)
    click(gallery, 2)
    assert jumps == [hits.all[2]]
    click(gallery, 4, Qt.KeyboardModifier.ControlModifier)
    assert jumps == [hits.all[2]]
    assert gallery.chosen == [hits.all[2], hits.all[4]]
    QTest.keyClick(gallery, Qt.Key.Key_Right)
    QTest.keyClick(gallery, Qt.Key.Key_Return)
    assert jumps[1:] == [hits.all[5]]
    for key, modifier in ((Qt.Key.Key_P, NONE), (Qt.Key.Key_P, Qt.KeyboardModifier.ShiftModifier)):
        QTest.keyClick(gallery, key, modifier)
    QTest.keyClick(gallery, Qt.Key.Key_3)
    assert keys == ["P", "Shift-P", "3"]


def test_what_is_chosen_stays_chosen_in_another_order(gallery, hits):
    gallery.choose([Place(hits.slide, hits.all[n].tile) for n in (3, 4, 7)])
    assert gallery.chosen == [hits.all[3], hits.all[4], hits.all[7]]
    gallery.show_tiles(hits.all, range(9)[::-1], 112.0)
    assert gallery.tiles.rowCount() == 9
    assert gallery.chosen == [hits.all[7], hits.all[4], hits.all[3]]
    gallery.show_tiles(hits.all, range(5), 112.0)
    assert gallery.chosen == [hits.all[3], hits.all[4]]


def test_space_shows_the_surroundings(gallery, hits, until):
    click(gallery, 1)
    QTest.keyClick(gallery, Qt.Key.Key_Space)
    until(gallery.context.isVisible)
    assert "one.svs" in gallery.context.words.text()
    assert "448 µm wide" in gallery.context.words.text()
    QTest.keyClick(gallery, Qt.Key.Key_Space)
    assert not gallery.context.isVisible()


def test_size_and_marks_can_be_changed(gallery, hits, until):
    gallery.set_size(130)
    until(lambda: gallery.visualRect(gallery.tiles.index(0)).width() == 144 + 8)
    tile = hits.all[1].tile
    gallery.set_marks({Place(hits.slide, tile): Mark(-1, "Tumour", "#d55e00")})
    words = gallery.tiles.data(gallery.tiles.index(1))
    assert words == f"1.000 one.svs row {tile.row} column {tile.col}, Tumour"
