"""Searching a bank: scores of every tile, the best of them checked and made exact."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_virchow.search.bank import Bank
from napari_virchow.search.facts import Example, Heat, Hits, HitSlide, Query
from napari_virchow.search.rows import SlideRows
from napari_virchow.search.scoring import VARIED, apart, best, direction, varied
from napari_virchow.search.space import Probe
from napari_virchow.tiles import Rect, Tile, TileGrid

if TYPE_CHECKING:
    from napari_virchow.slide import Slide

_MARGIN = 256  # candidates beyond those wanted: half precision may have swapped neighbours
_MARGIN_SHORT = 500  # the same where only leading directions were compared
Describe = Callable[[str], tuple[str, str]]  # a slide's identity -> (name, path)


class Found(NamedTuple):
    """Hits, the map of the slide in focus, and how many tiles on how many slides were searched."""

    hits: Hits
    heat: Heat | None
    n_tiles: int
    n_slides: int


class _Scored(NamedTuple):
    slide: SlideRows
    tiles: NDArray[np.int32]
    scores: NDArray[np.float32]


def place_of(example: Example, grid: TileGrid) -> Tile | None:
    """Return the tile of a grid that shows an example; None where it lies beside the slide."""
    if example.mpp in (0.0, grid.mpp):
        return example.tile if grid.contains(example.tile) else None
    x, y = replace(grid, mpp=example.mpp).rect(example.tile).center
    return grid.tile_at(min(x, grid.width - 1), min(y, grid.height - 1))


def tiles_of_region(slide: Slide, mpp: float, region: Rect) -> list[Tile]:
    """Return the tiles whose middle is in a box of level-0 pixels, else the one at its middle."""
    grid = slide.grid(mpp)
    inside = []
    for tile in grid.tiles_in(region):
        x, y = grid.rect(tile).center
        if region.x <= x < region.right and region.y <= y < region.bottom:
            inside.append(tile)
    middle = grid.tile_at(*region.center)
    return inside or ([] if middle is None else [middle])


def vector_of(bank: Bank, example: Example) -> NDArray[np.floating[Any]] | None:
    """Return an example's embedding of the bank's kind, None if there is none."""
    rows = bank.of(example.slide) if example.slide else None
    tile = place_of(example, rows.grid) if rows is not None else None
    found = rows.vector(tile) if rows is not None and tile is not None else None
    if found is None and example.vector is not None and example.encoder == bank.kind.encoder:
        return example.vector
    return found


def vectors_of(bank: Bank, examples: Sequence[Example]) -> NDArray[np.float32]:
    """Return the embeddings of those examples that have one, (n, dim)."""
    found = [v for one in examples if (v := vector_of(bank, one)) is not None]
    return np.array(found, np.float32) if found else np.empty((0, 0), np.float32)


def make_probe(bank: Bank, query: Query) -> Probe:
    """Return what to score tiles with.

    Raises
    ------
    ValueError
        If no positive example has an embedding, or the examples or options contradict each other.
    """
    space = bank.space(query.options)
    positives, negatives = vectors_of(bank, query.positives), vectors_of(bank, query.negatives)
    if len(positives) == 0:
        raise ValueError("No example is embedded yet.")
    aims = space.features(positives)
    away = space.features(negatives) if len(negatives) else aims[:0]
    found = direction(aims, away, query.options.negative_weight)
    return space.probe(found, positives.shape[1])


def search_bank(
    bank: Bank,
    query: Query,
    slides: Collection[str] | None,
    focus: str,
    describe: Describe,
) -> Found:
    """Search what a bank has read.

    Parameters
    ----------
    slides : collection of str or None
        Identities of the slides in the scope; None for all.
    focus : str
        The slide whose map is wanted.
    describe : callable
        Gives name and path of a slide.

    Raises
    ------
    ValueError
        As `make_probe` does.
    """
    probe = make_probe(bank, query)
    scored = [_Scored(one, *one.scores(probe)) for one in bank.loaded(slides)]
    heat = next((s for s in scored if s.slide.slide == focus), None)
    hits = _hits(scored, query, probe, describe)
    return Found(
        hits,
        None if heat is None else Heat(focus, heat.slide.grid, heat.tiles, heat.scores),
        sum(len(s.scores) for s in scored),
        sum(len(s.scores) > 0 for s in scored),
    )


def _hits(scored: list[_Scored], query: Query, probe: Probe, describe: Describe) -> Hits:
    options = query.options
    scores = [_without_examples(one, query) for one in scored]
    starts = np.cumsum([0, *map(len, scores)])
    short = any(one.slide.axes is not None for one in scored)
    wanted = 2 * options.k + (_MARGIN_SHORT if short else _MARGIN)
    if options.group_neighbours:
        wanted *= 9  # at the most so many tiles become one
    top = best(np.concatenate([*scores, np.empty(0, np.float32)]), wanted)
    of = np.searchsorted(starts, top, side="right") - 1
    tiles, rows, there = _gathered(scored, of, top - starts[of])
    of, tiles, rows = of[there], tiles[there], rows[there]
    exact = probe.exact(rows)
    order = np.argsort(-exact, kind="stable")
    if options.group_neighbours:
        order = order[apart(of[order], tiles[order])]
    order = order[: options.k]
    of, tiles, rows, exact = of[order], tiles[order], rows[order], exact[order]
    used, of = np.unique(of, return_inverse=True)
    variety = varied(probe.space.features(rows[:VARIED]), exact)
    named = (scored[n].slide for n in used.tolist())
    listed = tuple(HitSlide(one.slide, *describe(one.slide), one.grid) for one in named)
    return Hits(listed, of.astype(np.int32), tiles, exact, variety)


def _without_examples(one: _Scored, query: Query) -> NDArray[np.float32]:
    """Return scores in which the examples, and the positives' neighbours, cannot be hits."""
    scores, near = one.scores, query.options.exclude_within
    asked = [(e, near) for e in query.positives] + [(e, 0) for e in query.negatives]
    for example, within in asked:
        if example.slide != one.slide.slide:
            continue
        tile = place_of(example, one.slide.grid)
        if tile is not None:
            if scores is one.scores:
                scores = scores.copy()
            rows = one.slide.near(tile, within)
            scores[rows[rows < len(scores)]] = -np.inf
    return scores


def _gathered(
    scored: list[_Scored], of: NDArray[np.intp], at: NDArray[np.intp]
) -> tuple[NDArray[np.int32], NDArray[np.float16], NDArray[np.bool_]]:
    """Return tiles and embeddings of candidates, and whether the disk still has each of them."""
    tiles = np.empty((len(of), 2), np.int32)
    rows = np.empty((len(of), scored[0].slide.dim if scored else 0), np.float16)
    there = np.ones(len(of), np.bool_)
    for number in np.unique(of).tolist():
        one, mine = scored[number], of == number
        tiles[mine] = one.tiles[at[mine]]
        rows[mine], there[mine] = one.slide.gather(tiles[mine])
    return tiles, rows, there
