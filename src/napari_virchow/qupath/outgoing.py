"""Objects on their way out: what would be written, and the writing, step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_virchow.qupath.export import Measurements, NamedClass, SlideTiles, tile_features
from napari_virchow.qupath.frame import BLOCK_KEY, Frame, SlideBox, frame_block
from napari_virchow.qupath.geojson import WriteReport, feature_texts, in_collection, safe_objects
from napari_virchow.qupath.objects import PathObject, flatten
from napari_virchow.qupath.placing import to_qupath
from napari_virchow.qupath.safety import Repairs
from napari_virchow.qupath.steps import AT_ONCE

UNCLASSIFIED = "unclassified"


class Cancelled(Exception):  # noqa: N818  # no error: somebody wanted it
    """Writing was stopped before it was done; nothing is written."""


class Slice(NamedTuple):
    """Some features as text with commas between, how many they are, and of how many objects."""

    text: bytes
    n_features: int
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class Outgoing:
    """What would go out.

    Attributes
    ----------
    n : int
        Objects.
    by_class : mapping of str to int
        Class name, or "unclassified", → how many.
    frame : Frame
        Of the image in QuPath.
    foreign : mapping
        What the file says beside its features.
    slices : callable
        Returns an iterator over `Slice`.
    """

    n: int
    by_class: Mapping[str, int]
    frame: Frame
    foreign: Mapping[str, Any]
    slices: Callable[[Repairs], Iterator[Slice]]

    def about_bytes(self) -> int:
        """Return how large the text will be, estimated from its first objects."""
        for text, _, n in self.slices(Repairs()):
            return round(len(text) * self.n / max(n, 1))
        return 0


def tiles_out(
    where: SlideTiles,
    class_ids: NDArray[np.integer[Any]] | None,
    classes: Sequence[NamedClass],
    measurements: Measurements | None = None,
) -> Outgoing:
    """Return tiles as they would go out; see `export.tile_features`."""
    n = len(where.tiles)
    ids = np.zeros(n, np.intp) if class_ids is None else np.asarray(class_ids)
    names = {c.id: c.name for c in classes}
    counts = Counter(names.get(i, UNCLASSIFIED) for i in ids.tolist())

    def slices(_: Repairs) -> Iterator[Slice]:
        texts = tile_features(where, ids, classes, measurements)
        for start, text in zip(range(0, n, AT_ONCE), texts, strict=True):
            some = min(AT_ONCE, n - start)
            yield Slice(text, some, some)

    frame = where.frame
    if frame is None:
        raise ValueError("tiles that go out need a frame")
    return Outgoing(n, counts, frame, where.foreign, slices)


def objects_out(objects: Iterable[PathObject], frame: Frame, slide: str, box: SlideBox) -> Outgoing:
    """Return objects, in level-0 pixels, as they would go out; nested ones stay nested."""
    listed = list(objects)
    every = list(flatten(listed))
    counts = Counter(UNCLASSIFIED if o.path_class is None else o.path_class.name for o in every)

    def slices(repairs: Repairs) -> Iterator[Slice]:
        for start in range(0, len(listed), AT_ONCE):
            some = to_qupath(listed[start : start + AT_ONCE], frame)
            n = sum(1 for _ in flatten(some))
            features = list(safe_objects(some, repairs, start=start))
            yield Slice(b",".join(feature_texts(features, repairs)), len(features), n)

    foreign = {BLOCK_KEY: frame_block(frame, slide, box)}
    return Outgoing(len(every), counts, frame, foreign, slices)


def encode(
    outgoing: Outgoing,
    *,
    told: Callable[[int, int], object] = lambda done, of: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[bytes, WriteReport]:
    """Return the text of a file for QuPath, in UTF-8, and what had to be repaired.

    Parameters
    ----------
    outgoing : Outgoing
        What goes out.
    told : callable
        Hears how many objects are done, and of how many.
    stop : callable
        Asked between steps whether to give up.

    Raises
    ------
    Cancelled
        If `stop` said so.
    """
    repairs = Repairs()
    parts: list[bytes] = []
    written = done = 0
    for text, n_features, n in outgoing.slices(repairs):
        if stop():
            raise Cancelled
        if n_features:
            parts.append(text)
        written += n_features
        done += n
        told(done, outgoing.n)
    if stop():
        raise Cancelled
    data = in_collection(parts, outgoing.foreign)
    counts, dropped = dict(repairs.counts), tuple(repairs.dropped)
    return data, WriteReport(written, repairs.repaired, counts, dropped)
