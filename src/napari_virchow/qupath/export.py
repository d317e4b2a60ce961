"""Tiles go to QuPath: labels and predictions one by one, or as one annotation per region."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_virchow.classify.predictions import UNKNOWN_ABOVE, Predictions
from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.frame import BLOCK_KEY, Frame, SlideBox, frame_block, whole_slide
from napari_virchow.qupath.geojson import (
    WriteReport,
    check_suffix,
    dumps,
    encode_objects,
    in_collection,
    write_bytes,
    write_geojson,
)
from napari_virchow.qupath.objects import NAMESPACE, PathObject
from napari_virchow.qupath.regions import merge_tiles
from napari_virchow.qupath.shapes import rounded
from napari_virchow.qupath.steps import AT_ONCE
from napari_virchow.tiles import Tile, TileGrid

Measurements = Mapping[str, NDArray[np.floating[Any]]]


class NamedClass(Protocol):
    """A class of labels or of a classifier."""

    @property
    def id(self) -> int: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def color(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True, eq=False)
class SlideTiles:
    """Tiles of one slide, and how QuPath shows it.

    Parameters
    ----------
    slide : str
        `Slide.identity`.
    grid : TileGrid
        Where the tiles are.
    tiles : ndarray of shape (n, 2)
        Row and column of each.
    frame : Frame, optional
        Of the image in QuPath; the whole slide if left out.
    """

    slide: str
    grid: TileGrid
    tiles: NDArray[np.integer[Any]]
    frame: Frame | None = None

    @property
    def foreign(self) -> dict[str, Any]:
        """What a file of these tiles says beside its features: frame and grid."""
        grid = self.grid
        box = SlideBox(grid.width, grid.height)
        block = frame_block(self.frame or whole_slide(box), self.slide, box)
        size = {"mpp": grid.mpp, "tile_px": grid.tile_px, "slide_mpp": list(grid.slide_mpp)}
        return {BLOCK_KEY: block | {"grid": {"name": grid.name, **size}}}


def tile_ids(where: SlideTiles) -> list[str]:
    """Return a UUID (version 5) for each tile.

    The same slide, tile size and place always give the same one, another tile size another one, so
    that QuPath can replace what it was sent before.
    """
    corners = rounded(np.asarray(where.tiles)[:, ::-1] * np.array(where.grid.step))
    start = f"{where.slide}/{where.grid.name}"
    # What `uuid.uuid5` does, for many of the same beginning
    begun = hashlib.sha1(NAMESPACE.bytes + start.encode(), usedforsecurity=False)
    digests = []
    for x, y in corners.tolist():
        one = begun.copy()
        one.update(f"/{x:.2f}/{y:.2f}".encode())
        digests.append(one.digest())
    made = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, begun.digest_size)[:, :16].copy()
    made[:, 6] = made[:, 6] & 0x0F | 0x50
    made[:, 8] = made[:, 8] & 0x3F | 0x80
    text = made.tobytes().hex()
    found = (text[at : at + 32] for at in range(0, len(text), 32))
    return [f"{t[:8]}-{t[8:12]}-{t[12:16]}-{t[16:20]}-{t[20:]}" for t in found]


def tile_features(
    where: SlideTiles,
    class_ids: NDArray[np.integer[Any]] | None = None,
    classes: Iterable[NamedClass] = (),
    measurements: Measurements | None = None,
) -> Iterator[bytes]:
    """Yield tiles as the UTF-8 text of GeoJSON features in QuPath's pixels, in their order.

    Each text is of `steps.AT_ONCE` tiles, with commas between; see `geojson.in_collection`.

    Parameters
    ----------
    where : SlideTiles
        n tiles.
    class_ids : ndarray of shape (n,), optional
        0, or an id that is not among `classes`, is unclassified.
    classes : iterable
        With id, name and colour "#rrggbb".
    measurements : mapping of str to ndarray of shape (n,), optional
        What is not finite is left out. QuPath keeps 32-bit floats of tiles.
    """
    n = len(where.tiles)
    ids = np.zeros(n, np.intp) if class_ids is None else np.asarray(class_ids)
    said = {
        c.id: b',"classification":' + dumps(PathClass.of(c.name, c.color).to_json())
        for c in classes
    }
    # As text from the first: dicts of what nobody looks at take several times as long.
    for start in range(0, n, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        some = replace(where, tiles=where.tiles[part])
        columns = {name: values[part] for name, values in (measurements or {}).items()}
        parts = zip(
            tile_ids(some),
            dumps(_rings(some))[len(b"[[[") : -len(b"]]]")].split(b"]],[["),
            ids[part].tolist(),
            _measured(columns, len(some.tiles)),
            strict=True,
        )
        yield b",".join(
            b'{"type":"Feature","id":"%b","geometry":{"type":"Polygon","coordinates":[[[%b]]]},'
            b'"properties":{"objectType":"tile"%b%b}}'
            % (uid.encode(), ring, said.get(class_id, b""), measured)
            for uid, ring, class_id, measured in parts
        )


def write_predictions(
    path: Path | str,
    where: SlideTiles,
    predictions: Predictions,
    classes: Iterable[NamedClass],
    *,
    unknown_above: float = UNKNOWN_ABOVE,
    similarity: NDArray[np.floating[Any]] | None = None,
) -> WriteReport:
    """Write the classified tiles of a slide for QuPath.

    Each gets as measurements the probability of every class ("p(Tumor)"), margin and novelty, and
    similarity if given; never its embedding, which QuPath could not hold.

    Parameters
    ----------
    path : Path or str
        See `geojson.write_geojson`.
    where : SlideTiles
        The n tiles.
    predictions : Predictions
        Of the same n tiles.
    classes : iterable
        The classifier's, with id, name and colour.
    unknown_above : float
        Tiles of a larger novelty are unclassified.
    similarity : ndarray of shape (n,), optional
        Of each tile to what was searched for.

    Raises
    ------
    GeoJsonError
        If the name of the file is of no format that QuPath reads.
    OSError
        If it cannot be written.
    """
    listed = list(classes)
    ids = predictions.confident(unknown_above=unknown_above)
    columns = prediction_columns(predictions, listed, similarity)
    return write_tiles(path, where, ids, listed, columns)


def prediction_columns(
    predictions: Predictions,
    classes: Iterable[NamedClass],
    similarity: NDArray[np.floating[Any]] | None = None,
) -> dict[str, NDArray[np.floating[Any]]]:
    """Return the measurements of `write_predictions`, each (n,)."""
    names = {c.id: c.name for c in classes}
    columns: dict[str, NDArray[np.floating[Any]]] = {
        f"p({names[int(class_id)]})": predictions.probability[:, number]
        for number, class_id in enumerate(predictions.classes)
    }
    columns |= {"margin": predictions.margin, "novelty": predictions.novelty}
    return columns if similarity is None else columns | {"similarity": similarity}


def write_labels(
    path: Path | str,
    where: SlideTiles,
    labels: Mapping[Tile, int],
    classes: Iterable[NamedClass],
) -> WriteReport:
    """Write the labelled tiles of a slide for QuPath; raises as `write_predictions`.

    Parameters
    ----------
    path, where, classes
        As for `write_predictions`; the tiles of `where` are not looked at.
    labels : mapping of Tile to int
        As `LabelSet.get` returns them.
    """
    tiles, ids = labelled_tiles(labels)
    return write_tiles(path, replace(where, tiles=tiles), ids, classes)


def write_tiles(
    path: Path | str,
    where: SlideTiles,
    class_ids: NDArray[np.integer[Any]] | None = None,
    classes: Iterable[NamedClass] = (),
    measurements: Measurements | None = None,
) -> WriteReport:
    """Write tiles for QuPath, classified and measured or not; see `tile_features`."""
    path = Path(path)
    check_suffix(path)
    features = tile_features(where, class_ids, classes, measurements)
    write_bytes(path, in_collection(features, where.foreign))
    return WriteReport(len(where.tiles))


def region_objects(
    where: SlideTiles,
    class_ids: NDArray[np.integer[Any]],
    classes: Iterable[NamedClass],
    measurements: Measurements | None = None,
    *,
    simplify: float = 0.0,
    min_tiles: int = 1,
) -> list[PathObject]:
    """Return one annotation per connected region of tiles of a class, in level-0 pixels.

    Its measurements are the number of tiles and the mean of each column of `measurements`; for
    the rest see `tile_features` and `regions.merge_tiles`.
    """
    by_id = {c.id: PathClass.of(c.name, c.color) for c in classes}
    objects = []
    merged = merge_tiles(where.grid, where.tiles, class_ids, simplify=simplify, min_tiles=min_tiles)
    for region in merged:
        if region.class_id not in by_id:
            continue
        first = min(map(tuple, np.asarray(where.tiles)[region.members].tolist()))
        kind = by_id[region.class_id]
        seed = f"{where.slide}/{where.grid.name}/region/{kind.name}/{first}"
        means = {k: float(np.mean(v[region.members])) for k, v in (measurements or {}).items()}
        objects.append(
            PathObject(
                id=str(uuid.uuid5(NAMESPACE, seed)),
                object_type="annotation",
                geometry=region.geometry,
                path_class=kind,
                measurements={"tiles": float(len(region.members)), **means},
            )
        )
    return objects


def write_regions(
    path: Path | str, where: SlideTiles, objects: Iterable[PathObject]
) -> WriteReport:
    """Write what `region_objects` returned for QuPath; raises as `write_predictions`."""
    return write_geojson(path, objects, frame=where.frame, foreign=where.foreign)


def tiles_text(
    where: SlideTiles,
    class_ids: NDArray[np.integer[Any]] | None = None,
    classes: Iterable[NamedClass] = (),
    measurements: Measurements | None = None,
) -> str:
    """Return tiles as text for the clipboard; QuPath pastes any number of them."""
    features = tile_features(where, class_ids, classes, measurements)
    return in_collection(features, where.foreign).decode()


def objects_text(objects: Iterable[PathObject], frame: Frame | None = None) -> str:
    """Return objects as text for the clipboard."""
    return encode_objects(objects, frame=frame)[0].decode()


def as_tiles(tiles: Iterable[tuple[int, int]]) -> NDArray[np.int32]:
    """Return tiles as an array of shape (n, 2)."""
    return np.fromiter(chain.from_iterable(tiles), np.int32).reshape(-1, 2)


def labelled_tiles(labels: Mapping[Tile, int]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Return labelled tiles, (n, 2), row by row, and the class id of each, (n,)."""
    tiles = as_tiles(labels)
    order = np.lexsort((tiles[:, 1], tiles[:, 0]))  # `sorted` would hold up every other thread
    return tiles[order], np.fromiter(labels.values(), np.intp)[order]


def _rings(where: SlideTiles) -> NDArray[np.float64]:
    """Return the closed outline of each tile in QuPath's pixels, (n, 5, 2)."""
    places = np.asarray(where.tiles, np.float64)[:, ::-1]
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)], np.float64)
    points = (places[:, None] + corners) * np.array(where.grid.step)
    flat = points.reshape(-1, 2)
    if where.frame is not None and not where.frame.is_identity:
        flat = where.frame.to_qupath(flat)
    return rounded(flat).reshape(points.shape)


def _measured(columns: Measurements, n: int) -> list[bytes]:
    """Return what the properties of each of n tiles say of its measurements."""
    if not columns:
        return [b""] * n
    texts = []
    for name, values in columns.items():
        # Six digits: what a 32-bit float holds, without the noise of its 64-bit spelling.
        six = np.round(np.asarray(values, np.float64), 6)
        key, numbers = dumps(name) + b":", dumps(six)[1:-1].split(b",")
        texts.append([b"" if number == b"null" else key + number for number in numbers])
    rows = (b",".join(filter(None, row)) for row in zip(*texts, strict=True))
    return [row and b',"measurements":{%b}' % row for row in rows]
