"""The formats of `export` and `import`, one row each; what a file is, is told by its content."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from napari_virchow.cli import interop, qupath
from napari_virchow.cli.qupath import Answer, Handler, Job
from napari_virchow.interop.anndata import is_anndata
from napari_virchow.interop.asap import is_asap
from napari_virchow.interop.clam import is_clam
from napari_virchow.interop.spatialdata import is_spatialdata
from napari_virchow.interop.trident import is_trident
from napari_virchow.interop.wsinfer import is_wsinfer
from napari_virchow.labels.agreement import COLUMNS


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Parameters
    ----------
    name : str
        For ``--to`` and ``--from``.
    holds : str
        What a file of it says, in a few words.
    writes, reads : callable or None
        Do what was asked for, and return what to say; None where that is not possible.
    recognises : callable
        Says whether a file or folder is of it, by its content.
    """

    name: str
    holds: str
    writes: Handler | None
    reads: Handler | None
    recognises: Callable[[Path], bool]


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
FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format(
            "trident",
            "embeddings",
            interop.export_embeddings,
            interop.import_trident,
            is_trident,
        ),
        Format(
            "anndata",
            "embeddings",
            interop.export_embeddings,
            interop.import_anndata,
            is_anndata,
        ),
        Format(
            "spatialdata",
            "embeddings",
            interop.export_embeddings,
            interop.import_spatialdata,
            is_spatialdata,
        ),
        Format("clam", "embeddings", interop.export_embeddings, interop.import_clam, is_clam),
        Format(
            "geojson",
            "annotations, tiles, regions",
            qupath.export_geojson,
            qupath.import_geojson,
            is_geojson,
        ),
        Format("asap", "annotations", interop.export_asap, interop.import_asap, is_asap),
        Format("csv", "labels", qupath.export_table, qupath.import_table, is_label_table),
        Format(
            "wsinfer",
            "tiles with probabilities",
            None,
            interop.import_wsinfer,
            lambda path: is_wsinfer(first_line(path)),
        ),
    )
}


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
    for one in FORMATS.values():
        if one.recognises(path):
            return one.name
    raise ValueError(
        f"{path} is of no format that can be imported; say --from with one of "
        f"{', '.join(one.name for one in FORMATS.values() if one.reads)}."
    )


def run_export(options: argparse.Namespace, store: Path) -> Answer:
    """Write a slide's labels, tiles, regions, predictions or embeddings."""
    writers = {name: one.writes for name, one in FORMATS.items() if one.writes is not None}
    if options.to not in writers:
        raise ValueError(f"{options.to} is no format; choose one of {', '.join(writers)}.")
    with qupath.opened(options, store) as slide:
        return writers[options.to](Job(options, slide, store))


def run_import(options: argparse.Namespace, store: Path) -> Answer:
    """Take over a file: annotations as labels of a slide, or embeddings."""
    form = options.format or recognise(options.file)
    found = FORMATS.get(form)
    if found is None or found.reads is None:
        names = ", ".join(one.name for one in FORMATS.values() if one.reads)
        raise ValueError(f"{form} is no format that can be imported; choose one of {names}.")
    with qupath.opened(options, store) as slide:
        return found.reads(Job(options, slide, store))
