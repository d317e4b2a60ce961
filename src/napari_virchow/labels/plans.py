"""Turn what a person wants done to classes and labels into changes, or refuse it."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.labels.edits import (
    HOTKEYS,
    Change,
    ClassChange,
    LabelClass,
    LabelRow,
    LabelState,
    Mark,
    TileChange,
    clean_text,
    free_color,
    name_key,
)
from napari_virchow.tiles import Tile

MAX_INDEX = 2**31 - 1
Tiles = Iterable[tuple[int, int]] | NDArray[np.integer[Any]]


def new_class(
    class_id: int, name: str, others: Iterable[LabelClass], color: str | None, hotkey: str | None
) -> LabelClass:
    """Return a class with the first free colour, and the first free hotkey if its own is taken.

    Raises
    ------
    ValueError
        If the name is taken, or one of the three is not allowed.
    """
    others = list(others)
    keys, colors = {c.hotkey for c in others}, {c.color for c in others}
    if hotkey is None or hotkey in keys:
        hotkey = next((key for key in HOTKEYS if key not in keys), None)
    color = free_color(colors) if color is None else color.strip().lower()
    return LabelClass(class_id, unique_name(name, others), color, hotkey)


def unique_name(name: str, others: Iterable[LabelClass]) -> str:
    """Return a class name as it is kept; ValueError if it is taken, whatever the case."""
    name = clean_text(name, "a class")
    for other in others:
        if name_key(other.name) == name_key(name):
            raise ValueError(f"there is a class {other.name!r} already")
    return name


def plan_class(state: LabelState, new: LabelClass) -> list[Change]:
    """Plan to make a class look like `new`; whoever has its hotkey gets the old one."""
    old = state.classes[new.id]
    others = [c for c in state.classes.values() if c.id != new.id]
    new = replace(new, name=unique_name(new.name, others))
    if new == old:
        return []
    taken = [c for c in others if new.hotkey is not None and c.hotkey == new.hotkey]
    swaps = (ClassChange(other, replace(other, hotkey=old.hotkey)) for other in taken)
    return [ClassChange(old, new), *swaps]


def plan_end_of_class(state: LabelState, class_id: int, into_id: int | None) -> list[Change]:
    """Plan to take a class away and give its labels to another, or to none."""
    changes: list[Change] = []
    for scope, marks in state.marks.items():
        found = tuple(
            (tile, mark, None if into_id is None else mark._replace(class_id=into_id))
            for tile, mark in marks.items()
            if mark.class_id == class_id
        )
        if found:
            changes.append(TileChange(*scope, found))
    return [*changes, ClassChange(state.classes[class_id], None)]


def plan_marks(
    state: LabelState, scope: tuple[str, str], tiles: Tiles, mark: Mark | None
) -> TileChange | None:
    """Plan to give tiles a mark, or none; None where nothing would change.

    A tile that the same annotator called the same before keeps its time.

    Raises
    ------
    ValueError, TypeError
        If a row or a column is negative, huge, or not a whole number.
    """
    wanted = clean_tiles(tiles)
    here = state.marks.get(scope, {})
    said = None if mark is None else mark[:2]
    marks = []
    for tile in wanted:
        before = here.get(tile)
        if (None if before is None else before[:2]) != said:
            marks.append((tile, before, mark))
    return TileChange(*scope, tuple(marks)) if marks else None


def plan_rows(
    state: LabelState, rows: Iterable[LabelRow], classes: Iterable[LabelClass], last_class: int
) -> list[Change]:
    """Plan to have rows as labels, the later ones last, and classes for them.

    Raises
    ------
    ValueError
        If a row or a class is not allowed.
    """
    rows = [clean_row(row) for row in rows]
    known = {name_key(c.name): c for c in state.classes.values()}
    changes: list[Change] = []
    wishes: list[tuple[str, str | None, str | None]] = [
        (c.name, c.color, c.hotkey) for c in classes
    ]
    for name, color, hotkey in [*wishes, *((row.class_name, None, None) for row in rows)]:
        if name_key(name) not in known:
            last_class += 1
            new = new_class(last_class, name, known.values(), color, hotkey)
            known[name_key(name)] = new
            changes.append(ClassChange(None, new))
    wanted: dict[tuple[str, str], dict[Tile, Mark]] = {}
    for row in rows:
        mark = Mark(known[name_key(row.class_name)].id, row.annotator, row.time)
        wanted.setdefault((row.slide, row.grid), {})[row.tile] = mark
    for scope, marks in wanted.items():
        here = state.marks.get(scope, {})
        differ = tuple((t, here.get(t), m) for t, m in marks.items() if here.get(t) != m)
        if differ:
            changes.append(TileChange(*scope, differ))
    return changes


def clean_row(row: LabelRow) -> LabelRow:
    """Return a row as it is kept: names trimmed, the time in UTC with microseconds.

    Raises
    ------
    ValueError, TypeError
        If a name, the tile or the time is not allowed. A time without a zone is taken as UTC.
    """
    (tile,) = clean_tiles([row.tile])
    when = datetime.fromisoformat(row.time)
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    return LabelRow(
        clean_text(row.slide, "a slide"),
        clean_text(row.grid, "a grid"),
        tile,
        clean_text(row.class_name, "a class"),
        clean_text(row.annotator, "an annotator"),
        when.isoformat(timespec="microseconds"),
    )


def clean_tiles(tiles: Tiles) -> list[Tile]:
    """Return each tile once, in order; ValueError or TypeError if one cannot be a tile."""
    pairs = tiles.tolist() if isinstance(tiles, np.ndarray) else tiles
    index = operator.index  # refuses 1.5, which int() would round
    cleaned = list(dict.fromkeys([Tile(index(row), index(col)) for row, col in pairs]))
    for tile in cleaned:
        if not (0 <= tile.row <= MAX_INDEX and 0 <= tile.col <= MAX_INDEX):
            raise ValueError(f"a tile's row and column count from 0, got {tuple(tile)}")
    return cleaned
