"""QuPath's GeoJSON files: read whatever QuPath wrote, write what every QuPath reads.

An object that nobody edited is written as it was read, unknown keys and all; of an edited one only
the edited fields change.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from napari_virchow.qupath import steps
from napari_virchow.qupath.features import to_feature
from napari_virchow.qupath.frame import BLOCK_KEY, Frame
from napari_virchow.qupath.objects import PathObject, flatten
from napari_virchow.qupath.placing import to_qupath
from napari_virchow.qupath.reading import Problem, parse_features
from napari_virchow.qupath.safety import Repairs, safe_features, with_id, without_nulls

GEOMETRIES = frozenset(
    ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon")
    + ("GeometryCollection",)
)
SUFFIXES = (".geojson", ".json")


class GeoJsonError(ValueError):
    """A file or text cannot be read as GeoJSON; one sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a file holds.

    Attributes
    ----------
    objects : tuple of PathObject
        In the order of the file, in pixels of the image as QuPath showed it.
    problems : tuple of Problem
        Features that could not be read: (index, reason).
    notes : tuple of Problem
        Features that were read after something was put right or left out.
    foreign : mapping
        What the collection says beside its features, our own frame block included.
    """

    objects: tuple[PathObject, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    foreign: Mapping[str, Any] = field(default_factory=dict)

    @property
    def block(self) -> Any:
        """The frame block of a file of ours, or None; see `frame.frame_of_block`."""
        return self.foreign.get(BLOCK_KEY)


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What was written, and what had to be changed so that every QuPath reads it.

    Attributes
    ----------
    written : int
        Features in the file, nested ones not counted.
    repaired : int
        Features that were changed.
    repairs : mapping of str to int
        How often each kind of repair was made.
    dropped : tuple of Problem
        Objects left out: (index, reason).
    """

    written: int
    repaired: int = 0
    repairs: Mapping[str, int] = field(default_factory=dict)
    dropped: tuple[Problem, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        dropped = [{"index": one.index, "reason": one.reason} for one in self.dropped]
        counts = {"written": self.written, "repaired": self.repaired, "dropped": len(dropped)}
        return {**counts, "repairs": dict(self.repairs), "dropped_features": dropped}


def read_geojson(path: Path | str) -> ReadResult:
    """Read a file of QuPath 0.1 to 0.7: .geojson or .json, also .gz, or .zip with several.

    Raises
    ------
    GeoJsonError
        If the file as a whole cannot be read. Single bad features are listed instead.
    OSError
        If it is not there, or not readable.
    """
    path = Path(path)
    results = [_parsed(data, path.name) for data in _contents(path)]
    if len(results) == 1:
        return results[0]
    return _joined(results)


def parse_geojson(text: str | bytes, name: str = "the text") -> ReadResult:
    """Read GeoJSON that is at hand, such as what QuPath copied to the clipboard.

    Raises
    ------
    GeoJsonError
        If it is no GeoJSON; `name` is what the sentence calls it.
    """
    return _parsed(text.encode() if isinstance(text, str) else text, name)


def write_geojson(
    path: Path | str,
    objects: Iterable[PathObject],
    *,
    frame: Frame | None = None,
    foreign: Mapping[str, Any] | None = None,
    pretty: bool = False,
    strict: bool = False,
) -> WriteReport:
    """Write objects to a FeatureCollection that every version of QuPath reads.

    Parameters
    ----------
    path : Path or str
        .geojson or .json, either also with .gz; or .zip. It takes its name when it is whole.
    objects : iterable of PathObject
        In pixels of QuPath's image, or with `frame` in level-0 pixels of the slide.
    frame : Frame, optional
        Of the image in QuPath.
    foreign : mapping, optional
        More members of the collection, such as ``{BLOCK_KEY: frame_block(...)}``.
    pretty : bool
        With line breaks, for reading by eye.
    strict : bool
        See `safety.safe_features`.

    Raises
    ------
    GeoJsonError
        If the name of the file is of no format that QuPath reads.
    OSError
        If it cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    data, report = encode_objects(
        objects, frame=frame, foreign=foreign, pretty=pretty, strict=strict
    )
    write_bytes(path, data)
    return report


def encode_objects(
    objects: Iterable[PathObject],
    *,
    frame: Frame | None = None,
    foreign: Mapping[str, Any] | None = None,
    pretty: bool = False,
    strict: bool = False,
) -> tuple[bytes, WriteReport]:
    """Return the UTF-8 text of `write_geojson`, for the clipboard or the live link."""
    placed = list(objects) if frame is None else to_qupath(objects, frame)
    with steps.collector_paused():
        repairs = Repairs()
        features = list(safe_objects(placed, repairs, strict=strict))
        data = encode_features(features, foreign=foreign, pretty=pretty, repairs=repairs)
    counts = dict(repairs.counts)
    report = WriteReport(len(features), repairs.repaired, counts, tuple(repairs.dropped))
    return data, report


def encode_features(
    features: Sequence[dict[str, Any]],
    *,
    foreign: Mapping[str, Any] | None = None,
    pretty: bool = False,
    repairs: Repairs | None = None,
) -> bytes:
    """Return features as the UTF-8 text of a FeatureCollection, without nulls."""
    repairs = repairs or Repairs()
    if pretty:
        return _safe_dumps(_collection(foreign) | {"features": features}, repairs, pretty=True)
    return in_collection(feature_texts(features, repairs), foreign, repairs)


def feature_texts(features: Sequence[Mapping[str, Any]], repairs: Repairs) -> Iterable[bytes]:
    """Yield features as the UTF-8 text that `in_collection` takes, some thousands at a time."""
    return steps.dumped(features, lambda some: _safe_dumps(some, repairs))


def in_collection(
    parts: Iterable[bytes],
    foreign: Mapping[str, Any] | None = None,
    repairs: Repairs | None = None,
) -> bytes:
    """Return the UTF-8 text of a FeatureCollection of features that are text already.

    Parameters
    ----------
    parts : iterable of bytes
        One or more features each, with commas between.
    foreign, repairs
        As for `encode_features`.
    """
    head = _safe_dumps(_collection(foreign), repairs or Repairs())[: -len("]}")]
    return b"".join((head, b",".join(parts), b"]}"))


def dumps(document: Any, *, pretty: bool = False) -> bytes:
    """Return plain values, and arrays of numbers, as JSON in UTF-8; what is not finite is null."""
    import orjson

    option = orjson.OPT_SERIALIZE_NUMPY | (orjson.OPT_INDENT_2 if pretty else 0)
    try:
        return orjson.dumps(document, option=option)
    except TypeError:  # whole numbers beyond 64 bits, or half of a surrogate pair
        return json.dumps(document, indent=2 if pretty else None, ensure_ascii=True).encode()


def repair_file(path: Path | str, out: Path | str) -> tuple[ReadResult, WriteReport]:
    """Write another file with all of a file that can be brought into a form QuPath reads.

    Raises
    ------
    GeoJsonError
        If the file cannot be read at all, or `out` is the same one.
    OSError
        If one of them is not accessible.
    """
    if Path(out).exists() and Path(out).samefile(path):
        raise GeoJsonError(f"{out} is the file to repair; give the repaired one another name.")
    check_suffix(Path(out))
    found = read_geojson(path)
    return found, write_geojson(out, found.objects, foreign=found.foreign, strict=True)


def check_suffix(path: Path) -> None:
    """Raise GeoJsonError unless QuPath reads files of such a name."""
    name = path.name.lower()
    if not name.removesuffix(".gz").endswith(SUFFIXES) and not name.endswith(".zip"):
        raise GeoJsonError(
            f"QuPath does not read files named like {path.name}; end it in .geojson, .json, "
            ".geojson.gz or .zip."
        )


def write_bytes(path: Path, data: bytes) -> None:
    """Write GeoJSON, packed as the name says; the file takes its name when it is whole."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(f"{path.name[:-4].removesuffix('.geojson')}.geojson", data)
        elif path.name.lower().endswith(".gz"):
            part.write_bytes(gzip.compress(data, 6))
        else:
            part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def safe_objects(
    objects: Sequence[PathObject], repairs: Repairs, *, start: int = 0, strict: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the features of objects in QuPath's pixels, as every QuPath reads them.

    `start` is the number of the first, for the report; see `safety.safe_features` for the rest.
    """
    shapes = np.array([one.geometry for one in objects], dtype=object)
    valid = shapely.is_valid(shapes).tolist()
    for index, (one, is_valid) in enumerate(zip(objects, valid, strict=True), start):
        made = repairs.counts["id made"]
        feature = with_id(to_feature(one, repairs), one.geometry, index, repairs)
        fresh = repairs.counts["id made"] > made
        fine = is_valid and not one.geometry.is_empty
        several = safe_features(feature, one.geometry, index, repairs, is_valid=fine, strict=strict)
        repairs.repaired += fresh and len(several) == 1 and several[0] is feature
        yield from several


def _contents(path: Path) -> Iterator[bytes]:
    """Yield the text of a file, or of each file in a zip."""
    name = path.name.lower()
    if name.endswith(".qpdata"):
        raise GeoJsonError(
            f"{path.name} is QuPath's own data; export the objects in QuPath as GeoJSON."
        )
    data = path.read_bytes()
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [n for n in archive.namelist() if n.lower().endswith(SUFFIXES)]
                if not names:
                    raise GeoJsonError(f"There is no GeoJSON file in {path.name}.")
                yield from [archive.read(n) for n in names]
        elif data[:2] == b"\x1f\x8b":
            yield gzip.decompress(data)
        else:
            yield data
    except (zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise GeoJsonError(f"{path.name} is damaged ({error}); export it again.") from error


def _parsed(data: bytes, name: str) -> ReadResult:
    with steps.collector_paused():
        try:
            # Not orjson: slower at reading this, and it refuses the bare NaN of QuPath 0.4.
            document = steps.loads(data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise GeoJsonError(f"{name} is not text in UTF-8, so no GeoJSON of QuPath.") from error
        except (ValueError, RecursionError) as error:
            raise GeoJsonError(f"{name} is not GeoJSON: {error}.") from error
        features, foreign = _features(document, name)
        seed = hashlib.sha256(data).hexdigest()
        objects, problems, notes = parse_features(features, seed)
    return ReadResult(tuple(objects), tuple(problems), tuple(notes), foreign)


def _features(document: Any, name: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the features of a document of any form, and what the collection says beside them."""
    if isinstance(document, list):
        return document, {}
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, list):
            raise GeoJsonError(f"{name} is a FeatureCollection without a list of features.")
        return features, {k: v for k, v in document.items() if k not in ("type", "features")}
    if kind == "Feature":
        return [document], {}
    if kind in GEOMETRIES:
        return [{"type": "Feature", "geometry": document}], {}
    raise GeoJsonError(
        f"{name} is JSON but not GeoJSON: it has no features and no geometry; export the objects "
        "in QuPath as GeoJSON."
    )


def _joined(results: Sequence[ReadResult]) -> ReadResult:
    """Return several files as one; indices count on from file to file."""
    objects: list[PathObject] = []
    problems: list[Problem] = []
    notes: list[Problem] = []
    foreign: dict[str, Any] = {}
    start = 0
    for one in results:
        objects += one.objects
        problems += [Problem(start + p.index, p.reason) for p in one.problems]
        notes += [Problem(start + p.index, p.reason) for p in one.notes]
        foreign = dict(one.foreign) | foreign
        start += len(one.objects) + len({p.index for p in one.problems})
    return ReadResult(tuple(objects), tuple(problems), tuple(notes), foreign)


def _collection(foreign: Mapping[str, Any] | None) -> dict[str, Any]:
    members = {k: v for k, v in (foreign or {}).items() if k not in ("type", "features")}
    return {"type": "FeatureCollection", **members, "features": []}


def _safe_dumps(document: Any, repairs: Repairs, *, pretty: bool = False) -> bytes:
    data = dumps(document, pretty=pretty)
    if b"null" in data:  # in a text perhaps, but perhaps not
        data = dumps(without_nulls(document, repairs), pretty=pretty)
    return data


def count_objects(objects: Iterable[PathObject]) -> dict[str, dict[str, int]]:
    """Return how many objects there are by type and by class, nested ones included."""
    counts: dict[str, dict[str, int]] = {}
    for one in flatten(objects):
        name = "unclassified" if one.path_class is None else one.path_class.name
        here = counts.setdefault(one.object_type, {})
        here[name] = here.get(name, 0) + 1
    return counts
