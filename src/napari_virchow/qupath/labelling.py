"""Annotations become labels: first a plan to look at, then one step that undo takes back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from napari_virchow.labels import LabelRow, LabelSet
from napari_virchow.labels.edits import LabelClass, name_key
from napari_virchow.qupath.objects import ObjectType, PathObject, flatten
from napari_virchow.qupath.regions import Rule, classed_areas, conflicts, tiles_in_annotations
from napari_virchow.tiles import Tile, TileGrid


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What taking over annotations as labels would do.

    Attributes
    ----------
    slide, grid : str
        `Slide.identity` and `TileGrid.name`.
    tiles : mapping of str to tuple of Tile
        Class name → tiles it would be given, those that have it already included.
    colors : mapping of str to str
        Class name → "#rrggbb" as in QuPath.
    new_classes : tuple of str
        Classes that would be made.
    recolored : mapping of str to (str, str)
        Classes that are there in another colour: (ours, QuPath's).
    conflicts : mapping of Tile to tuple of str
        Tiles in annotations of several classes; they get no label.
    relabelled : mapping of Tile to (str, str)
        Tiles that are labelled differently: (now, then).
    ignored : mapping of str to int
        Classes such as "Ignore*", and how many objects of them are left out.
    unclassified, without_area : int
        Objects left out for having no class, or being points or lines.
    """

    slide: str
    grid: str
    tiles: Mapping[str, tuple[Tile, ...]]
    colors: Mapping[str, str]
    new_classes: tuple[str, ...]
    recolored: Mapping[str, tuple[str, str]]
    conflicts: Mapping[Tile, tuple[str, ...]]
    relabelled: Mapping[Tile, tuple[str, str]]
    ignored: Mapping[str, int]
    unclassified: int
    without_area: int

    @property
    def n_tiles(self) -> int:
        """How many tiles would have a label from it."""
        return sum(len(tiles) for tiles in self.tiles.values())

    def notes(self) -> list[str]:
        """Return what somebody should know beside the tiles of each class, a sentence each."""
        said = []
        if self.conflicts:
            said.append(f"{len(self.conflicts):,} tiles lie in two classes and get no label.")
        if self.relabelled:
            n = len(self.relabelled)
            said.append(f"{n:,} tiles have another label so far, which undo brings back.")
        said += [f"{n:,} objects of {name} are left out." for name, n in self.ignored.items()]
        if self.unclassified:
            said.append(f"{self.unclassified:,} objects without a class are left out.")
        if self.without_area:
            said.append(f"{self.without_area:,} points or lines are left out.")
        for name, (ours, theirs) in self.recolored.items():
            said.append(f"{name} keeps its colour {ours} ({theirs} in QuPath).")
        return said

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values: counts, and tiles as [row, col]."""
        return {
            "slide": self.slide,
            "grid": self.grid,
            "tiles": {name: len(tiles) for name, tiles in self.tiles.items()},
            "colors": dict(self.colors),
            "new_classes": list(self.new_classes),
            "recolored": {k: list(pair) for k, pair in self.recolored.items()},
            "conflicts": [
                {"tile": [t.row, t.col], "classes": list(names)}
                for t, names in self.conflicts.items()
            ],
            "relabelled": [
                {"tile": [t.row, t.col], "from": now, "to": then}
                for t, (now, then) in self.relabelled.items()
            ],
            "ignored": dict(self.ignored),
            "unclassified": self.unclassified,
            "without_area": self.without_area,
        }


def plan_import(
    labels: LabelSet,
    objects: Sequence[PathObject],
    slide: str,
    grid: TileGrid,
    rule: Rule = "centre",
    *,
    kinds: Sequence[ObjectType] = ("annotation",),
) -> ImportPlan:
    """Find out what taking over annotations as labels would do; nothing changes.

    Parameters
    ----------
    labels : LabelSet
        What is labelled now.
    objects : sequence of PathObject
        In level-0 pixels of the slide.
    slide : str
        `Slide.identity`.
    grid : TileGrid
        Whose tiles get labels.
    rule : str
        See `regions.tiles_in_annotations`.
    kinds : sequence of str
        Types of objects that count.
    """
    names, colors = _names(labels, classed_areas(objects, kinds))
    found: dict[str, set[Tile]] = {}
    for name, tiles in tiles_in_annotations(objects, grid, rule, kinds=kinds).items():
        found.setdefault(names[name_key(name)], set()).update(tiles)
    disputed = conflicts({name: sorted(tiles) for name, tiles in found.items()})
    settled = {name: tuple(sorted(tiles - disputed.keys())) for name, tiles in found.items()}
    here = {c.id: c for c in labels.classes}
    now = {tile: here[i].name for tile, i in labels.get(slide, grid.name).items()}
    known = {c.name: c for c in here.values()}
    return ImportPlan(
        slide=slide,
        grid=grid.name,
        tiles=settled,
        colors={name: colors[name] for name in settled},
        new_classes=tuple(name for name in settled if name not in known),
        recolored={
            name: (known[name].color, colors[name])
            for name in settled
            if name in known and known[name].color != colors[name]
        },
        conflicts=disputed,
        relabelled={
            tile: (now[tile], name)
            for name, tiles in settled.items()
            for tile in tiles
            if now.get(tile, name) != name
        },
        **_left_out(objects, kinds),
    )


def apply_import(
    labels: LabelSet, plan: ImportPlan, *, text: str = "import {tiles} from QuPath"
) -> int:
    """Label tiles as planned and take over classes with their colours, as one undo step.

    Classes that are there keep their own colour where it differs; `plan.recolored` has them.

    Returns
    -------
    int
        How many tiles changed.

    Raises
    ------
    ValueError
        If a class has a name that labels cannot have. Nothing has changed then.
    """
    time = datetime.now(UTC).isoformat()
    ids = {c.id: c.name for c in labels.classes}
    now = {tile: ids[i] for tile, i in labels.get(plan.slide, plan.grid).items()}
    rows = [
        LabelRow(plan.slide, plan.grid, tile, name, labels.annotator, time)
        for name, tiles in plan.tiles.items()
        for tile in tiles
        if now.get(tile) != name
    ]
    # Only name, colour and hotkey of these count: the labels give out ids of their own.
    classes = [LabelClass(n, name, plan.colors[name]) for n, name in enumerate(plan.tiles, 1)]
    return labels.add_rows(rows, text, classes)


def _names(labels: LabelSet, areas: Iterable[PathObject]) -> tuple[dict[str, str], dict[str, str]]:
    """Return how each class is called here, by `name_key`, and its colour in QuPath, by name."""
    names = {name_key(c.name): c.name for c in labels.classes}
    colors: dict[str, str] = {}
    for one in areas:
        if one.path_class is not None:
            name = names.setdefault(name_key(one.path_class.name), one.path_class.name)
            colors.setdefault(name, one.path_class.hex_color)
    return names, colors


def _left_out(objects: Sequence[PathObject], kinds: Sequence[ObjectType]) -> dict[str, Any]:
    ours = [one for one in flatten(objects) if one.object_type in kinds]
    ignored: dict[str, int] = {}
    for one in ours:
        if one.path_class is not None and one.path_class.is_ignored:
            ignored[one.path_class.name] = ignored.get(one.path_class.name, 0) + 1
    unclassified = sum(one.path_class is None for one in ours)
    used = len(classed_areas(objects, kinds))
    rest = len(ours) - used - unclassified - sum(ignored.values())
    return {"ignored": ignored, "unclassified": unclassified, "without_area": rest}
