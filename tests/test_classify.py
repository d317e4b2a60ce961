"""The classifier: two clicks are enough, it knows what it does not know, and it survives a disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from napari_virchow.classify import ClassInfo, ModelCard, TileClassifier, evaluate_labels
from napari_virchow.classify.features import FeatureBank, Projection
from napari_virchow.classify.folds import TilePlaces, plan_folds
from napari_virchow.classify.learner import examples, fit_linear, spread
from napari_virchow.classify.models import ARRAYS_NAME, HEADER_NAME, ModelError

CLASSES = [(1, "tumour", "#d55e00"), (2, "stroma", "#0072b2"), (5, "fat", "#f0e442")]


def tiles(n=300, dim=40, seed=0, classes=(1, 2, 5)):
    """Embeddings of well separated classes around a common, far-off mean, as encoders give them."""
    rng = np.random.default_rng(seed)
    centres = 3 * np.random.default_rng(99).normal(size=(8, dim))
    y = np.array(classes)[np.arange(n) % len(classes)]
    return (50 + centres[y] + rng.normal(size=(n, dim))).astype(np.float16), y


def few(y, per_class=1):
    return np.concatenate([np.flatnonzero(y == c)[:per_class] for c in np.unique(y)])


# --- features --------------------------------------------------------------------------------


def test_features_have_length_one_and_as_many_numbers_as_asked_for():
    x, _ = tiles()
    projection = Projection.fit(x, n_features=7)
    features = projection.transform(x)
    assert features.shape == (300, 7)
    assert features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)


def test_a_projection_that_keeps_all_directions_keeps_all_angles():
    x, _ = tiles(60, 30)
    standard = x.astype(np.float64)
    standard = (standard - standard.mean(0)) / standard.std(0)
    standard /= np.linalg.norm(standard, axis=1, keepdims=True)
    features = Projection.fit(x).transform(x)
    np.testing.assert_allclose(features @ features.T, standard @ standard.T, atol=2e-3)


def test_the_randomised_search_finds_the_directions_that_a_full_decomposition_finds():
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(400, 6)) * [9, 8, 7, 6, 5, 4]) @ rng.normal(size=(6, 200))
    x += 0.01 * rng.normal(size=x.shape)
    wide, narrow = Projection.fit(x, n_features=150), Projection.fit(x, n_features=6)
    a, b = wide.transform(x), narrow.transform(x)
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-2)


def test_fitting_twice_gives_the_same_projection():
    x, _ = tiles()
    assert Projection.fit(x, n_features=9).identity == Projection.fit(x, n_features=9).identity


def test_a_number_that_never_changes_has_no_say():
    x, _ = tiles()
    x[:, 3] = 1000
    features = Projection.fit(x).transform(x)
    assert np.isfinite(features).all()
    other = x.copy()
    other[:, 3] = -1000
    np.testing.assert_allclose(Projection.fit(x).transform(other), features, atol=1e-6)


def test_few_tiles_are_kept_as_they_are():
    x, _ = tiles(3)
    projection = Projection.fit(x)
    assert projection.weights is None
    wanted = x / np.linalg.norm(x.astype(np.float32), axis=1, keepdims=True)
    np.testing.assert_allclose(projection.transform(x), wanted, rtol=1e-3)


def test_a_tile_that_was_not_computed_is_refused_by_number():
    x, _ = tiles()
    projection = Projection.fit(x)
    x[17] = np.nan
    with pytest.raises(ValueError, match="embedding 17 is not finite"):
        projection.transform(x)
    with pytest.raises(ValueError, match="not finite"):
        Projection.fit(x)


@pytest.mark.parametrize("bad", [np.zeros(4), np.zeros((2, 5)), np.zeros((1, 2, 3))])
def test_embeddings_of_another_shape_are_refused(bad):
    x, _ = tiles(dim=4)
    with pytest.raises(ValueError, match="shape"):
        Projection.fit(x).transform(bad)


def test_a_bank_that_grows_equals_one_that_was_given_everything():
    x, _ = tiles()
    whole = FeatureBank(x)
    grown = FeatureBank(projection=whole.projection)
    seen = grown.features
    for start in range(0, 300, 64):
        assert grown.append(x[start : start + 64]).start == start
    np.testing.assert_allclose(grown.features, whole.features, atol=1e-6)
    np.testing.assert_allclose(grown.compact, whole.compact, atol=1e-5)
    assert len(seen) == 0


def test_a_view_of_the_bank_stays_as_it_was_while_the_bank_grows_and_is_fitted_anew():
    x, _ = tiles()
    bank = FeatureBank(x[:50])
    before = bank.features
    kept = before.copy()
    bank.append(x[50:])
    bank.fit(x)
    np.testing.assert_array_equal(before, kept)
    assert len(bank) == 300


def test_a_bank_is_outgrown_at_twice_the_tiles_until_there_are_plenty():
    x, _ = tiles(40)
    bank = FeatureBank(x[:20])
    assert not bank.outgrown
    bank.append(x[20:])
    assert bank.outgrown
    bank.fit(x)
    assert not bank.outgrown
    plenty = Projection(np.zeros(2, np.float32), None, np.ones(2, np.float32), 8192)
    assert not plenty.outgrown(100_000)


def test_an_empty_bank_says_so():
    with pytest.raises(ValueError, match="empty"):
        FeatureBank().snapshot()


# --- learning --------------------------------------------------------------------------------


def test_weights_are_those_of_scikit_learn():
    x, y = tiles(90)
    features = Projection.fit(x).transform(x)
    target = np.unique(y, return_inverse=True)[1]
    weights, bias, converged = fit_linear(features, target, 3)
    model = LogisticRegression(C=30, class_weight="balanced", max_iter=1000).fit(features, target)
    np.testing.assert_allclose(weights, model.coef_, atol=1e-6)
    np.testing.assert_allclose(bias, model.intercept_, atol=1e-6)
    assert converged


def test_two_classes_get_a_score_each_that_differ_by_what_scikit_learn_decides():
    x, y = tiles(90, classes=(1, 2))
    features = Projection.fit(x).transform(x)
    weights, bias, _ = fit_linear(features, y - 1, 2)
    model = LogisticRegression(C=30, class_weight="balanced", max_iter=1000).fit(features, y)
    scores = features @ weights.T + bias
    np.testing.assert_allclose(
        scores[:, 1] - scores[:, 0], model.decision_function(features), atol=1e-4
    )


def test_one_label_of_each_of_two_classes_is_enough():
    x, y = tiles(classes=(1, 2))
    bank = FeatureBank(x)
    rows = few(y)
    classifier = TileClassifier.fit(x[rows], y[rows], classes=CLASSES, projection=bank.projection)
    predictions = classifier.predict(x)
    assert predictions.kind == "classes"
    assert [c.name for c in classifier.classes] == ["tumour", "stroma"]
    assert np.mean(predictions.class_id == y) > 0.95
    np.testing.assert_allclose(predictions.probability.sum(axis=1), 1, rtol=1e-5)


def test_with_one_class_similarity_to_it_is_told_and_no_class():
    x, y = tiles()
    bank = FeatureBank(x)
    rows = np.flatnonzero(y == 2)[:2]
    classifier = TileClassifier.fit(x[rows], y[rows], classes=CLASSES, projection=bank.projection)
    predictions = classifier.predict(x)
    assert predictions.kind == classifier.kind == "similarity"
    assert (predictions.class_id == 0).all()
    likeness = predictions.probability[:, 0]
    assert likeness[y == 2].min() > likeness[y != 2].max()
    assert likeness.min() >= 0
    assert likeness.max() <= 1 + 1e-6


def test_one_single_label_without_a_bank_works():
    x, _ = tiles()
    predictions = TileClassifier.fit(x[:1], [1], classes=CLASSES).predict(x)
    assert predictions.probability[0, 0] == pytest.approx(1, abs=1e-3)


def test_probability_margin_and_class_agree_with_one_another_across_chunks():
    x, y = tiles(9001)
    bank = FeatureBank(x)
    rows = few(y, 3)
    projection, features, compact = bank.snapshot()
    classifier = TileClassifier.fit_features(
        features[rows], y[rows], classes=CLASSES, projection=projection
    )
    predictions = classifier.predict_features(features, compact)
    ordered = np.sort(predictions.probability, axis=1)
    np.testing.assert_allclose(predictions.margin, ordered[:, -1] - ordered[:, -2], atol=1e-6)
    best = predictions.classes[predictions.probability.argmax(axis=1)]
    np.testing.assert_array_equal(predictions.class_id, best)
    scores = features @ classifier.weights.T + classifier.bias
    wanted = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predictions.probability, wanted, atol=1e-5)


def test_a_class_that_nobody_labelled_is_unknown_and_a_labelled_one_is_not():
    x, y = tiles()
    bank = FeatureBank(x)
    rows = np.concatenate([np.flatnonzero(y == c)[:10] for c in (1, 2)])
    classifier = TileClassifier.fit(x[rows], y[rows], classes=CLASSES, projection=bank.projection)
    shown = classifier.predict(x).confident()
    assert np.mean(shown[y == 5] == 0) > 0.95
    assert np.mean(shown[y != 5] == 0) < 0.2


def test_confident_hides_what_is_below_the_slider():
    x, y = tiles()
    rows = few(y, 3)
    classifier = TileClassifier.fit(
        x[rows], y[rows], classes=CLASSES, projection=Projection.fit(x), temperature=20
    )
    predictions = classifier.predict(x)
    assert (predictions.confident(unknown_above=1.0) != 0).all()
    assert (predictions.confident(unknown_above=1.0, at_least=0.99) == 0).all()


def test_glass_gets_no_class():
    x, y = tiles()
    rows = few(y, 3)
    glass = np.zeros(300, bool)
    glass[[4, 250]] = True
    classifier = TileClassifier.fit(x[rows], y[rows], classes=CLASSES, projection=Projection.fit(x))
    predictions = classifier.predict(x, glass=glass)
    np.testing.assert_array_equal(predictions.class_id == 0, glass)
    assert (predictions.probability[glass] == 0).all()
    assert (predictions.novelty[glass] == 1).all()


def test_a_higher_temperature_makes_it_less_sure_and_changes_no_class():
    x, y = tiles()
    rows, projection = few(y, 3), Projection.fit(x)
    fit = [
        TileClassifier.fit(x[rows], y[rows], classes=CLASSES, projection=projection, temperature=t)
        for t in (1.0, 3.0)
    ]
    sure, unsure = (c.predict(x) for c in fit)
    np.testing.assert_array_equal(sure.class_id, unsure.class_id)
    assert unsure.probability.max(axis=1).mean() < sure.probability.max(axis=1).mean()


def test_fitting_twice_gives_the_same_numbers():
    x, y = tiles()
    rows, projection = few(y, 5), Projection.fit(x)
    one, two = (
        TileClassifier.fit(x[rows], y[rows], classes=CLASSES, projection=projection).predict(x)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.probability, two.probability)
    np.testing.assert_array_equal(one.novelty, two.novelty)


def test_labels_of_a_class_that_does_not_exist_are_refused():
    x, _ = tiles()
    with pytest.raises(ValueError, match=r"unknown classes \[7\]"):
        TileClassifier.fit(x[:2], [1, 7], classes=CLASSES)
    with pytest.raises(ValueError, match="2 tiles and 1 labels"):
        TileClassifier.fit(x[:2], [1], classes=CLASSES)
    with pytest.raises(ValueError, match="0 tiles and 0 labels"):
        TileClassifier.fit_features(
            np.zeros((0, 3), np.float32),
            [],
            classes=CLASSES,
            projection=Projection(np.zeros(3, np.float32), None, np.ones(3, np.float32), 1),
        )


def test_spread_looks_beyond_the_block():
    compact = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
    target, apart = np.array([0, 0, 0, 0]), np.array([0, 0, 1, 1])
    near, _ = spread(compact, target, np.arange(4))
    far, _ = spread(compact, target, apart)
    assert near == pytest.approx((4 * 0.4 + 0) / 8)
    assert far == pytest.approx((4 * 0.4 + 4 * 1) / 8)


def test_examples_are_few_and_cover_everything():
    rng = np.random.default_rng(0)
    centres = np.eye(5, dtype=np.float32)
    rows = centres[rng.integers(0, 5, 200)]
    assert len(np.unique(examples(rows, limit=5), axis=0)) == 5
    assert len(examples(rows[:3], limit=5)) == 3


# --- saving ----------------------------------------------------------------------------------


@pytest.fixture
def trained():
    x, y = tiles()
    rows = few(y, 4)
    places = TilePlaces(["s"] * len(rows), np.arange(len(rows)) * 3, np.zeros(len(rows), int))
    projection = Projection.fit(x)
    features = projection.transform(x[rows])
    plan = plan_folds(y[rows], places)
    classifier = TileClassifier.fit_features(
        features, y[rows], classes=CLASSES, projection=projection, groups=plan.blocks
    )
    card = ModelCard(
        encoder="virchow2-abc-class+mean",
        weights_hash="abc",
        pooling="class+mean",
        licence="CC-BY-NC-ND-4.0",
        mpp=0.5,
        tile_px=224,
    )
    classifier = classifier.calibrated(evaluate_labels(features, y[rows], plan)).with_card(card)
    return x, classifier


def test_a_saved_classifier_predicts_the_same(trained, tmp_path):
    x, classifier = trained
    loaded = TileClassifier.load(classifier.save(tmp_path / "model"))
    one, two = classifier.predict(x), loaded.predict(x)
    np.testing.assert_array_equal(one.probability, two.probability)
    np.testing.assert_array_equal(one.novelty, two.novelty)
    assert loaded.classes == tuple(ClassInfo(*c) for c in CLASSES)
    assert loaded.counts == {1: 4, 2: 4, 5: 4}


def test_the_description_says_what_it_was_made_for(trained, tmp_path):
    _, classifier = trained
    header = json.loads((classifier.save(tmp_path) / HEADER_NAME).read_text("utf-8"))
    assert header["encoder"] == "virchow2-abc-class+mean"
    assert header["licence"] == "CC-BY-NC-ND-4.0"
    assert header["label_counts"] == {"1": 4, "2": 4, "5": 4}
    assert header["metrics"]["balanced_accuracy"] == pytest.approx(1)
    assert {"numpy", "scikit-learn", "napari-virchow"} <= header["versions"].keys()
    assert sorted(p.name for p in tmp_path.iterdir()) == [HEADER_NAME, ARRAYS_NAME]


def test_a_classifier_of_one_class_without_a_bank_can_be_saved(tmp_path):
    x, _ = tiles()
    classifier = TileClassifier.fit(x[:1], [1], classes=CLASSES)
    loaded = TileClassifier.load(classifier.save(tmp_path))
    assert loaded.kind == "similarity"
    np.testing.assert_array_equal(loaded.predict(x).probability, classifier.predict(x).probability)


@pytest.mark.parametrize(
    ("encoder", "pooling", "mpp", "words"),
    [
        ("virchow2-abc-class", "class", 0.5, ["“class+mean”", "“class”"]),
        ("uni-1-class", "class", 0.5, ["virchow2-abc-class+mean", "uni-1-class"]),
        ("virchow2-abd-class+mean", "class+mean", 0.5, ["virchow2-abc", "virchow2-abd"]),
        ("virchow2-abc-class+mean", "class+mean", 0.25, ["0.5 µm/px", "0.25 µm/px"]),
    ],
)
def test_embeddings_it_was_not_made_for_are_refused_by_name(trained, encoder, pooling, mpp, words):
    with pytest.raises(ModelError) as refusal:
        trained[1].check_fits(encoder, pooling, mpp)
    assert all(word in str(refusal.value) for word in words)


def test_embeddings_it_was_made_for_are_taken(trained):
    trained[1].check_fits("virchow2-abc-class+mean", "class+mean", 0.501)


def test_a_torn_pair_is_noticed(trained, tmp_path):
    path = trained[1].save(tmp_path)
    data = bytearray((path / ARRAYS_NAME).read_bytes())
    data[-1] ^= 1
    (path / ARRAYS_NAME).write_bytes(data)
    with pytest.raises(ModelError, match="does not belong"):
        TileClassifier.load(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 99}, "update napari-virchow"),
        ({"format": "something"}, "does not describe a tile classifier"),
        ({"spread": None}, "damaged"),
        ({"classes": []}, "damaged"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(trained, tmp_path, change, words):
    path = trained[1].save(tmp_path)
    header = json.loads((path / HEADER_NAME).read_text("utf-8")) | change
    (path / HEADER_NAME).write_text(json.dumps(header), "utf-8")
    with pytest.raises(ModelError, match=words):
        TileClassifier.load(path)


def test_an_empty_folder_holds_no_classifier(tmp_path):
    with pytest.raises(ModelError, match="holds no classifier"):
        TileClassifier.load(tmp_path)
    (tmp_path / HEADER_NAME).write_text("{", "utf-8")
    with pytest.raises(ModelError, match="cannot be read"):
        TileClassifier.load(tmp_path)
