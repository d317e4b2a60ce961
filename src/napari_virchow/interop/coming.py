"""Embeddings of another tool on their way in: looked at first, verified, and then kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_virchow.interop.anndata import Spatial, read_anndata
from napari_virchow.interop.checking import Check, at_hand, check_embeddings, encoder_named
from napari_virchow.interop.clam import read_clam
from napari_virchow.interop.placing import Placed, place_tiles
from napari_virchow.interop.spatialdata import read_spatialdata
from napari_virchow.interop.stored import embeddings_of, encoder_of
from napari_virchow.interop.table import InteropError, TileTable
from napari_virchow.interop.trident import read_trident

if TYPE_CHECKING:
    from napari_virchow.encoders import Encoder, EncoderSpec
    from napari_virchow.slide import Slide


@dataclass(frozen=True, slots=True)
class Answers:
    """What a file does not say, or is overruled; None where nobody was asked.

    Parameters
    ----------
    encoder : str, optional
        Who made the embeddings.
    side : float, optional
        Side of a tile in level-0 pixels.
    places : Path, optional
        CLAM's file of the places of the tiles.
    key : str, optional
        Name of AnnData's matrix or LazySlide's table.
    spatial : {"corner", "centre"}, optional
        What AnnData's ``obsm["spatial"]`` is.
    snap : bool
        Take each tile as the nearest one of the grid.
    """

    encoder: str | None = None
    side: float | None = None
    places: Path | None = None
    key: str | None = None
    spatial: Spatial | None = None
    snap: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Coming:
    """Embeddings of a file, and where they are on a slide."""

    table: TileTable
    placed: Placed
    encoder: str


def read_embeddings(form: str, path: Path, answers: Answers) -> TileTable:
    """Read a file of "trident", "clam", "anndata" or "spatialdata"; raises as its reader does."""
    if form == "trident":
        return read_trident(path)
    if form == "clam":
        return read_clam(path, answers.places)
    if form == "anndata":
        return read_anndata(path, key=answers.key, spatial=answers.spatial)
    if form == "spatialdata":
        return read_spatialdata(path, key=answers.key)
    raise InteropError(f"{form} holds no embeddings.")


def look_at(form: str, path: Path, slide: Slide, answers: Answers) -> Coming:
    """Read a file and find its tiles on a slide; nothing is kept yet.

    Raises
    ------
    InteropError
        If it is damaged, of another slide, or something is to be asked first.
    FileNotFoundError
        If it is not there.
    """
    table = read_embeddings(form, path, answers)
    embeddings_of(table)
    name = encoder_of(table, answers.encoder)
    return Coming(table, place_tiles(table, slide, side=answers.side, snap=answers.snap), name)


def verify(
    coming: Coming, slide: Slide, *, asked: str | None = None, weights: str | None = None
) -> tuple[Check | None, str]:
    """Embed some tiles again; where that cannot be, say why.

    Parameters
    ----------
    coming : Coming
        From `look_at`.
    slide : Slide
        To read tiles from.
    asked : str, optional
        The encoder to do it, which may be downloaded; "no" for none.
    weights : str, optional
        Its weights on this computer.

    Raises
    ------
    ValueError
        If there is no encoder `asked`.
    EncoderUnavailable
        If `asked` cannot be loaded.
    SlideError
        If a tile cannot be read.
    """
    from napari_virchow.encoders import EncoderUnavailable

    if asked == "no":
        return None, "as was asked"
    spec = encoder_named(asked or coming.encoder)
    if asked is not None and spec is None:
        raise ValueError(f"There is no encoder {asked}; see napari-virchow encoders.")
    if spec is None:
        return None, f"{coming.encoder} is no encoder that is known here"
    if asked is None and weights is None and not at_hand(spec):
        return None, f"{spec.name} is not on this computer; say --verify {spec.name} to fetch it"
    try:
        encoder = _loaded(spec, coming.table, weights)
    except EncoderUnavailable as error:
        if asked is not None:
            raise
        return None, str(error).rstrip(".")
    check = check_embeddings(coming.table, coming.placed, slide, encoder)
    return check, "" if check is not None else "none of its tiles lies on the grid exactly"


def _loaded(spec: EncoderSpec, table: TileTable, weights: str | None) -> Encoder:
    """Load an encoder with the pooling that gives as many numbers as the file has."""
    from napari_virchow.encoders import load_encoder

    dim = embeddings_of(table).shape[1]
    pooling = None
    if spec.architecture is not None and spec.dim != dim:
        fits = [p for p in ("class", "class+mean") if spec.dim_of(p) == dim]
        pooling = fits[0] if fits else None
    return load_encoder(spec.name, weights=weights, pooling=pooling)
