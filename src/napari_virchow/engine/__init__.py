"""Engine: four threads that read, encode and store the tiles that are looked at, all at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from psygnal import EmitLoopError, Signal

from napari_virchow.engine.crew import Crew
from napari_virchow.engine.desk import Desk
from napari_virchow.engine.pipeline import EngineError, Pipeline, caused, words_of
from napari_virchow.engine.work import Request, Target
from napari_virchow.layout import StoreError
from napari_virchow.pace import Pace
from napari_virchow.schedule import Indices, TileQueue
from napari_virchow.states import EngineState, GridStates, Progress, TileUpdate
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Rect, Tile, TileGrid

if TYPE_CHECKING:
    from napari_virchow.encoders import Encoder
    from napari_virchow.slide import Slide

_log = logging.getLogger(__name__)

FindTissue = Callable[["Slide", TileGrid], NDArray[np.bool_]]


class Engine:
    """Embeds tiles in the background: what is looked at first.

    A planner opens grids and fills their queues; a reader, an encoder and a storing thread pass
    small batches on, so that all three work at the same time and memory stays flat. Batches are
    cut to last a fraction of a second, as a batch that was begun is finished.

    Every method may be called from any thread. Signals come from any thread too, but one after
    another. `close` ends the threads.

    Parameters
    ----------
    root : Path
        Folder of all stores.
    find_tissue : callable
        Says which tiles of (slide, grid) are not glass: bool of shape (rows, cols).
    """

    states_reset = Signal(GridStates)
    tiles_changed = Signal(TileUpdate)
    progressed = Signal(Progress)
    state_changed = Signal(EngineState)
    failed = Signal(Exception)

    def __init__(self, root: Path, find_tissue: FindTissue) -> None:
        self._root = root
        self._find_tissue = find_tissue
        self._desk = Desk()
        self._crew = Crew(self._desk, self._emit)
        pipeline = Pipeline(self._crew, self._fail)
        self._crew.set_stages(
            {
                "planner": (self._has_plans, self._plan),
                "reader": (pipeline.has_reading, pipeline.read),
                "encoder": (pipeline.has_encoding, pipeline.encode),
                "writer": (pipeline.has_storing, pipeline.store),
            }
        )

    @property
    def progress(self) -> Progress:
        """How far the present run, or the last one, has come."""
        return self._desk.progress

    @property
    def state(self) -> EngineState:
        """What the engine is doing."""
        return self._desk.state

    # ---- verbs

    def set_encoder(self, encoder: Encoder | None) -> None:
        """Use another encoder; what is queued for the old one is dropped."""
        with self._crew.changing() as desk:
            desk.void(lambda _: True)
            for target in list(desk.targets.values()):
                desk.drop_target(target)
            desk.encoder = encoder
            desk.encode_pace = Pace()
            self._crew.start()
        self._crew.tell()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Show the state "loading" while something is being loaded."""
        with self._crew.changing() as desk:
            desk.loading += 1
        self._crew.tell()
        try:
            yield
        finally:
            with self._crew.changing() as desk:
                desk.loading -= 1
            self._crew.tell()

    def look_at(self, slide: Slide, grid: TileGrid, view: Rect, *, all_tiles: bool = False) -> int:
        """Ask for the tiles of a view; returns its generation at once."""
        return self._ask(slide, grid, view, all_tiles=all_tiles)

    def embed_some(self, slide: Slide, grid: TileGrid, tiles: Sequence[Tile]) -> int:
        """Ask for some tiles, on glass or not, instead of a view; returns its generation."""
        view = grid.rect_around(tiles)
        return self._ask(slide, grid, view, all_tiles=True, only=tuple(tiles))

    def embed(self, slide: Slide, grid: TileGrid, *, all_tiles: bool = False) -> int:
        """Ask for a whole slide, behind every view; returns the request's generation at once."""
        return self._ask(slide, grid, None, all_tiles=all_tiles)

    def cancel(self) -> None:
        """Drop everything that is not being worked on in this moment; returns at once."""
        with self._crew.changing() as desk:
            desk.void(lambda _: True)
            desk.drop_work(desk.targets.values())
            desk.cancelling = desk.busy()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until nothing is left to do and to tell; say whether that was reached in time."""
        return self._crew.wait_until_quiet(timeout)

    def states(self, slide: str, grid: TileGrid) -> GridStates | None:
        """Return the states of a grid, or None if it is not open."""
        with self._crew.changed:
            target = self._desk.targets.get((slide, grid))
            return target.picture() if target is not None else None

    def store_of(self, slide: str, grid: TileGrid) -> EmbeddingStore | None:
        """Return the open store of a grid, or None."""
        with self._crew.changed:
            target = self._desk.targets.get((slide, grid))
            return target.store if target is not None else None

    def drop_slide(self, slide: str) -> None:
        """Stop working on a slide; returns once nothing of it is in flight."""
        with self._crew.changing() as desk:
            desk.void(lambda request: request.slide.identity == slide)
            gone = [t for t in desk.targets.values() if t.slide.identity == slide]
            for target in gone:
                desk.drop_target(target)
        self._crew.wait_for(lambda: not any(target.in_flight for target in gone))
        self._crew.tell()

    @contextmanager
    def released(self, path: Path) -> Iterator[None]:
        """Let go of the store at `path` for a while; afterwards its grid is told as it is then."""
        with self._crew.changing() as desk:
            gone = [t for t in desk.targets.values() if t.store.path == path]
            keys = {target.key for target in gone}
            desk.void(lambda request: request.key in keys)
            for target in gone:
                desk.drop_target(target)
        self._crew.wait_for(lambda: not any(t in self._desk.closing for t in gone))
        try:
            yield
        finally:
            for target in gone:
                self._reopen(target)
            self._crew.tell()

    def close(self) -> None:
        """Finish what is running, join the threads and close the stores. Safe to call twice."""
        with self._crew.changing() as desk:
            desk.void(lambda _: True)
            desk.drop_work(desk.targets.values())
            desk.closed = True
        self._crew.join()
        with self._crew.changing() as desk:
            for target in list(desk.targets.values()):
                desk.drop_target(target)
        self._crew.tell()

    # ---- the planner

    def _has_plans(self) -> bool:
        desk = self._desk
        return bool(desk.requests or desk.checks or desk.outbox)

    def _plan(self) -> None:
        with self._crew.changing() as desk:
            desk.current = desk.requests.popleft() if desk.requests else None
            request = desk.current
            check = desk.checks[0] if request is None and desk.checks else None
        if request is not None:
            self._take_up(request)
        elif check is not None:
            self._check(*check)

    def _take_up(self, request: Request) -> None:
        target = None
        try:
            with self._crew.changing() as desk:
                target = desk.targets.get(request.key)
                encoder = desk.encoder
                desk.opening = target is None
                if request.view is not None:  # at once, as opening a grid may take a while
                    desk.look_away(request)
            self._crew.tell()
            if target is None and encoder is not None:
                target = self._open(request.slide, request.grid, encoder)
        except Exception as error:  # noqa: BLE001  # the border: told through `failed`
            self._fail(error, slide=request.slide, void=request.void)
        with self._crew.changing() as desk:
            desk.current, desk.opening = None, False
            if target is None:
                return
            if not request.void:
                desk.take_up(target, request)
            elif desk.targets.get(target.key) is not target:
                target.store.close()

    def _open(self, slide: Slide, grid: TileGrid, encoder: Encoder) -> Target:
        """Open the store of a grid and find its tissue."""
        key = (slide.identity, grid)
        self._crew.wait_for(lambda: not any(t.key == key for t in self._desk.closing))
        store = EmbeddingStore.open(
            self._root,
            slide=slide.identity,
            encoder=encoder.identity,
            grid=grid,
            dim=encoder.dim,
            writable=True,
        )
        try:
            tissue = self._find_tissue(slide, grid)
            if not encoder.embeds:  # what is not there cannot be had: it is left alone like glass
                tissue = tissue & store.done
            queue = TileQueue(grid, store.done, tissue)
        except BaseException:
            store.close()
            raise
        return Target(slide, grid, encoder.identity, store, queue)

    def _reopen(self, old: Target) -> None:
        """Open a target again without any work, so that its states can be drawn."""
        with self._crew.changed:
            encoder = self._desk.encoder
        if encoder is None or encoder.identity != old.encoder:
            return
        try:
            target = self._open(old.slide, old.grid, encoder)
        except StoreError as error:
            _log.warning("%s", error)
            return
        with self._crew.changing() as desk:
            if desk.encoder is encoder and target.key not in desk.targets and not desk.closed:
                desk.targets[target.key] = target
                desk.announce("states_reset", target.picture())
            else:
                target.store.close()

    def _check(self, target: Target, pieces: Iterator[Indices]) -> None:
        """Verify some stored tiles; what is damaged is embedded again."""
        piece = next(pieces, None)
        lost: list[Tile] = []
        if piece is not None:
            try:
                lost = target.store.check(target.queue.tiles(piece))
            except OSError as error:
                self._fail(error, target=target)
        with self._crew.changing() as desk:
            if piece is None and desk.checks and desk.checks[0][0] is target:
                desk.checks.popleft()
            if lost and not target.dropped:
                desk.lose(target, target.queue.indices(lost))

    # ---- what they share

    def _ask(
        self,
        slide: Slide,
        grid: TileGrid,
        view: Rect | None,
        *,
        all_tiles: bool,
        only: tuple[Tile, ...] | None = None,
    ) -> int:
        with self._crew.changed:
            self._desk.generation += 1
            generation = self._desk.generation
            if self._desk.encoder is not None and not self._desk.closed:
                self._desk.ask(Request(slide, grid, generation, all_tiles, view, only))
                self._crew.changed.notify_all()
        return generation

    def _fail(
        self,
        error: Exception,
        *,
        target: Target | None = None,
        slide: Slide | None = None,
        store: bool = False,
        void: bool = False,
    ) -> None:
        """Stop what an error stops, and tell it, unless its cause was being dropped anyway."""
        with self._crew.changing() as desk:
            if void or desk.closed or (target is not None and target.dropped and not store):
                return
            slide = target.slide if target is not None else slide
            # Our own errors are sentences already.
            if slide is not None and not type(error).__module__.startswith("napari_virchow."):
                sentence = f"Embedding {slide.name} stopped unexpectedly ({words_of(error)})."
                error = caused(EngineError(sentence), error)
            if store:  # one disk for all
                desk.void(lambda _: True)
                desk.drop_work(desk.targets.values())
            elif slide is not None:
                desk.void(lambda request: request.slide is slide)
                desk.drop_work([t for t in desk.targets.values() if t.slide is slide])
            else:
                desk.drop_work(desk.targets.values())
            if target is not None and store:
                desk.discard_results(target)
                desk.drop_target(target)
            desk.stopped = True
            desk.announce("failed", error)
        _log.debug("stopped", exc_info=error)

    def _emit(self, signal: str, fact: Any) -> None:
        try:
            getattr(self, signal).emit(fact)
        except EmitLoopError:
            _log.exception("What was told by %r was not taken well", signal)
