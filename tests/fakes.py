"""A slide and an encoder that need no file and no model, and say what was asked of them."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from napari_virchow.tiles import TileGrid


class FakeSlide:
    """A slide whose tile (row, col) is filled with (row, col, 7)."""

    reader, brightfield = "fake", True

    def __init__(self, name="one", *, tiles=(20, 30), path=None):
        self.name, self.identity = name, f"slide-{name}"
        self.path = str(path if path is not None else Path(__file__))
        self.width, self.height = tiles[1] * 224, tiles[0] * 224
        self.mpp = (0.5, 0.5)
        self.bad = set()  # tiles that cannot be read
        self.broken = None  # an exception that reading raises
        self.read = []  # batches, in order
        self.reading = threading.Condition()  # notified after each
        self.gate = threading.Event()  # reading waits for it
        self.gate.set()
        self.closed = False

    def grid(self, mpp=0.5, tile_px=224):
        return TileGrid(self.width, self.height, self.mpp, mpp, tile_px)

    def set_mpp(self, mpp):
        self.mpp = mpp if isinstance(mpp, tuple) else (mpp, mpp)

    def read_tiles(self, grid, tiles, *, on_error=None):
        assert not self.closed
        assert self.gate.wait(20)
        if self.broken is not None:
            raise self.broken
        with self.reading:
            self.read.append(list(tiles))
            self.reading.notify_all()
        pixels = np.zeros((len(tiles), 224, 224, 3), np.uint8)
        for pixel, tile in zip(pixels, tiles, strict=True):
            pixel[:] = (tile.row, tile.col, 7)
            if tile in self.bad:
                on_error(tile, ValueError("bad bytes"))
        return pixels

    def wait_until_read(self, tile):
        with self.reading:
            assert self.reading.wait_for(lambda: any(tile in batch for batch in self.read), 20)

    def close(self):
        self.closed = True


class FakeEncoder:
    """An encoder whose embedding of a tile starts with its (row, col)."""

    embeds = True
    compiled = False

    def __init__(self, name="fake", *, dim=5, batch_size=8, allowed_mpp=(0.5, 1.0)):
        self.identity, self.dim, self.batch_size = f"{name}-0-class", dim, batch_size
        self.spec = SimpleNamespace(name=name, allowed_mpp=allowed_mpp)
        self.calls = []  # tiles of each
        self.broken = None
        self.hollow = set()  # tiles that get NaN
        self.started = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    @property
    def n_encoded(self):
        return sum(self.calls)

    def encode(self, pixels):
        self.started.set()
        assert self.gate.wait(20)
        if self.broken is not None:
            raise self.broken
        self.calls.append(len(pixels))
        out = np.ones((len(pixels), self.dim), np.float32)
        out[:, :2] = pixels[:, 0, 0, :2]
        for row in out:
            if tuple(row[:2]) in self.hollow:
                row[3] = np.nan
        return out


class Diary:
    """Writes down what an engine or a session tells; `states` is the picture as a viewer has it."""

    def __init__(self, teller):
        self.told = []
        self.states = {}
        self.seen = threading.Condition()
        for name in ("states_reset", "tiles_changed", "progressed", "state_changed", "failed"):
            getattr(teller, name).connect(lambda fact, name=name: self._note(name, fact))

    def of(self, name):
        return [fact for kind, fact in self.told if kind == name]

    def wait_for(self, condition, timeout=20):
        with self.seen:
            assert self.seen.wait_for(condition, timeout)

    def _note(self, name, fact):
        with self.seen:
            self.told.append((name, fact))
            if name == "states_reset":
                self.states[fact.slide, fact.grid] = fact.states.copy()
            elif name == "tiles_changed":
                rows, cols = np.array(fact.tiles).T
                self.states[fact.slide, fact.grid][rows, cols] = fact.state
            self.seen.notify_all()
