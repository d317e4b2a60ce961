"""What is pushed to QuPath over the live link: a session's tiles or any objects, in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.export import (
    Measurements,
    SlideTiles,
    labelled_tiles,
    prediction_columns,
    region_objects,
    tile_features,
)
from napari_virchow.qupath.frame import Frame
from napari_virchow.qupath.geojson import encode_objects, in_collection
from napari_virchow.qupath.live_facts import LiveError
from napari_virchow.qupath.objects import PathObject
from napari_virchow.tiles import TileGrid

if TYPE_CHECKING:
    from napari_virchow.session import Session
    from napari_virchow.slide import Slide

What = Literal["labels", "predictions", "regions"]
CHUNK = 2000  # objects; small enough that neither side stalls, large enough to be quick


@dataclass(frozen=True, slots=True, eq=False)
class TilesToPush:
    """Tiles with what is said of them; see `export.tile_features`."""

    where: SlideTiles
    class_ids: NDArray[np.integer[Any]] | None = None
    classes: tuple[Any, ...] = ()
    columns: Measurements | None = None


class Piece(NamedTuple):
    """Some objects as GeoJSON, and how many they are."""

    text: str
    n: int


Cargo = What | TilesToPush | Sequence[PathObject] | Callable[[], Sequence[PathObject]]


def gather(session: Session, slide: Slide, what: Cargo) -> list[TilesToPush] | list[PathObject]:
    """Return what is meant by "labels", "predictions" or "regions", or what a callable returns.

    Tiles and objects are returned as they are.

    Raises
    ------
    LiveError
        If there is nothing to push.
    """
    if isinstance(what, TilesToPush):
        return [what]
    if callable(what):
        what = what()
    if not isinstance(what, str):
        return list(what)
    if what == "labels":
        return _labels(session, slide)
    if what not in ("predictions", "regions"):
        raise LiveError(f"Labels, predictions or regions can be pushed, not {what!r}.")
    tiles = _predictions(session, slide)
    if what == "predictions":
        return [tiles]
    ids = np.asarray(tiles.class_ids)
    return region_objects(tiles.where, ids, tiles.classes, tiles.columns)


def classes_of(cargo: Sequence[TilesToPush] | Sequence[PathObject]) -> list[PathClass]:
    """Return the classes of what is pushed, each once."""
    found: dict[str, PathClass] = {}
    for one in cargo:
        if isinstance(one, TilesToPush):
            listed = [PathClass.of(c.name, c.color) for c in one.classes]
        else:
            listed = [] if one.path_class is None else [one.path_class]
        for path_class in listed:
            found.setdefault(path_class.name, path_class)
    return list(found.values())


def count(cargo: Sequence[TilesToPush] | Sequence[PathObject]) -> int:
    """Return how many objects are pushed."""
    return sum(len(one.where.tiles) if isinstance(one, TilesToPush) else 1 for one in cargo)


def pieces(
    cargo: Sequence[TilesToPush] | Sequence[PathObject], frame: Frame, size: int = CHUNK
) -> Iterator[Piece]:
    """Yield objects on the slide as GeoJSON in QuPath's pixels, `size` at a time."""
    objects = [one for one in cargo if isinstance(one, PathObject)]
    for start in range(0, len(objects), size):
        some = objects[start : start + size]
        yield Piece(encode_objects(some, frame=frame)[0].decode(), len(some))
    for one in cargo:
        if isinstance(one, TilesToPush):
            for start in range(0, len(one.where.tiles), size):
                part = slice(start, start + size)
                yield _piece(one, part, frame)


def _piece(one: TilesToPush, part: slice, frame: Frame) -> Piece:
    where = replace(one.where, tiles=one.where.tiles[part], frame=frame)
    ids = None if one.class_ids is None else one.class_ids[part]
    columns = {name: values[part] for name, values in (one.columns or {}).items()}
    features = tile_features(where, ids, one.classes, columns)
    return Piece(in_collection(features).decode(), len(where.tiles))


def _labels(session: Session, slide: Slide) -> list[TilesToPush]:
    labels = session.labels
    cargo = []
    for name in labels.grids(slide.identity):
        marked = labels.get(slide.identity, name)
        tiles, ids = labelled_tiles(marked)
        where = SlideTiles(slide.identity, _grid_named(slide, name), tiles)
        used = tuple(c for c in labels.classes if c.id in ids)
        cargo.append(TilesToPush(where, ids, used))
    if not count(cargo):
        raise LiveError(f"{slide.name} has no labels to push; label some tiles first.")
    return cargo


def _predictions(session: Session, slide: Slide) -> TilesToPush:
    classification = session.classification
    painted = classification.painted
    if painted is None or painted.slide != slide.identity:
        raise LiveError(f"{slide.name} has no predictions to push; label tiles of two classes.")
    predictions, classifier = painted.predictions, classification.classifier
    colors = {c.name: c.color for c in session.labels.classes}
    listed = () if classifier is None else classifier.classes
    classes = tuple(c._replace(color=colors.get(c.name, c.color)) for c in listed)
    if not {c.id for c in classes} >= set(predictions.classes.tolist()):
        raise LiveError("The classes have just changed; push again in a moment.")
    ids = predictions.confident(unknown_above=classification.unknown_above)
    where = SlideTiles(slide.identity, painted.grid, painted.tiles)
    return TilesToPush(where, ids, classes, prediction_columns(predictions, classes))


def _grid_named(slide: Slide, name: str) -> TileGrid:
    """Return the slide's grid of a `TileGrid.name`, such as "224px-0.5mpp"."""
    px, _, mpp = name.removesuffix("mpp").partition("px-")
    return slide.grid(float(mpp), int(px))
