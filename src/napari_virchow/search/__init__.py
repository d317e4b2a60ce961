"""Similarity search: more like these tiles, less like those, on this slide or on all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from psygnal import Signal

from napari_virchow.foreground import let_go_on
from napari_virchow.latest import Latest
from napari_virchow.search.asking import Asking
from napari_virchow.search.bank import Bank, list_kinds
from napari_virchow.search.facts import (
    Answer,
    Compared,
    Example,
    Heat,
    Hit,
    Hits,
    HitSlide,
    Kind,
    Options,
    Query,
    SearchProgress,
)
from napari_virchow.search.lookup import Found, place_of, search_bank, vector_of
from napari_virchow.search.saved import SavedQueries, SavedQuery, SavedQueryError
from napari_virchow.search.space import Vector
from napari_virchow.search.surveyor import Survey, Surveyor
from napari_virchow.states import GridStates, TileState, TileUpdate

if TYPE_CHECKING:
    from napari_virchow.session import Session
    from napari_virchow.slide import Slide

__all__ = [
    "Answer",
    "Compared",
    "Example",
    "Heat",
    "Hit",
    "HitSlide",
    "Hits",
    "Kind",
    "Options",
    "Query",
    "SavedQueries",
    "SavedQuery",
    "SavedQueryError",
    "SearchProgress",
    "Similarity",
]

_STREAM_S = 0.3  # tiles that are being embedded lead to a new answer so often


class _Focus(NamedTuple):
    slide: Slide
    mpp: float


class Similarity(Asking):
    """The similarity search of a session.

    `look_at` says which slide is shown. From then on every change of the query, the slide, the
    encoder or what is embedded leads to a new `answered`. Queries run on one thread, reading the
    stores of other slides on a second one; answers come from what is read already, and again as
    more is.

    Every method may be called from any thread and returns at once. Signals are emitted from the
    calling thread (`changed`) or from the two threads.

    Parameters
    ----------
    session : Session
        Where slides and embeddings come from.
    """

    # A new answer to the present query
    answered = Signal(Answer)
    # There is nothing to show now: why, and what to do, as a sentence
    emptied = Signal(str)
    failed = Signal(Exception)
    # How much of the scope is read
    progressed = Signal(SearchProgress)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._lock = threading.RLock()
        self._generation = 0
        self._focus: _Focus | None = None
        self._chosen: Kind | None = None
        self._bank: Bank | None = None
        self._awaited: set[Example] = set()  # asked of the engine, not embedded yet
        self.answer: Answer | None = None
        self._answerer = Latest("virchow-search", self.failed.emit)
        self._surveyor = Surveyor(self.progressed.emit, self._on_read, self.failed.emit)
        session.tiles_changed.connect(self._on_tiles)
        session.states_reset.connect(self._on_states)
        session.encoder_changed.connect(self._on_encoder)

    @property
    def busy(self) -> bool:
        """Whether something is being searched or read."""
        return self._answerer.busy or self._surveyor.busy

    @property
    def kind(self) -> Kind | None:
        """The embeddings that are compared; None while there are none to choose.

        They are those chosen by `compare`, else those of the encoder in use, else (no encoder
        needs to be loaded for a search) what there is most of on the slide that is shown.
        """
        with self._lock:
            focus, chosen = self._focus, self._chosen
        encoder = self._session.encoder
        if chosen is not None:
            return chosen
        if focus is None:
            return None
        if encoder is not None:
            return Kind(encoder.identity, focus.slide.grid(focus.mpp).name, focus.mpp)
        return next(iter(list_kinds(self._session.store, (focus.slide.identity,))), None)

    def look_at(self, slide: Slide, mpp: float) -> int:
        """Say which slide is shown, and which tiles; returns the generation of the request.

        Raises
        ------
        SlideError
            If the slide has no pixel size, or is coarser than `mpp`.
        """
        slide.grid(mpp)
        with self._lock:
            self._focus = _Focus(slide, mpp)
        return self.refresh()

    def compare(self, kind: Kind | None) -> int:
        """Compare these embeddings, one of `Compared.others`; None: those of the encoder in use."""
        with self._lock:
            self._chosen = kind
        return self.refresh()

    def refresh(self) -> int:
        """Answer the present query anew; returns the generation of the request at once."""
        with self._lock:
            self._generation += 1
            generation = self._generation
        self._answerer.put(self._answer)
        return generation

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the answer is up to date; say whether that was reached in time."""
        for _ in range(2):  # what is read leads to one more answer
            if not (self._answerer.wait(timeout) and self._surveyor.wait(timeout)):
                return False
        return self._answerer.wait(timeout)

    def vector_of(self, example: Example) -> Vector | None:
        """Return an example's embedding of the kind that is compared, None if there is none."""
        bank = self._bank
        found = None if bank is None else vector_of(bank, example)
        return None if found is None else found.astype(np.float32)

    def close(self) -> None:
        """Stop following, and join the threads. Safe to call twice."""
        session = self._session
        session.tiles_changed.disconnect(self._on_tiles, missing_ok=True)
        session.states_reset.disconnect(self._on_states, missing_ok=True)
        session.encoder_changed.disconnect(self._on_encoder, missing_ok=True)
        self._answerer.close()
        self._surveyor.close()

    # ---- what leads to a new answer

    def _on_encoder(self, _: object) -> None:
        self.refresh()

    def _on_states(self, _: GridStates) -> None:
        self._surveyor.forget()
        self._answerer.put(self._answer, delay=_STREAM_S)

    def _on_tiles(self, update: TileUpdate) -> None:
        bank, query = self._bank, self.query
        if bank is None or update.state not in (TileState.EMBEDDED, TileState.FAILED):
            return
        if (update.encoder, update.grid.name) != (bank.kind.encoder, bank.kind.grid):
            return
        with self._lock:
            urgent = {
                e for e in self._awaited if e.slide == update.slide and e.tile in update.tiles
            }
            self._awaited -= urgent
            focus = self._focus
        if focus is not None and update.slide != focus.slide.identity:
            if query.options.scope == "slide" and not urgent:
                return
            self._surveyor.forget()
        self._answerer.put(self._answer, delay=0.0 if urgent else _STREAM_S)

    def _on_read(self, bank: Bank, soon: bool) -> bool:
        """Take in what was read; say whether reading on is wanted."""
        self._answerer.put(self._answer, delay=_STREAM_S if soon else 0.0)
        return self._bank is bank

    # ---- on the thread that answers

    def _answer(self) -> None:
        began = time.perf_counter()
        with self._lock:
            generation, focus = self._generation, self._focus
        query, kind = self.query, self.kind
        if focus is None or kind is None:
            return self._empty("Open a slide and choose an encoder to search.")
        bank = self._bank_of(kind)
        shown, scope = focus.slide.identity, self._scope(query, focus)
        needed = {e.slide for e in (*query.positives, *query.negatives) if e.slide}
        bank.read_all({shown} | needed)
        survey = self._surveyor.look(bank, scope)
        if not query.positives:
            self._empty("Pick a tile to find more like it.")
            import torch  # noqa: F401  # takes seconds, which the first search need not wait for

            return None
        lacking = [e for e in (*query.positives, *query.negatives) if vector_of(bank, e) is None]
        sentence = self._embed_missing(bank, lacking)
        if set(query.positives) <= set(lacking):
            return self._empty(sentence)
        found = search_bank(bank, query, scope, shown, self.describe)
        seconds = time.perf_counter() - began
        answer = Answer(
            generation, query, found.hits, found.heat, _compared(kind, found, survey), seconds
        )
        with self._lock:
            if self.query != query or self._focus != focus:
                return None  # the request that came meanwhile has its own answer to come
            self.answer = answer
        self.answered.emit(answer)
        return None

    def _empty(self, sentence: str) -> None:
        with self._lock:
            self.answer = None
        self.emptied.emit(sentence)

    def _bank_of(self, kind: Kind) -> Bank:
        if self._bank is None or self._bank.kind != kind:
            with self._lock:
                self._bank, self._awaited = Bank(self._session.store, kind), set()
        return self._bank

    def _scope(self, query: Query, focus: _Focus) -> tuple[str, ...] | None:
        """Return the slides to search; None for all."""
        if query.options.scope == "store":
            return None
        if query.options.scope == "chosen":
            return tuple(sorted(set(query.options.slides)))
        return (focus.slide.identity,)

    def _embed_missing(self, bank: Bank, lacking: Sequence[Example]) -> str:
        """Have examples embedded that can be, before all else; say what is the matter with them."""
        session = self._session
        encoder, slides = session.encoder, session.slides
        mine = encoder is not None and encoder.identity == bank.kind.encoder
        wanted: dict[str, list[Example]] = {}
        for example in lacking:
            if mine and example.slide in slides:
                wanted.setdefault(example.slide, []).append(example)
        asked = {e for examples in wanted.values() for e in examples}
        with self._lock:
            new, had = asked - self._awaited, bool(self._awaited)
            self._awaited |= new
        if new:
            let_go_on()
        for identity, examples in wanted.items():
            slide = slides[identity]
            grid = slide.grid(bank.kind.mpp)
            tiles = [t for e in examples if e in new and (t := place_of(e, grid)) is not None]
            if tiles:
                session.embed_next(slide, tiles, mpp=bank.kind.mpp)
        if had and not lacking:
            session.look_again()
        if asked:
            return "The tile is being embedded; what looks like it follows in a moment."
        names = ", ".join(dict.fromkeys(e.name for e in lacking))
        return (
            f"The example of {names} has no embedding by {bank.kind.name} at {bank.kind.mpp:g} "
            "µm/px: open its slide with that encoder, or compare other embeddings."
        )


def _compared(kind: Kind, found: Found, survey: Survey | None) -> Compared:
    if survey is None:
        return Compared(kind, found.n_tiles, found.n_slides)
    waiting = max(0, survey.n_stores - found.n_slides)
    return Compared(kind, found.n_tiles, found.n_slides, waiting, survey.others)
