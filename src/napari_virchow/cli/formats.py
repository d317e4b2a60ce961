"""The formats of `export` and `import`, one row each."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from napari_virchow.cli import interop, qupath
from napari_virchow.cli.qupath import Answer, Handler, Job
from napari_virchow.interop.going import EMBEDDINGS
from napari_virchow.interop.recognising import recognise


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
    """

    name: str
    holds: str
    writes: Handler | None
    reads: Handler | None


FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        *(
            Format(
                name,
                "embeddings",
                interop.export_embeddings,
                partial(interop.import_embeddings, name),
            )
            for name in EMBEDDINGS
        ),
        Format(
            "geojson",
            "annotations, tiles, regions",
            qupath.export_geojson,
            qupath.import_geojson,
        ),
        Format("asap", "annotations", interop.export_asap, interop.import_asap),
        Format("csv", "labels", qupath.export_table, qupath.import_table),
        Format(
            "wsinfer",
            "tiles with probabilities",
            None,
            interop.import_wsinfer,
        ),
    )
}


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
