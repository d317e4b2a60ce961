"""Labels and the embeddings of their tiles become what a classifier is trained on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from napari_virchow.classification.bank import Elsewhere, GridBank
from napari_virchow.classify import TileClassifier
from napari_virchow.classify.features import Matrix
from napari_virchow.classify.folds import TilePlaces, spatial_blocks
from napari_virchow.labels import LabelSet
from napari_virchow.labels.edits import LabelRow, name_key
from napari_virchow.tiles import TileGrid
from napari_virchow.training import card_of


class Training(NamedTuple):
    """What a classifier is trained on: label i has features i, target i and stands in rows i."""

    rows: tuple[LabelRow, ...]
    features: Matrix
    target: Any
    places: TilePlaces
    here: dict[int, int]  # row in the bank of the grid in focus -> class id
    grids: dict[str, TileGrid]  # by slide


def gather(labels: LabelSet, bank: GridBank, elsewhere: Elsewhere) -> Training:
    """Take the labels of this magnification whose tiles are embedded, on whatever slide."""
    ids = {name_key(c.name): c.id for c in labels.classes}
    rows = [row for row in labels.rows() if row.grid == bank.grid.name]
    here = [row for row in rows if row.slide == bank.slide.identity]
    others = [row for row in rows if row.slide != bank.slide.identity]
    placed = [(row, n) for row in here if (n := bank.row(row.tile)) >= 0]
    found = elsewhere.find(others, bank.encoder)
    projection, features, _ = bank.snapshot()
    parts = [features[[n for _, n in placed]]]
    if found:
        parts.append(projection.transform(np.stack([*found.values()])))
    away = {others[n].slide for n in found}
    used = tuple([row for row, _ in placed] + [others[n] for n in found])
    at = np.array([row.tile for row in used], np.intp).reshape(-1, 2)
    return Training(
        used,
        np.concatenate(parts),
        np.array([ids[name_key(row.class_name)] for row in used], np.intp),
        TilePlaces([row.slide for row in used], at[:, 0], at[:, 1]),
        {n: ids[name_key(row.class_name)] for row, n in placed},
        {bank.slide.identity: bank.grid} | {s: elsewhere.grids[s, bank.grid.name] for s in away},
    )


def train_live(
    labels: LabelSet, bank: GridBank, training: Training, temperature: float
) -> TileClassifier | None:
    """Train on what was gathered; None where that is nothing."""
    if not training.rows:
        return None
    classifier = TileClassifier.fit_features(
        training.features,
        training.target,
        classes=[(c.id, c.name, c.color) for c in labels.classes],
        projection=bank.snapshot()[0],
        groups=spatial_blocks(training.places),
        temperature=temperature,
    )
    return classifier.with_card(card_of(bank.encoder, bank.grid))
