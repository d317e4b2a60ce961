"""What of a slide can go out to QuPath: its objects, labels, predictions, or regions of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_virchow.labels import LabelSet
from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.export import (
    Measurements,
    SlideTiles,
    as_tiles,
    prediction_columns,
    region_objects,
)
from napari_virchow.qupath.frame import Frame, SlideBox
from napari_virchow.qupath.kept import KeptObjects
from napari_virchow.qupath.objects import PathObject
from napari_virchow.qupath.outgoing import Outgoing, objects_out, tiles_out
from napari_virchow.tiles import Tile

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


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """Tiles that go out: with class ids and measurements where there are any."""

    where: SlideTiles
    class_ids: NDArray[np.integer[Any]] | None
    classes: tuple[Any, ...]
    columns: Measurements

    @property
    def boxes(self) -> list[PathObject]:
        """The classified tiles one by one, in level-0 pixels."""
        kinds = {c.id: PathClass.of(c.name, c.color) for c in self.classes}
        grid, ids = self.where.grid, np.asarray(self.class_ids).tolist()
        found = []
        for tile, class_id in zip(self.where.tiles.tolist(), ids, strict=True):
            rect = grid.rect(Tile(*tile))
            shape = shapely.box(rect.x, rect.y, rect.right, rect.bottom)
            if class_id in kinds:
                found.append(PathObject("", "tile", shape, path_class=kinds[class_id]))
        return found


def gather(what: What, sources: Sources, frame: Frame) -> Outgoing:
    """Return what would go out, in a frame; takes its time for many tiles.

    Raises
    ------
    ValueError
        If there is nothing of the kind; the sentence says how to come by it.
    """
    slide = sources.slide
    if what in (What.OBJECTS, What.REGIONS):
        return objects_out(objects_of(what, sources), frame, slide.identity, SlideBox.of(slide))
    content = content_of(what, sources)
    where = replace(content.where, frame=frame)
    return tiles_out(where, content.class_ids, content.classes, content.columns)


def objects_of(what: What, sources: Sources) -> list[PathObject]:
    """Return what would go out as objects, in level-0 pixels; raises as `gather` does."""
    if what is What.OBJECTS:
        objects = [] if sources.kept is None else sources.kept.objects
        if not objects:
            raise ValueError("There are no annotations on this slide: import or draw some first.")
        return objects
    content = content_of(what, sources)
    if what is not What.REGIONS or content.class_ids is None:
        return content.boxes
    return region_objects(content.where, content.class_ids, content.classes, content.columns)


def content_of(what: What, sources: Sources) -> Content:
    """Return the tiles of labels or predictions, also those of regions; raises as `gather` does."""
    return _labels(sources) if what is What.LABELS else _predictions(sources)


def _labels(sources: Sources) -> Content:
    labels, grid, slide = sources.labels, sources.grid, sources.slide
    found = {} if labels is None or grid is None else labels.get(slide.identity, grid.name)
    if labels is None or grid is None or not found:
        raise ValueError("No tile of this size is labelled: label some, or choose another size.")
    tiles = sorted(found)
    where = SlideTiles(slide.identity, grid, as_tiles(tiles))
    return Content(where, np.array([found[tile] for tile in tiles]), tuple(labels.classes), {})


def _predictions(sources: Sources) -> Content:
    painted, labels, slide = sources.painted, sources.labels, sources.slide
    if painted is None or labels is None or painted.slide != slide.identity:
        raise ValueError(
            "There are no predictions of this slide yet: label tiles of two classes in the dock "
            "Tile classification, and the slide is painted."
        )
    found = painted.predictions
    if found.kind != "classes":
        raise ValueError("Only one class is labelled, so there are no predictions: label another.")
    classes = tuple(c for c in labels.classes if c.id in painted.names)
    where = SlideTiles(slide.identity, painted.grid, painted.tiles)
    return Content(where, found.confident(), classes, prediction_columns(found, classes))
