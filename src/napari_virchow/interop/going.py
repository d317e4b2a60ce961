"""Files for other tools: what each format takes, what would be written, and the writing."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_virchow.interop.anndata import write_anndata
from napari_virchow.interop.asap import write_asap
from napari_virchow.interop.clam import write_clam
from napari_virchow.interop.spatialdata import write_spatialdata
from napari_virchow.interop.table import InteropError, SlideEmbeddings, taking_shape
from napari_virchow.interop.trident import write_trident, write_trident_coords
from napari_virchow.qupath.gathering import Content, Sources, What, content_of, objects_of
from napari_virchow.training import stored_of

if TYPE_CHECKING:
    from napari_virchow.shelf import StoredInfo
    from napari_virchow.slide import Slide

EMBEDDINGS = ("trident", "clam", "anndata", "spatialdata")


@dataclass(frozen=True, slots=True, eq=False)
class Going:
    """What would go to a file.

    Attributes
    ----------
    n : int
        How many tiles or objects.
    said : str
        What they are, in a few words.
    write : callable
        Writes a file and returns a sentence about it; takes its time.
    """

    n: int
    said: str
    write: Callable[[Path], str]


def table_going(what: What, sources: Sources) -> Going:
    """Return labelled or predicted tiles as they would go to a CSV file.

    Raises
    ------
    ValueError
        If there are none, or they are no tiles.
    """
    if what in (What.OBJECTS, What.REGIONS):
        raise ValueError("Annotations and regions do not fit a table: choose tiles, or GeoJSON.")
    content = content_of(what, sources)
    n = len(content.where.tiles)

    def write(path: Path) -> str:
        write_tile_table(path, content)
        return f"{n:,} tiles in {path.name}."

    return Going(n, f"{n:,} {'tile' if n == 1 else 'tiles'}, a line each", write)


def asap_going(what: What, sources: Sources) -> Going:
    """Return objects or tiles as they would go to ASAP.

    Raises
    ------
    ValueError
        If there are none.
    """
    objects = objects_of(what, sources)

    def write(path: Path) -> str:
        written, left_out = write_asap(path, objects)
        also = f"; {left_out:,} that ASAP cannot show are left out" if left_out else ""
        return f"{written:,} annotations in {path.name}{also}."

    return Going(len(objects), f"{len(objects):,} annotations", write)


def embeddings_going(form: str, slide: Slide, root: Path, info: StoredInfo) -> Going:
    """Return stored embeddings as they would go to a format of `EMBEDDINGS`.

    Parameters
    ----------
    form : str
        Which.
    slide : Slide
        Whose they are.
    root : Path
        Folder of all stores.
    info : StoredInfo
        Which of them.
    """

    def write(path: Path) -> str:
        stored = stored_of(root, slide.identity, info.encoder, info.grid)
        ours = SlideEmbeddings.of(slide, stored)
        names = " and ".join(file.name for file in write_embeddings(form, path, ours))
        return f"{len(ours):,} embeddings in {names}."

    said = f"{info.n_tiles:,} embeddings by {info.encoder}"
    beside = ", and a file of their places beside it" if form == "clam" else ""
    return Going(info.n_tiles, said + beside, write)


def write_embeddings(
    form: str, path: Path, ours: SlideEmbeddings, places: Path | None = None
) -> list[Path]:
    """Write embeddings in a format of `EMBEDDINGS`.

    Parameters
    ----------
    form : str
        Which.
    path : Path
        A file; for "spatialdata" a new folder, for "anndata" either, by its name.
    ours : SlideEmbeddings
        What to write.
    places : Path, optional
        For the places of the tiles, which CLAM always has in a file of their own (by default
        `<name>_patches.h5` beside the first), and TRIDENT has if this is given.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    InteropError
        If there is no such format; see also the writers.
    OSError
        If a file cannot be written.
    """
    if form == "clam":
        places = places or path.with_name(f"{path.stem}_patches.h5")
        write_clam(path, places, ours)
        return [path, places]
    if form == "trident":
        write_trident(path, ours)
        if places is not None:
            write_trident_coords(places, ours)
        return [path] if places is None else [path, places]
    if form not in EMBEDDINGS:
        raise InteropError(f"{form} holds no embeddings; choose one of {', '.join(EMBEDDINGS)}.")
    write = write_anndata if form == "anndata" else write_spatialdata
    write(path, ours)
    return [path]


def write_tile_table(path: Path, content: Content) -> None:
    """Write tiles as CSV: row, column, corner in level-0 pixels, class, and what was measured.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    names = {c.id: c.name for c in content.classes}
    ids = content.class_ids
    step_x, step_y = content.where.grid.step
    with taking_shape(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "col", "x", "y", "class", *content.columns])
        for n, (row, col) in enumerate(content.where.tiles.tolist()):
            name = "" if ids is None else names.get(int(ids[n]), "")
            values = [f"{column[n]:.6g}" for column in content.columns.values()]
            writer.writerow([row, col, f"{col * step_x:.2f}", f"{row * step_y:.2f}", name, *values])
