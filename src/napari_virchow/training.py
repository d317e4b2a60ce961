"""Training: stored embeddings and labels become a classifier, and that a slide's classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.classify import ModelCard, TileClassifier, evaluate_labels
from napari_virchow.classify.features import FeatureBank
from napari_virchow.classify.folds import TilePlaces, plan_folds, spatial_blocks
from napari_virchow.classify.learner import scorer
from napari_virchow.classify.metrics import CurvePoint, Evaluation, learning_curve
from napari_virchow.classify.predictions import Predictions
from napari_virchow.classify.suggest import Suggestion, Suspect, audit_labels, suggest_tiles
from napari_virchow.encoders import all_specs
from napari_virchow.labels import LabelSet
from napari_virchow.labels.agreement import import_csv, read_labels
from napari_virchow.labels.edits import LabelClass, LabelRow, name_key
from napari_virchow.layout import read_facts
from napari_virchow.shelf import StoredInfo, list_stored, load_stored
from napari_virchow.tiles import TileGrid


class TrainingError(Exception):
    """Labels and embeddings do not make a classifier; one sentence that says what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """All embeddings of one slide by one encoder at one magnification."""

    info: StoredInfo
    grid: TileGrid
    tiles: NDArray[np.int32]
    matrix: NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A classifier with what is honestly known of it.

    Parameters
    ----------
    classifier : TileClassifier
        Calibrated, with its card.
    evaluation : Evaluation
        By blocks of neighbouring tiles, or by slides; may say "too few labels to tell".
    rows : tuple of LabelRow
        The labels it was trained on, in the order of the evaluation.
    n_missing : int
        Labels on tiles that are not embedded.
    suspects : tuple of Suspect
        Labels that are likely mistakes; their `row` counts into `rows`.
    curve : tuple of CurvePoint
        How good it would be with fewer labels per class, tested in the same way; may be empty.
    """

    classifier: TileClassifier
    evaluation: Evaluation
    rows: tuple[LabelRow, ...]
    n_missing: int
    suspects: tuple[Suspect, ...]
    curve: tuple[CurvePoint, ...]


def read_label_files(paths: Sequence[Path]) -> tuple[list[LabelRow], list[LabelClass]]:
    """Read labels from CSV files and journals, together; the later label of a tile counts.

    Raises
    ------
    TrainingError
        If a file is not there.
    ValueError
        If a CSV file is no table of labels.
    JournalError
        If a journal cannot be read.
    """
    together = LabelSet(None)
    try:
        for path in paths:
            if not path.is_file():
                raise TrainingError(f"There is no file {path}; check the path of the labels.")
            if path.suffix.lower() == ".csv":
                import_csv(together, path)
                continue
            rows, classes = read_labels(path)
            known = {name_key(c.name) for c in together.classes}
            for one in classes:
                if name_key(one.name) not in known:
                    together.add_class(one.name, one.color)
            together.add_rows(rows, f"read {path.name}")
        return together.rows(), list(together.classes)
    finally:
        together.close()


def stored_of(store: Path, slide: str, encoder: str, grid: str) -> Stored:
    """Load a slide's embeddings by an encoder (its name or whole identity).

    Raises
    ------
    TrainingError
        If there are none, or by several weights of that encoder.
    """
    found = [
        info
        for info in list_stored(store, slide)
        if info.grid == grid and (info.encoder == encoder or encoder_name(info.encoder) == encoder)
    ]
    if not found:
        raise TrainingError(
            f"The slide {slide} has no embeddings by {encoder} for tiles of {grid} in {store}: run "
            "napari-virchow embed on it first."
        )
    if len(found) > 1:
        names = ", ".join(info.encoder for info in found)
        raise TrainingError(
            f"The slide {slide} has several kinds of embeddings, name one: {names}."
        )
    facts = read_facts(found[0].path)
    tiles, matrix = load_stored(store, slide, facts.encoder, facts.grid, facts.dim)
    return Stored(found[0], facts.grid, tiles, matrix)


def train(
    rows: Sequence[LabelRow], classes: Sequence[LabelClass], store: Path, encoder: str
) -> Trained:
    """Train on all labels whose tiles are embedded.

    Raises
    ------
    TrainingError
        If there are no labels, they are of several grids, or nothing labelled is embedded.
    """
    grids = sorted({row.grid for row in rows})
    if len(grids) != 1:
        what = "There are no labels." if not grids else f"The labels are of {', '.join(grids)}."
        raise TrainingError(f"{what} A classifier needs labels of one magnification.")
    ids = {name_key(c.name): c.id for c in classes}
    slides = {s: stored_of(store, s, encoder, grids[0]) for s in sorted({r.slide for r in rows})}
    bank = FeatureBank()
    bank.fit(np.concatenate([one.matrix for one in slides.values()]))
    projection, features, compact = bank.snapshot()
    place, start = {}, 0
    for slide, one in slides.items():
        place.update({(slide, *map(int, at)): start + n for n, at in enumerate(one.tiles)})
        start += len(one.tiles)
    used = tuple(row for row in rows if (row.slide, *row.tile) in place)
    if not used:
        raise TrainingError("None of the labelled tiles is embedded: run napari-virchow embed.")
    chosen = np.array([place[row.slide, *row.tile] for row in used])
    y = np.array([ids[name_key(row.class_name)] for row in used])
    names = {c.id: c.name for c in classes}
    places = places_of(used)
    plan = plan_folds(y, places, names=names)
    evaluation = evaluate_labels(features[chosen], y, plan)
    classifier = TileClassifier.fit_features(
        features[chosen],
        y,
        classes=[(c.id, c.name, c.color) for c in classes],
        projection=projection,
        groups=spatial_blocks(places),
    )
    some = next(iter(slides.values()))
    card = card_of(some.info.encoder, some.grid)
    return Trained(
        classifier.calibrated(evaluation).with_card(card),
        evaluation,
        used,
        len(rows) - len(used),
        audit_labels(compact[chosen], evaluation, names=names),
        learning_curve(y, plan, scorer(features[chosen], y)),
    )


def classify(classifier: TileClassifier, stored: Stored) -> Predictions:
    """Predict the class of every embedded tile of a slide.

    Raises
    ------
    ModelError
        If the classifier was made for other embeddings; the sentence says which.
    """
    encoder = stored.info.encoder
    classifier.check_fits(encoder, encoder.rpartition("-")[2], stored.info.mpp)
    return classifier.predict(stored.matrix)


def suggest(
    classifier: TileClassifier, stored: Stored, rows: Sequence[LabelRow], k: int
) -> tuple[Suggestion, ...]:
    """Choose the `k` tiles of a slide whose labels would teach the classifier most."""
    predictions = classify(classifier, stored)
    ids = {name_key(c.name): c.id for c in classifier.classes}
    place = {tuple(map(int, at)): n for n, at in enumerate(stored.tiles)}
    mine = [row for row in rows if row.slide == stored.info.slide and tuple(row.tile) in place]
    labels = {place[tuple(r.tile)]: ids[name_key(r.class_name)] for r in mine}
    slides = [stored.info.slide] * len(stored.tiles)
    compact = classifier.projection.compact(classifier.projection.transform(stored.matrix))
    return suggest_tiles(
        compact,
        predictions,
        labels,
        TilePlaces(slides, stored.tiles[:, 0], stored.tiles[:, 1]),
        k=k,
        names={c.id: c.name for c in classifier.classes},
    )


def places_of(rows: Sequence[LabelRow]) -> TilePlaces:
    """Return where labelled tiles lie."""
    at = np.array([row.tile for row in rows]).reshape(-1, 2)
    return TilePlaces([row.slide for row in rows], at[:, 0], at[:, 1])


def summary(trained: Trained) -> dict[str, Any]:
    """Return the figures of a training as plain values for JSON."""
    names = {c.id: c.name for c in trained.classifier.classes}
    counts = Counter(row.class_name for row in trained.rows)
    return {
        "encoder": trained.classifier.card.encoder,
        "mpp": trained.classifier.card.mpp,
        "labels": dict(counts),
        "labels_not_embedded": trained.n_missing,
        "metrics": trained.evaluation.summary(),
        "learning_curve": [asdict(point) for point in trained.curve],
        "class_names": {str(i): name for i, name in names.items()},
        "suspects": [
            {"slide": row.slide, "row": row.tile.row, "col": row.tile.col, "reason": one.reason}
            for one in trained.suspects
            for row in [trained.rows[one.row]]
        ],
    }


def card_of(identity: str, grid: TileGrid) -> ModelCard:
    """Say which embeddings a classifier is made for: by an encoder's identity, of a grid."""
    encoder, _, pooling = identity.rpartition("-")
    name, _, weights = encoder.rpartition("-")
    spec = all_specs().get(encoder_name(identity).removesuffix("@random"))
    return ModelCard(
        encoder=identity,
        weights_hash=weights,
        pooling=pooling,
        licence=spec.licence if spec is not None else f"unknown ({name})",
        mpp=grid.mpp,
        tile_px=grid.tile_px,
    )


def encoder_name(identity: str) -> str:
    """Return the name for `load_encoder` of an identity such as ``virchow2-3f2a9c81d0e4-class``.

    An encoder that is not known keeps its identity.
    """
    known = [f"{name}{suffix}" for name in all_specs() for suffix in ("", "@random")]
    return max((n for n in known if identity.startswith(f"{n}-")), key=len, default=identity)
