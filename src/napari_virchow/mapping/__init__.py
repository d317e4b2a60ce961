"""A map of embeddings: alike tiles lie side by side, in clusters that may become classes."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_virchow.latest import Latest
from napari_virchow.mapping.facts import (
    Arrangement,
    Clusters,
    Mapped,
    MappedSlide,
    MapProgress,
    Method,
    Proposal,
    Scope,
    Task,
)
from napari_virchow.mapping.gather import gather, sources_of
from napari_virchow.mapping.job import Job, MappingError, Stopped, check_umap
from napari_virchow.mapping.proposals import Which, accept, propose
from napari_virchow.states import EngineState, TileState, TileUpdate

if TYPE_CHECKING:
    from napari_virchow.session import Session

__all__ = [
    "Arrangement",
    "Clusters",
    "MapProgress",
    "Mapped",
    "MappedSlide",
    "Mapping",
    "MappingError",
    "Proposal",
    "Scope",
]

MAX_UMAP = 50_000  # tiles that UMAP arranges; it takes minutes there, and the others are placed
MAX_HDBSCAN = 20_000  # its time grows with the square of the tiles


class Mapping:
    """A session's map of embeddings.

    `look_at` says which tiles are mapped. The first map, by principal components, is there as soon
    as the embeddings have been read; `arrange` has UMAP make a better one, and `find_clusters`
    groups the tiles. The latest request wins, and what an older one finds is dropped.

    Every method may be called from any thread and returns at once, except `accept`. Signals are
    emitted from worker threads.

    Parameters
    ----------
    session : Session
        Whose store and encoder are used.
    """

    # Other tiles are on the map, by principal components; arrangement and clusters are gone
    mapped_anew = Signal(Mapped)
    arranged = Signal(Arrangement)
    clustered = Signal(Clusters)
    # There is nothing to map: why, and what to do, as a sentence
    emptied = Signal(str)
    progressed = Signal(MapProgress)
    # A task ended without a result, as it was stopped or failed
    ended = Signal(str)
    # So many tiles were embedded since the map was made, and may be on it after `refresh`
    outdated = Signal(int)
    failed = Signal(Exception)

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.RLock()
        self._generation = 0
        self._scope: Scope | None = None
        self._jobs: dict[Task, Job] = {}
        self._n_new = 0
        self.mapped: Mapped | None = None
        self.arrangement: Arrangement | None = None
        self.clusters: Clusters | None = None
        self._workers: dict[Task, Latest] = {
            "map": Latest("virchow-map", self._on_failed),
            "umap": Latest("virchow-umap", self._on_failed),
            "clusters": Latest("virchow-clusters", self._on_failed),
        }
        session.encoder_changed.connect(self._on_encoder)
        session.tiles_changed.connect(self._on_tiles)
        session.state_changed.connect(self._on_state)

    @property
    def busy(self) -> bool:
        """Whether something is being read, arranged or clustered."""
        return any(worker.busy for worker in self._workers.values())

    def wait(self, timeout: float | None = None) -> bool:
        """Block until nothing is left to do; say whether that was reached in time."""
        return all(worker.wait(timeout) for worker in self._workers.values())

    def look_at(self, scope: Scope) -> int:
        """Map these tiles from now on; returns the generation of the request."""
        with self._lock:
            self._scope = scope
        return self.refresh()

    def refresh(self) -> int:
        """Map anew what is stored now; returns the generation of the request."""
        with self._lock:
            self._generation += 1
            generation = self._generation
        self.stop("umap")
        self.stop("clusters")
        self._workers["map"].put(self._gather)
        return generation

    def arrange(self, *, n_neighbors: int = 15, min_dist: float = 0.1) -> None:
        """Have UMAP arrange the tiles of the map in the background.

        Parameters
        ----------
        n_neighbors : int
            How many alike tiles each is kept close to: few show detail, many the large structure.
        min_dist : float
            How close tiles may lie, from 0 to 1.

        Raises
        ------
        MappingError
            If umap-learn is not installed.
        ValueError
            If there is no map yet, or a number is out of range.
        """
        if n_neighbors < 2 or not 0 <= min_dist <= 1:
            raise ValueError(
                f"UMAP takes 2 or more neighbours and a distance from 0 to 1, "
                f"got {n_neighbors} and {min_dist}."
            )
        check_umap()
        options = {"n_neighbors": n_neighbors, "min_dist": min_dist, "max_fitted": MAX_UMAP}
        self._start("umap", Job("umap", options))

    def find_clusters(self, method: Method, *, n_clusters: int = 8, min_size: int = 30) -> None:
        """Group the tiles of the map in the background.

        Parameters
        ----------
        method : str
            "k-means" makes `n_clusters` round groups of all tiles; "HDBSCAN" finds how many there
            are, of any shape and of `min_size` or more tiles, and leaves out what is in none.

        Raises
        ------
        ValueError
            If there is no map yet, or a number is below 2.
        """
        if n_clusters < 2 or min_size < 2:
            raise ValueError(
                f"Clusters need two or more of {n_clusters} clusters, {min_size} tiles."
            )
        options = {"n_clusters": n_clusters, "min_size": min_size, "max_fitted": MAX_HDBSCAN}
        self._start("clusters", Job(method, options), method)

    def stop(self, task: Task) -> None:
        """Stop "umap" or "clusters" at once; what was there before stays."""
        with self._lock:
            job = self._jobs.get(task)
        if job is not None:
            job.stop()

    def proposals(self) -> tuple[Proposal, ...]:
        """Return the present clusters as classes to be; none where there are no clusters.

        With hundreds of thousands of tiles this takes a moment: call it from a worker.
        """
        with self._lock:
            mapped, clusters = self.mapped, self.clusters
        return () if mapped is None or clusters is None else propose(mapped, clusters)

    def accept(self, proposal: Proposal, *, name: str, which: Which) -> int:
        """Label tiles of a cluster, "all" or its "representatives"; blocks.

        The class of this name is made where it is missing; all is one step of undo. What a person
        said of a tile before stays.

        Returns
        -------
        int
            How many tiles were labelled.

        Raises
        ------
        ValueError
            If the clusters are gone, or the name is not allowed.
        """
        with self._lock:
            mapped, clusters = self.mapped, self.clusters
        if mapped is None or clusters is None or proposal.cluster > clusters.n_clusters:
            raise ValueError(f"{proposal.name} is gone: find clusters again.")
        labels = self._session.labels
        return accept(labels, mapped, clusters, proposal, name=name, which=which)

    def close(self) -> None:
        """Stop following and working, and join the threads. Safe to call twice."""
        session = self._session
        session.encoder_changed.disconnect(self._on_encoder, missing_ok=True)
        session.tiles_changed.disconnect(self._on_tiles, missing_ok=True)
        session.state_changed.disconnect(self._on_state, missing_ok=True)
        with self._lock:
            self._generation += 1
        for task, worker in self._workers.items():
            self.stop(task)
            worker.close()

    # ---- what makes the map old

    def _on_encoder(self, _: object) -> None:
        if self._scope is not None:
            self.refresh()

    def _on_tiles(self, update: TileUpdate) -> None:
        scope = self._scope
        if update.state != TileState.EMBEDDED or scope is None or update.grid.mpp != scope.mpp:
            return
        if scope.slides is None or update.slide in scope.slides:
            self._n_new += len(update.tiles)

    def _on_state(self, state: EngineState) -> None:
        """Follow what was embedded once that is over; but never throw away what took minutes."""
        if state not in (EngineState.IDLE, EngineState.STOPPED) or self._n_new == 0:
            return
        if self.arrangement is None and self.clusters is None and not self._jobs:
            self.refresh()
        else:
            self.outdated.emit(self._n_new)

    # ---- in the worker threads

    def _gather(self) -> None:
        began = time.perf_counter()
        with self._lock:
            generation, scope, self._n_new = self._generation, self._scope, 0
        encoder = self._session.encoder
        if scope is None or encoder is None:
            return self._empty(generation, "Choose an encoder to map what it has embedded.")
        sources = sources_of(self._session.store, scope, encoder.identity)
        if not sources:
            return self._empty(
                generation,
                f"Nothing is embedded by {encoder.spec.name} at {scope.mpp:g} µm per pixel yet: "
                "look at tissue for a moment, or embed the whole slide.",
            )

        def tell(done: int, total: int) -> None:
            self._check(generation)
            self.progressed.emit(MapProgress("map", done, total, "Reading embeddings"))

        try:
            found = gather(sources, on_progress=tell)
        except Stopped:
            return None
        except ValueError as error:
            return self._empty(generation, str(error))
        seconds = time.perf_counter() - began
        mapped = Mapped(generation, scope, encoder.identity, *found, seconds)
        with self._lock:
            if generation != self._generation:
                return None
            self.mapped, self.arrangement, self.clusters = mapped, None, None
        self.mapped_anew.emit(mapped)
        return None

    def _empty(self, generation: int, sentence: str) -> None:
        with self._lock:
            if generation != self._generation:
                return
            self.mapped = self.arrangement = self.clusters = None
        self.emptied.emit(sentence)

    def _start(self, task: Task, job: Job, method: Method = "k-means") -> None:
        """Have a job done in the place of the one of this task that runs or waits."""
        with self._lock:
            mapped, old = self.mapped, self._jobs.get(task)
            if mapped is None:
                raise ValueError("There is no map yet: embed tiles first.")
            self._jobs[task] = job
        if old is not None:
            old.stop()
        self._workers[task].put(lambda: self._work(task, job, mapped, method))

    def _work(self, task: Task, job: Job, mapped: Mapped, method: Method) -> None:
        began = time.perf_counter()

        def tell(done: int, total: int, text: str) -> None:
            self.progressed.emit(MapProgress(task, done, total, text))

        fact: Arrangement | Clusters | None = None
        try:
            out = job.run(mapped.features, mapped.xy, tell)
            if task == "umap":
                fact = Arrangement(mapped.generation, out, min(len(out), MAX_UMAP), 0.0)
            else:
                fact = _clusters(mapped.generation, method, out)
        except Stopped:
            pass
        finally:
            with self._lock:
                latest = self._jobs.get(task) is job
                if latest:
                    del self._jobs[task]
            if latest and fact is None:
                self.ended.emit(task)
        if fact is not None:
            self._publish(replace(fact, seconds=time.perf_counter() - began))

    def _publish(self, fact: Arrangement | Clusters) -> None:
        with self._lock:
            if self.mapped is None or fact.generation != self._generation:
                return
            if isinstance(fact, Arrangement):
                self.arrangement = fact
            else:
                self.clusters = fact
        (self.arranged if isinstance(fact, Arrangement) else self.clustered).emit(fact)

    def _check(self, generation: int) -> None:
        if generation != self._generation:
            raise Stopped

    def _on_failed(self, error: Exception) -> None:
        self.failed.emit(error)


def _clusters(generation: int, method: Method, found: Any) -> Clusters:
    """Number clusters from 1 by size, and keep 0 for none."""
    sizes = np.bincount(found[found >= 0]) if (found >= 0).any() else np.zeros(0, np.intp)
    number = np.zeros(len(sizes) + 1, np.int32)  # the last place is for -1
    kept = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    number[kept] = np.arange(1, len(kept) + 1)
    n_fitted = min(len(found), MAX_HDBSCAN) if method == "HDBSCAN" else len(found)
    return Clusters(generation, method, number[found], len(kept), n_fitted, 0.0)
