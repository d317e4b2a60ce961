"""Reading, encoding and storing: one step each, run side by side by three threads."""

from __future__ import annotations

import logging
import time
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_virchow.engine.crew import Crew
from napari_virchow.engine.desk import MAX_RESULTS
from napari_virchow.engine.work import Job, Result, Target
from napari_virchow.foreground import give_way
from napari_virchow.schedule import Indices
from napari_virchow.tiles import Tile

_log = logging.getLogger(__name__)


class EngineError(Exception):
    """The work has ended; one sentence says why."""


class Fail(Protocol):
    """Stop what an error stops: one slide's work, that of its store and disk, or all."""

    def __call__(
        self, error: Exception, *, target: Target | None = None, store: bool = False
    ) -> None:
        """Tell `error`; see the class."""


class Pipeline:
    """The three stages between a queue and a store. What a stage cannot do, it tells `fail`."""

    def __init__(self, crew: Crew, fail: Fail) -> None:
        self._crew = crew
        self._desk = crew.desk
        self._fail = fail

    def has_reading(self) -> bool:
        """Say whether tiles wait to be read, and there is room for them."""
        return self._desk.next_read() is not None

    def read(self) -> None:
        """Read one batch of tiles."""
        give_way()
        with self._crew.changing() as desk:
            call = desk.next_read()
            if call is None:
                return
            target, n = call
            indices = desk.hand_out(target, n)
            desk.active.add("reader")
        tiles = target.queue.tiles(indices)
        bad: dict[Tile, Exception] = {}
        pixels: NDArray[np.uint8] | None = None
        start = time.perf_counter()
        try:
            pixels = target.slide.read_tiles(target.grid, tiles, on_error=bad.__setitem__)
        except Exception as error:  # noqa: BLE001  # the border: told through `failed`
            self._fail(error, target=target)
        seconds = time.perf_counter() - start
        for tile, why in bad.items():
            _log.warning("%s of %s cannot be read: %s", tile, target.slide.name, why)
        good = np.array([tile not in bad for tile in tiles], np.bool_)
        if bad and pixels is not None and self._is_gone(target, good):
            self._fail(_gone(target, next(iter(bad.values()))), target=target)
            pixels = None
        with self._crew.changing() as desk:
            desk.active.discard("reader")
            desk.meter.note_read(seconds)
            desk.read_pace.note(indices.size, seconds)
            if pixels is None:
                desk.give_back(target, indices)
                return
            desk.fail(target, indices[~good])
            if good.any():
                job = Job(target, indices, np.arange(indices.size), pixels)
                job.pick(good)
                desk.jobs.append(job)
            desk.purge()

    def has_encoding(self) -> bool:
        """Say whether tiles wait to be encoded, and the disk is not behind."""
        desk = self._desk
        return bool(desk.jobs) and len(desk.results) < MAX_RESULTS and desk.encoder is not None

    def encode(self) -> None:
        """Encode a piece of what was read."""
        give_way()
        with self._crew.changing() as desk:
            encoder = desk.encoder
            piece = desk.next_piece()
            if piece is None or encoder is None:
                return
            target, indices = piece.target, piece.indices
            desk.active.add("encoder")
        embeddings: NDArray[np.float32] | None = None
        start = time.perf_counter()
        try:
            embeddings = encoder.encode(piece.pixels())
            if embeddings.shape != (indices.size, encoder.dim):
                raise ValueError(f"it gave {embeddings.shape}, not {(indices.size, encoder.dim)}")
        except Exception as error:  # noqa: BLE001  # the border: told through `failed`
            embeddings = None
            sentence = f"The encoder {encoder.identity} failed ({words_of(error)})."
            self._fail(caused(EngineError(sentence), error))
        seconds = time.perf_counter() - start
        with self._crew.changing() as desk:
            desk.active.discard("encoder")
            desk.meter.encoding_s += seconds
            if embeddings is None:
                desk.give_back(target, indices)
                return
            desk.encode_pace.note(indices.size, seconds)
            finite = np.isfinite(embeddings).all(axis=1)
            if not finite.all():
                bad = target.queue.tiles(indices[~finite])
                _log.warning("%s gave no finite numbers for %s", encoder.identity, bad)
                desk.fail(target, indices[~finite])
            if finite.any():
                desk.results.append(Result(target, indices[finite], embeddings[finite]))

    def has_storing(self) -> bool:
        """Say whether embeddings wait to be stored."""
        return bool(self._desk.results)

    def store(self) -> None:
        """Store what was encoded for one target."""
        with self._crew.changing() as desk:
            results = desk.next_results()
            if not results:
                return
            desk.active.add("writer")
        target = results[0].target
        indices: Indices = np.concatenate([result.indices for result in results])
        embeddings = np.concatenate([result.embeddings for result in results])
        start = time.perf_counter()
        stored = False
        try:
            target.store.append(target.queue.tiles(indices), embeddings)
            stored = True
        except Exception as error:  # noqa: BLE001  # the border: told through `failed`
            self._fail(error, target=target, store=True)
        with self._crew.changing() as desk:
            desk.active.discard("writer")
            desk.meter.storing_s += time.perf_counter() - start
            if stored:
                desk.finish(target, indices)
            else:
                desk.give_back(target, indices)

    def _is_gone(self, target: Target, good: NDArray[np.bool_]) -> bool:
        with self._crew.changing() as desk:
            return desk.is_gone(target, int((~good).sum()), int(good.sum()))


def words_of(error: Exception) -> str:
    """Return what an error says, fit to stand within a sentence."""
    return str(error).rstrip(".") or type(error).__name__


def _gone(target: Target, error: Exception) -> EngineError:
    sentence = f"{target.slide.path} can no longer be read ({words_of(error)}); is it still there?"
    return caused(EngineError(sentence), error)


def caused(error: EngineError, cause: Exception) -> EngineError:
    """Note what an error came from, as `raise … from` would."""
    error.__cause__ = cause
    return error
