"""The built-in encoder: shape, invariance, odd tiles, and that it sees more than colour."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_virchow.encoders import texture
from napari_virchow.histology import CLASSES, COARSE, paint


@pytest.fixture(scope="module")
def section():
    return paint(1344, 896, seed=3)


@pytest.fixture(scope="module")
def tiles(section):
    return section.rgb.reshape(4, 224, 6, 224, 3).swapaxes(1, 2).reshape(24, 224, 224, 3)


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(a)


def test_each_tile_gets_dim_finite_numbers(tiles):
    embeddings = texture.describe(tiles)
    assert embeddings.shape == (24, texture.DIM)
    assert embeddings.dtype == np.float32
    assert np.isfinite(embeddings).all()


def test_no_tiles_give_no_embeddings():
    assert texture.describe(np.zeros((0, 224, 224, 3), np.uint8)).shape == (0, texture.DIM)


def test_a_tile_does_not_depend_on_its_neighbours_in_the_batch(tiles):
    assert np.array_equal(texture.describe(tiles)[7], texture.describe(tiles[7:8])[0])


@pytest.mark.parametrize(
    "turn",
    [np.rot90, lambda t: np.rot90(t, 2), np.flipud, np.fliplr, lambda t: t.swapaxes(0, 1)],
    ids=["quarter turn", "half turn", "upside down", "mirrored", "transposed"],
)
def test_turning_or_mirroring_changes_next_to_nothing(tiles, turn):
    straight = texture.describe(tiles[8:14])
    turned = texture.describe(np.stack([turn(tile) for tile in tiles[8:14]]))
    for a, b in zip(straight, turned, strict=True):
        assert relative(a, b) < 1e-3


def test_a_slanted_turn_changes_little(section):
    wide = Image.fromarray(section.rgb[280:616, 432:768])
    turned = [wide.rotate(angle, resample=Image.Resampling.BICUBIC) for angle in (0, 30, 45)]
    straight, *slanted = texture.describe(np.stack([np.asarray(t)[56:280, 56:280] for t in turned]))
    for other in slanted:  # the corners are not the same tissue
        cosine = straight @ other / np.linalg.norm(straight) / np.linalg.norm(other)
        assert cosine > 0.9


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 120, 160), (255, 0, 0)])
def test_an_even_tile_gives_finite_moderate_numbers(colour):
    tile = np.full((1, 224, 224, 3), colour, np.uint8)
    embedding = texture.describe(tile)
    assert np.isfinite(embedding).all()
    assert np.abs(embedding).max() <= 4.0
    assert np.isfinite(embedding.astype(np.float16)).all()


def test_noise_gives_finite_numbers():
    noise = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    assert np.isfinite(texture.describe(noise)).all()


def test_embeddings_are_centred_so_that_unlike_tissues_point_apart(section, tiles):
    side = 224 // COARSE
    regions = section.regions.reshape(4, side, 6, side).swapaxes(1, 2).reshape(24, -1)
    embeddings = texture.describe(tiles)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    dense = (regions == CLASSES.index("lymphocytes")).mean(1).argmax()
    empty = (regions == CLASSES.index("fat")).mean(1).argmax()
    assert unit[dense] @ unit[empty] < 0.2


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((224, 224, 3), np.uint8),
        np.zeros((1, 224, 224, 4), np.uint8),
        np.zeros((1, 224, 224, 3), np.float32),
        np.zeros((1, 100, 100, 3), np.uint8),
    ],
    ids=["one tile without batch", "four channels", "floats", "side not a multiple of 16"],
)
def test_what_is_no_batch_of_tiles_is_refused(bad):
    with pytest.raises(ValueError, match="tile"):
        texture.describe(bad)


def test_the_same_texture_in_another_place_is_the_same_class_of_pattern():
    table, count = texture._bracelets()
    assert count == 30  # bracelets of 8 beads in two colours
    assert table[0b00000111] == table[0b11100000] == table[0b10000011]
    assert table[0b00000111] != table[0b00010101]


def test_it_tells_real_tissue_better_than_a_colour_histogram_from_few_labels(data_dir):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    files = [
        file
        for folder in sorted((data_dir / "tiles" / "crc_polito").iterdir())
        for file in sorted(folder.glob("*.jpg"))[:60]
    ]
    y = np.unique([file.parent.name for file in files], return_inverse=True)[1]
    real = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    counts = [[np.bincount(t[..., c].ravel() >> 3, minlength=32) for c in range(3)] for t in real]
    train = np.concatenate([np.flatnonzero(y == c)[:20] for c in range(5)])
    test = np.setdiff1d(np.arange(len(y)), train)
    scores = []
    for x in (np.reshape(counts, (len(y), -1)), texture.describe(real)):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
        model.fit(x[train], y[train])
        scores.append(balanced_accuracy_score(y[test], model.predict(x[test])))
    assert scores[1] >= scores[0] + 0.05, scores
