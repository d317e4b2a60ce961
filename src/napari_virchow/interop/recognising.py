"""What a file is, told by its content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_virchow.interop.anndata import is_anndata
from napari_virchow.interop.asap import is_asap
from napari_virchow.interop.clam import is_clam
from napari_virchow.interop.spatialdata import is_spatialdata
from napari_virchow.interop.trident import is_trident
from napari_virchow.interop.wsinfer import is_wsinfer
from napari_virchow.labels.agreement import COLUMNS


def recognise(path: Path) -> str:
    """Return which format a file or folder is of.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ValueError
        If it is of none.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    for name, recognises in _RECOGNISERS.items():
        if recognises(path):
            return name
    raise ValueError(
        f"{path} is of no format that can be imported; say --from with one of "
        f"{', '.join(_RECOGNISERS)}."
    )


def is_geojson(path: Path) -> bool:
    """Say whether a file begins like JSON, or is packed as GeoJSON may be."""
    start = _start(path)
    return start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") or start[:2] in (
        b"\x1f\x8b",
        b"PK",
    )


def is_label_table(path: Path) -> bool:
    """Say whether a file is a CSV table of labels."""
    return set(COLUMNS) <= set(first_line(path))


def first_line(path: Path) -> list[str]:
    """Return the names in the first line of a CSV file; none if it is no text."""
    try:
        text = _start(path).decode("utf-8-sig", "strict")
    except UnicodeDecodeError:
        return []
    return [name.strip().strip('"') for name in text.split("\n", 1)[0].split(",")]


def _start(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(4096)


# In the order in which they are tried: a tensor of CLAM is a zip, as GeoJSON may be.
_RECOGNISERS: dict[str, Callable[[Path], bool]] = {
    "trident": is_trident,
    "anndata": is_anndata,
    "spatialdata": is_spatialdata,
    "clam": is_clam,
    "geojson": is_geojson,
    "asap": is_asap,
    "csv": is_label_table,
    "wsinfer": lambda path: is_wsinfer(first_line(path)),
}
