"""Honest figures: neighbours stay together, small samples get no number, and numbers are right."""

from __future__ import annotations

import numpy as np
import pytest

from napari_virchow.classify.folds import TilePlaces, plan_folds, spatial_blocks
from napari_virchow.classify.metrics import (
    UNTESTED,
    calibration_error,
    evaluate,
    fit_temperature,
    learning_curve,
    softmax,
)


def places(points, slide="s"):
    rows, cols = zip(*points, strict=True)
    return TilePlaces([slide] * len(points), rows, cols)


def scattered(n=24, apart=3):
    """n labels of two classes in turn, none touching another."""
    where = TilePlaces(["s"] * n, np.arange(n) // 6 * apart, np.arange(n) % 6 * apart)
    return np.arange(n) % 2 + 1, where


def knows_all(y):
    classes, target = np.unique(y, return_inverse=True)
    return lambda train, test: 5.0 * np.eye(len(classes))[target[test]]


# --- blocks and turns --------------------------------------------------------------------------


def test_labels_that_touch_share_a_block_and_others_do_not():
    blocks = spatial_blocks(places([(0, 0), (1, 1), (9, 9), (2, 2), (9, 11)]))
    np.testing.assert_array_equal(blocks, [0, 0, 1, 0, 2])


def test_the_same_place_on_two_slides_is_two_places():
    blocks = spatial_blocks(TilePlaces(["a", "b", "a"], [5, 5, 5], [0, 0, 1]))
    np.testing.assert_array_equal(blocks, [0, 1, 0])


def test_a_long_chain_of_labels_is_cut():
    blocks = spatial_blocks(places([(0, c) for c in range(20)]), size=8)
    np.testing.assert_array_equal(blocks, [0] * 8 + [1] * 8 + [2] * 4)


def test_no_labels_make_no_blocks():
    assert len(spatial_blocks(TilePlaces([], [], []))) == 0


def test_places_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="differ in length"):
        TilePlaces(["a"], [1, 2], [1, 2])


@pytest.mark.parametrize("seed", range(5))
def test_neighbouring_tiles_are_never_on_both_sides(seed):
    rng = np.random.default_rng(seed)
    n = 150
    where = TilePlaces(
        rng.choice(["a", "b"], n).tolist(), rng.integers(0, 30, n), rng.integers(0, 30, n)
    )
    plan = plan_folds(rng.integers(1, 4, n), where)
    assert plan.reason is None
    for train, test in plan.folds:
        assert len(test)
        for i in test:
            same = np.array([where.slides[j] == where.slides[i] for j in train])
            near = np.maximum(
                np.abs(where.rows[train] - where.rows[i]), np.abs(where.cols[train] - where.cols[i])
            )
            assert not (same & (near <= 1)).any()


def test_every_label_is_tested_at_most_once_and_scattered_ones_all_are():
    y, where = scattered()
    tested = np.concatenate([test for _, test in plan_folds(y, where).folds])
    np.testing.assert_array_equal(np.sort(tested), np.arange(24))


def test_every_class_is_left_to_train_on_in_every_turn():
    y, where = scattered()
    for train, _ in plan_folds(y, where).folds:
        assert set(y[train]) == {1, 2}


def test_slides_take_turns_where_each_class_is_on_three():
    y = np.tile([1, 2], 6)
    slides = np.repeat(["a", "b", "c"], 4).tolist()
    plan = plan_folds(y, TilePlaces(slides, np.zeros(12, int), 5 * np.arange(12)))
    assert plan.by == "slide"
    assert len(plan.folds) == 3
    for train, test in plan.folds:
        assert not {slides[i] for i in train} & {slides[i] for i in test}


def test_two_slides_are_split_by_block():
    y = np.tile([1, 2], 6)
    plan = plan_folds(y, TilePlaces(["a"] * 6 + ["b"] * 6, np.zeros(12, int), 5 * np.arange(12)))
    assert plan.by == "block"


# --- too few to tell ----------------------------------------------------------------------------


def test_one_class_is_too_few_to_tell():
    plan = plan_folds([1, 1, 1], places([(0, 0), (5, 5), (9, 9)]))
    assert plan.reason is not None
    assert "two classes" in plan.reason


def test_a_hundred_labels_in_one_place_are_too_few_to_tell_and_the_class_is_named():
    clump = [(r, c) for r in range(4) for c in range(4)]
    y = [1] * 16 + [2] * 3
    plan = plan_folds(y, places(clump + [(20, 0), (20, 9), (30, 5)]), names={1: "fat"})
    assert plan.folds == ()
    assert plan.reason is not None
    assert "“fat” in 1" in plan.reason
    assert plan.reason.startswith("Too few labels to tell")


def test_too_few_labels_give_a_sentence_and_no_figure():
    y = np.array([1, 2])
    found = evaluate(y, plan_folds(y, places([(0, 0), (9, 9)])), knows_all(y))
    assert found.balanced_accuracy is None
    assert found.interval is None
    assert found.calibration_error is None
    assert found.f1 == {}
    assert len(found.cell(1, 2)) == 0
    assert found.summary()["reason"].startswith("Too few labels to tell")
    assert "balanced_accuracy" not in found.summary()
    assert learning_curve(y, found.plan, knows_all(y)) == ()


def test_no_labels_at_all_are_too_few():
    assert "Too few" in str(plan_folds([], TilePlaces([], [], [])).reason)


# --- figures ------------------------------------------------------------------------------------


def test_a_classifier_that_is_always_right_scores_one_with_an_honest_interval():
    y, where = scattered()
    found = evaluate(y, plan_folds(y, where), knows_all(y))
    assert found.balanced_accuracy == 1
    assert found.f1 == {1: 1.0, 2: 1.0}
    assert found.interval is not None
    low, high = found.interval
    assert high == 1
    assert 0.8 < low < 0.95


def test_figures_are_those_worked_out_by_hand():
    y, where = scattered()  # 12 of class 1, 12 of class 2
    wrong = [0, 2, 4, 1]  # three of class 1, one of class 2
    said = y.copy()
    said[wrong] = 3 - said[wrong]

    def fit_score(train, test):
        return 2.0 * np.eye(2)[said[test] - 1]

    found = evaluate(y, plan_folds(y, where), fit_score)
    np.testing.assert_array_equal(found.confusion, [[9, 3], [1, 11]])
    assert found.balanced_accuracy == pytest.approx((9 / 12 + 11 / 12) / 2)
    assert found.recall[1] == pytest.approx(9 / 12)
    assert found.precision[1] == pytest.approx(9 / 10)
    assert found.f1[1] == pytest.approx(2 * 9 / (12 + 10))
    np.testing.assert_array_equal(found.cell(1, 2), [0, 2, 4])
    np.testing.assert_array_equal(found.cell(2, 1), [1])
    low, high = found.interval
    assert low < found.balanced_accuracy < high


def test_the_interval_counts_places_and_not_tiles():
    y, where = scattered()
    lone = evaluate(y, plan_folds(y, where), knows_all(y))
    points = [(8 * (i // 6), 8 * (i % 6)) for i in range(24)]
    clumps = [(r + dr, c + dc) for r, c in points for dr in (0, 1) for dc in (0, 1)]
    many = np.repeat(y, 4)
    found = evaluate(many, plan_folds(many, places(clumps)), knows_all(many))
    assert found.n_labels == 4 * lone.n_labels
    assert found.interval == pytest.approx(lone.interval)


def test_labels_that_cannot_be_tested_are_marked():
    y, where = scattered(24)
    plan = plan_folds(y, where)
    fewer = type(plan)(plan.blocks, plan.folds[1:], plan.by)
    found = evaluate(y, fewer, knows_all(y))
    left_out = plan.folds[0][1]
    assert (found.y_pred[left_out] == UNTESTED).all()
    assert found.confusion.sum() == 24 - len(left_out)


def test_a_summary_is_ready_for_json():
    import json

    y, where = scattered()
    summary = evaluate(y, plan_folds(y, where), knows_all(y)).summary()
    assert json.loads(json.dumps(summary))["n_blocks"] == 24


def test_temperature_stays_near_one_with_few_labels_and_moves_with_many():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 3000)
    scores = 1.0 * np.eye(3)[truth] + 0.7 * rng.normal(size=(3000, 3))
    loud = 4 * scores  # four times too sure of itself
    few, many = (
        fit_temperature(loud[:n], truth[:n]) / fit_temperature(scores[:n], truth[:n])
        for n in (4, 3000)
    )
    assert many == pytest.approx(4, rel=0.1)
    assert 1 < few < 3
    assert fit_temperature(np.zeros((0, 3)), []) == pytest.approx(1)


def test_calibration_error_is_the_distance_of_confidence_from_the_share_right():
    probability = np.array([[0.85, 0.15]] * 4 + [[0.35, 0.65]] * 4)
    target = [0, 0, 0, 1, 1, 1, 1, 1]  # 3 of 4 right at 0.85, 4 of 4 right at 0.65
    assert calibration_error(probability, target) == pytest.approx((0.10 + 0.35) / 2)


def test_softmax_of_large_scores_is_finite():
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0], [0.0, 0.0]])), [[1, 0], [0.5, 0.5]])


def test_the_learning_curve_trains_on_as_many_as_it_says():
    y, where = scattered(36)
    seen = []

    def fit_score(train, test):
        seen.append(np.bincount(y[train])[1:].tolist())
        return np.eye(2)[y[test] - 1]

    points = learning_curve(y, plan_folds(y, where), fit_score, sizes=(1, 5, 50), draws=2)
    assert [p.per_class for p in points] == [1, 5]
    assert all(p.balanced_accuracy == 1 for p in points)
    assert {tuple(s) for s in seen} == {(1, 1), (5, 5)}
