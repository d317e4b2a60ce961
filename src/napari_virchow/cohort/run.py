"""The run of a cohort: surveys go out, parts follow, what comes back is counted."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_virchow.blocks import Places
from napari_virchow.cohort.clusters import cluster_client
from napari_virchow.cohort.facts import CohortDone, CohortError, PartDone, Survey
from napari_virchow.cohort.record import Record
from napari_virchow.cohort.worker import embed_part, survey
from napari_virchow.layout import StoreError, lock_store
from napari_virchow.pace import Pace
from napari_virchow.store import EmbeddingStore

if TYPE_CHECKING:
    from distributed import Client, Future
    from filelock import FileLock

PART_S = 10.0  # of one worker's time: what is lost with a worker, and what others can help with
PART_TILES = (128, 4096)
AHEAD = 2  # parts that wait for each worker, so that none stands idle
RETRIES = 2
SLOW = 3.0  # times the median: another worker begins such a part from its other end
SLOW_S = 15.0  # but not sooner than this
TICK_S = 0.5

Tell = Callable[[str], None]


@dataclass(slots=True)
class _Given:
    """A part that a worker has."""

    number: int
    tiles: Places
    began: float
    twin: Future[Any] | None = None
    is_twin: bool = False


@dataclass(slots=True)
class _Open:
    """A slide that has been surveyed and is not done yet."""

    found: Survey
    lock: FileLock
    began: float
    next_tile: int = 0
    in_flight: int = 0
    n_failed: int = 0
    why: str = ""

    @property
    def left(self) -> int:
        """How many tiles were not given out yet."""
        return len(self.found.todo) - self.next_tile


def embed_cohort(
    record: Record,
    *,
    workers: int | None = None,
    gpus: tuple[str, ...] = (),
    scheduler: str | None = None,
    say: Tell,
    show: Tell,
) -> CohortDone:
    """Embed all slides of a record that are not done, and write its summary.

    Parameters
    ----------
    record : Record
        From `Record.new`, or `Record.last` to go on with a run that was cut short.
    workers, gpus, scheduler
        As for `clusters.cluster_client`.
    say : callable
        Told each result as text, when it is there.
    show : callable
        Told the state of things often: one line that replaces the last one.

    Raises
    ------
    CohortError
        If the cluster cannot be reached or has no workers, or the record cannot be written.
    """
    began = time.monotonic()
    with cluster_client(workers=workers, gpus=gpus, scheduler=scheduler) as client:
        run = _Run(client, record, say, show)
        try:
            run.go()
        finally:
            run.release()
            record.save(now=True)
    seconds = time.monotonic() - began
    record.save(now=True, finished=True)
    record.summarize(seconds, run.n_workers, run.n_lost)
    return CohortDone(
        store=record.options.store,
        record=record.folder,
        slides=record.slides,
        seconds=round(seconds, 3),
        n_workers=run.n_workers,
        n_lost_workers=run.n_lost,
        n_helped=run.n_helped,
    )


@dataclass(slots=True)
class _Run:
    client: Client
    record: Record
    say: Tell
    show: Tell
    n_workers: int = 0
    n_lost: int = 0
    n_helped: int = 0
    _n_new: int = 0
    _began: float = field(default_factory=time.monotonic)
    _waiting: deque[int] = field(default_factory=deque)
    _surveys: dict[Future[Any], int] = field(default_factory=dict)
    _parts: dict[Future[Any], _Given] = field(default_factory=dict)
    _open: dict[int, _Open] = field(default_factory=dict)
    _pace: Pace = field(default_factory=Pace)
    _durations: deque[float] = field(default_factory=lambda: deque(maxlen=64))
    _known: set[str] = field(default_factory=set)
    _looked: float = 0.0
    _identities: dict[str, str] = field(default_factory=dict)

    def go(self) -> None:
        """Work until every slide is done or has failed."""
        from distributed import wait

        self._look_at_workers()
        if not self._known:
            raise CohortError("The Dask cluster has no workers; start some with `dask worker`.")
        self.n_workers = len(self._known)
        self.say(f"{self.n_workers} workers; watch them at {self.client.dashboard_link}")
        slides = self.record.slides
        self._waiting.extend(n for n, slide in enumerate(slides) if slide.state != "done")
        while self._waiting or self._surveys or self._parts or self._open:
            self._give_out()
            out = [*self._surveys, *self._parts]
            if out:
                try:
                    finished = wait(out, timeout=TICK_S, return_when="FIRST_COMPLETED").done
                except TimeoutError:
                    finished = set()
                for future in finished:
                    self._take(future)
            self._close_slides()
            self._help_the_slow()
            self._look_at_workers()
            self.record.save()
            self.show(self._line())

    def release(self) -> None:
        """Let go of everything: after an error or Ctrl-C slides are left as they are on disk."""
        futures = [*self._surveys, *self._parts]
        if futures:
            self.client.cancel(futures, force=True)
        for opened in self._open.values():
            opened.lock.release()
        for slide in self.record.slides:
            if slide.state == "running":
                slide.state = "waiting"

    # ---- giving out

    def _give_out(self) -> None:
        room = len(self._known) * (1 + AHEAD) - len(self._parts)
        for number in sorted(self._open):
            while room > 0 and self._open[number].left:
                self._give_part(number)
                room -= 1
        while self._waiting and room > 0 and len(self._surveys) < max(1, len(self._known)):
            number = self._waiting.popleft()
            slide = self.record.slides[number]
            slide.state, slide.tries = "running", slide.tries + 1
            slide.error = ""
            future = self.client.submit(
                survey,
                slide.path,
                self.record.options,
                key=f"survey-{number}-{slide.tries}-{id(self)}",
                retries=RETRIES,
                priority=-number,
                pure=False,
            )
            self._surveys[future] = number

    def _give_part(self, number: int) -> None:
        opened = self._open[number]
        least, most = PART_TILES
        size = self._pace.within(PART_S, least=least, most=most)
        tiles = opened.found.todo[opened.next_tile : opened.next_tile + size]
        self._submit(number, tiles, backwards=False)
        opened.next_tile += len(tiles)
        opened.in_flight += 1

    def _submit(self, number: int, tiles: Places, *, backwards: bool) -> Future[Any]:
        opened = self._open[number]
        first = tiles[0].tolist()
        words = "helped" if backwards else "embed"
        future = self.client.submit(
            embed_part,
            _without_list(opened.found),
            self.record.options,
            tiles,
            backwards=backwards,
            key=f"{words}-{number}-{first[0]}-{first[1]}-{time.monotonic_ns()}",
            retries=RETRIES,
            priority=-number,
            pure=False,
        )
        self._parts[future] = _Given(number, tiles, time.monotonic(), is_twin=backwards)
        return future

    def _help_the_slow(self) -> None:
        """Where workers stand idle, have one begin a slow part from its other end."""
        idle = len(self._known) - len(self._parts) - len(self._surveys)
        if idle <= 0 or not self._durations:
            return
        limit = max(SLOW_S, SLOW * statistics.median(self._durations))
        now = time.monotonic()
        slow = [
            (given.began, future)
            for future, given in self._parts.items()
            if now - given.began > limit and given.twin is None and not given.is_twin
        ]
        for _, future in sorted(slow, key=lambda item: item[0])[:idle]:
            given = self._parts[future]
            given.twin = self._submit(given.number, given.tiles, backwards=True)
            self._parts[given.twin].twin = future
            self.n_helped += 1

    # ---- taking back

    def _take(self, future: Future[Any]) -> None:
        if future in self._surveys:
            self._take_survey(future, self._surveys.pop(future))
        elif future in self._parts:
            self._take_part(future, self._parts.pop(future))

    def _take_survey(self, future: Future[Any], number: int) -> None:
        slide = self.record.slides[number]
        try:
            found: Survey = future.result()
            same = self._identities.get(found.identity)
            if same is not None:
                slide.state, slide.identity = "done", found.identity
                slide.error = f"the same slide as {same}"
                return
            lock = lock_store(Path(found.store), Path(self.record.options.store))
        except Exception as error:  # noqa: BLE001  # the border: whatever a worker met
            self._fail(number, error)
            return
        self._identities[found.identity] = slide.path
        slide.identity, slide.encoder, slide.grid = found.identity, found.encoder, found.grid
        slide.n_tiles, slide.n_glass, slide.n_there = found.n_tiles, found.n_glass, found.n_there
        self._open[number] = _Open(found, lock, time.monotonic())

    def _take_part(self, future: Future[Any], given: _Given) -> None:
        if given.twin is not None:  # one of the two is enough: all its tiles are on disk
            self._parts.pop(given.twin, None)
            self.client.cancel([given.twin], force=True)
        opened = self._open.get(given.number)
        if opened is None:  # the slide has failed meanwhile
            return
        opened.in_flight -= 1
        try:
            done: PartDone = future.result()
        except Exception as error:  # noqa: BLE001  # as above
            self._fail(given.number, error)
            return
        seconds = time.monotonic() - given.began
        self._durations.append(seconds)
        self._pace.note(done.n_new, done.reading_s + done.encoding_s + done.storing_s)
        self._n_new += done.n_new
        opened.n_failed += done.n_failed
        opened.why = opened.why or done.why

    def _close_slides(self) -> None:
        for number, opened in tuple(self._open.items()):
            if opened.left or opened.in_flight:
                continue
            slide, found = self.record.slides[number], opened.found
            try:
                slide.n_new = _count(found) - found.n_there
            except StoreError as error:
                self._fail(number, error)
                continue
            del self._open[number]
            opened.lock.release()
            slide.n_failed, slide.error = opened.n_failed, opened.why
            slide.seconds = round(time.monotonic() - opened.began, 3)
            slide.state = "done"
            self.say(
                f"{slide.path}\n  {slide.n_new} new tiles, {slide.n_there} already there, "
                f"{slide.n_glass} skipped as glass, {slide.n_failed} failed"
            )

    def _fail(self, number: int, error: BaseException) -> None:
        slide = self.record.slides[number]
        slide.state, slide.error = "failed", _sentence(error)
        opened = self._open.pop(number, None)
        if opened is not None:
            opened.lock.release()
            doomed = [future for future, given in self._parts.items() if given.number == number]
            for future in doomed:
                del self._parts[future]
            self.client.cancel(doomed, force=True)
            self._identities.pop(opened.found.identity, None)
        self.say(f"{slide.path}\n  failed: {slide.error}")

    # ---- looking around

    def _look_at_workers(self) -> None:
        now = time.monotonic()
        if self._looked and now - self._looked < 1.0:
            return
        self._looked = now
        present = set(self.client.scheduler_info(n_workers=-1)["workers"])
        self.n_lost += len(self._known - present)
        self._known = present
        self.n_workers = max(self.n_workers, len(present))

    def _line(self) -> str:
        slides = self.record.slides
        n_done = sum(slide.state in ("done", "failed") for slide in slides)
        rate = self._n_new / max(time.monotonic() - self._began, 1e-9)
        line = f"{n_done} of {len(slides)} slides  {self._n_new} new tiles  {rate:.3g} tiles/s"
        return line if self._known else f"{line}  waiting for workers"


def _without_list(found: Survey) -> Survey:
    """Return a survey without its tiles, which need not travel with every part."""
    from dataclasses import replace

    return replace(found, todo=found.todo[:0])


def _count(found: Survey) -> int:
    from napari_virchow.layout import read_facts

    folder = Path(found.store)
    with EmbeddingStore(folder, read_facts(folder).grid, found.dim, None) as store:
        return store.n_tiles


def _sentence(error: BaseException) -> str:
    if type(error).__name__ == "KilledWorker":
        return (
            "its workers died again and again, perhaps for want of memory: use fewer workers, or "
            "a smaller encoder."
        )
    return str(error).strip() or type(error).__name__
