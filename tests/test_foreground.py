"""What a person waits for goes first; background work pauses, and never for long."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from fakes import FakeEncoder, FakeSlide
from napari_virchow import foreground
from napari_virchow.encoders import load_encoder
from napari_virchow.engine import Engine
from napari_virchow.session import Session
from napari_virchow.tiles import Tile


class Clock:
    """Time that only goes on while somebody sleeps; `slept` says in which threads."""

    def __init__(self):
        self.now, self.slept = 1000.0, []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(threading.current_thread().name)
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    fake = SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep)
    monkeypatch.setattr(foreground, "time", fake)
    monkeypatch.setattr(foreground, "_until", 0.0)
    return clock


def paused_s(clock):
    before = clock.now
    foreground.give_way()
    return clock.now - before


def test_background_work_pauses_for_a_moment_and_then_goes_on(clock):
    assert paused_s(clock) == 0
    foreground.go_first()
    assert 0.1 < paused_s(clock) < 0.2
    assert paused_s(clock) == 0


def test_however_fast_clicks_follow_most_of_the_time_is_left_for_background_work(clock):
    began, paused = clock.now, 0.0
    for _ in range(600):  # a click every 16 ms
        foreground.go_first()
        paused += paused_s(clock)
        clock.now += 0.016
    assert 0 < paused < (clock.now - began) / 2


def test_what_the_click_waits_for_is_not_paused(clock):
    foreground.go_first()
    foreground.let_go_on()
    assert paused_s(clock) == 0


def test_reading_and_encoding_give_way(clock, tmp_path):
    slide, encoder = FakeSlide(tiles=(4, 4)), FakeEncoder()
    engine = Engine(tmp_path, lambda _, grid: np.ones(grid.shape, bool))
    engine.set_encoder(encoder)
    foreground.go_first()
    engine.embed(slide, slide.grid())
    assert engine.wait(30)
    engine.close()
    assert encoder.n_encoded == 16
    assert "napari-virchow reader" in clock.slept


def test_the_built_in_encoder_gives_way_before_each_tile(clock):
    encoder = load_encoder("texture")
    foreground.go_first()
    tiles = np.random.default_rng(3).integers(0, 256, (3, 224, 224, 3), np.uint8)
    assert len(encoder.encode(tiles)) == 3
    assert any(name.startswith("ThreadPoolExecutor") for name in clock.slept)


def test_a_search_goes_first_only_where_its_tile_is_embedded_already(clock, tmp_path):
    slide = FakeSlide(tiles=(6, 6))
    slide.brightfield = False  # no search for tissue
    with Session(tmp_path) as session:
        session.add_slide(slide)
        session.use_encoder(FakeEncoder())
        session.embed_next(slide, [Tile(1, 1)], mpp=0.5)
        assert session.wait(30)
        search = session.similarity
        search.look_at(slide, 0.5)
        search.add(slide, Tile(1, 1))
        assert search.wait(30)
        assert paused_s(clock) > 0
        clock.now += 10
        search.add(slide, Tile(4, 4))
        assert search.wait(30)
        assert session.wait(30)
        assert len(session.embeddings(slide, 0.5)[0]) == 2
    assert not [name for name in clock.slept if name.startswith("napari-virchow")]
