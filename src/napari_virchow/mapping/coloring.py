"""What is known of the tiles of a map, as colours and a legend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.labels import LabelSet
from napari_virchow.labels.edits import PALETTE, LabelClass, free_color
from napari_virchow.mapping.facts import Clusters, Mapped
from napari_virchow.tiles import Tile

MAX_SLIDES = len(PALETTE)  # colours beyond these cannot be told apart
RAMP = 255  # steps of a colour ramp


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the legend: its number in `Coloring.value`, what it means, its colour ("#rrggbb";
    empty for what is unknown) and how many tiles have it."""

    value: int
    text: str
    color: str
    n_tiles: int


@dataclass(frozen=True, slots=True, eq=False)
class Coloring:
    """A number for every tile of a map, and what the numbers mean.

    Parameters
    ----------
    value : ndarray of shape (n,), uint16
        0 where nothing is known.
    entries : tuple of Entry
        By number; empty for a ramp.
    ramp : (float, float) or None
        What the numbers 1 and 255 stand for, where they are steps of a ramp.
    note : str
        A sentence on what is not to be seen, if anything.
    """

    value: NDArray[np.uint16]
    entries: tuple[Entry, ...]
    ramp: tuple[float, float] | None = None
    note: str = ""


def by_label(mapped: Mapped, labels: LabelSet) -> Coloring:
    """Colour tiles by what a person said they are."""
    classes = labels.classes
    said = ((s.identity, labels.get(s.identity, s.grid.name)) for s in mapped.slides)
    value = _numbered(mapped, said, {c.id: n + 1 for n, c in enumerate(classes)})
    return Coloring(value, _class_entries(classes, value, "No label"))


def by_prediction(
    mapped: Mapped,
    slide: str,
    tiles: NDArray[np.integer[Any]],
    predicted: NDArray[np.integer[Any]],
    classes: Iterable[LabelClass],
) -> Coloring:
    """Colour tiles of one slide by the class that a classifier gives them.

    Parameters
    ----------
    slide : str
        Identity.
    tiles : ndarray of shape (m, 2)
        Row and column of each tile with a prediction.
    predicted : ndarray of shape (m,)
        Class ids; 0 where it gives none.
    """
    classes = tuple(classes)
    said = (
        (slide, {Tile(*t): c for t, c in zip(tiles.tolist(), predicted.tolist(), strict=True)}),
    )
    value = _numbered(mapped, said, {c.id: n + 1 for n, c in enumerate(classes)})
    note = "" if len(mapped.slides) == 1 else "Predictions are of the slide chosen above."
    return Coloring(value, _class_entries(classes, value, "No class"), note=note)


def nothing(mapped: Mapped, note: str = "") -> Coloring:
    """Colour no tile; `note` says why."""
    value = np.zeros(len(mapped), np.uint16)
    return Coloring(value, (Entry(0, "Nothing known", "", len(mapped)),), note=note)


def by_slide(mapped: Mapped) -> Coloring:
    """Colour tiles by the slide they are on, the slides with the most tiles first."""
    sizes = np.bincount(mapped.slide, minlength=len(mapped.slides))
    shown = np.argsort(-sizes, kind="stable")[:MAX_SLIDES]
    number = np.zeros(len(sizes), np.uint16)
    number[shown] = np.arange(1, len(shown) + 1)
    entries = [
        Entry(n + 1, mapped.slides[at].name, PALETTE[n], int(sizes[at]))
        for n, at in enumerate(shown.tolist())
    ]
    rest = len(sizes) - len(shown)
    if rest:
        left = int(sizes.sum() - sizes[shown].sum())
        entries.append(Entry(0, f"{rest} other slides", "", left))
    return Coloring(number[mapped.slide], tuple(entries))


def by_cluster(clusters: Clusters) -> Coloring:
    """Colour tiles by their cluster."""
    sizes = np.bincount(clusters.cluster, minlength=clusters.n_clusters + 1)
    entries = [
        Entry(n + 1, f"Cluster {n + 1}", color, int(sizes[n + 1]))
        for n, color in enumerate(cluster_colors(clusters.n_clusters))
    ]
    if sizes[0]:
        entries.append(Entry(0, "In no cluster", "", int(sizes[0])))
    return Coloring(clusters.cluster.astype(np.uint16), tuple(entries))


def by_number(mapped: Mapped, known: Iterable[tuple[str, NDArray[Any], NDArray[Any]]]) -> Coloring:
    """Colour tiles by a number such as similarity.

    Parameters
    ----------
    known : iterable of (slide identity, tiles (n, 2), numbers (n,))
    """
    numbers = np.full(len(mapped), np.nan, np.float32)
    for slide, tiles, scores in known:
        at = mapped.number(slide)
        if at < 0 or not len(tiles):
            continue
        raster = np.full(mapped.slides[at].grid.shape, np.nan, np.float32)
        raster[tiles[:, 0], tiles[:, 1]] = scores
        rows = mapped.rows_on(slide)
        numbers[rows] = raster[mapped.tiles[rows, 0], mapped.tiles[rows, 1]]
    there = np.isfinite(numbers)
    if not there.any():
        return nothing(mapped)
    low, high = (float(v) for v in np.percentile(numbers[there], [1, 99]))
    span = high - low or 1.0
    steps = np.clip(np.rint((numbers[there] - low) / span * (RAMP - 1)), 0, RAMP - 1) + 1
    value = np.zeros(len(mapped), np.uint16)
    value[there] = steps
    return Coloring(value, (), (low, high))


def cluster_colors(n: int) -> list[str]:
    """Return colours for so many clusters; the first fifteen suit any kind of colour vision."""
    colors: list[str] = []
    for _ in range(n):
        colors.append(free_color(colors))
    return colors


def _numbered(
    mapped: Mapped, said: Iterable[tuple[str, Mapping[Tile, int]]], number: Mapping[int, int]
) -> NDArray[np.uint16]:
    value = np.zeros(len(mapped), np.uint16)
    for slide, classes in said:
        if not classes:
            continue
        raster = np.zeros(mapped.slides[mapped.number(slide)].grid.shape, np.uint16)
        for tile, class_id in classes.items():
            if tile.row < raster.shape[0] and tile.col < raster.shape[1]:
                raster[tile] = number.get(class_id, 0)
        rows = mapped.rows_on(slide)
        value[rows] = raster[mapped.tiles[rows, 0], mapped.tiles[rows, 1]]
    return value


def _class_entries(
    classes: Iterable[LabelClass], value: NDArray[np.uint16], none: str
) -> tuple[Entry, ...]:
    classes = tuple(classes)
    sizes = np.bincount(value, minlength=len(classes) + 1).tolist()
    entries = [Entry(n + 1, c.name, c.color, sizes[n + 1]) for n, c in enumerate(classes)]
    return (*entries, Entry(0, none, "", sizes[0]))
