"""Who trains and who is tested: the published split, or folds that keep patients apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_virchow.evaluate.tilesets import TEST, TRAIN, VALID, Rows, TileSet, TileSetError

N_FOLDS = 5


class Fold(NamedTuple):
    """Row numbers of the tiles to train on, to choose with (may be none), and to test on."""

    train: Rows
    valid: Rows
    test: Rows


def plan_folds(tiles: TileSet) -> tuple[list[Fold], str]:
    """Return the folds of a tile set and a few words that say what they are.

    The published split or folds are used where there are any. Else five folds (fewer where there
    are fewer patients) in which every tile is tested once; patients or slides are kept together
    where they are known.

    Raises
    ------
    TileSetError
        If there are too few tiles or groups to test on others than were trained on.
    """
    none = np.zeros(0, np.intp)
    if tiles.folds:
        return [Fold(*fold[:1], none, fold[1]) for fold in tiles.folds], "published folds"
    if tiles.split is not None:
        parts = [np.flatnonzero(tiles.split == code) for code in (TRAIN, VALID, TEST)]
        return [Fold(*parts)], "published split"
    rows = np.arange(len(tiles))
    if tiles.groups is not None:
        from sklearn.model_selection import StratifiedGroupKFold

        n = min(N_FOLDS, len(np.unique(tiles.groups)))
        if n < 2:
            raise TileSetError(f"{tiles.title} is of one patient or slide: add tiles of others.")
        cut = StratifiedGroupKFold(n, shuffle=True, random_state=0)
        pairs = list(cut.split(rows, tiles.labels, tiles.groups))
        words = f"{n} folds, patients or slides apart"
    else:
        from sklearn.model_selection import StratifiedKFold

        n = min(N_FOLDS, int(np.bincount(tiles.labels).min()))
        if n < 2:
            raise TileSetError(f"{tiles.title} has a class with one tile only: add more tiles.")
        cut = StratifiedKFold(n, shuffle=True, random_state=0)
        pairs = list(cut.split(rows, tiles.labels))
        words = f"{n} random folds (patients and slides are not known, which flatters)"
    return [Fold(train, none, test) for train, test in pairs], words


def hold_out(train: Rows, y: Rows, groups: NDArray[np.str_] | None) -> tuple[Rows, Rows]:
    """Split training rows in four fifths and one fifth, by patients or slides where known."""
    rng = np.random.default_rng(0)
    if groups is not None:
        names = rng.permutation(np.unique(groups[train]))
        if len(names) >= N_FOLDS:
            held = np.isin(groups[train], names[: len(names) // N_FOLDS])
            return train[~held], train[held]
    held = np.zeros(len(train), bool)
    for code in np.unique(y[train]):
        members = rng.permutation(np.flatnonzero(y[train] == code))
        held[members[: len(members) // N_FOLDS]] = True
    return train[~held], train[held]
