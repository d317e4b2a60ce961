"""Objects on their way in: what a file or a text holds, and whether it fits the slide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from napari_virchow.qupath.frame import (
    AmbiguousFrame,
    Frame,
    FrameError,
    SlideBox,
    frame_of_block,
    in_words,
    whole_slide,
)
from napari_virchow.qupath.geojson import (
    ReadResult,
    count_objects,
    parse_geojson,
    read_geojson,
)
from napari_virchow.qupath.objects import PathObject, flatten
from napari_virchow.qupath.placing import to_slide
from napari_virchow.qupath.reading import Problem
from napari_virchow.qupath.servers import frame_of_objects
from napari_virchow.qupath.shapes import bounds_of
from napari_virchow.qupath.steps import many_kept

CLIPBOARD = "the clipboard"


@dataclass(frozen=True, slots=True, eq=False)
class Incoming:
    """What would come in.

    Attributes
    ----------
    name : str
        Of the file, or what else it is called.
    found : ReadResult
        All that was read, malformed features included, in QuPath's pixels.
    counts : mapping
        Type → class → how many.
    frame : Frame or None
        Where it lies on the slide; None while that is not known.
    objects : list of PathObject
        In level-0 pixels; empty while there is no frame.
    choices : tuple of Frame
        The frames it fits, where several do and somebody must choose.
    refusal : str
        Why it cannot lie on the slide, or what must be chosen; "" if all is well.
    outside : int
        Objects that are not on the slide in that frame.
    """

    name: str
    found: ReadResult
    counts: Mapping[str, Mapping[str, int]]
    frame: Frame | None = None
    objects: tuple[PathObject, ...] = ()
    choices: tuple[Frame, ...] = ()
    refusal: str = ""
    outside: int = 0

    @property
    def n(self) -> int:
        """How many objects there are, nested ones included."""
        return sum(sum(classes.values()) for classes in self.counts.values())


def look_into_file(path: Path | str, box: SlideBox, slide: str) -> Incoming:
    """Read a file and find out where its objects lie on a slide.

    Parameters
    ----------
    path : Path or str
        See `geojson.read_geojson`, also for what is raised.
    box : SlideBox
        Of the slide.
    slide : str
        `Slide.identity`.
    """
    with many_kept():
        return _looked_into(Path(path).name, read_geojson(path), box, slide)


def look_into_text(text: str, box: SlideBox, slide: str) -> Incoming:
    """Do what `look_into_file` does for text from the clipboard.

    Raises
    ------
    GeoJsonError
        If it is no GeoJSON.
    """
    with many_kept():
        return _looked_into(CLIPBOARD, parse_geojson(text, CLIPBOARD), box, slide)


def look_into_objects(
    name: str, objects: Sequence[PathObject], problems: Sequence[Problem], box: SlideBox
) -> Incoming:
    """Do what `look_into_file` does for objects that are in level-0 pixels already."""
    found = ReadResult(tuple(objects), tuple(problems))
    return put_into(Incoming(name, found, count_objects(objects)), whole_slide(box), box)


def put_into(incoming: Incoming, frame: Frame, box: SlideBox) -> Incoming:
    """Return what comes in, laid onto the slide in a frame.

    Where not one object would be on the slide it is refused, and both sizes are named.
    """
    objects = tuple(to_slide(incoming.found.objects, frame))
    outside = _outside(objects, box)
    known = replace(incoming, frame=frame, objects=objects, refusal="", outside=outside)
    if objects and outside == sum(1 for _ in flatten(objects)):
        sentence = (
            f"In an image of {in_words((frame.width, frame.height))} ({frame.name}) not one object "
            f"lies on {box.name} of {in_words((box.width, box.height))}; choose another frame, or "
            "open the slide it belongs to."
        )
        return replace(known, frame=None, objects=(), refusal=sentence)
    return known


def _looked_into(name: str, found: ReadResult, box: SlideBox, slide: str) -> Incoming:
    incoming = Incoming(name, found, count_objects(found.objects))
    try:
        frame = frame_of_block(found.block, box, slide) or frame_of_objects(found.objects, box)
    except AmbiguousFrame as question:
        return replace(incoming, choices=question.candidates, refusal=str(question))
    except FrameError as error:
        return replace(incoming, refusal=str(error))
    return put_into(incoming, frame, box)


def _outside(objects: tuple[PathObject, ...], box: SlideBox) -> int:
    shapes = [one.geometry for one in flatten(objects) if not one.geometry.is_empty]
    left, top, right, bottom = bounds_of(shapes).T
    off = (right < 0) | (bottom < 0) | (left > box.width) | (top > box.height)
    return int(off.sum())
