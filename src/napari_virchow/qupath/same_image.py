"""Which open slide is the image that QuPath shows, and where it lies on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from napari_virchow.qupath.frame import Frame, FrameError, SlideBox
from napari_virchow.qupath.live_facts import LiveError, QuPathImage
from napari_virchow.qupath.servers import frame_of_server, frame_of_size
from napari_virchow.qupath.uris import is_local, path_of_uri, same_file

if TYPE_CHECKING:
    from napari_virchow.slide import Slide

Known = dict[str, str]  # `QuPathImage.key` → identity of the slide it was opened as


class Match(NamedTuple):
    """The slide and frame of an image; or why there is none, as a sentence."""

    slide: Slide | None
    frame: Frame | None
    problem: str


def match(image: QuPathImage | None, slides: Mapping[str, Slide], known: Known) -> Match:
    """Find the open slide that is the image in QuPath.

    A slide is the same if it is the same file; where QuPath's file is not on this machine, if it
    has the same name. Its size must fit in any case.
    """
    if image is None:
        return Match(None, None, "QuPath shows no image; open the slide there.")
    slide = slides.get(known.get(image.key, "")) or _found(image, slides)
    if slide is None:
        return Match(None, None, f"QuPath shows {image.name}, which is not open here.")
    box = SlideBox.of(slide)
    try:
        if image.builder:
            frame = frame_of_server(image.builder, box)
        else:
            frame = frame_of_size((image.width, image.height), box)
    except FrameError as error:
        return Match(None, None, str(error))
    return Match(slide, frame, "")


def open_location(image: QuPathImage | None) -> str:
    """Return what `Session.open_slide` takes for an image in QuPath.

    Raises
    ------
    LiveError
        If there is none, or it is not one file that can be reached from here.
    """
    if image is None:
        raise LiveError("QuPath shows no image; open the slide there.")
    if len(image.uris) != 1:
        raise LiveError(f"{image.name} is not one file; open the slide itself in QuPath.")
    [uri] = image.uris
    if not is_local(uri):
        return uri
    path = path_of_uri(uri)
    if not path.exists():
        raise LiveError(f"{path} is not on this machine; open your copy of {path.name} here.")
    return str(path)


def _found(image: QuPathImage, slides: Mapping[str, Slide]) -> Slide | None:
    for uri in image.uris:
        for slide in slides.values():
            if same_file(uri, slide.path):
                return slide
    for uri in image.uris:
        if is_local(uri) and path_of_uri(uri).exists():
            continue
        name = PurePosixPath(uri).name if not is_local(uri) else path_of_uri(uri).name
        for slide in slides.values():
            if name and PurePosixPath(str(slide.path)).name == name:
                return slide
    return None
