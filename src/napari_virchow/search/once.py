"""One search from beginning to end, for scripts and the command line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_virchow.search.bank import Bank, list_kinds
from napari_virchow.search.facts import Answer, Compared, Example, Kind, Options, Query
from napari_virchow.search.lookup import place_of, search_bank, tiles_of_region, vector_of
from napari_virchow.tiles import Rect, Tile

if TYPE_CHECKING:
    from napari_virchow.encoders import Encoder
    from napari_virchow.session import Session
    from napari_virchow.slide import Slide

Place = tuple[float, float] | Rect | Path | Example


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which embeddings to compare: None takes the session's encoder, else what there is most of.

    Parameters
    ----------
    encoder : str, optional
        Name, or whole identity.
    mpp : float, optional
        µm per pixel of the tiles.
    """

    encoder: str | None = None
    mpp: float | None = None


def search_once(
    session: Session,
    slide: Slide,
    places: Sequence[Place],
    against: Sequence[Place],
    options: Options,
    wanted: Wanted,
) -> Answer:
    """Search, and wait for the answer; see `Session.search`."""
    began = time.perf_counter()
    kind = choose_kind(session, slide, wanted)
    bank = Bank(session.store, kind)
    scope = None if options.scope == "store" else options.slides
    if options.scope == "slide":
        scope = (slide.identity,)
    query = Query(
        tuple(e for one in places for e in _examples(session, slide, kind, one)),
        tuple(e for one in against for e in _examples(session, slide, kind, one)),
        options,
    )
    every = (*query.positives, *query.negatives)
    bank.read_all({slide.identity} | {e.slide for e in every if e.slide})
    _embed_missing(session, slide, bank, every)
    bank.read_all(scope)
    missing = [e for e in every if vector_of(bank, e) is None]
    if missing:
        at = missing[0].tile
        raise ValueError(
            f"The tile in row {at.row}, column {at.col} of {missing[0].name} is not embedded by "
            f"{kind.name} at {kind.mpp:g} µm/px (is it on glass?): choose a place on tissue, or "
            "run napari-virchow embed --all-tiles."
        )
    found = search_bank(bank, query, scope, slide.identity, session.similarity.describe)
    others = tuple(one for one in list_kinds(session.store, scope) if one != kind)
    compared = Compared(kind, found.n_tiles, found.n_slides, 0, others)
    return Answer(0, query, found.hits, found.heat, compared, time.perf_counter() - began)


def choose_kind(session: Session, slide: Slide, wanted: Wanted) -> Kind:
    """Return the embeddings of a slide that are meant.

    Raises
    ------
    ValueError
        If there are none, or it is not clear which.
    """
    there = list_kinds(session.store, (slide.identity,))
    encoder = wanted.encoder
    if encoder is None and session.encoder is not None:
        encoder = session.encoder.identity
    fits = [
        kind
        for kind in there
        if encoder in (None, kind.name, kind.encoder) and wanted.mpp in (None, kind.mpp)
    ]
    if not fits:
        has = ", ".join(f"{k.encoder} at {k.mpp:g}" for k in there) or "none"
        by = "" if encoder is None else f" by {encoder}"
        at = "" if wanted.mpp is None else f" at {wanted.mpp:g} µm/px"
        raise ValueError(
            f"{slide.name} has no embeddings{by}{at} in {session.store} (it has: {has}): run "
            "napari-virchow embed on it first."
        )
    usual = [kind for kind in fits if kind.mpp == 0.5] or fits
    if len({kind.encoder for kind in usual}) > 1 or len(usual) > 1:
        has = ", ".join(f"{k.encoder} at {k.mpp:g}" for k in fits)
        raise ValueError(f"{slide.name} has several kinds of embeddings, name one: {has}.")
    return usual[0]


def image_example(path: Path | str, encoder: Encoder) -> Example:
    """Return an image file as an example: its middle square, made a tile and embedded. Blocks.

    Raises
    ------
    ValueError
        If it is no image.
    EncoderUnavailable
        If it cannot be embedded.
    """
    from napari_virchow.evaluate.tilesets import TileSetError, read_image

    path = Path(path)
    try:
        pixels = read_image(path)
    except (TileSetError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as an image; choose a PNG, JPEG or TIFF."
        ) from error
    vector = encoder.encode(pixels[None])[0].astype(np.float32)
    return Example("", Tile(0, 0), path.name, vector=vector, encoder=encoder.identity)


def _examples(session: Session, slide: Slide, kind: Kind, place: Place) -> list[Example]:
    if isinstance(place, Example):
        return [place]
    if isinstance(place, (str, Path)):
        return [image_example(place, _encoder_of(session, kind))]
    if isinstance(place, Rect):
        tiles = tiles_of_region(slide, kind.mpp, place)
        what = f"region {place.x:g},{place.y:g},{place.width:g},{place.height:g}"
    else:
        x, y = place
        tile = slide.grid(kind.mpp).tile_at(x, y)
        tiles, what = [] if tile is None else [tile], f"point {x:g},{y:g}"
    if not tiles:
        size = f"{slide.width} × {slide.height}"
        raise ValueError(f"The {what} is beside {slide.name}, which has {size} pixels.")
    return [Example(slide.identity, tile, slide.name, kind.mpp) for tile in tiles]


def _embed_missing(session: Session, slide: Slide, bank: Bank, examples: Sequence[Example]) -> None:
    """Embed tiles of the slide that are asked for, where the encoder is loaded anyhow."""
    encoder = session.encoder
    if encoder is None or encoder.identity != bank.kind.encoder:
        return
    grid = slide.grid(bank.kind.mpp)
    lacking = [e for e in examples if e.slide == slide.identity and vector_of(bank, e) is None]
    tiles = [tile for e in lacking if (tile := place_of(e, grid)) is not None]
    if tiles:
        session.embed_next(slide, tiles, mpp=bank.kind.mpp)
        session.wait()
        bank.read_all((slide.identity,))


def _encoder_of(session: Session, kind: Kind) -> Encoder:
    """Return the encoder of the embeddings, loaded if need be."""
    encoder = session.encoder
    if encoder is None or encoder.identity != kind.encoder:
        encoder = session.load_encoder(kind.name, pooling=kind.pooling)
    if encoder.identity != kind.encoder:
        raise ValueError(
            f"The image would be embedded by {encoder.identity}, but what is stored is by "
            f"{kind.encoder}: load that encoder with its weights first."
        )
    return encoder
