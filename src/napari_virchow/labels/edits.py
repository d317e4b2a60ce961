"""What is changed about labels and classes, in a form that can be undone and written down."""

from __future__ import annotations

import colorsys
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from napari_virchow.tiles import Tile

HOTKEYS = "123456789"
PALETTE = (
    # Okabe and Ito 2008, "Color Universal Design", in their order. Their black is left out: on a
    # slide it reads as a hole, not as a class.
    *("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"),
    # Then the "muted" scheme of Tol 2021, "Colour Schemes", those least like the seven first.
    *("#332288", "#117733", "#882255", "#44aa99", "#ddcc77", "#aa4499", "#999933", "#cc6677"),
)
_COLOR = re.compile(r"#[0-9a-f]{6}")


class Mark(NamedTuple):
    """What one tile was called, by whom and when (ISO 8601 in UTC, microseconds)."""

    class_id: int
    annotator: str
    time: str


class LabelRow(NamedTuple):
    """A label that names its class, as it goes from one journal to another or to a file."""

    slide: str
    grid: str
    tile: Tile
    class_name: str
    annotator: str
    time: str


@dataclass(frozen=True, slots=True)
class Label:
    """One tile's class, with who said so and when (ISO 8601 in UTC)."""

    slide: str
    grid: str
    tile: Tile
    class_id: int
    annotator: str
    time: str


@dataclass(frozen=True, slots=True)
class LabelChange:
    """What has just changed: the classes (no slide, no tiles), or labels of tiles in one grid."""

    slide: str | None
    grid: str | None
    tiles: tuple[Tile, ...]
    kind: Literal["classes", "labels"]


@dataclass(frozen=True, slots=True)
class LabelClass:
    """A class that tiles are sorted into.

    Parameters
    ----------
    id : int
        Number of the class, from 1; it stays the same and is never given out again.
    name : str
        Unique whatever its case is.
    color : str
        "#rrggbb" in lower case.
    hotkey : str or None
        "1" to "9".

    Raises
    ------
    ValueError
        If one of them is something else.
    """

    id: int
    name: str
    color: str
    hotkey: str | None = None

    def __post_init__(self) -> None:
        if self.id < 1:
            raise ValueError(f"a class id counts from 1, got {self.id}")
        if not _COLOR.fullmatch(self.color):
            raise ValueError(f"a class colour looks like #e69f00, got {self.color!r}")
        if self.hotkey is not None and (len(self.hotkey) != 1 or self.hotkey not in HOTKEYS):
            raise ValueError(f"a hotkey is one of 1 to 9, got {self.hotkey!r}")


@dataclass(frozen=True, slots=True)
class ClassChange:
    """One class before and after; None where it does not exist."""

    before: LabelClass | None
    after: LabelClass | None

    def reversed(self) -> ClassChange:
        """Return the change that takes this one back."""
        return ClassChange(self.after, self.before)


@dataclass(frozen=True, slots=True)
class TileChange:
    """Tiles of one grid, each with its mark before and after; None where there is no label."""

    slide: str
    grid: str
    marks: tuple[tuple[Tile, Mark | None, Mark | None], ...]

    def reversed(self) -> TileChange:
        """Return the change that takes this one back."""
        marks = tuple((tile, after, before) for tile, before, after in reversed(self.marks))
        return TileChange(self.slide, self.grid, marks)


Change = ClassChange | TileChange
EventKind = Literal["do", "undo", "redo"]


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the journal.

    `step` is the id of the first event of the step that this one belongs to ("do"), or takes back
    or repeats ("undo", "redo"). `text` may hold the word "{tiles}" for their number.
    """

    id: int
    step: int
    kind: EventKind
    time: str
    annotator: str
    text: str
    changes: tuple[Change, ...]

    @property
    def n_tiles(self) -> int:
        """How many tiles it changes."""
        return sum(len(c.marks) for c in self.changes if isinstance(c, TileChange))


@dataclass(slots=True)
class LabelState:
    """Classes and labels at one moment; a grid without a label has no entry."""

    classes: dict[int, LabelClass] = field(default_factory=dict)
    marks: dict[tuple[str, str], dict[Tile, Mark]] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)

    def apply(self, changes: Iterable[Change]) -> None:
        """Make changes; they must start from what is there now."""
        for change in changes:
            if isinstance(change, TileChange):
                self._apply_tiles(change)
            elif change.after is not None:
                self.classes[change.after.id] = change.after
            elif change.before is not None:
                del self.classes[change.before.id]

    def _apply_tiles(self, change: TileChange) -> None:
        marks = self.marks.setdefault((change.slide, change.grid), {})
        for tile, before, after in change.marks:
            if before is not None:
                self.counts[before.class_id] -= 1
            if after is None:
                del marks[tile]
            else:
                marks[tile] = after
                self.counts[after.class_id] += 1
        if not marks:
            del self.marks[change.slide, change.grid]

    def rows(self) -> list[LabelRow]:
        """Return every label with the name of its class, by slide, grid, row and column."""
        return [
            LabelRow(slide, grid, tile, self.classes[m.class_id].name, m.annotator, m.time)
            for (slide, grid), marks in sorted(self.marks.items(), key=itemgetter(0))
            for tile, m in sorted(marks.items())
        ]

    def labels(self) -> list[Label]:
        """Return every label, by slide, grid, row and column."""
        return [
            label_of(slide, grid, tile, mark)
            for (slide, grid), marks in sorted(self.marks.items(), key=itemgetter(0))
            for tile, mark in sorted(marks.items())
        ]

    def count(self, slide: str | None) -> dict[int, int]:
        """Return how many labels each class has, in all or on one slide."""
        found = self.counts
        if slide is not None:
            here = [marks for (s, _), marks in self.marks.items() if s == slide]
            found = Counter(mark.class_id for marks in here for mark in marks.values())
        return {class_id: found[class_id] for class_id in sorted(self.classes)}


def label_of(slide: str, grid: str, tile: Tile, mark: Mark) -> Label:
    """Return a mark together with the tile it is on."""
    return Label(slide, grid, tile, mark.class_id, mark.annotator, mark.time)


def summarize(changes: Iterable[Change]) -> list[LabelChange]:
    """Return what there is to draw again: the classes first, then each grid once."""
    tiles: dict[tuple[str, str], dict[Tile, None]] = {}
    summary: list[LabelChange] = []
    for change in changes:
        if isinstance(change, TileChange):
            found = tiles.setdefault((change.slide, change.grid), {})
            found.update(dict.fromkeys(tile for tile, _, _ in change.marks))
        elif not summary:
            summary.append(LabelChange(None, None, (), "classes"))
    for (slide, grid), here in tiles.items():
        summary.append(LabelChange(slide, grid, tuple(here), "labels"))
    return summary


def clean_text(text: str, what: str) -> str:
    """Return a name without blanks around it, in the composed form of Unicode.

    Raises
    ------
    ValueError
        If it is empty, has more than 200 characters or some that cannot be printed or saved.
    """
    cleaned = unicodedata.normalize("NFC", text.strip())
    if not cleaned or len(cleaned) > 200 or not cleaned.isprintable():
        raise ValueError(f"{what} needs 1 to 200 printable characters, got {text!r}")
    return cleaned


def name_key(name: str) -> str:
    """Return what two names of one class have in common: "Tumor" and "tumor" are one."""
    return unicodedata.normalize("NFC", name.strip()).casefold()


def free_color(used: Collection[str]) -> str:
    """Return the first colour of `PALETTE` not in use.

    When all are, hues far from each other follow; nobody tells fifteen and more apart for sure.
    """
    for color in PALETTE:
        if color not in used:
            return color
    step = len(used)
    while True:
        red, green, blue = colorsys.hsv_to_rgb(step * 0.618034 % 1, 0.65, (0.9, 0.6)[step % 2])
        color = f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
        if color not in used:
            return color
        step += 1


def encode(changes: Iterable[Change]) -> str:
    """Return changes as JSON; marks are listed once, since a gesture gives many tiles the same."""
    marks: dict[Mark, int] = {}

    def number(mark: Mark | None) -> int:
        return -1 if mark is None else marks.setdefault(mark, len(marks))

    coded: list[dict[str, Any]] = []
    for change in changes:
        if isinstance(change, ClassChange):
            coded.append({"before": _as_list(change.before), "after": _as_list(change.after)})
            continue
        tiles = [[t.row, t.col, number(before), number(after)] for t, before, after in change.marks]
        coded.append({"slide": change.slide, "grid": change.grid, "tiles": tiles})
    return json.dumps({"marks": list(marks), "changes": coded}, separators=(",", ":"))


def decode(text: str) -> tuple[Change, ...]:
    """Return the changes that `encode` wrote."""
    coded = json.loads(text)
    marks: list[Mark | None] = [*(Mark(*mark) for mark in coded["marks"]), None]  # so -1 is None
    changes: list[Change] = []
    for change in coded["changes"]:
        if "tiles" in change:
            tiles = tuple((Tile(r, c), marks[i], marks[j]) for r, c, i, j in change["tiles"])
            changes.append(TileChange(change["slide"], change["grid"], tiles))
        else:
            changes.append(ClassChange(_as_class(change["before"]), _as_class(change["after"])))
    return tuple(changes)


def _as_list(label_class: LabelClass | None) -> list[Any] | None:
    if label_class is None:
        return None
    return [label_class.id, label_class.name, label_class.color, label_class.hotkey]


def _as_class(values: list[Any] | None) -> LabelClass | None:
    return None if values is None else LabelClass(*values)
