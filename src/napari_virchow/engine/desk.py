"""The engine's desk: what is asked for, being done and to be told. No threads, no locks."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_virchow.engine.work import Job, Key, Meter, Piece, Request, Result, Target
from napari_virchow.pace import Pace
from napari_virchow.schedule import Indices, Want
from napari_virchow.states import EngineState, Progress, TileState
from napari_virchow.tiles import Rect

if TYPE_CHECKING:
    from napari_virchow.encoders import Encoder

FIRST_READ = 8  # tiles of a new view that are read first; each next batch has twice as many
_FIRST_PIECE = 2  # of them are encoded first, so that something is seen soon
_READ_S = 0.2  # what is begun is finished, so batches are cut to last about so long
_ENCODE_S = 0.15
_MOST = 512  # tiles per batch
_READ_AHEAD_S = 2.0  # more would be thrown away too often when the view moves
_AHEAD = 2  # batches read ahead of the encoder, per urgency
MAX_RESULTS = 8  # encoded batches ahead of the disk
_MANY = 4096  # changed tiles above which the whole grid is announced instead
_CHECK_TILES = 2048  # stored tiles verified in one go
_BAD_RUN = 256  # tiles failing one after another that mean that the slide is gone

_NOWHERE = Rect(0, 0, 0, 0)


class Desk:
    """All state of an engine. Every method expects the engine's lock to be held."""

    def __init__(self) -> None:
        self.encoder: Encoder | None = None
        self.targets: dict[Key, Target] = {}
        self.closing: list[Target] = []  # dropped, with batches still in flight
        self.whole: list[Target] = []  # slides to embed whole, in order
        self.requests: deque[Request] = deque()
        self.current: Request | None = None  # being taken up
        self.opening = False  # whether a grid is being opened for it
        self.checks: deque[tuple[Target, Iterator[Indices]]] = deque()
        self.jobs: list[Job] = []
        self.results: deque[Result] = deque()
        self.outbox: deque[tuple[str, Any]] = deque()
        self.active: set[str] = set()  # stages with a batch in hand
        self.loading = 0
        self.closed = self.cancelling = self.stopped = False
        self.generation = 0
        self.state = EngineState.IDLE
        self.meter = Meter()
        self.progress = Progress()
        self.read_pace, self.encode_pace = Pace(), Pace()
        self._running = False  # whether a run was going on when last looked

    # ---- what is asked for

    def ask(self, request: Request) -> None:
        """Put a request at the end; a new view replaces one of the same slide not yet taken up."""
        if request.view is not None:
            self.void(lambda r: r.view is not None and r.slide is request.slide)
        self.requests.append(request)
        self.stopped = False
        self.settle()

    def void(self, overtaken: Callable[[Request], bool]) -> None:
        """Take back the requests for which `overtaken(request)` holds."""
        self.requests = deque(r for r in self.requests if not overtaken(r))
        if self.current is not None and overtaken(self.current):
            self.current.void = True

    def take_up(self, target: Target, request: Request) -> None:
        """Fill the queue of an open target as a request says."""
        fresh = self.targets.get(target.key) is not target
        self.targets[target.key] = target
        target.generation = max(target.generation, request.generation)
        if request.view is None:
            target.queue.want_all(all_tiles=request.all_tiles)
            if target not in self.whole:
                self.whole.append(target)
            self.announce("states_reset", target.picture())
        else:
            self._show(target, request, request.view, fresh=fresh)
        stored = target.queue.embedded(request.view)
        if stored.size:
            self.checks.append((target, _pieces(stored)))
        self.purge()

    def lose(self, target: Target, indices: Indices) -> None:
        """Note that stored tiles turned out damaged: they are embedded again where wanted."""
        target.queue.forget(indices)
        self.tell(target, indices)
        if target.looked_at is not None and target.looked_at not in self.requests:
            self.requests.append(target.looked_at)

    def _show(self, target: Target, request: Request, view: Rect, *, fresh: bool) -> None:
        new_grid = fresh or target.looked_at is None
        target.looked_at, target.n_view_jobs, target.has_begun = request, 0, False
        only = None if request.only is None else target.queue.indices(request.only)
        change = target.queue.set_view(view, all_tiles=request.all_tiles, only=only)
        if new_grid:
            self.announce("states_reset", target.picture())
        else:
            self.tell(target, np.concatenate([change.dropped, change.waiting]))

    def look_away(self, request: Request) -> None:
        """Drop the view that a slide has on other grids than the one that is looked at now."""
        for target in self.targets.values():
            away = target.slide is request.slide and target.key != request.key
            if away and target.looked_at is not None:
                target.looked_at = None
                self.tell(target, target.queue.set_view(_NOWHERE).dropped)
        self.purge()

    # ---- what is done next

    def next_read(self) -> tuple[Target, int] | None:
        """Return the target to read for now and how many tiles, or None if there is no call."""
        ranked = [(self._rank(t, w), t) for t, w in self._wants() if w != Want.NOT]
        if self.encoder is None or not ranked:
            return None
        (want, _), target = min(ranked, key=lambda pair: pair[0])
        ahead = sum(job.target.queue.reason(job.indices) <= want for job in self.jobs)
        if ahead >= _AHEAD:
            return None
        most = min(_MOST, self.encode_pace.within(_READ_AHEAD_S, least=FIRST_READ, most=_MOST))
        least = 32
        if want != Want.REST:
            most, least = min(most, FIRST_READ << min(target.n_view_jobs, 5)), FIRST_READ
        n = min(most, self.read_pace.within(_READ_S, least=least, most=_MOST))
        return target, self._full(n)

    def next_piece(self) -> Piece | None:
        """Return what to encode now, or None if nothing is read or the disk is behind."""
        if not self.jobs or len(self.results) >= MAX_RESULTS or self.encoder is None:
            return None
        job = min(self.jobs, key=lambda j: self._rank(j.target, j.target.queue.reason(j.indices)))
        target, most = job.target, max(_MOST, self.encoder.batch_size)
        if not target.has_begun and target.queue.reason(job.indices) == Want.VIEW:
            target.has_begun, most = True, _FIRST_PIECE
        n = self._full(self.encode_pace.within(_ENCODE_S, least=2, most=most))
        if n > self.encoder.batch_size:
            n -= n % self.encoder.batch_size
        piece = job.split(n)
        if not job.indices.size:
            self.jobs.remove(job)
        return piece

    def _full(self, n: int) -> int:
        """Round up to whole batches if an encoder takes as long for a part of one."""
        encoder = self.encoder
        if encoder is None or not encoder.compiled:
            return n
        return -(-n // encoder.batch_size) * encoder.batch_size

    def next_results(self) -> list[Result]:
        """Return the results to store now: all that are there for the first one's target."""
        if not self.results:
            return []
        target = self.results[0].target
        chosen = [result for result in self.results if result.target is target]
        self.results = deque(result for result in self.results if result.target is not target)
        return chosen

    def _wants(self) -> Iterator[tuple[Target, Want]]:
        for target in self.targets.values():
            yield target, target.queue.next_want()

    def _rank(self, target: Target, want: Want) -> tuple[Want, int]:
        """Return what orders work: urgency, then the slide last looked at or first asked for."""
        if want == Want.REST:
            return want, self.whole.index(target) if target in self.whole else len(self.whole)
        return want, -target.looked_at.generation if target.looked_at is not None else 0

    # ---- what came of it

    def hand_out(self, target: Target, n: int) -> Indices:
        """Take tiles out of a target's queue."""
        batch = target.queue.take(n)
        indices = batch.indices if batch is not None else np.empty(0, np.intp)
        target.in_flight += indices.size
        target.n_view_jobs += batch is not None and batch.want != Want.REST
        return indices

    def finish(self, target: Target, indices: Indices) -> None:
        """Note that tiles are stored."""
        if not indices.size:
            return
        target.queue.finish(indices)
        self.meter.note_done(indices.size)
        self._landed(target, indices)

    def fail(self, target: Target, indices: Indices) -> None:
        """Note that tiles cannot be embedded."""
        if not indices.size:
            return
        target.queue.fail(indices)
        self.meter.failed += indices.size
        self._landed(target, indices)

    def give_back(self, target: Target, indices: Indices) -> None:
        """Put tiles back that were handed out."""
        if not indices.size:
            return
        target.queue.give_back(indices)
        self._landed(target, indices)

    def is_gone(self, target: Target, n_bad: int, n_good: int) -> bool:
        """Count failing tiles; say whether they mean that the whole slide is gone."""
        target.n_bad = 0 if n_good else target.n_bad + n_bad
        path = os.fspath(target.slide.path)
        gone = "://" not in path and not Path(path).exists()
        return target.n_bad > 0 and (gone or target.n_bad >= _BAD_RUN)

    def _landed(self, target: Target, indices: Indices) -> None:
        target.in_flight -= indices.size
        if not target.dropped:
            self.tell(target, indices)
        elif target.in_flight == 0 and target in self.closing:
            self.closing.remove(target)
            target.store.close()

    # ---- what is dropped

    def purge(self) -> None:
        """Put back what was read and is wanted no more; what is wanted most comes first."""
        for job in self.jobs:
            queue = job.target.queue
            wanted = queue.wanted(job.indices)
            self.give_back(job.target, job.indices[~wanted])
            job.pick(wanted)
            job.pick(queue.by_urgency(job.indices))
        self.jobs = [job for job in self.jobs if job.indices.size]

    def drop_work(self, targets: Iterable[Target]) -> None:
        """Want nothing any more of some targets, which stay open."""
        chosen = list(targets)
        for target in chosen:
            waited = target.queue.n_waiting > 0
            target.queue.drop()
            target.looked_at = None
            if target in self.whole:
                self.whole.remove(target)
            if waited and not target.dropped:
                self.announce("states_reset", target.picture())
        self.checks = deque(check for check in self.checks if check[0] not in chosen)
        self.purge()

    def drop_target(self, target: Target) -> None:
        """Close a target; if batches are in flight, its store closes after the last one."""
        if self.targets.get(target.key) is target:
            del self.targets[target.key]
        if target.dropped:
            return
        target.dropped = True
        self.closing.append(target)
        self.drop_work([target])
        if target.in_flight == 0 and target in self.closing:
            self.closing.remove(target)
            target.store.close()

    def discard_results(self, target: Target) -> None:
        """Give up what was encoded for a target whose store refuses."""
        lost = [result for result in self.results if result.target is target]
        self.results = deque(result for result in self.results if result.target is not target)
        for result in lost:
            self.give_back(target, result.indices)

    # ---- what is told

    def announce(self, signal: str, fact: Any) -> None:
        """Put a fact into the outbox."""
        self.outbox.append((signal, fact))

    def tell(self, target: Target, indices: Indices) -> None:
        """Announce the present states of some tiles."""
        if indices.size > _MANY:
            self.announce("states_reset", target.picture())
            return
        states = target.queue.state_of(indices)
        for state in np.unique(states):
            chosen = indices[states == state]
            self.announce("tiles_changed", target.update(chosen, TileState(int(state))))

    def n_waiting(self) -> int:
        """Return how many tiles are wanted or in the works."""
        return sum(t.queue.n_waiting for t in (*self.targets.values(), *self.closing))

    def busy(self) -> bool:
        """Say whether anything is left to do."""
        return bool(
            self.requests
            or self.current
            or self.checks
            or self.jobs
            or self.results
            or self.active
            or (self.encoder is not None and self.n_waiting())
        )

    def settle(self) -> None:
        """Bring state and progress up to date, and announce what changed."""
        busy = self.busy()
        if busy and not self._running:
            self.meter = Meter()
        self.cancelling &= busy
        self._running = busy
        state = self._state(busy)
        progress = self.meter.progress(self.n_waiting(), self.generation)
        news = _counts(progress) != _counts(self.progress)
        self.progress = progress
        if news:
            self.announce("progressed", progress)
        if state != self.state:
            self.state = state
            self.announce("state_changed", state)

    def _state(self, busy: bool) -> EngineState:
        if self.closed:
            return EngineState.CLOSED
        if self.cancelling:
            return EngineState.CANCELLING
        if self.loading or (self.opening and not (self.active or self.jobs)):
            return EngineState.LOADING
        if busy:
            return EngineState.RUNNING
        return EngineState.STOPPED if self.stopped else EngineState.IDLE


def _pieces(indices: Indices) -> Iterator[Indices]:
    for start in range(0, indices.size, _CHECK_TILES):
        yield indices[start : start + _CHECK_TILES]


def _counts(progress: Progress) -> tuple[int, int, int, int]:
    return progress.done, progress.wanted, progress.failed, progress.generation
