"""QuPath's projects, read without Java: their images, thumbnails, classes and counts.

A project is never written here; `groovy` makes a script that QuPath runs instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_virchow.qupath.classes import PathClass, parse_color
from napari_virchow.qupath.frame import Frame, SlideBox, in_words
from napari_virchow.qupath.servers import frame_of_server
from napari_virchow.qupath.uris import is_local, moved, path_of_uri, uri_of_path, uris_of_builder

SUFFIX = ".qpproj"
PROJECT_DIR = "{$PROJECT_DIR}"  # how QuPath 0.1 spells the project's own folder


class ProjectError(ValueError):
    """A project cannot be read; one sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class ProjectImage:
    """One image of a project, as far as files say it.

    Attributes
    ----------
    entry : str
        QuPath's number of it, the folder of its data; for QuPath 0.1 its name.
    name : str
        As QuPath lists it.
    uris : tuple of str
        Of its files, as the project says them; several for images put together of others.
    path : Path or None
        The file as it was found on this machine; None if it is missing or not on a disk.
    width, height : int or None
        As QuPath shows the image.
    mpp : (float, float) or None
        µm per pixel.
    image_type : str
        "BRIGHTFIELD_H_E" and the like; empty if not set.
    thumbnail : Path or None
        A JPEG that QuPath made.
    counts : mapping of str to int
        Objects by type, in QuPath's words: "Annotations", "Cells", "Tiles", ...
    annotation_classes, detection_classes : mapping of str to int
        Objects by class, "Unclassified" among them.
    metadata : mapping of str to str
        What the user noted.
    tags : tuple of str
        Of QuPath 0.6 and later.
    description : str
        Free text.
    builder : mapping
        QuPath's description of the image, for `frame_on`.
    problem : str
        Why the image cannot be opened, in one sentence; empty if it can.
    """

    entry: str
    name: str
    uris: tuple[str, ...]
    path: Path | None = None
    width: int | None = None
    height: int | None = None
    mpp: tuple[float, float] | None = None
    image_type: str = ""
    thumbnail: Path | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    annotation_classes: Mapping[str, int] = field(default_factory=dict)
    detection_classes: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    description: str = ""
    builder: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def location(self) -> str | None:
        """What `open_slide` takes: the file, or a URL; None if it cannot be opened."""
        if self.problem or not self.uris:
            return None
        return str(self.path) if self.path is not None else self.uris[0]

    def frame_on(self, box: SlideBox) -> Frame:
        """Return where the image lies on the slide it is opened as; raises as `frame_of_server`."""
        return frame_of_server(self.builder, box)

    def to_json(self) -> dict[str, Any]:
        """Return what is known as plain values."""
        return {
            "entry": self.entry,
            "name": self.name,
            "uris": list(self.uris),
            "path": None if self.path is None else str(self.path),
            "width": self.width,
            "height": self.height,
            "mpp": None if self.mpp is None else list(self.mpp),
            "image_type": self.image_type,
            "thumbnail": None if self.thumbnail is None else str(self.thumbnail),
            "counts": dict(self.counts),
            "annotation_classes": dict(self.annotation_classes),
            "detection_classes": dict(self.detection_classes),
            "metadata": dict(self.metadata),
            "tags": list(self.tags),
            "description": self.description,
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class Project:
    """A project as it is on disk.

    Attributes
    ----------
    path : Path
        Its file.
    version : str
        Of the QuPath that wrote it; "0.1" where the file does not say it.
    images : tuple of ProjectImage
        In QuPath's order.
    classes : tuple of PathClass
        With their colours.
    problems : tuple of str
        What in the project could not be read, and of which image.
    """

    path: Path
    version: str
    images: tuple[ProjectImage, ...]
    classes: tuple[PathClass, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's name, as QuPath shows it."""
        return self.path.parent.name

    def to_json(self) -> dict[str, Any]:
        """Return what is known as plain values."""
        return {
            "project": str(self.path),
            "name": self.name,
            "version": self.version,
            "images": [image.to_json() for image in self.images],
            "classes": [{"name": one.name, "color": one.hex_color} for one in self.classes],
            "problems": list(self.problems),
        }


def read_project(where: Path | str) -> Project:
    """Read a project; its folder stays as it is, to the last byte.

    Parameters
    ----------
    where : Path or str
        The ``.qpproj`` file, or the folder it is in.

    Raises
    ------
    ProjectError
        If there is no project, or its file is damaged. What is wrong with single images is said
        by them.
    OSError
        If it is not accessible.
    """
    path = find_project(Path(where)).resolve()
    document = _load(path)
    if not isinstance(document.get("images"), list):
        raise ProjectError(f"{path.name} has no list of images, so it is no project of QuPath.")
    reading = _Reading(path, document.get("uri"))
    images = []
    for number, said in enumerate(document["images"], 1):
        try:
            images.append(reading.image(said))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reading.problems.append(f"Image {number} of {path.name} is damaged ({error!r}).")
    return Project(
        path=path,
        version=str(document.get("version") or "0.1"),
        images=tuple(images),
        classes=reading.classes(document),
        problems=tuple(reading.problems),
    )


def find_project(where: Path) -> Path:
    """Return the project's file for itself or its folder.

    Raises
    ------
    ProjectError
        If there is none, or several.
    """
    if where.is_file():
        if where.suffix.lower() != SUFFIX:
            raise ProjectError(f"{where.name} is no project of QuPath: those end in {SUFFIX}.")
        return where
    if not where.is_dir():
        raise ProjectError(f"{where} is not there: give the folder of a project of QuPath.")
    found = sorted(p for p in where.glob(f"*{SUFFIX}") if p.is_file())
    if not found:
        raise ProjectError(f"{where} has no project of QuPath (a file named project{SUFFIX}).")
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise ProjectError(f"{where} has several projects ({names}): name one of these files.")
    return found[0]


@dataclass(slots=True)
class _Reading:
    """A project while it is read."""

    path: Path
    before: Any
    problems: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.path.parent

    def image(self, said: Mapping[str, Any]) -> ProjectImage:
        if "serverBuilder" not in said and "path" in said:
            return self.old_image(said)
        builder = said["serverBuilder"]
        entry = str(said["entryID"])
        data = self.folder / "data" / entry
        uris = uris_of_builder(builder)
        path, problem = self.find(uris)
        summary = self.summary(data / "summary.json")
        hierarchy = summary.get("hierarchy") or {}
        size = _size(builder) or _size(summary.get("server") or {})
        thumbnail = data / "thumbnail.jpg"
        return ProjectImage(
            entry=entry,
            name=str(said.get("imageName") or (uris[0] if uris else entry)),
            uris=uris,
            path=path,
            width=size[0] if size else None,
            height=size[1] if size else None,
            mpp=_mpp(builder),
            image_type=str(summary.get("imageType") or ""),
            thumbnail=thumbnail if thumbnail.is_file() else None,
            counts=_counts(hierarchy.get("objectTypeCounts")),
            annotation_classes=_counts(hierarchy.get("annotationClassificationCounts")),
            detection_classes=_counts(hierarchy.get("detectionClassificationCounts")),
            metadata={str(k): str(v) for k, v in (said.get("metadata") or {}).items()},
            tags=tuple(str(tag) for tag in said.get("tags") or ()),
            description=str(said.get("description") or ""),
            builder=builder,
            problem=problem,
        )

    def old_image(self, said: Mapping[str, Any]) -> ProjectImage:
        """Return an image of QuPath 0.1, which said only path and name."""
        place = str(said["path"]).replace(PROJECT_DIR, str(self.folder))
        uri = place if "://" in place or place.startswith("file:") else uri_of_path(Path(place))
        path, problem = self.find((uri,))
        name = str(said.get("name") or Path(place).name)
        thumbnail = self.folder / "thumbnails" / f"{name}.jpg"
        return ProjectImage(
            entry=name,
            name=name,
            uris=(uri,),
            path=path,
            thumbnail=thumbnail if thumbnail.is_file() else None,
            metadata={str(k): str(v) for k, v in (said.get("metadata") or {}).items()},
            description=str(said.get("description") or ""),
            builder={"builderType": "uri", "uri": uri},
            problem=problem,
        )

    def find(self, uris: tuple[str, ...]) -> tuple[Path | None, str]:
        """Return the file of an image where it is now, or why it cannot be opened."""
        if not uris:
            return None, "QuPath made this image without a file; open the one it was made of."
        if len(uris) > 1:
            return None, f"This image is put together of {len(uris)} files; open one of them."
        if not is_local(uris[0]):
            web = uris[0].startswith(("http:", "https:"))
            return None, "" if web else f"{uris[0]} is not a file; open the slide itself."
        old = path_of_uri(uris[0])
        new = moved(uris[0], self.before, self.folder)
        for place in (old, new):
            if place is not None and place.exists():
                return place, ""
        tried = " nor at ".join(str(place) for place in (old, new) if place not in (None, Path()))
        return None, f"{old.name} is missing: it is not at {tried}; put it back, or open it itself."

    def summary(self, path: Path) -> dict[str, Any]:
        if not path.is_file():  # nothing was saved of it yet
            return {}
        try:
            return _load(path)
        except ProjectError as error:
            self.problems.append(str(error))
            return {}

    def classes(self, document: Mapping[str, Any]) -> tuple[PathClass, ...]:
        path = self.folder / "classifiers" / "classes.json"
        listed = document.get("pathClasses") or []  # of QuPath 0.1
        if path.is_file():
            try:
                listed = _load(path).get("pathClasses") or []
            except ProjectError as error:
                self.problems.append(str(error))
        found = []
        for one in listed:
            try:
                found.append(PathClass.of(str(one["name"]), parse_color(one.get("color"))))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self.problems.append(f"A class of {self.path.name} is damaged ({error}).")
        return tuple(found)


def describe_project(project: Project) -> str:
    """Return a project in words, one image a line."""
    lines = [f"{project.name}: {len(project.images)} images, QuPath {project.version}"]
    for image in project.images:
        known = [] if image.width is None else [in_words((image.width, image.height or 0))]
        known += [f"{image.mpp[0]:.4g} µm/px"] if image.mpp else []
        known += [f"{n} {what.lower()}" for what, n in image.counts.items() if "Root" not in what]
        lines.append(f"  {image.name}: {', '.join(known) or 'never opened'}")
        lines.append(f"    {image.problem or image.location}")
    if project.classes:
        lines.append("classes: " + ", ".join(one.name for one in project.classes))
    return "\n".join([*lines, *project.problems])


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ProjectError(
            f"{path.name} is damaged ({error}); QuPath keeps an older one as {path.name}.backup."
        ) from error
    if not isinstance(document, dict):
        raise ProjectError(f"{path.name} is not what QuPath writes: it holds no object.")
    return document


def _size(said: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the (width, height) in a builder or its metadata, outermost first."""
    for one in (said.get("metadata"), said):
        if isinstance(one, Mapping) and {"width", "height"} <= one.keys():
            return int(one["width"]), int(one["height"])
    inner = said.get("builder")
    turned = str(said.get("rotation")) in ("ROTATE_90", "ROTATE_270")
    if not isinstance(inner, Mapping) or said.get("builderType") in ("cropped", "affine"):
        return None
    size = _size(inner)
    return size[::-1] if size and turned else size


def _mpp(said: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return µm per pixel in a builder's metadata; None where it is in pixels."""
    metadata = said.get("metadata")
    if not isinstance(metadata, Mapping):
        inner = said.get("builder")
        return _mpp(inner) if isinstance(inner, Mapping) else None
    calibration = metadata.get("pixelCalibration") or {}
    sides = [calibration.get(name) or {} for name in ("pixelWidth", "pixelHeight")]
    if any(side.get("unit") not in ("µm", "μm", "um") for side in sides):
        return None
    return float(sides[0]["value"]), float(sides[1]["value"])


def _counts(said: Any) -> dict[str, int]:
    return {str(k): int(v) for k, v in said.items()} if isinstance(said, Mapping) else {}
