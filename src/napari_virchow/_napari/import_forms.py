"""The formats of the page Import: a file is looked into by what it is."""

from __future__ import annotations

from pathlib import Path

from napari_virchow.interop.asap import read_asap
from napari_virchow.interop.going import EMBEDDINGS
from napari_virchow.interop.recognising import recognise
from napari_virchow.interop.table import InteropError
from napari_virchow.interop.wsinfer import read_wsinfer
from napari_virchow.qupath.frame import SlideBox
from napari_virchow.qupath.geojson import SUFFIXES
from napari_virchow.qupath.incoming import Incoming, look_into_file, look_into_objects

PACKED = (*SUFFIXES, ".geojson.gz", ".json.gz", ".zip")
ENDINGS = (*PACKED, ".xml", ".csv", ".h5", ".hdf5", ".h5ad", ".zarr", ".pt", ".pth")
Theirs = tuple[str, Path]  # the format of embeddings, and where they are


def looked_into(path: Path, box: SlideBox, slide: str) -> Incoming | Theirs:
    """Return the objects of a file; of one with embeddings what it is, as more is to be asked.

    Parameters
    ----------
    path : Path
        A file or folder.
    box : SlideBox
        Of the slide.
    slide : str
        `Slide.identity`.

    Raises
    ------
    InteropError
        If it is of no format that is read here, or is damaged.
    FileNotFoundError
        If it is not there.
    GeoJsonError
        If it is no GeoJSON but is named so.
    """
    form = _form_of(path)
    if form in EMBEDDINGS:
        return form, path
    if form == "geojson":
        return look_into_file(path, box, slide)
    if form == "asap":
        objects, problems = read_asap(path)
        return look_into_objects(path.name, objects, problems, box)
    if form == "wsinfer":
        return look_into_objects(path.name, read_wsinfer(path), (), box)
    raise InteropError(
        f"{path.name} is a table of labels: take it over with napari-virchow import."
    )


def _form_of(path: Path) -> str:
    try:
        return recognise(path)
    except ValueError as error:
        if isinstance(error, InteropError):
            raise
        if path.name.lower().endswith(PACKED):
            return "geojson"  # whose reader says what is wrong with it
        raise InteropError(
            f"{path.name} is of no format that can be imported: GeoJSON, ASAP, WSInfer, TRIDENT, "
            "CLAM, AnnData and SpatialData are."
        ) from error
