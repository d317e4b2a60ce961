"""JSON in many small steps, so that other threads get their turn: a window's above all.

Python's own reader and orjson hold the interpreter's lock from beginning to end, which for a file
of 100,000 tiles is seconds in which a window does not move.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
AT_ONCE = 2000  # done in one step: a few milliseconds in which no other thread gets its turn
_MANY = 200_000  # new containers; a few thousand objects


class _Odd(Exception):  # noqa: N818  # never leaves this module
    """The text is not as expected here; `json.loads` is to say what is wrong with it."""


def loads(text: str) -> Any:
    """Return what `json.loads` does; a list at the top, or right under it, entry by entry.

    Raises
    ------
    ValueError
        If it is not JSON.
    RecursionError
        If it is nested too deeply.
    """
    try:
        value, at = _value(text, _skip(text, 0), depth=0)
        if at == len(text):
            return value
    except (_Odd, IndexError, ValueError):
        pass
    return json.loads(text)


def dumped(features: Sequence[Any], dump: Any) -> Iterable[bytes]:
    """Yield a list's entries as JSON, some thousands at a time, without the brackets."""
    for start in range(0, len(features), AT_ONCE):
        yield dump(features[start : start + AT_ONCE])[1:-1]


@contextmanager
def collector_paused() -> Iterator[None]:
    """Hold the garbage collector: millions of small lists make it search in vain for seconds."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def many_kept() -> Iterator[None]:
    """Hold the garbage collector while objects are made that stay, and spare it them for good.

    It would stop every thread, a window's too, for seconds whenever it goes through millions of
    small lists. They go when nobody refers to them any more, as ever.
    """
    with collector_paused():
        yield
        if gc.get_count()[0] > _MANY:
            gc.freeze()


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _value(text: str, at: int, *, depth: int) -> tuple[Any, int]:
    """Return the value that begins at a place, and where the next thing begins."""
    if text[at] == "[" and depth < 2:
        return _entries(text, at)
    if text[at] == "{" and depth == 0:
        return _members(text, at)
    value, end = _DECODER.raw_decode(text, at)
    return value, _skip(text, end)


def _entries(text: str, at: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    at = _skip(text, at + 1)
    if text[at] == "]":
        return found, _skip(text, at + 1)
    while True:
        value, end = _DECODER.raw_decode(text, at)
        found.append(value)
        at = _skip(text, end)
        if text[at] == "]":
            return found, _skip(text, at + 1)
        if text[at] != ",":
            raise _Odd
        at = _skip(text, at + 1)


def _members(text: str, at: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    at = _skip(text, at + 1)
    if text[at] == "}":
        return found, _skip(text, at + 1)
    while True:
        if text[at] != '"':
            raise _Odd
        key, end = _DECODER.raw_decode(text, at)
        at = _skip(text, end)
        if text[at] != ":":
            raise _Odd
        found[key], at = _value(text, _skip(text, at + 1), depth=1)
        if text[at] == "}":
            return found, _skip(text, at + 1)
        if text[at] != ",":
            raise _Odd
        at = _skip(text, at + 1)
