"""Which frame an image in QuPath has: by its description, its size, or the objects on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import shapely

from napari_virchow.qupath.frame import (
    AmbiguousFrame,
    Frame,
    FrameError,
    SlideBox,
    bounds_frame,
    cropped,
    flipped,
    in_words,
    misfit,
    rotated,
    transformed,
    whole_slide,
)
from napari_virchow.qupath.objects import PathObject, flatten
from napari_virchow.tiles import Rect

OPENSLIDE = "OpenslideServerBuilder"
NO_CROP = "--no-crop"
# QuPath's names of the builders that change nothing about where a pixel lies.
IN_PLACE = frozenset(
    ("pyramidize", "channels", "color", "swapRedBlue", "color_deconvolved", "normalized")
    + ("typeConvert", "sliced", "z_projected", "z_concatenated")
)
INSIDE = 1.0  # px by which an object may stick out and still count as inside
_ROTATIONS = {"ROTATE_NONE": 0, "ROTATE_90": 90, "ROTATE_180": 180, "ROTATE_270": 270}
_FLIPS = {
    "NONE": (False, False),
    "HORIZONTAL": (True, False),
    "VERTICAL": (False, True),
    "BOTH": (True, True),
}
_AFFINE = ("m00", "m01", "m02", "m10", "m11", "m12")


def frame_of_server(builder: Mapping[str, Any], box: SlideBox) -> Frame:
    """Return the frame that QuPath's description of an image says, verified by size.

    Parameters
    ----------
    builder : mapping
        A server builder as in ``server.json``, or under ``serverBuilder`` in ``project.qpproj``.
    box : SlideBox
        Of the slide that the image is said to be.

    Raises
    ------
    FrameError
        If the size does not fit the slide (both are named), or the image is one we cannot follow.
    """
    inner = builder.get("builder")
    said = builder
    if "builderType" not in builder and isinstance(inner, Mapping):
        said = inner
    try:
        frame = _composed(said, box)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FrameError(f"QuPath's description of the image is damaged ({error!r}).") from error
    size = _size_of(builder) or _size_of(said)
    if size is not None and size != (frame.width, frame.height):
        raise misfit(size, (frame.width, frame.height), box)
    return frame


def candidate_frames(size: tuple[int, int], box: SlideBox) -> tuple[Frame, ...]:
    """Return the frames of an image of which only the (width, height) is known, likely ones first.

    Empty if none fits; several where the size alone cannot tell, as with rotations.
    """
    plain = _plain_frames(box)
    fits = tuple(f for f in plain if (f.width, f.height) == size)
    if fits:
        return fits
    turned = [rotated(f, degrees) for f in plain for degrees in (90, 270)]
    return tuple(f for f in turned if (f.width, f.height) == size)


def frame_of_size(size: tuple[int, int], box: SlideBox) -> Frame:
    """Return the one frame of an image of a (width, height).

    Raises
    ------
    AmbiguousFrame
        If several fit.
    FrameError
        If none does; both sizes are named.
    """
    found = candidate_frames(size, box)
    if not found:
        raise misfit(size, (box.width, box.height), box)
    return _only(found, f"An image of {in_words(size)} can lie on {box.name} in several ways")


def frame_of_objects(objects: Iterable[PathObject], box: SlideBox) -> Frame:
    """Return the frame of a file that says nothing about its image: the one all objects fit in.

    Raises
    ------
    AmbiguousFrame
        If they fit both the whole slide and its bounds.
    FrameError
        If they fit neither.
    """
    shapes = [one.geometry for one in flatten(objects) if not one.geometry.is_empty]
    plain = _plain_frames(box)
    if not shapes:
        return plain[0]
    left, top, right, bottom = shapely.total_bounds(np.array(shapes, dtype=object))
    fits = [
        frame
        for frame in plain
        if min(left, top) >= -INSIDE
        and right <= frame.width + INSIDE
        and bottom <= frame.height + INSIDE
    ]
    if not fits:
        sizes = " or ".join(in_words((f.width, f.height)) for f in plain)
        raise FrameError(
            f"The objects reach from ({left:g}, {top:g}) to ({right:g}, {bottom:g}), outside "
            f"{box.name} of {sizes}: they belong to another image, or to a rotated or cropped one."
        )
    return _only(fits, f"The file does not say which part of {box.name} QuPath showed")


def frame_named(name: str, box: SlideBox) -> Frame:
    """Return a frame by its name: "whole", "bounds", or one of them and a turn: "bounds+90".

    Raises
    ------
    FrameError
        If there is none of that name.
    """
    base, _, turn = name.partition("+")
    known = {"whole": whole_slide, "bounds": bounds_frame}
    if base not in known or turn not in ("", "90", "180", "270"):
        raise FrameError(f"A frame is whole, bounds, or either with +90, +180 or +270, not {name}.")
    return rotated(known[base](box), int(turn or 0))


def _plain_frames(box: SlideBox) -> list[Frame]:
    """Return the whole slide, and its bounds where they are something else."""
    whole, bounds = whole_slide(box), bounds_frame(box)
    same = (bounds.width, bounds.height) == (box.width, box.height) and bounds.is_identity
    return [whole] if same else [whole, bounds]


def _only(found: Sequence[Frame], what: str) -> Frame:
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{f.name} ({in_words((f.width, f.height))})" for f in found)
    raise AmbiguousFrame(f"{what}: {names}; choose one.", found)


def _composed(builder: Mapping[str, Any], box: SlideBox) -> Frame:
    kind = builder["builderType"]
    if kind == "uri":
        return _of_file(builder, box)
    if kind not in IN_PLACE | {"rotated", "flipped", "cropped", "affine"}:
        raise FrameError(
            f"The image in QuPath is of the kind {kind!r}, put together from parts that cannot be "
            f"followed; open {box.name} itself in QuPath."
        )
    frame = _composed(builder["builder"], box)
    if kind == "rotated":
        return rotated(frame, _ROTATIONS[builder["rotation"]])
    if kind == "flipped":
        horizontally, vertically = _FLIPS[builder["flip"]]
        return flipped(frame, horizontally=horizontally, vertically=vertically)
    if kind == "cropped":
        region = builder["region"]
        return cropped(frame, Rect(*(float(region[k]) for k in ("x", "y", "width", "height"))))
    if kind == "affine":
        said = builder["transform"]
        return transformed(frame, [float(said[name]) for name in _AFFINE])
    return frame


def _of_file(builder: Mapping[str, Any], box: SlideBox) -> Frame:
    """Return the frame of an image file, which its size overrules where it fits another one."""
    provider, args = str(builder.get("providerClassName", "")), builder.get("args") or ()
    # Only QuPath's OpenSlide reader crops; it does so whenever all four bounds are said.
    crops = provider.endswith(OPENSLIDE) and NO_CROP not in args
    frame = bounds_frame(box) if crops else whole_slide(box)
    size = _size_of(builder)
    if size is None or size == (frame.width, frame.height):
        return frame
    for other in _plain_frames(box):
        if (other.width, other.height) == size:
            return other
    raise misfit(size, (box.width, box.height), box)


def _size_of(builder: Mapping[str, Any]) -> tuple[int, int] | None:
    metadata = builder.get("metadata")
    if not isinstance(metadata, Mapping) or "width" not in metadata or "height" not in metadata:
        return None
    return int(metadata["width"]), int(metadata["height"])
