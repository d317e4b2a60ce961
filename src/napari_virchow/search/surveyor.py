"""Reading the stores of a scope in the background, and knowing what else there is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from napari_virchow.latest import Latest
from napari_virchow.search.bank import Bank, list_kinds
from napari_virchow.search.facts import Kind, SearchProgress

_SURVEY_S = 2.0  # the store is looked at again so often, when something is asked
Slides = tuple[str, ...] | None  # identities; None for all


class Survey(NamedTuple):
    """What was seen of the store: for which bank and slides, how many stores, what other kinds."""

    bank: Bank
    slides: Slides
    n_stores: int
    others: tuple[Kind, ...]


class Surveyor:
    """Brings a bank up to date on a thread of its own.

    Parameters
    ----------
    progressed : callable
        Told after each store.
    read : callable
        Told of a bank that something new was read (and whether more is to come); ends the reading
        when it says False.
    failed : callable
        Gets the exception of a reading that failed.
    """

    def __init__(
        self,
        progressed: Callable[[SearchProgress], object],
        read: Callable[[Bank, bool], bool],
        failed: Callable[[Exception], object],
    ) -> None:
        self._progressed, self._read_some = progressed, read
        self._lock = threading.Lock()
        self._last: Survey | None = None
        self._at = float("-inf")
        self._thread = Latest("virchow-search-reader", failed)

    @property
    def busy(self) -> bool:
        """Whether something is being read."""
        return self._thread.busy

    def look(self, bank: Bank, slides: Slides) -> Survey | None:
        """Have the stores read if that was long ago; return what was seen last, None if nothing."""
        with self._lock:
            last, age = self._last, time.monotonic() - self._at
        mine = last is not None and last.bank is bank and last.slides == slides
        if not mine or age > _SURVEY_S:
            self._thread.put(lambda: self._read(bank, slides))
        return last if mine else None

    def forget(self) -> None:
        """Have the stores read again at the next look."""
        with self._lock:
            self._at = float("-inf")

    def wait(self, timeout: float | None = None) -> bool:
        """Block until nothing is being read; say whether that was reached."""
        return self._thread.wait(timeout)

    def close(self) -> None:
        """Stop after the store that is being read, and join the thread. Safe to call twice."""
        self._thread.close()

    def _read(self, bank: Bank, slides: Slides) -> None:
        others = tuple(kind for kind in list_kinds(bank.root, slides) if kind != bank.kind)
        survey = Survey(bank, slides, len(bank.paths(slides)), others)
        with self._lock:
            news, self._last = survey != self._last, survey
            self._at = time.monotonic()

        def told(done: int, total: int, changed: bool) -> bool:
            self._progressed(SearchProgress(done, total))
            wanted = self._read_some(bank, True) if changed else True
            return wanted and not self._thread.closed

        changed = bank.read_all(slides, told=told)
        with self._lock:
            self._at = time.monotonic()
        if changed or news:
            self._read_some(bank, False)
