"""Figures of an evaluation agree with slow loops, and with what must be so."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, f1_score

from napari_virchow.cli import main
from napari_virchow.evaluate import Protocol, evaluate
from napari_virchow.evaluate.embed import embed_set, histogram_encoder
from napari_virchow.evaluate.folds import plan_folds
from napari_virchow.evaluate.probe import few_labels, gene_correlation, neighbours, retrieval
from napari_virchow.evaluate.published import read_sets
from napari_virchow.evaluate.scores import (
    balanced_accuracy,
    confusion,
    score_predictions,
    weighted_f1,
)
from napari_virchow.evaluate.tilesets import Source, TileSet, TileSetError
from napari_virchow.evaluate.views import PLAIN, VIEWS, alter, views_of

RED, BLUE = (200, 60, 90), (90, 60, 200)


def tile_set(n=60, *, groups=True, split=None):
    """Noisy red and blue tiles, ten of each patient."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    noise = rng.integers(-40, 40, (n, 8, 8, 3))
    small = np.clip(np.array([RED, BLUE])[labels][:, None, None] + noise, 0, 255).astype(np.uint8)
    pixels = small.repeat(28, axis=1).repeat(28, axis=2)
    return TileSet(
        name="two",
        title="Two colours",
        source=Source(n, lambda rows: pixels[rows], "cafe"),
        classes=("red", "blue"),
        labels=labels,
        groups=np.array([f"p{i // 10}" for i in range(n)]) if groups else None,
        split=split,
        mpp=0.5,
    )


def write_folder(folder, n=12):
    tiles = tile_set(2 * n)
    for row, pixels in enumerate(tiles.source.read(np.arange(2 * n))):
        file = folder / tiles.classes[tiles.labels[row]] / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)


def test_f1_and_balanced_accuracy_are_those_of_scikit_learn():
    rng = np.random.default_rng(3)
    truth, said = rng.integers(0, 4, (2, 97))
    counts = confusion(truth, said, 4)

    assert weighted_f1(counts) == pytest.approx(f1_score(truth, said, average="weighted"))
    assert balanced_accuracy(counts) == pytest.approx(balanced_accuracy_score(truth, said))


def test_an_interval_holds_its_figure_and_is_wider_for_few_patients_than_for_tiles():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(12), 20)
    truth = np.tile([0, 1], 120)
    said = np.where(patient % 3 == 0, 1 - truth, truth)  # right or wrong by whole patients
    said[rng.random(240) < 0.05] ^= 1

    by_tile = score_predictions(truth, said, 2)
    by_patient = score_predictions(truth, said, 2, groups=patient.astype(str))

    for score in (by_tile, by_patient):
        assert score.low < score.value < score.high
    assert by_patient.high - by_patient.low > 1.5 * (by_tile.high - by_tile.low)


def test_every_tile_is_tested_once_and_by_other_patients_than_its_own():
    tiles = tile_set()
    folds, words = plan_folds(tiles)

    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(60))
    for fold in folds:
        assert not set(tiles.groups[fold.train]) & set(tiles.groups[fold.test])
    assert "patients or slides apart" in words


def test_without_patients_the_folds_say_that_they_flatter():
    assert "flatters" in plan_folds(tile_set(groups=False))[1]


def test_a_published_split_is_used():
    split = np.array([0] * 40 + [2] * 20, np.int8)
    (fold,), words = plan_folds(tile_set(split=split))

    assert fold.test.tolist() == list(range(40, 60))
    assert words == "published split"


def test_tiles_of_one_patient_are_refused():
    tiles = tile_set(10)
    with pytest.raises(TileSetError, match="one patient"):
        plan_folds(tiles)


def data(n=80, dim=6, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = rng.normal(size=(n, dim)).astype(np.float32)
    x[:, 0] += 4 * y
    return x, y, plan_folds(tile_set(n, groups=False))[0][0]


def test_neighbours_vote_as_in_a_plain_loop():
    x, y, fold = data()
    expected = []
    for row in fold.test:
        near = []
        for other in fold.train:
            cosine = x[row] @ x[other] / np.linalg.norm(x[row]) / np.linalg.norm(x[other])
            near.append((cosine, y[other]))
        near = sorted(near, reverse=True)[:20]
        votes = [sum(np.exp(s / 0.07) for s, label in near if label == k) for k in (0, 1)]
        expected.append(int(votes[1] > votes[0]))

    assert neighbours(x, y, fold).tolist() == expected


def test_retrieval_counts_as_in_a_plain_loop():
    x, y, fold = data(40)
    precision, average = retrieval(x, y, fold)
    expected = []
    for row in fold.test:
        cosine = [x[row] @ x[o] / np.linalg.norm(x[row]) / np.linalg.norm(x[o]) for o in fold.train]
        hits = [y[fold.train[i]] == y[row] for i in np.argsort(cosine)[::-1]]
        at = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits)) if hits[i]]
        expected.append((sum(hits[:10]) / 10, sum(at) / len(at)))

    assert np.allclose(sorted(zip(precision, average, strict=True)), sorted(expected), atol=1e-6)


def test_few_labels_need_that_many_of_each_class():
    x, y, fold = data()

    assert few_labels(x, y, fold, 20, 0) > 0.85
    assert few_labels(x, y, fold, 33, 0) is None


def test_genes_that_follow_the_embedding_are_predicted_and_others_are_not():
    x, _, fold = data(300)
    follow = np.stack([x[:, 0], -x[:, 0]], 1)
    noise = np.random.default_rng(1).normal(size=(300, 2)).astype(np.float32)

    assert gene_correlation(x, follow, fold) > 0.7
    assert abs(gene_correlation(x, noise, fold)) < 0.35


def test_embeddings_are_taken_from_the_store_the_second_time(tmp_path):
    tiles, encoder = tile_set(), histogram_encoder()
    first = embed_set(tiles, encoder, tmp_path)
    encoder.embed_batch = None  # would fail if it were called

    assert (embed_set(tiles, encoder, tmp_path) == first).all()
    assert (embed_set(tiles, encoder, tmp_path, rows=np.array([5, 2])) == first[[5, 2]]).all()
    assert first.sum(1) == pytest.approx(512, rel=1e-3)


def test_a_view_is_kept_apart_from_the_tiles_as_they_are(tmp_path):
    tiles, encoder = tile_set(), histogram_encoder()
    plain = embed_set(tiles, encoder, tmp_path)
    stained = embed_set(tiles, encoder, tmp_path, view="more blue")

    assert not np.allclose(plain, stained)
    assert (embed_set(tiles, encoder, tmp_path) == plain).all()


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_keeps_the_shape_and_is_the_same_twice(view):
    tile = tile_set().source.read(np.arange(2))

    altered = alter(tile, view, 0.5)

    assert altered.shape == tile.shape
    assert altered.dtype == np.uint8
    assert (altered == alter(tile, view, 0.5)).all()
    assert view == "20×" or not (altered == tile).all()


def test_four_quarter_turns_are_none():
    tile = np.random.default_rng(0).integers(0, 255, (1, 224, 224, 3), np.uint8)
    half = alter(tile, "turned 180°")

    assert (alter(alter(tile, "turned 90°"), "turned 90°") == half).all()
    assert (alter(half, "turned 180°") == tile).all()
    assert (alter(tile, PLAIN) == tile).all()


def test_another_magnification_shows_things_larger_or_smaller():
    tile = np.zeros((1, 224, 224, 3), np.uint8)
    tile[0, 84:140, 84:140] = 255  # a square of 56 px in the middle

    larger, smaller = alter(tile, "40×", 0.5), alter(tile, "10×", 0.5)

    assert (larger[0, 112, :, 0] > 127).sum() == pytest.approx(112, abs=2)
    assert (smaller[0, 112, 56:168, 0] > 127).sum() == pytest.approx(28, abs=2)
    assert "20×" not in views_of(0.5)
    assert "20×" in views_of(0.25)


def test_two_colours_are_told_apart_in_every_way_and_by_every_view(tmp_path):
    protocol = Protocol(shots=(1, 5), draws=5, robust_tiles=20)
    (result,) = evaluate([tile_set()], [histogram_encoder()], tmp_path, protocol=protocol)

    assert result.linear.value == result.knn.value == result.plain.value == 1
    assert result.precision.value == result.average_precision.value == 1
    assert result.few.keys() == {1, 5}
    assert result.few[5].value > 0.9
    assert result.robust["turned 90°"].f1.value == 1
    assert result.robust["turned 90°"].cosine == pytest.approx(1, abs=1e-4)
    assert (result.n, result.n_classes, result.n_groups) == (60, 2, 6)


def test_colours_shuffled_over_labels_are_not_told_apart(tmp_path):
    tiles = tile_set()
    tiles.labels[:] = np.random.default_rng(1).permutation(tiles.labels)
    protocol = Protocol(shots=(), robust_tiles=0)
    (result,) = evaluate([tiles], [histogram_encoder()], tmp_path, protocol=protocol)

    assert result.linear.value < 0.75


def test_a_vit_gives_class_and_mean_and_the_class_token_alone(tmp_path):
    from napari_virchow.encoders import load_encoder

    encoder = load_encoder("virchow2g-mini@random", device="cpu")
    protocol = Protocol(shots=(), robust_tiles=0)
    both, token = evaluate([tile_set(10, groups=False)], [encoder], tmp_path, protocol=protocol)

    assert (both.pooling, token.pooling) == ("class+mean", "class")
    assert "random weights" in both.encoder_title
    assert token.knn is None


def test_the_command_writes_a_table_a_document_and_a_plot(tmp_path, capsys):
    write_folder(tmp_path / "tiles")
    words = ["evaluate", str(tmp_path / "tiles"), "--encoder", "texture", "--draws", "2"]
    words += ["--robust-tiles", "2", "--store", str(tmp_path / "store"), "--out"]

    assert main([*words, str(tmp_path / "out")]) == 0

    text = (tmp_path / "out" / "evaluation.md").read_text("utf-8")
    assert capsys.readouterr().out.startswith(text.split("\n![")[0])
    assert "| Virchow2 | 93.5 | 97.4 | 96.9 | 98.7 | 94.8 | 85.9 | 60.6 | 80.4 | 0.340 |" in text
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text("utf-8"))
    assert [row["encoder_title"] for row in document["results"]] == [
        "Colour histogram",
        "Texture (built in)",
    ]
    for row in document["results"]:
        assert row["linear"]["value"] > 0.7
        assert f"| {row['encoder_title']} | {100 * row['linear']['value']:.1f} [" in text
    with Image.open(tmp_path / "out" / "evaluation.png") as picture:
        assert picture.size[0] > 500


def test_a_task_without_data_ends_with_code_2_and_says_where_to_get_it(capsys):
    assert main(["evaluate", "mhist"]) == 2

    said = capsys.readouterr().err
    assert "https://bmirds.github.io/MHIST" in said
    assert "research use" in said


def test_the_tasks_can_be_listed(capsys):
    assert main(["evaluate", "--list"]) == 0
    assert "zenodo.org/records/1214456" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["/nowhere/at/all"], ["sample", "--draws", "0"]])
def test_what_cannot_be_evaluated_ends_with_code_2(words, capsys):
    assert main(["evaluate", *words]) == 2
    assert capsys.readouterr().err.startswith("napari-virchow: ")


def test_real_tiles_are_read_and_texture_beats_the_histogram_on_them(data_dir, tmp_path):
    from napari_virchow.encoders import load_encoder

    folder = data_dir / "tiles" / "kather2016_100"
    (tiles,) = read_sets(folder, pattern=r"label_(?P<class>\d+)")
    protocol = Protocol(shots=(5,), robust_tiles=0)
    encoders = [histogram_encoder(), load_encoder("texture")]
    histogram, texture = evaluate([tiles], encoders, tmp_path, protocol=protocol)

    assert len(tiles.classes) == 8
    assert texture.few[5].value > histogram.few[5].value > 0.2
