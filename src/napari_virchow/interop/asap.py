"""ASAP's XML: annotations in level-0 pixels, with groups and colours."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from napari_virchow.interop.table import InteropError, taking_shape
from napari_virchow.qupath.classes import PathClass, parse_color
from napari_virchow.qupath.objects import NAMESPACE, PathObject, flatten
from napari_virchow.qupath.reading import Problem

FORM = "asap"
ROOT = "ASAP_Annotations"
_AREAS = ("Polygon", "Rectangle", "Spline")


def is_asap(path: Path) -> bool:
    """Say whether a file begins as ASAP's does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(1024)
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") and f"<{ROOT}".encode() in start


def read_asap(path: Path | str) -> tuple[list[PathObject], list[Problem]]:
    """Read annotations, each with its group as class.

    Polygons, rectangles and splines (their corners joined by straight lines) become areas, dots and
    point sets points, measurements lines.

    Returns
    -------
    objects : list of PathObject
        In level-0 pixels; their ids follow from the file, so reading again gives the same.
    problems : list of Problem
        Annotations that could not be read, by their number from 0, and why.

    Raises
    ------
    InteropError
        If it is no XML of ASAP, or is damaged.
    FileNotFoundError
        If it is not there.
    """
    path = Path(path)
    root = _root(path)
    groups = {str(g.get("Name")): parse_color(g.get("Color")) for g in root.iter("Group")}
    objects: list[PathObject] = []
    problems: list[Problem] = []
    for index, one in enumerate(root.iter("Annotation")):
        try:
            geometry = _geometry(one)
        except ValueError as error:
            problems.append(Problem(index, str(error)))
            continue
        group = one.get("PartOfGroup", "None").strip()
        seed = f"asap/{index}/{one.get('Name')}/{geometry.wkt}"
        objects.append(
            PathObject(
                id=str(uuid.uuid5(NAMESPACE, seed)),
                object_type="annotation",
                geometry=geometry,
                path_class=_class_of(group, groups.get(group) or parse_color(one.get("Color"))),
                name=one.get("Name") or None,
            )
        )
    return objects, problems


def write_asap(path: Path | str, objects: Iterable[PathObject]) -> tuple[int, int]:
    """Write annotations for ASAP.

    An area of several parts becomes one annotation for each; as ASAP has no holes, an area with
    holes is cut into pieces without, which cover the same.

    Parameters
    ----------
    path : Path or str
        .xml
    objects : iterable of PathObject
        In level-0 pixels.

    Returns
    -------
    written : int
        Annotations in the file.
    left_out : int
        Objects that ASAP cannot show: lines of several parts, and what is empty.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    root = ET.Element(ROOT)
    annotations = ET.SubElement(root, "Annotations")
    groups: dict[str, str] = {}
    left_out = 0
    for one in flatten(objects):
        name = "None"
        if one.path_class is not None:
            name = one.path_class.name
            groups.setdefault(name, one.path_class.hex_color)
        parts = list(_parts(one.shape))
        left_out += not parts
        for kind, points in parts:
            number = len(annotations)
            facts = {
                "Name": one.name or f"Annotation {number}",
                "Type": kind,
                "PartOfGroup": name,
                "Color": groups.get(name, "#F4FA58"),
            }
            coordinates = ET.SubElement(
                ET.SubElement(annotations, "Annotation", facts), "Coordinates"
            )
            for order, (x, y) in enumerate(points):
                at = {"Order": str(order), "X": repr(round(x, 3)), "Y": repr(round(y, 3))}
                ET.SubElement(coordinates, "Coordinate", at)
    listed = ET.SubElement(root, "AnnotationGroups")
    for name, color in groups.items():
        group = ET.SubElement(
            listed, "Group", {"Name": name, "PartOfGroup": "None", "Color": color}
        )
        ET.SubElement(group, "Attributes")
    ET.indent(root)
    with taking_shape(Path(path)) as part:
        ET.ElementTree(root).write(part, encoding="utf-8", xml_declaration=True)
    return len(annotations), left_out


def _root(path: Path) -> ET.Element:
    data = path.read_bytes()
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:  # ASAP writes none, and they can be a trap
        raise InteropError(f"{path} has a document type, which no file of ASAP has.")
    try:
        root = ET.fromstring(data)
    except ET.ParseError as error:
        raise InteropError(f"{path} is damaged: {error}.") from error
    if root.tag != ROOT:
        raise InteropError(f"{path} is XML, but not of ASAP: it begins with {root.tag}.")
    return root


def _class_of(group: str, color: tuple[int, int, int] | None) -> PathClass | None:
    if not group.strip(": ") or group == "None":
        return None
    return PathClass.of(group, color)


def _geometry(one: ET.Element) -> BaseGeometry:
    """Return the geometry of an annotation; ValueError says why there is none."""
    found = one.findall("./Coordinates/Coordinate")
    try:
        found.sort(key=lambda at: float(at.get("Order", 0)))
        points = np.array([(float(at.attrib["X"]), float(at.attrib["Y"])) for at in found])
    except (KeyError, ValueError) as error:
        raise ValueError(f"a coordinate is no number: {error}") from error
    if not len(points) or not np.isfinite(points).all():
        raise ValueError("it has no coordinates" if not len(points) else "a coordinate is infinite")
    kind = one.get("Type", "")
    if kind in _AREAS:
        if len(points) < 3:
            raise ValueError(f"a {kind.lower()} needs 3 points, it has {len(points)}")
        return shapely.Polygon(points)
    if kind in ("Dot", "PointSet"):
        return shapely.Point(points[0]) if len(points) == 1 else shapely.MultiPoint(points)
    if kind == "Measurement" and len(points) > 1:
        return shapely.LineString(points)
    raise ValueError(f"its type {kind!r} is not known")


def _parts(shape: BaseGeometry) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Yield the annotations of ASAP that show a geometry: type and points."""
    for one in shapely.get_parts(shape):
        if isinstance(one, shapely.Polygon) and not one.is_empty:
            for whole in _without_holes(one):
                yield "Polygon", list(whole.exterior.coords)[:-1]
        elif isinstance(one, shapely.Point) and not one.is_empty:
            yield "Dot", [(one.x, one.y)]
        elif isinstance(one, shapely.LineString) and not one.is_empty:
            yield "Measurement", list(one.coords)


def _without_holes(polygon: shapely.Polygon) -> Iterator[shapely.Polygon]:
    """Yield pieces that cover a polygon and have no holes: it is cut through the first one."""
    if not polygon.interiors:
        yield polygon
        return
    left, top, right, bottom = polygon.bounds
    hole = polygon.interiors[0].bounds
    middle = (hole[0] + hole[2]) / 2
    valid = shapely.make_valid(polygon)
    for half in (shapely.box(left, top, middle, bottom), shapely.box(middle, top, right, bottom)):
        for piece in shapely.get_parts(shapely.intersection(valid, half)):
            if isinstance(piece, shapely.Polygon) and piece.area > 0:
                yield from _without_holes(piece)
