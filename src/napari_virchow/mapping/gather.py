"""Stored embeddings of any number of slides become the tiles of one map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_virchow.blocks import Places, by_block
from napari_virchow.classify.features import FIT_ROWS, MIN_ROWS, Matrix, Projection
from napari_virchow.layout import StoreError, read_facts
from napari_virchow.mapping.facts import MappedSlide, Scope
from napari_virchow.memory import recall_slide
from napari_virchow.shelf import StoredInfo, list_stored
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Tile

MAX_TILES = 1_000_000  # beyond, a sample: 32 features of each are 128 MB, and no screen shows more
_QUOTA = 64  # tiles of a slide that the components are found on, at least
_FEATURES = 64  # twice what is kept in the end, so that nothing near the end is missed
_CHUNK = 8192


class Gathered(NamedTuple):
    """See `Mapped`, in the same order."""

    slides: tuple[MappedSlide, ...]
    slide: NDArray[np.int32]
    tiles: Places
    features: Matrix
    xy: Matrix
    n_total: int


class Source(NamedTuple):
    """Where the embeddings of one slide lie."""

    slide: MappedSlide
    path: Path
    dim: int
    n_tiles: int

    def open(self) -> EmbeddingStore:
        """Open the store for reading."""
        return EmbeddingStore(self.path, self.slide.grid, self.dim, None)


def sources_of(root: Path, scope: Scope, encoder: str) -> list[Source]:
    """Find the stores that a map is made of, one per slide.

    Where a slide has two, as its pixel size was corrected, the one with the present pixel size
    counts.
    """
    listed: list[StoredInfo] = []
    for identity in (None,) if scope.slides is None else scope.slides:
        listed += list_stored(root, identity)
    found: dict[str, Source] = {}
    for info in listed:
        if (info.encoder, info.mpp) != (encoder, scope.mpp) or info.n_tiles == 0:
            continue
        try:
            facts = read_facts(info.path)
        except StoreError:  # deleted since it was listed
            continue
        known = recall_slide(root, info.slide)
        if info.slide not in found or facts.grid.slide_mpp == known.mpp:
            slide = MappedSlide(info.slide, known.name or info.slide, known.path, facts.grid)
            found[info.slide] = Source(slide, info.path, facts.dim, info.n_tiles)
    return list(found.values())


def gather(
    sources: list[Source],
    *,
    max_tiles: int = MAX_TILES,
    on_progress: Callable[[int, int], object] = lambda *_: None,
) -> Gathered:
    """Read embeddings slide by slide, and keep of each what a map needs.

    Parameters
    ----------
    sources : list of Source
        As `sources_of` finds them.
    max_tiles : int
        With more tiles than this, a random sample of so many.
    on_progress : callable
        Called with (tiles read, tiles to read); what it raises ends the reading.

    Raises
    ------
    ValueError
        If fewer than 16 tiles are embedded: too few for principal components.
    OSError
        If a store cannot be read.
    """
    n_total = sum(source.n_tiles for source in sources)
    rng = np.random.default_rng(0)
    projection = _projection(sources, n_total, rng)
    share = min(1.0, max_tiles / n_total)
    parts: list[tuple[NDArray[np.int32], Places, Matrix, Matrix]] = []
    done = 0
    for number, source in enumerate(sources):
        on_progress(done, n_total)
        with source.open() as store:
            tiles, rows = store.matrix()
        if share < 1:
            kept = rng.choice(len(tiles), round(share * len(tiles)), replace=False)
            tiles, rows = tiles[kept], rows[kept]
        parts.append((np.full(len(tiles), number, np.int32), tiles, *_features(projection, rows)))
        done += source.n_tiles
    slide, tiles, features, xy = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = rng.permutation(len(slide))
    slides = tuple(source.slide for source in sources)
    return Gathered(slides, slide[order], tiles[order], features[order], xy[order], n_total)


def _projection(sources: list[Source], n_total: int, rng: np.random.Generator) -> Projection:
    """Find the components on whole blocks from all over the slides."""
    samples, n_sampled = [], 0
    for number in rng.permutation(len(sources)).tolist():
        if n_sampled >= 2 * FIT_ROWS:
            break
        source = sources[number]
        quota = max(_QUOTA, round(FIT_ROWS * source.n_tiles / n_total))
        with source.open() as store:
            samples.append(_some(store, quota, rng))
        n_sampled += len(samples[-1])
    if n_sampled < MIN_ROWS:
        raise ValueError(
            f"Only {n_sampled} tiles are embedded: a map needs {MIN_ROWS} or more of them."
        )
    return Projection.fit(np.concatenate(samples), n_features=_FEATURES)


def _some(store: EmbeddingStore, quota: int, rng: np.random.Generator) -> NDArray[np.float16]:
    places = np.argwhere(store.done).astype(np.int32)
    blocks = [members for _, members in by_block(places)]
    chosen: list[int] = []
    for n in rng.permutation(len(blocks)).tolist():
        if len(chosen) >= quota:
            break
        chosen += blocks[n].tolist()
    found, rows = store.lookup([Tile(*place) for place in places[chosen].tolist()])
    return rows[found]


def _features(projection: Projection, rows: NDArray[np.float16]) -> tuple[Matrix, Matrix]:
    """Return features to compare tiles by, and the first two principal components."""
    assert projection.weights is not None
    axes = projection.weights[:, :2]
    features = np.empty((len(rows), len(projection.compact_scale)), np.float32)
    xy = np.zeros((len(rows), 2), np.float32)
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        features[part] = projection.compact(projection.transform(rows[part]))
        xy[part, : axes.shape[1]] = (rows[part].astype(np.float32) - projection.mean) @ axes
    return features, xy
