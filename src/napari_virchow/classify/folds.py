"""Who is tested on what: labels split so that no neighbour of a tested tile is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Index = NDArray[np.intp]

MIN_BLOCKS: Final = 3
REACH: Final = 1  # tiles; labels this close share a block: 1 means touching, corners included
BLOCK_SIZE: Final = 8  # tiles; a chain of labels longer than this is cut
MAX_FOLDS: Final = 20


@dataclass(frozen=True, eq=False, slots=True)
class TilePlaces:
    """Where tiles lie: slide, row and column of each. All are of grids with the same tile size.

    Parameters
    ----------
    slides : sequence of str
        Identity of the slide of each tile.
    rows, cols : array of int
        Place in the grid.

    Raises
    ------
    ValueError
        If the three differ in length.
    """

    slides: Sequence[str]
    rows: ArrayLike
    cols: ArrayLike

    def __post_init__(self) -> None:
        lengths = {len(self.slides), np.size(self.rows), np.size(self.cols)}
        if len(lengths) != 1:
            raise ValueError(f"slides, rows and cols differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.slides)

    def take(self, rows: Index) -> TilePlaces:
        """Return the places of some of the tiles."""
        slides = np.asarray(self.slides, dtype=np.str_)[rows]
        where = np.asarray(self.rows).reshape(-1)[rows], np.asarray(self.cols).reshape(-1)[rows]
        return TilePlaces(slides.tolist(), *where)

    def points(self, apart: int) -> NDArray[np.float64]:
        """Return (n, 2) coordinates in tiles, slides further than `apart` from one another."""
        rows = np.asarray(self.rows, np.float64).reshape(-1)
        cols = np.asarray(self.cols, np.float64).reshape(-1)
        _, slide = np.unique(np.asarray(self.slides, dtype=np.str_), return_inverse=True)
        width = np.ptp(cols) + apart + 1 if len(cols) else 1.0
        return np.stack([rows, cols + slide * width], axis=1)

    def close_pairs(self, reach: int) -> Index:
        """Return (m, 2) pairs of tiles of one slide at most `reach` rows and columns apart."""
        from scipy.spatial import cKDTree

        if len(self) < 2:
            return np.empty((0, 2), np.intp)
        tree = cKDTree(self.points(reach + 1))
        pairs: Index = tree.query_pairs(reach + 0.5, p=np.inf, output_type="ndarray")
        return pairs


def spatial_blocks(places: TilePlaces, *, reach: int = REACH, size: int = BLOCK_SIZE) -> Index:
    """Group labels that lie close to one another.

    Labels within `reach` tiles share a block, and so does a chain of them; a chain longer or wider
    than `size` tiles is cut into squares of `size`.

    Parameters
    ----------
    places : TilePlaces
        Of n labelled tiles.
    reach, size : int
        In tiles, at least 1.

    Returns
    -------
    ndarray of shape (n,)
        Number of the block of each label, counted from 0 in the order of the labels.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if reach < 1 or size < 1:
        raise ValueError(f"reach and size must be at least 1, got {reach} and {size}")
    n = len(places)
    if n == 0:
        return np.empty(0, np.intp)
    pairs = places.close_pairs(reach)
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    n_chains, chain = connected_components(links, directed=False)
    points = places.points(reach + 1)
    low = np.full((n_chains, 2), np.inf)
    np.minimum.at(low, chain, points)
    cell = ((points - low[chain]) // size).astype(np.intp)
    keys = np.column_stack([chain, cell])
    _, first, block = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.intp)
    order[np.argsort(first)] = np.arange(len(first))
    return order[block.reshape(-1)]


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """Who is tested on what.

    Parameters
    ----------
    blocks : ndarray of shape (n,)
        Block of each label (the slide, where slides take turns).
    folds : tuple of (train, test)
        Rows of each turn. A label is tested once; never if the rest of its class is too near to it.
    by : str
        "slide" or "block".
    reason : str or None
        Why no figure can be given, as a sentence; `folds` is empty then.
    """

    blocks: Index
    folds: tuple[tuple[Index, Index], ...]
    by: str
    reason: str | None = None

    @property
    def n_blocks(self) -> int:
        """How many blocks there are."""
        return len(np.unique(self.blocks))


def plan_folds(
    y: ArrayLike, places: TilePlaces, *, names: Mapping[int, str] | None = None, reach: int = REACH
) -> Plan:
    """Split labels into turns of training and testing that share no neighbourhood.

    Whole slides take turns where each class was labelled on at least three slides; otherwise
    blocks do. There are at most twenty turns. A label whose class would be missing from the
    training of its turn is not tested.

    Parameters
    ----------
    y : array of shape (n,)
        Class of each label.
    places : TilePlaces
        Of the n labelled tiles.
    names : mapping, optional
        Class names for the sentence in `reason`.
    reach : int
        See `spatial_blocks`; training keeps further than this from the tiles tested.

    Raises
    ------
    ValueError
        If `y` and `places` differ in length.
    """
    classes, target = np.unique(np.asarray(y), return_inverse=True)
    if len(target) != len(places):
        raise ValueError(f"{len(target)} classes were given for {len(places)} places")
    blocks = spatial_blocks(places, reach=reach)
    reason = _too_few(classes, target, blocks, names or {})
    if reason is not None:
        return Plan(blocks, (), "block", reason)
    _, slide = np.unique(np.asarray(places.slides, dtype=np.str_), return_inverse=True)
    by = "block"
    if min(blocks_per_class(target, slide, len(classes))) >= MIN_BLOCKS:
        by, blocks = "slide", slide.astype(np.intp)
    folds = _turns(target, _deal(target, blocks), places.close_pairs(reach))
    tested = np.concatenate([test for _, test in folds])
    reason = _too_few(classes, target[tested], blocks[tested], names or {})
    return Plan(blocks, () if reason else folds, by, reason)


def blocks_per_class(target: Index, blocks: Index, n_classes: int) -> list[int]:
    """Return how many blocks each class has labels in."""
    return [len(np.unique(blocks[target == c])) for c in range(n_classes)]


def _too_few(classes: Index, target: Index, blocks: Index, names: Mapping[int, str]) -> str | None:
    if len(classes) < 2:
        return "Too few labels to tell: label tiles of at least two classes."
    short = [
        f"“{names.get(int(c), f'class {c}')}” in {n}"
        for c, n in zip(classes, blocks_per_class(target, blocks, len(classes)), strict=True)
        if n < MIN_BLOCKS
    ]
    if not short:
        return None
    return (
        f"Too few labels to tell: each class needs {MIN_BLOCKS} separate places on the slide, and "
        f"so far there is {', '.join(short)}."
    )


def _turns(target: Index, fold: Index, pairs: Index) -> tuple[tuple[Index, Index], ...]:
    turns = []
    for number in range(fold.max() + 1):
        tested = fold == number
        touching = np.zeros(len(fold), bool)
        touching[pairs[tested[pairs[:, 0]], 1]] = True
        touching[pairs[tested[pairs[:, 1]], 0]] = True
        train = np.flatnonzero(~tested & ~touching)
        fair = tested & np.isin(target, target[train])
        turns.append((train, np.flatnonzero(fair)))
    return tuple(turns)


def _deal(target: Index, blocks: Index) -> Index:
    """Deal blocks to folds, largest first, each to the fold that has least of its classes."""
    numbers, block = np.unique(blocks, return_inverse=True)
    k = target.max() + 1
    counts = np.zeros((len(numbers), k))
    np.add.at(counts, (block, target), 1)
    share = counts / counts.sum(axis=0)
    n_folds = min(MAX_FOLDS, len(numbers))
    filled = np.zeros((n_folds, k))
    fold_of = np.empty(len(numbers), np.intp)
    for number in np.argsort(-share.sum(axis=1), kind="stable"):
        cost = ((filled + share[number]) ** 2).sum(axis=1) - (filled**2).sum(axis=1)
        cost += 1e-6 * filled.sum(axis=1)
        fold_of[number] = cost.argmin()
        filled[fold_of[number]] += share[number]
    return fold_of[block]
