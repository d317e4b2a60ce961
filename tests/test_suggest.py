"""The queue asks for what teaches, the signal says when to stop, the audit finds mistakes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_virchow.classify import TileClassifier, evaluate_labels
from napari_virchow.classify.features import FeatureBank
from napari_virchow.classify.folds import TilePlaces, plan_folds
from napari_virchow.classify.suggest import (
    Round,
    audit_labels,
    changed_share,
    stop_signal,
    suggest_tiles,
)

CLASSES = [(1, "tumour", ""), (2, "stroma", ""), (3, "fat", "")]
NAMES = {1: "tumour", 2: "stroma", 3: "fat"}
SIDE = 20


class Slide:
    """A grid of 20 × 20 tiles, three classes in vertical stripes."""

    def __init__(self, noise=1.0):
        rng = np.random.default_rng(0)
        rows, cols = np.divmod(np.arange(SIDE * SIDE), SIDE)
        self.y = cols * 3 // SIDE + 1
        centres = 3 * rng.normal(size=(4, 30))
        bank = FeatureBank(centres[self.y] + noise * rng.normal(size=(SIDE * SIDE, 30)))
        self.projection, self.features, self.compact = bank.snapshot()
        self.rows, self.cols = rows, cols
        self.places = TilePlaces(["s"] * len(rows), rows, cols)

    def predict(self, labels, **keywords):
        rows = np.array([*labels])
        classifier = TileClassifier.fit_features(
            self.features[rows],
            [*labels.values()],
            classes=CLASSES,
            projection=self.projection,
        )
        return classifier.predict_features(self.features, self.compact, **keywords)

    def suggest(self, labels, **keywords):
        return suggest_tiles(
            self.compact, self.predict(labels), labels, self.places, names=NAMES, **keywords
        )


@pytest.fixture(scope="module")
def slide():
    return Slide()


def apart(slide, a, b):
    return max(abs(slide.rows[a] - slide.rows[b]), abs(slide.cols[a] - slide.cols[b]))


def test_nothing_suggested_touches_another_suggestion_or_a_label(slide):
    labels = {0: 1, 10: 2, 210: 2, 19: 3}
    rows = [s.row for s in slide.suggest(labels, k=30)]
    assert len(rows) == 30
    everything = [*labels, *rows]
    for i, a in enumerate(everything[len(labels) :], len(labels)):
        assert all(apart(slide, a, b) > 1 for b in everything[:i])


def test_the_class_that_nobody_labelled_is_found_first(slide):
    labels = {0: 1, 40: 1, 10: 2, 210: 2}
    first = slide.suggest(labels, k=1)[0]
    assert slide.y[first.row] == 3
    assert first.reason == "Unlike anything labelled so far."


def test_with_one_class_a_second_is_looked_for(slide):
    first = slide.suggest({0: 1, 44: 1}, k=1)[0]
    assert slide.y[first.row] != 1
    assert "second class" in first.reason


def test_skipped_tiles_are_not_offered_again(slide):
    labels = {0: 1, 10: 2}
    first = slide.suggest(labels, k=3)
    again = slide.suggest(labels, k=3, skip=[s.row for s in first])
    assert not {s.row for s in first} & {s.row for s in again}


def test_glass_is_not_offered(slide):
    labels = {0: 1, 10: 2}
    glass = slide.y == 3
    predictions = slide.predict(labels, glass=glass)
    for s in suggest_tiles(slide.compact, predictions, labels, slide.places, k=20):
        assert not glass[s.row]


def test_a_slide_without_free_tiles_gives_an_empty_queue(slide):
    assert slide.suggest({0: 1, 10: 2}, skip=np.arange(400)) == ()


def test_the_same_labels_give_the_same_queue(slide):
    labels = {0: 1, 10: 2, 19: 3}
    assert slide.suggest(labels) == slide.suggest(labels)


def test_suggesting_without_labels_is_refused(slide):
    predictions = slide.predict({0: 1})
    with pytest.raises(ValueError, match="labels should be of rows"):
        suggest_tiles(slide.compact, predictions, {}, slide.places)
    with pytest.raises(ValueError, match="differ in length"):
        suggest_tiles(slide.compact[:5], predictions, {0: 1}, slide.places)


def test_following_the_queue_finds_all_classes_within_a_handful_of_labels(slide):
    labels = {0: 1}
    while len(labels) < 6:
        row = slide.suggest(labels, k=1)[0].row
        labels[row] = int(slide.y[row])
    assert set(labels.values()) == {1, 2, 3}
    assert np.mean(slide.predict(labels).class_id == slide.y) > 0.95


# --- stopping -----------------------------------------------------------------------------------


def test_the_share_that_changed_is_of_tiles_known_to_both():
    assert changed_share(np.array([1, 2, 2]), np.array([1, 3, 2, 9])) == pytest.approx(1 / 3)
    assert changed_share(np.array([], int), np.array([1])) == 0


def test_it_says_stop_when_labels_stop_changing_the_map():
    rounds = [Round(n, 0.2 if n < 10 else 0.0004) for n in range(2, 31)]
    signal = stop_signal(rounds, {1: 15, 2: 15})
    assert signal.stop
    assert signal.text.startswith("The last 10 labels changed 0.4 % of the map")


@pytest.mark.parametrize(
    ("rounds", "counts", "words"),
    [
        ([], {}, "second class"),
        ([], {1: 9}, "second class"),
        ([Round(n, 0.0) for n in range(2, 31)], {1: 26, 2: 4}, "more of “stroma”: it has 4"),
        ([Round(n, 0.0) for n in range(2, 9)], {1: 5, 2: 5}, "too early"),
        ([Round(n, 0.01) for n in range(2, 31)], {1: 15, 2: 15}, "10.0 % of the map: keep"),
    ],
)
def test_it_does_not_say_stop_too_early(rounds, counts, words):
    signal = stop_signal(rounds, counts, names=NAMES)
    assert not signal.stop
    assert words in signal.text


# --- audit --------------------------------------------------------------------------------------


def labelled(slide, mistakes=()):
    rows = np.array([r * SIDE + c for r in range(0, 20, 3) for c in range(0, 20, 3)])
    y = slide.y[rows].copy()
    for m in mistakes:
        y[m] = y[m] % 3 + 1
    plan = plan_folds(y, TilePlaces(["s"] * len(rows), slide.rows[rows], slide.cols[rows]))
    found = evaluate_labels(slide.features[rows], y, plan)
    return audit_labels(slide.compact[rows], found, names=NAMES)


def test_planted_mistakes_are_found_and_nothing_else(slide):
    suspects = labelled(slide, mistakes=(5, 20, 41))
    assert sorted(s.row for s in suspects) == [5, 20, 41]
    assert all(s.predicted == s.voted != s.label for s in suspects)
    assert "trained without its neighbourhood" in suspects[0].reason
    assert [s.suspicion for s in suspects] == sorted((s.suspicion for s in suspects), reverse=True)


def test_labels_without_a_mistake_are_left_alone(slide):
    assert labelled(slide) == ()


def test_an_evaluation_without_figures_gives_no_suspects(slide):
    plan = plan_folds([1, 2], TilePlaces(["s", "s"], [0, 9], [0, 9]))
    found = evaluate_labels(slide.features[:2], [1, 2], plan)
    assert audit_labels(slide.compact[:2], found) == ()
    with pytest.raises(ValueError, match="2 were evaluated"):
        audit_labels(slide.compact[:3], found)
