"""From a few clicked tiles to an opinion on every tile, with what it does not know marked as such.

The default is multinomial logistic regression on the unit-length features of a `FeatureBank`:
`benchmarks/results/classify.md` compares it with the alternatives at 1 to 20 labels per class.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_virchow.classify.features import Matrix, Projection, as_rows
from napari_virchow.classify.folds import Plan
from napari_virchow.classify.learner import examples, fit_linear, scorer, spread
from napari_virchow.classify.metrics import Evaluation, evaluate
from napari_virchow.classify.models import ModelError, read_model, write_model
from napari_virchow.classify.predictions import UNKNOWN, Kind, Predictions, decide
from napari_virchow.classify.processors import for_each

_CHUNK = 8192


class ClassInfo(NamedTuple):
    """A class as a classifier remembers it."""

    id: int
    name: str
    color: str


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a classifier was made for and from; everything in it is saved.

    Parameters
    ----------
    encoder : str
        Identity of the encoder, as `Encoder.identity` gives it.
    weights_hash, pooling, licence : str
        Of the encoder.
    mpp : float
        µm per pixel of the tiles.
    tile_px : int
        Side of a tile in pixels.
    metrics : mapping
        As `Evaluation.summary` gives it; empty where nothing was measured.
    created : str
        ISO 8601, UTC; filled in on saving when empty.
    versions : mapping
        Versions of the libraries it was saved with; filled in on saving.
    """

    encoder: str = ""
    weights_hash: str = ""
    pooling: str = ""
    licence: str = ""
    mpp: float = 0.0
    tile_px: int = 0
    metrics: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, slots=True)
class TileClassifier:
    """A trained classifier of tiles; made by `fit` or `load`, never changed after.

    Parameters
    ----------
    classes : tuple of ClassInfo
        The k classes that were labelled, in ascending order of id.
    projection : Projection
        The way from embeddings to features.
    weights, bias : ndarray of shape (k, n_features) and (k,), float32
        Scores are `features @ weights.T + bias`. With one class: its mean direction.
    examples : ndarray of shape (m, ≤ 32), float32
        Compact features of the labelled tiles that novelty is measured against.
    spread : tuple of float
        Mean and width of the distance between labelled tiles of a class.
    temperature : float
        What scores are divided by before they become probabilities.
    counts : mapping of class id to number of labels
    converged : bool
        False if the fit ran out of iterations.
    card : ModelCard
    """

    classes: tuple[ClassInfo, ...]
    projection: Projection
    weights: Matrix
    bias: NDArray[np.float32]
    examples: Matrix
    spread: tuple[float, float]
    temperature: float
    counts: Mapping[int, int]
    converged: bool = True
    card: ModelCard = ModelCard()

    @classmethod
    def fit(
        cls,
        x: ArrayLike,
        y: ArrayLike,
        *,
        classes: Sequence[tuple[int, str, str]],
        projection: Projection | None = None,
        groups: ArrayLike | None = None,
        temperature: float = 1.0,
    ) -> Self:
        """Train on embeddings of labelled tiles.

        Parameters
        ----------
        x : array of shape (n, dim)
            Embeddings, float16 or float32.
        y : array of shape (n,)
            Class id of each.
        classes : sequence of (id, name, colour)
            May hold more classes than were labelled; those are left out.
        projection : Projection, optional
            Of the bank of all embedded tiles. Without it, one is fitted to `x`, which is worse.
        groups : array of shape (n,), optional
            Block of each label (`spatial_blocks`): distances inside a block do not count for
            novelty, since neighbours are nearer than tiles of a class usually are.
        temperature : float
            From an earlier `Evaluation`.

        Raises
        ------
        ValueError
            If there are no labels, lengths differ, or `y` has an id that is not in `classes`.
        """
        chosen = projection or Projection.fit(x)
        return cls.fit_features(
            chosen.transform(x),
            y,
            classes=classes,
            projection=chosen,
            groups=groups,
            temperature=temperature,
        )

    @classmethod
    def fit_features(
        cls,
        features: Matrix,
        y: ArrayLike,
        *,
        classes: Sequence[tuple[int, str, str]],
        projection: Projection,
        groups: ArrayLike | None = None,
        temperature: float = 1.0,
    ) -> Self:
        """Train on features of labelled tiles: rows of `FeatureBank.features`. See `fit`."""
        target = np.asarray(y).reshape(-1)
        features = as_rows(features, dim=projection.n_features, name="features")
        known = {c[0]: ClassInfo(*c) for c in classes}
        ids, columns, counts = np.unique(target, return_inverse=True, return_counts=True)
        if len(target) == 0 or len(target) != len(features):
            raise ValueError(f"got {len(features)} tiles and {len(target)} labels; need ≥ 1 each")
        if missing := [int(i) for i in ids if int(i) not in known or i == UNKNOWN]:
            raise ValueError(f"labels of unknown classes {missing}; classes are {sorted(known)}")
        weights, bias, converged = fit_linear(features, columns, len(ids))
        compact = projection.compact(features)
        blocks = np.arange(len(target)) if groups is None else np.asarray(groups).reshape(-1)
        return cls(
            classes=tuple(known[int(i)] for i in ids),
            projection=projection,
            weights=weights,
            bias=bias,
            examples=examples(compact),
            spread=spread(compact, columns, blocks),
            temperature=temperature,
            counts={int(i): int(n) for i, n in zip(ids, counts, strict=True)},
            converged=converged,
        )

    @property
    def kind(self) -> Kind:
        """Return "similarity" if only one class was labelled, else "classes"."""
        return "similarity" if len(self.classes) == 1 else "classes"

    def predict(self, x: ArrayLike, *, glass: ArrayLike | None = None) -> Predictions:
        """Predict from embeddings, (n, dim); see `predict_features`.

        Raises
        ------
        ValueError
            If the embeddings have another length than those trained on, or are not finite.
        """
        return self.predict_features(self.projection.transform(x), glass=glass)

    def predict_features(
        self, features: Matrix, compact: Matrix | None = None, *, glass: ArrayLike | None = None
    ) -> Predictions:
        """Predict from the features of a bank with the same projection.

        Parameters
        ----------
        features : ndarray of shape (n, n_features), float32
        compact : ndarray of shape (n, ≤ 32), float32, optional
            `FeatureBank.compact`; computed from `features` if it is not given.
        glass : array of bool of shape (n,), optional
            Tiles without tissue: they get no class.
        """
        features = np.asarray(features, np.float32)
        if features.ndim != 2 or features.shape[1] != self.projection.n_features:
            raise ValueError(
                f"features have the shape {features.shape}, this classifier's are "
                f"(n, {self.projection.n_features})"
            )
        compact = self.projection.compact(features) if compact is None else compact
        n, k = len(features), len(self.classes)
        ids = np.array([c.id for c in self.classes], np.int32)
        chance = np.empty((k, n), np.float32)  # tiles along rows: k long additions, not n short
        best, margin = np.zeros(n, np.intp), np.zeros(n, np.float32)
        nearest = np.empty(n, np.float32)

        def fill(start: int) -> None:
            part = slice(start, start + _CHUNK)
            scores = self.weights @ features[part].T
            if k == 1:
                chance[:, part] = np.maximum(scores, 0)
            else:
                scores += self.bias[:, None]
                decide(scores, self.temperature, chance[:, part], best[part], margin[part])
            nearest[part] = (self.examples @ compact[part].T).max(axis=0)

        for_each(range(0, n, _CHUNK), fill)  # a chunk's scores stay in the processor's cache
        class_id = ids[best] if k > 1 else np.full(n, UNKNOWN, np.int32)
        novelty = self._novelty(nearest)
        probability = np.ascontiguousarray(chance.T)
        if glass is not None:
            bare = np.asarray(glass, bool)
            class_id[bare], probability[bare], margin[bare], novelty[bare] = UNKNOWN, 0, 0, 1
        return Predictions(self.kind, ids.astype(np.intp), class_id, probability, margin, novelty)

    def calibrated(self, evaluation: Evaluation) -> TileClassifier:
        """Return the same classifier with temperature and figures of an evaluation."""
        card = replace(self.card, metrics=evaluation.summary())
        return replace(self, temperature=evaluation.temperature, card=card)

    def with_card(self, card: ModelCard) -> TileClassifier:
        """Return the same classifier with a card; figures it has already are kept."""
        return replace(self, card=replace(card, metrics=card.metrics or self.card.metrics))

    def check_fits(self, encoder: str, pooling: str, mpp: float) -> None:
        """Refuse embeddings that this classifier was not made for.

        Parameters
        ----------
        encoder, pooling, mpp
            As in `ModelCard`, of the embeddings it would be applied to.

        Raises
        ------
        ModelError
            With one sentence that names what it was made for and what is there.
        """
        made = self.card
        same = made.encoder.removesuffix(made.pooling) == encoder.removesuffix(pooling)
        if made.pooling != pooling and same:
            raise ModelError(
                f"This classifier was trained on embeddings pooled as “{made.pooling}”, these are "
                f"pooled as “{pooling}”: choose the pooling it was trained on."
            )
        if made.encoder != encoder:
            raise ModelError(
                f"This classifier was trained with the encoder {made.encoder}, these embeddings "
                f"are of {encoder}: load that encoder, or train a classifier for this one."
            )
        if not np.isclose(made.mpp, mpp, rtol=0.01):
            raise ModelError(
                f"This classifier was trained on tiles at {made.mpp:g} µm/px, these are at "
                f"{mpp:g} µm/px: embed the slide at {made.mpp:g} µm/px."
            )

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Save to a folder: `classifier.json` and `classifier.safetensors`, no pickle.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        card = replace(
            self.card,
            created=self.card.created or datetime.now(UTC).isoformat(timespec="seconds"),
            versions=_versions(),
        )
        header = {
            **asdict(card),
            "kind": self.kind,
            "classes": [c._asdict() for c in self.classes],
            "label_counts": {str(i): n for i, n in self.counts.items()},
            "temperature": self.temperature,
            "spread": list(self.spread),
            "converged": self.converged,
            "projection_rows": self.projection.n_rows,
        }
        arrays: dict[str, NDArray[np.generic]] = {
            "weights": self.weights,
            "bias": self.bias,
            "examples": self.examples,
            "projection.mean": self.projection.mean,
            "projection.compact_scale": self.projection.compact_scale,
        }
        if self.projection.weights is not None:
            arrays["projection.weights"] = self.projection.weights
        return write_model(folder, header, arrays)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Load what `save` saved; call `check_fits` before use.

        Raises
        ------
        ModelError
            If there is no classifier, or it is damaged or of a newer format.
        """
        header, arrays = read_model(folder)
        try:
            projection = Projection(
                arrays["projection.mean"],
                arrays.get("projection.weights"),
                arrays["projection.compact_scale"],
                int(header["projection_rows"]),
            )
            low, width = header["spread"]
            loaded = cls(
                classes=tuple(ClassInfo(**c) for c in header["classes"]),
                projection=projection,
                weights=arrays["weights"],
                bias=arrays["bias"],
                examples=arrays["examples"],
                spread=(float(low), float(width)),
                temperature=float(header["temperature"]),
                counts={int(i): int(n) for i, n in header["label_counts"].items()},
                converged=bool(header["converged"]),
                card=ModelCard(**{name: header[name] for name in ModelCard.__slots__}),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{folder} is damaged: {error!r} in its description.") from error
        shape = (len(loaded.classes), projection.n_features)
        if loaded.weights.shape != shape or loaded.bias.shape != shape[:1]:
            raise ModelError(
                f"{folder} is damaged: weights of {loaded.weights.shape}, not {shape}."
            )
        return loaded

    def _novelty(self, nearest: NDArray[np.float32]) -> NDArray[np.float32]:
        from scipy.special import ndtr

        mean, width = self.spread
        return np.asarray(ndtr((1 - nearest - mean) / width), np.float32)


def evaluate_labels(features: Matrix, y: ArrayLike, plan: Plan) -> Evaluation:
    """Cross-validate the default classifier on labelled features by a plan of `plan_folds`.

    Takes one fit (about 3 ms) per fold. Give the result to `TileClassifier.calibrated`.
    """
    return evaluate(y, plan, scorer(features, y))


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("napari-virchow", "numpy", "scikit-learn")}
