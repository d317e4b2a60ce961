"""What of a slide can go out to QuPath: its objects, labels, predictions, or regions of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from napari_virchow.labels import LabelSet
from napari_virchow.qupath.export import (
    SlideTiles,
    as_tiles,
    prediction_columns,
    region_objects,
)
from napari_virchow.qupath.frame import Frame, SlideBox
from napari_virchow.qupath.kept import KeptObjects
from napari_virchow.qupath.outgoing import Outgoing, objects_out, tiles_out

if TYPE_CHECKING:
    from napari_virchow.classification import Painted
    from napari_virchow.slide import Slide
    from napari_virchow.tiles import TileGrid


class What(StrEnum):
    """What goes out; the values are for people."""

    OBJECTS = "Annotations and other objects"
    LABELS = "Labelled tiles"
    PREDICTIONS = "Predicted tiles"
    REGIONS = "Regions of predicted tiles"


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """Where it comes from; each may be missing.

    Parameters
    ----------
    slide : Slide
        Whose.
    kept : KeptObjects or None
        For `What.OBJECTS`.
    labels : LabelSet or None
        For all others.
    grid : TileGrid or None
        Of the labels.
    painted : Painted or None
        What the classifier said last.
    """

    slide: Slide
    kept: KeptObjects | None = None
    labels: LabelSet | None = None
    grid: TileGrid | None = None
    painted: Painted | None = None


def gather(what: What, sources: Sources, frame: Frame) -> Outgoing:
    """Return what would go out, in a frame; takes its time for many tiles.

    Raises
    ------
    ValueError
        If there is nothing of the kind; the sentence says how to come by it.
    """
    if what is What.OBJECTS:
        return _objects(sources, frame)
    if what is What.LABELS:
        return _labels(sources, frame)
    return _predictions(sources, frame, regions=what is What.REGIONS)


def _objects(sources: Sources, frame: Frame) -> Outgoing:
    objects = [] if sources.kept is None else sources.kept.objects
    if not objects:
        raise ValueError("There are no annotations on this slide: import or draw some first.")
    return objects_out(objects, frame, sources.slide.identity, SlideBox.of(sources.slide))


def _labels(sources: Sources, frame: Frame) -> Outgoing:
    labels, grid, slide = sources.labels, sources.grid, sources.slide
    found = {} if labels is None or grid is None else labels.get(slide.identity, grid.name)
    if labels is None or grid is None or not found:
        raise ValueError("No tile of this size is labelled: label some, or choose another size.")
    tiles = sorted(found)
    where = SlideTiles(slide.identity, grid, as_tiles(tiles), frame)
    return tiles_out(where, np.array([found[tile] for tile in tiles]), labels.classes)


def _predictions(sources: Sources, frame: Frame, *, regions: bool) -> Outgoing:
    painted, labels, slide = sources.painted, sources.labels, sources.slide
    if painted is None or labels is None or painted.slide != slide.identity:
        raise ValueError(
            "There are no predictions of this slide yet: label tiles of two classes in the dock "
            "Tile classification, and the slide is painted."
        )
    found = painted.predictions
    if found.kind != "classes":
        raise ValueError("Only one class is labelled, so there are no predictions: label another.")
    classes = [c for c in labels.classes if c.id in painted.names]
    ids, columns = found.confident(), prediction_columns(found, classes)
    where = SlideTiles(slide.identity, painted.grid, painted.tiles, frame)
    if not regions:
        return tiles_out(where, ids, classes, columns)
    objects = region_objects(where, ids, classes, columns)
    return objects_out(objects, frame, slide.identity, SlideBox.of(slide))
