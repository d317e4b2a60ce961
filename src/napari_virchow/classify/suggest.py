"""Which tile to label next, when to stop, and which labels to look at again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_virchow.classify.features import Matrix
from napari_virchow.classify.folds import Index, TilePlaces
from napari_virchow.classify.metrics import Evaluation
from napari_virchow.classify.predictions import UNKNOWN, Predictions

APART: Final = 1  # tiles; nothing suggested touches another suggestion or a label
_POOL: Final = 4096  # candidates looked at closely
_REFERENCES: Final = 512
_ALIKE: Final = 20  # references that make a tile typical
_TRUST_AFTER: Final = 3.0  # labels per class at which doubt counts as much as distance
_ATYPICAL: Final = 0.3  # weight of the least typical tile
_RECENT: Final = 10  # labels the stop signal looks back on
_STILL: Final = 0.01  # share of tiles
_ENOUGH: Final = 5  # labels per class below which nobody should stop
_NEIGHBOURS: Final = 5


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A tile worth labelling: its row in the bank, its score, the class predicted, and why."""

    row: int
    score: float
    class_id: int
    reason: str


def suggest_tiles(
    compact: Matrix,
    predictions: Predictions,
    labels: Mapping[int, int],
    places: TilePlaces,
    *,
    k: int = 8,
    skip: ArrayLike = (),
    names: Mapping[int, str] | None = None,
) -> tuple[Suggestion, ...]:
    """Choose the tiles whose labels would teach the classifier most, best first.

    The score is the product of four: how undecided the classifier is (counting little while there
    are few labels, since it cannot know yet), how far the tile is from what is labelled or chosen
    already, how typical it is of the slide (an odd speck teaches nothing), and how few labels its
    class has. No two suggestions touch, nor does one touch a label.

    Parameters
    ----------
    compact : ndarray of shape (n, q), float32
        `FeatureBank.compact`.
    predictions : Predictions
        For the same n tiles. Where there are two classes or more, tiles without one (glass) are
        not suggested; until then, name them in `skip`.
    labels : mapping of row to class id
        What is labelled; at least one.
    places : TilePlaces
        Of the n tiles.
    k : int
        How many to choose; fewer come back where there are fewer.
    skip : array of int
        Rows not to suggest, such as those the user has passed over.
    names : mapping of class id to name, optional
        For the reasons.

    Raises
    ------
    ValueError
        If lengths differ, nothing is labelled, or a labelled row does not exist.
    """
    rows, ids = np.array([*labels], np.intp), np.array([*labels.values()], np.intp)
    if not len(compact) == len(predictions) == len(places):
        raise ValueError(
            f"features, predictions and places differ in length: {len(compact)}, "
            f"{len(predictions)}, {len(places)}"
        )
    if len(rows) == 0 or rows.min() < 0 or rows.max() >= len(compact):
        raise ValueError(f"labels should be of rows 0 … {len(compact) - 1}, got {sorted(labels)}")
    free = np.ones(len(compact), bool)
    free[rows] = False
    free[np.asarray(skip, np.intp).reshape(-1)] = False
    worth = _worth(predictions, ids)
    if predictions.kind == "classes":
        free &= predictions.class_id != UNKNOWN
    away = _distance(compact, compact[rows])
    pool = np.flatnonzero(free)
    if len(pool) > _POOL:
        pool = pool[np.argpartition(-(worth * away)[pool], _POOL)[:_POOL]]
    points, taken = _points(places, pool, rows)
    pool, points = pool[~_touching(points, taken)], points[~_touching(points, taken)]
    worth, away = worth[pool] * _typical(compact, pool), away[pool]
    chosen: list[Suggestion] = []
    while len(chosen) < k and len(pool):
        best = int((worth * away).argmax())
        row, score = int(pool[best]), float(worth[best] * away[best])
        class_id = int(predictions.class_id[row])
        chosen.append(Suggestion(row, score, class_id, _reason(predictions, row, names or {})))
        away = np.minimum(away, _distance(compact[pool], compact[row : row + 1]))
        left = ~_touching(points, points[best : best + 1])
        pool, points, worth, away = pool[left], points[left], worth[left], away[left]
    return tuple(chosen)


@dataclass(frozen=True, slots=True)
class Round:
    """One training: how many labels there were, and the share of tiles whose class it changed."""

    n_labels: int
    changed: float


def changed_share(before: NDArray[np.integer], after: NDArray[np.integer]) -> float:
    """Return the share of tiles whose class differs; of those that both know about."""
    n = min(len(before), len(after))
    return float(np.mean(before[:n] != after[:n])) if n else 0.0


@dataclass(frozen=True, slots=True)
class StopSignal:
    """Whether more labels are likely to change anything, in a sentence."""

    stop: bool
    text: str


def stop_signal(
    rounds: Sequence[Round],
    counts: Mapping[int, int],
    *,
    evaluation: Evaluation | None = None,
    names: Mapping[int, str] | None = None,
) -> StopSignal:
    """Judge from the latest trainings whether it is time to stop labelling.

    Parameters
    ----------
    rounds : sequence of Round
        All trainings of the session, oldest first.
    counts : mapping of class id to number of labels
    evaluation : Evaluation, optional
        The latest; its figure is added to the sentence.
    names : mapping of class id to name, optional
    """
    short = sorted((n, c) for c, n in counts.items() if n < _ENOUGH)
    if len(counts) < 2:
        return StopSignal(False, "Label tiles of a second class to begin.")
    if short:
        n, class_id = short[0]
        name = (names or {}).get(class_id, f"class {class_id}")
        return StopSignal(
            False, f"Label more of “{name}”: it has {n} of at least {_ENOUGH} labels."
        )
    recent = [r for r in rounds if r.n_labels > rounds[-1].n_labels - _RECENT] if rounds else []
    before = [r for r in rounds if r.n_labels <= rounds[-1].n_labels - _RECENT] if rounds else []
    if not before:
        return StopSignal(
            False, "Keep labelling: it is too early to tell whether more labels help."
        )
    moved = sum(r.changed for r in recent)
    given = rounds[-1].n_labels - before[-1].n_labels
    told = f"The last {given} labels changed {100 * moved:.1f} % of the map"
    if evaluation is not None and evaluation.balanced_accuracy is not None:
        told += f" (balanced accuracy {evaluation.balanced_accuracy:.2f})"
    if moved < _STILL:
        return StopSignal(True, f"{told}: more labels of these classes will change little.")
    return StopSignal(False, f"{told}: keep labelling.")


@dataclass(frozen=True, slots=True)
class Suspect:
    """A label that two witnesses contradict.

    Parameters
    ----------
    row : int
        Number of the label.
    label, predicted : int
        Class id given, and the one that a classifier trained without the neighbourhood gives.
    probability : float
        Of `predicted`.
    voted : int
        Class id that most of the nearest labels elsewhere have.
    votes, n_votes : int
        How many of how many.
    suspicion : float
        In (0, 1]; the higher, the more certain both are.
    reason : str
        All that as a sentence.
    """

    row: int
    label: int
    predicted: int
    probability: float
    voted: int
    votes: int
    n_votes: int
    suspicion: float
    reason: str


def audit_labels(
    compact: Matrix, evaluation: Evaluation, *, names: Mapping[int, str] | None = None
) -> tuple[Suspect, ...]:
    """List labels that are likely mistakes, the most likely first.

    A label is listed if a classifier that was trained without it and its neighbourhood says
    otherwise, and most of the five most alike labels from other places do too.

    Parameters
    ----------
    compact : ndarray of shape (n, q), float32
        Compact features of the labelled tiles, in the order of the evaluation.
    evaluation : Evaluation
        Where it has no figures, the list is empty.
    names : mapping of class id to name, optional

    Raises
    ------
    ValueError
        If there is another number of tiles than was evaluated.
    """
    if len(compact) != evaluation.n_labels:
        raise ValueError(f"{len(compact)} tiles given, {evaluation.n_labels} were evaluated")
    if evaluation.reason is not None:
        return ()
    blocks, said = evaluation.plan.blocks, evaluation.y_true
    suspects = []
    for row in np.flatnonzero((evaluation.y_pred != said) & (evaluation.probability.sum(1) > 0)):
        elsewhere = np.flatnonzero(blocks != blocks[row])
        order = np.argsort(-(compact[elsewhere] @ compact[row]), kind="stable")
        near = said[elsewhere[order[:_NEIGHBOURS]]]
        ids, votes = np.unique(near, return_counts=True)
        label, predicted = int(said[row]), int(evaluation.y_pred[row])
        voted, most, own = int(ids[votes.argmax()]), int(votes.max()), int((near == label).sum())
        if voted == label or 2 * own >= len(near):
            continue
        chance = evaluation.probability[row]
        p, q = (float(chance[evaluation.classes == c][0]) for c in (predicted, label))
        called = [(names or {}).get(c, f"class {c}") for c in (label, predicted, voted)]
        suspects.append(
            Suspect(
                *(int(row), label, predicted, p, voted, most, len(near)),
                suspicion=(p - q + 1) / 2 * (1 - own / len(near)),
                reason=f"Labelled “{called[0]}”; trained without its neighbourhood the classifier "
                f"says “{called[1]}” ({p:.2f}), and {most} of the {len(near)} most alike labels "
                f"elsewhere are “{called[2]}”.",
            )
        )
    return tuple(sorted(suspects, key=lambda s: (-s.suspicion, s.row)))


def _worth(predictions: Predictions, y: Index) -> NDArray[np.float32]:
    """Doubt × need of each tile, by what was labelled so far."""
    ids, counts = np.unique(y, return_counts=True)
    early = 1 / (1 + counts.mean() / _TRUST_AFTER)
    need = np.ones(int(max(ids.max(), predictions.class_id.max(initial=0))) + 1, np.float32)
    need[ids] = np.sqrt(counts.min() / counts)
    doubt = 1 - predictions.margin
    worth: NDArray[np.float32] = (early + (1 - early) * doubt) * need[predictions.class_id]
    return worth


def _distance(compact: Matrix, others: Matrix) -> NDArray[np.float32]:
    """Cosine distance of each row to the nearest of the others."""
    nearest = np.full(len(compact), -1, np.float32)
    for start in range(0, len(compact), 8192):
        part = slice(start, start + 8192)
        nearest[part] = (others @ compact[part].T).max(axis=0)
    return np.maximum(1 - nearest, 0)


def _typical(compact: Matrix, pool: Index) -> NDArray[np.float32]:
    """How typical tiles are: 1 for those that most others resemble, `_ATYPICAL` for the oddest."""
    n = min(_REFERENCES, len(compact))
    references = compact[np.linspace(0, len(compact) - 1, n).astype(np.intp)]
    alike = min(_ALIKE, n)

    def likeness(rows: Matrix) -> NDArray[np.float32]:
        nearest = np.partition(rows @ references.T, n - alike, axis=1)[:, n - alike :]
        mean: NDArray[np.float32] = nearest.mean(axis=1)
        return mean

    rank = np.searchsorted(np.sort(likeness(references)), likeness(compact[pool])) / n
    return (_ATYPICAL + (1 - _ATYPICAL) * rank).astype(np.float32)


def _points(
    places: TilePlaces, pool: Index, labelled: Index
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    both = places.take(np.concatenate([pool, labelled])).points(APART)
    return both[: len(pool)], both[len(pool) :]


def _touching(points: NDArray[np.float64], taken: NDArray[np.float64]) -> NDArray[np.bool_]:
    from scipy.spatial import cKDTree

    if len(points) == 0:
        return np.zeros(0, bool)
    distance, _ = cKDTree(taken).query(points, p=np.inf)
    near: NDArray[np.bool_] = distance <= APART
    return near


def _reason(predictions: Predictions, row: int, names: Mapping[int, str]) -> str:
    if predictions.kind == "similarity":
        return "Unlike what is labelled so far; could be a second class."
    if predictions.novelty[row] > 0.9:
        return "Unlike anything labelled so far."
    order = np.argsort(-predictions.probability[row], kind="stable")[:2]
    first, second = (int(predictions.classes[c]) for c in order)
    called = [f"“{names.get(c, f'class {c}')}”" for c in (first, second)]
    if predictions.margin[row] < 0.4:
        return f"Undecided between {called[0]} and {called[1]}."
    return f"Probably {called[0]}, in a part that has no label yet."
