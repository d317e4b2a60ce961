"""How many objects are to be shown: some to edit, the others as a picture; and what is where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely

from napari_virchow.qupath.drawing import Piece, color_of, pieces_of
from napari_virchow.qupath.objects import PathObject, flatten
from napari_virchow.qupath.raster import Picture, picture_of

MAX_PIECES = 2000
MAX_POINTS = 200_000
_DRAWN = ("annotation", "tmaCore")


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """An object that is drawn piece by piece and can be edited."""

    id: str
    pieces: tuple[Piece, ...]
    color: str


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What is to be seen of objects.

    Attributes
    ----------
    drawn : list of Drawn
        To edit; the largest first, so that small ones lie on top.
    picture : Picture or None
        All others.
    pictured : int
        How many these are.
    too_many : int
        How many of these are annotations, which would be drawn if there were fewer.
    """

    drawn: list[Drawn]
    picture: Picture | None
    pictured: int
    too_many: int
    _objects: list[PathObject] = field(default_factory=list)
    _tree: shapely.STRtree | None = None

    def at(self, x: float, y: float, reach: float = 0.0) -> PathObject | None:
        """Return the smallest object at a place in level-0 pixels, or within `reach` of it."""
        if self._tree is None:
            return None
        here = shapely.Point(x, y)
        found = self._tree.query(here, predicate="dwithin", distance=reach).tolist()
        hits = [one for n in found if shapely.dwithin((one := self._objects[n]).shape, here, reach)]
        return min(hits, key=lambda one: float(one.geometry.area), default=None)


def scene_of(objects: Sequence[PathObject]) -> Scene:
    """Sort out what of some objects, in level-0 pixels, is drawn how; takes its time for many."""
    every = [one for one in flatten(objects) if not one.geometry.is_empty]
    drawn: list[Drawn] = []
    others: list[PathObject] = []
    too_many = n_pieces = n_points = 0
    for one in every:
        if one.object_type not in _DRAWN:
            others.append(one)
            continue
        pieces = tuple(pieces_of(one))
        n_pieces += len(pieces)
        n_points += sum(len(piece.points) for piece in pieces)
        if n_pieces > MAX_PIECES or n_points > MAX_POINTS:
            others.append(one)
            too_many += 1
        else:
            drawn.append(Drawn(one.id, pieces, color_of(one)))
    areas = {one.id: one.geometry.area for one in every if one.object_type in _DRAWN}
    drawn.sort(key=lambda one: -float(areas[one.id]))
    tree = shapely.STRtree(np.array([one.geometry for one in every], dtype=object))
    tree.query(shapely.Point(0, 0))  # it is built by the first question
    return Scene(drawn, picture_of(others), len(others), too_many, every, tree)


def drawn_of(one: PathObject) -> Drawn:
    """Return one object as it is drawn."""
    return Drawn(one.id, tuple(pieces_of(one)), color_of(one))


def words_of(one: PathObject) -> str:
    """Return an object in a few words, such as "Tumor · left margin · annotation"."""
    kind = "no class" if one.path_class is None else one.path_class.name
    parts = [kind, one.name, one.object_type]
    return " · ".join(part for part in parts if part)
