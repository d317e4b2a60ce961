"""What a person waits for goes first: background work pauses for a moment, at its next step."""

from __future__ import annotations

import time

_MOMENT_S = 0.15  # about what a click's answer takes from here to the screen
_APART_S = 0.3  # background work goes on for so long at least, however fast clicks follow
_LOOK_S = 0.01
_until = 0.0  # by `time.monotonic`: until then something goes first


def go_first() -> None:
    """Have background work pause; called where a click is about to be answered."""
    global _until
    now = time.monotonic()
    if now >= _until + _APART_S:
        _until = now + _MOMENT_S


def let_go_on() -> None:
    """Have background work go on at once: what the click waits for is its result."""
    global _until
    _until = min(_until, time.monotonic())


def give_way() -> None:
    """Wait while something goes first; called before each step of background work."""
    while time.monotonic() < _until:
        time.sleep(_LOOK_S)
