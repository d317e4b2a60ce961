"""The reader contribution: slide files and folders as multiscale layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike, fspath
from pathlib import Path

from napari_virchow._napari.layers import LayerData, slide_layers
from napari_virchow.slide import open_slide

PathOrPaths = str | PathLike[str] | Sequence[str | PathLike[str]]
SUFFIXES = frozenset(
    (".svs", ".tif", ".tiff", ".ndpi", ".scn", ".bif", ".mrxs", ".dcm", ".vsi", ".vms", ".vmu")
    + (".qptiff", ".zarr")
)
# First bytes of TIFF and BigTIFF, little and big endian; NDPI, SVS, SCN, BIF and QPTIFF are TIFF.
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAX_LOOKED_AT = 50


def get_reader(path: PathOrPaths) -> Callable[[PathOrPaths], list[LayerData]] | None:
    """Return a function that reads `path`, or None if it cannot be a slide.

    Only names and first bytes are looked at, so that napari's chooser stays quick.
    """
    paths = _as_list(path)
    return read_slides if paths and all(map(_may_be_slide, paths)) else None


def read_slides(path: PathOrPaths) -> list[LayerData]:
    """Return the layers of one or several slides: overview and slide, for each.

    Raises
    ------
    SlideError
        If a file cannot be opened as a slide.
    """
    return [layer for each in _as_list(path) for layer in slide_layers(open_slide(each))]


def _as_list(path: PathOrPaths) -> list[str]:
    return [fspath(path)] if isinstance(path, str | PathLike) else [fspath(one) for one in path]


def _may_be_slide(path: str) -> bool:
    if "://" in path:
        return Path(path).suffix.lower() in SUFFIXES
    local = Path(path)
    if local.is_dir():
        return _may_be_slide_folder(local)
    suffix = local.suffix.lower()
    if suffix not in SUFFIXES or not local.is_file():
        return False
    if suffix in (".tif", ".tiff", ".svs", ".scn", ".bif", ".qptiff"):
        with local.open("rb") as file:
            return file.read(4) in _TIFF
    return True


def _may_be_slide_folder(folder: Path) -> bool:
    """Look for an OME-Zarr's marks, else for a DICOM file among the first few."""
    if any((folder / name).is_file() for name in (".zattrs", "zarr.json")):
        return True
    for count, entry in enumerate(folder.iterdir()):
        if count == _MAX_LOOKED_AT:
            break
        if entry.is_file() and _is_dicom(entry):
            return True
    return False


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
