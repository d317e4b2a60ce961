"""A query being put together: examples come and go, and every step can be undone."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace

from napari_virchow.search.facts import Example, Options, Query

_MOST_STEPS = 100


class QueryHistory:
    """The present query and the steps that led to it; every method may be called from any thread.

    All that change it return whether they did.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._query = Query()
        self._past: list[Query] = []
        self._future: list[Query] = []

    @property
    def query(self) -> Query:
        """The present query."""
        return self._query

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to undo."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether an undone step can be done again."""
        return bool(self._future)

    def put(self, query: Query) -> bool:
        """Take a whole query as the present one."""
        with self._lock:
            if query == self._query:
                return False
            self._past = [*self._past, self._query][-_MOST_STEPS:]
            self._query, self._future = query, []
            return True

    def add(self, examples: Iterable[Example], *, positive: bool) -> bool:
        """Add examples; one that is on the other side changes sides."""
        with self._lock:
            query = self._query
            new = tuple(dict.fromkeys(examples))
            kept = [
                tuple(e for e in side if e not in new)
                for side in (query.positives, query.negatives)
            ]
            mine = query.positives if positive else query.negatives
            joined = mine + tuple(e for e in new if e not in mine)
            if positive:
                return self.put(Query(joined, kept[1], query.options))
            return self.put(Query(kept[0], joined, query.options))

    def remove(self, examples: Iterable[Example]) -> bool:
        """Take examples out, on whichever side they are."""
        with self._lock:
            query, gone = self._query, set(examples)
            positives = tuple(e for e in query.positives if e not in gone)
            negatives = tuple(e for e in query.negatives if e not in gone)
            return self.put(Query(positives, negatives, query.options))

    def set_options(self, options: Options) -> bool:
        """Keep the examples and search otherwise."""
        with self._lock:
            return self.put(replace(self._query, options=options))

    def undo(self) -> bool:
        """Go one step back."""
        return self._step(self._past, self._future)

    def redo(self) -> bool:
        """Do again what was undone."""
        return self._step(self._future, self._past)

    def _step(self, back: list[Query], forth: list[Query]) -> bool:
        with self._lock:
            if not back:
                return False
            forth.append(self._query)
            self._query = back.pop()
            return True
