"""Tiles go to QuPath: labels and predictions one by one, or as one annotation per region."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
    encode_features,
    encode_objects,
    write_bytes,
    write_geojson,
)
from napari_virchow.qupath.objects import NAMESPACE, PathObject
from napari_virchow.qupath.regions import merge_tiles
from napari_virchow.qupath.shapes import rounded
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
    made = uuid.uuid5
    return [str(made(NAMESPACE, f"{start}/{x:.2f}/{y:.2f}")) for x, y in corners.tolist()]


def tile_features(
    where: SlideTiles,
    class_ids: NDArray[np.integer[Any]] | None = None,
    classes: Iterable[NamedClass] = (),
    measurements: Measurements | None = None,
) -> list[dict[str, Any]]:
    """Return tiles as GeoJSON features in QuPath's pixels.

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

    Returns
    -------
    list of dict
        In the order of the tiles.
    """
    n = len(where.tiles)
    ids = np.zeros(n, np.intp) if class_ids is None else np.asarray(class_ids)
    by_id = {c.id: PathClass.of(c.name, c.color).to_json() for c in classes}
    rings = _rings(where).tolist()
    features: list[dict[str, Any]] = []
    for uid, ring, class_id in zip(tile_ids(where), rings, ids.tolist(), strict=True):
        properties: dict[str, Any] = {"objectType": "tile"}
        if class_id in by_id:
            properties["classification"] = by_id[class_id]
        features.append(
            {
                "type": "Feature",
                "id": uid,
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": properties,
            }
        )
    if measurements:
        _measure(features, measurements)
    return features


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
    tiles = sorted(labels)
    labelled = SlideTiles(where.slide, where.grid, as_tiles(tiles), where.frame)
    ids = np.array([labels[tile] for tile in tiles], np.intp)
    return write_tiles(path, labelled, ids, classes)


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
    write_bytes(path, encode_features(features, foreign=where.foreign))
    return WriteReport(len(features))


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
    return encode_features(features, foreign=where.foreign).decode()


def objects_text(objects: Iterable[PathObject], frame: Frame | None = None) -> str:
    """Return objects as text for the clipboard."""
    return encode_objects(objects, frame=frame)[0].decode()


def as_tiles(tiles: Iterable[tuple[int, int]]) -> NDArray[np.int32]:
    """Return tiles as an array of shape (n, 2)."""
    return np.array([tuple(tile) for tile in tiles], np.int32).reshape(-1, 2)


def _rings(where: SlideTiles) -> NDArray[np.float64]:
    """Return the closed outline of each tile in QuPath's pixels, (n, 5, 2)."""
    places = np.asarray(where.tiles, np.float64)[:, ::-1]
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)], np.float64)
    points = (places[:, None] + corners) * np.array(where.grid.step)
    flat = points.reshape(-1, 2)
    if where.frame is not None and not where.frame.is_identity:
        flat = where.frame.to_qupath(flat)
    return rounded(flat).reshape(points.shape)


def _measure(features: list[dict[str, Any]], measurements: Measurements) -> None:
    names = list(measurements)
    # Six digits: what a 32-bit float holds, without the noise of its 64-bit spelling.
    columns = [np.asarray(measurements[name], np.float64) for name in names]
    table = np.round(np.stack(columns, 1), 6)
    if np.isfinite(table).all():
        for feature, values in zip(features, table.tolist(), strict=True):
            feature["properties"]["measurements"] = dict(zip(names, values, strict=True))
        return
    for feature, row in zip(features, table, strict=True):
        pairs = zip(names, row.tolist(), np.isfinite(row).tolist(), strict=True)
        kept = {name: value for name, value, finite in pairs if finite}
        if kept:
            feature["properties"]["measurements"] = kept
