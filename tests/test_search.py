"""Similarity search: what is found, against a plain loop over all tiles."""

from __future__ import annotations

import numpy as np
import pytest

from fakes import FakeSlide
from napari_virchow.search.axes import N_AXES
from napari_virchow.search.bank import Bank, list_kinds
from napari_virchow.search.facts import Example, Hits, HitSlide, Kind, Options, Query
from napari_virchow.search.history import QueryHistory
from napari_virchow.search.lookup import search_bank, tiles_of_region
from napari_virchow.search.scoring import apart, best, direction, varied
from napari_virchow.shelf import delete_stored, list_stored
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Rect, Tile
from search_stores import ENCODER, by_hand, cosine, fill, grid_of

KIND = Kind(ENCODER, "224px-0.5mpp", 0.5)


def describe(slide):
    return f"{slide}.svs", f"/slides/{slide}.svs"


def example(slide, row, col, **more):
    return Example(slide, Tile(row, col), f"{slide}.svs", 0.5, **more)


def ask(bank, *positives, against=(), slides=None, focus="", **options):
    bank.read_all()
    query = Query(positives, tuple(against), Options(**{"exclude_within": 0, **options}))
    return search_bank(bank, query, slides, focus, describe)


def listed(hits):
    return [(hit.slide, hit.tile) for hit in hits]


@pytest.fixture
def made(tmp_path):
    return {name: fill(tmp_path, name, seed=n) for n, name in enumerate(("a", "b", "c"))}


@pytest.fixture
def bank(tmp_path, made):
    return Bank(tmp_path, KIND)


def test_one_positive_gives_exactly_the_cosine_similarity(bank, made):
    found = ask(bank, example("a", 3, 4), k=20)
    seed = made["a"][Tile(3, 4)]
    wanted = by_hand(made, lambda v: cosine(v, seed), without={("a", Tile(3, 4))})[:20]
    assert listed(found.hits) == [one[:2] for one in wanted]
    np.testing.assert_allclose(found.hits.scores, [one[2] for one in wanted], atol=1e-6)
    assert (found.n_tiles, found.n_slides) == (297, 3)


def test_positives_and_negatives_follow_rocchio_s_formula(bank, made):
    near = [example("a", 0, 0), example("b", 5, 5)]
    far = [example("c", 2, 2)]
    found = ask(bank, *near, against=far, negative_weight=0.5, k=20)
    unit = lambda v: v.astype(np.float64) / np.linalg.norm(v.astype(np.float64))  # noqa: E731
    q = (unit(made["a"][Tile(0, 0)]) + unit(made["b"][Tile(5, 5)])) / 2
    q = q - 0.5 * unit(made["c"][Tile(2, 2)])
    without = {("a", Tile(0, 0)), ("b", Tile(5, 5)), ("c", Tile(2, 2))}
    wanted = by_hand(made, lambda v: cosine(v, q), without=without)[:20]
    assert listed(found.hits) == [one[:2] for one in wanted]
    np.testing.assert_allclose(found.hits.scores, [one[2] for one in wanted], atol=1e-6)


@pytest.mark.parametrize("half", [False, True])
def test_centred_search_subtracts_the_mean_of_all_embeddings(tmp_path, half):
    encoder = "fake-0-class+mean"
    made = {n: fill(tmp_path, n, seed=i, encoder=encoder) for i, n in enumerate("ab")}
    bank = Bank(tmp_path, Kind(encoder, "224px-0.5mpp", 0.5))
    found = ask(bank, example("a", 3, 4), center=True, class_token_only=half, k=20)
    columns = slice(0, 6 if half else 12)
    every = np.array([v for tiles in made.values() for v in tiles.values()], np.float64)
    mean = every.mean(axis=0)[columns]
    seed = made["a"][Tile(3, 4)][columns] - mean
    wanted = by_hand(made, lambda v: cosine(v[columns] - mean, seed), without={("a", (3, 4))})
    np.testing.assert_allclose(found.hits.scores, [w[2] for w in wanted[:20]], atol=1e-4)
    assert listed(found.hits)[:9] == [one[:2] for one in wanted[:9]]


def test_whitened_search_ignores_how_much_a_direction_varies(tmp_path):
    rng = np.random.default_rng(3)
    made = fill(tmp_path, "a", shape=(20, 20))
    # Two groups that differ a little in all numbers, while number 0 varies wildly.
    loud = rng.normal(0, 300, len(made))
    with EmbeddingStore.open(
        tmp_path, slide="a", encoder=ENCODER, grid=grid_of(20, 20), dim=12, writable=True
    ) as store:
        rows = np.stack(list(made.values())).astype(np.float32) * 0.1
        rows[:, 0] = loud
        rows[:, 1:] += np.where(np.arange(len(rows)) < 200, 5, -5)[:, None]
        store.append(list(made), rows)
    bank = Bank(tmp_path, KIND)
    plain = ask(bank, example("a", 3, 4), k=150)
    white = ask(bank, example("a", 3, 4), whiten=True, k=150)
    assert np.mean(plain.hits.tiles[:, 0] < 10) < 0.7
    assert np.mean(white.hits.tiles[:, 0] < 10) > 0.9


def test_class_tokens_alone_need_embeddings_that_have_them(tmp_path):
    fill(tmp_path, "a", encoder="fake-0-descriptor")
    bank = Bank(tmp_path, Kind("fake-0-descriptor", "224px-0.5mpp", 0.5))
    with pytest.raises(ValueError, match="no class token"):
        ask(bank, example("a", 3, 4), class_token_only=True)


def test_the_query_s_surroundings_are_no_hits(bank):
    for within in (0, 1, 2):
        found = ask(bank, example("a", 3, 4), exclude_within=within, k=297)
        assert len(found.hits) == 297 - (2 * within + 1) ** 2
        mine = found.hits.tiles[found.hits.on("a")]
        assert (np.abs(mine - (3, 4)).max(axis=1) > within).all()


def test_a_negative_example_is_no_hit_but_its_neighbours_are(bank):
    hits = ask(bank, example("a", 3, 4), against=[example("a", 8, 8)], k=297).hits
    assert ("a", Tile(8, 8)) not in listed(hits)
    assert ("a", Tile(8, 7)) in listed(hits)


def test_neighbouring_hits_become_one(bank):
    alone = ask(bank, example("a", 3, 4), group_neighbours=True, k=40).hits
    every = ask(bank, example("a", 3, 4), k=297).hits
    kept = []
    for hit in every:
        touches = (
            other.slide == hit.slide and max(abs(np.subtract(other.tile, hit.tile))) <= 1
            for other in kept
        )
        if not any(touches):
            kept.append(hit)
    assert listed(alone) == listed(kept)[:40]


def test_the_scope_limits_where_hits_are(bank):
    assert {hit.slide for hit in ask(bank, example("a", 3, 4), slides=("b", "c")).hits} == {
        "b",
        "c",
    }
    assert {hit.slide for hit in ask(bank, example("a", 3, 4), slides=("b",)).hits} == {"b"}


def test_the_map_of_the_slide_in_focus_has_every_tile(bank, made):
    heat = ask(bank, example("b", 1, 1), focus="a").heat
    seed = made["b"][Tile(1, 1)]
    wanted = np.array([[cosine(made["a"][Tile(r, c)], seed) for c in range(11)] for r in range(9)])
    np.testing.assert_allclose(heat.raster(), wanted, atol=2e-3)
    assert heat.above(0.2) == int((heat.scores >= 0.2).sum())


def test_a_vector_from_elsewhere_can_be_searched_for(bank, made):
    vector = made["b"][Tile(7, 7)].astype(np.float32)
    picture = Example("", Tile(0, 0), "picture.png", vector=vector, encoder=ENCODER)
    hits = ask(bank, picture, k=3).hits
    assert (hits[0].slide, hits[0].tile) == ("b", Tile(7, 7))
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    assert hits[0].rect == Rect(7 * 224, 7 * 224, 224, 224)
    assert (hits[0].slide_name, hits[0].slide_path) == ("b.svs", "/slides/b.svs")
    other = Example("", Tile(0, 0), "picture.png", vector=vector, encoder="other-1-class")
    with pytest.raises(ValueError, match="No example is embedded"):
        ask(bank, other)


def test_tiles_embedded_later_are_found(tmp_path, bank, made):
    ask(bank, example("a", 3, 4))
    made["d"] = fill(tmp_path, "d", seed=9, tiles=[Tile(0, 0), Tile(8, 10)])
    assert ask(bank, example("a", 3, 4)).n_tiles == 299
    fill(tmp_path, "d", seed=9)
    found = ask(bank, example("a", 3, 4), slides=("d",), k=200)
    assert (found.n_tiles, len(found.hits)) == (99, 99)


def test_a_deleted_store_is_never_found_again(tmp_path, bank):
    assert "b" in {hit.slide for hit in ask(bank, example("a", 3, 4), k=297).hits}
    delete_stored(list_stored(tmp_path, "b")[0])
    query = Query((example("a", 3, 4),), (), Options(exclude_within=0, k=297))
    hits = search_bank(bank, query, None, "a", describe).hits  # before anything is read again
    assert {hit.slide for hit in hits} == {"a", "c"}
    assert ask(bank, example("a", 3, 4), k=297).n_slides == 2


def test_only_tiles_that_are_there_now_are_found_after_embedding_anew(tmp_path, bank, made):
    ask(bank, example("a", 3, 4))
    delete_stored(list_stored(tmp_path, "b")[0])
    fill(tmp_path, "b", seed=1, tiles=[Tile(2, 2)])
    query = Query((example("a", 3, 4),), (), Options(exclude_within=0, k=297))
    hits = search_bank(bank, query, ("b",), "a", describe).hits
    assert listed(hits) == [("b", Tile(2, 2))]


def test_other_encoders_and_tile_sizes_are_not_compared_but_listed(tmp_path, bank):
    fill(tmp_path, "a", encoder="other-1-class", seed=5)
    assert ask(bank, example("a", 3, 4)).n_tiles == 297
    kinds = list_kinds(tmp_path)
    assert kinds == [KIND, Kind("other-1-class", "224px-0.5mpp", 0.5)]
    assert [kind.n_slides for kind in kinds] == [3, 1]
    assert list_kinds(tmp_path, ("b",)) == [KIND]
    assert (kinds[1].name, kinds[1].pooling) == ("other", "class")


def test_examples_of_another_magnification_are_found_by_their_middle(tmp_path, bank):
    # A tile at 1 µm/px covers four at 0.5; its middle is the corner of the last of them.
    found = ask(bank, Example("a", Tile(1, 2), "a.svs", 1.0), k=297)
    assert ("a", Tile(3, 5)) not in listed(found.hits)


def test_a_region_is_the_tiles_whose_middle_it_covers():
    slide = FakeSlide(tiles=(5, 7))
    assert tiles_of_region(slide, 0.5, Rect(100, 100, 300, 300)) == [
        Tile(0, 0),
        Tile(0, 1),
        Tile(1, 0),
        Tile(1, 1),
    ]
    assert tiles_of_region(slide, 0.5, Rect(230, 230, 9, 9)) == [Tile(1, 1)]
    assert tiles_of_region(slide, 0.5, Rect(-500, 0, 9, 9)) == []


def test_examples_that_cancel_out_are_refused():
    with pytest.raises(ValueError, match="cancel each other out"):
        direction(np.eye(3, dtype=np.float32)[:1], np.eye(3, dtype=np.float32)[:1], 1.0)
    with pytest.raises(ValueError, match="needs a positive"):
        direction(np.empty((0, 3), np.float32), np.eye(3, dtype=np.float32), 1.0)


def test_the_best_rows_come_in_order_and_excluded_ones_never():
    scores = np.array([0.1, -np.inf, 0.7, 0.7, 0.3])
    assert best(scores, 3).tolist() == [2, 3, 4]
    assert best(scores, 9).tolist() == [2, 3, 4, 0]
    assert best(scores[:0], 3).tolist() == []


def test_of_tiles_that_touch_the_best_stays():
    of = np.array([0, 0, 1, 0, 0])
    tiles = np.array([(5, 5), (6, 6), (5, 5), (5, 7), (5, 8)], np.int32)
    assert apart(of, tiles).tolist() == [True, False, True, True, False]


def test_variety_puts_the_unlike_before_the_alike():
    features = np.array([[1, 0], [1, 0], [0.8, 0.6]], np.float32)
    assert varied(features, np.array([0.9, 0.89, 0.8, 0.1], np.float32)).tolist() == [0, 2, 1, 3]


def test_hits_are_sorted_counted_and_put_in_bins():
    slides = tuple(HitSlide(n, n, n, grid_of(9, 9)) for n in ("one", "two"))
    of = np.array([1, 0, 1, 0], np.int32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    hits = Hits(slides, of, np.zeros((4, 2), np.int32), scores, np.array([0, 3, 1, 2]))
    assert hits.order("score").tolist() == [0, 1, 2, 3]
    assert hits.order("slide").tolist() == [0, 2, 1, 3]
    assert hits.order("diversity").tolist() == [0, 3, 1, 2]
    assert (hits.above(0.7), hits.above(2)) == (3, 0)
    assert hits.histogram(3)[0].tolist() == [1, 1, 2]
    assert hits.on("two").tolist() == [0, 2]
    with pytest.raises(ValueError, match="'size'"):
        hits.order("size")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"k": 0}, "hits can be asked"),
        ({"k": 10001}, "10,000"),
        ({"scope": "all"}, "'all'"),
        ({"exclude_within": -1}, "-1"),
        ({"negative_weight": -1}, "-1"),
    ],
)
def test_options_out_of_range_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        Options(**wrong)


def test_every_step_of_a_query_can_be_undone_and_redone():
    history = QueryHistory()
    one, two = example("a", 1, 1), example("a", 2, 2)
    assert history.add([one], positive=True)
    assert not history.add([one], positive=True)
    assert history.add([two], positive=False)
    assert history.add([two], positive=True)  # changes sides
    assert history.query == Query((one, two))
    assert history.undo()
    assert history.query == Query((one,), (two,))
    assert history.undo()
    assert history.redo()
    assert history.remove([two, one])
    assert history.query == Query()
    assert not history.redo()
    assert history.set_options(Options(k=5))
    assert history.can_undo
    assert not history.can_redo


def test_a_store_too_large_for_memory_is_searched_by_leading_directions_and_exactly_ranked(
    tmp_path,
):
    made = {n: fill(tmp_path, n, shape=(20, 20), dim=300, seed=i) for i, n in enumerate("ab")}
    bank = Bank(tmp_path, KIND, most_bytes=1000)
    found = ask(bank, example("a", 3, 4), k=20)
    assert bank.axes.directions.shape == (300, N_AXES)
    seed = made["a"][Tile(3, 4)]
    wanted = by_hand(made, lambda v: cosine(v, seed), without={("a", Tile(3, 4))})[:20]
    assert listed(found.hits) == [one[:2] for one in wanted]
    np.testing.assert_allclose(found.hits.scores, [one[2] for one in wanted], atol=1e-6)
    assert bank.nbytes < 800 * (N_AXES * 2 + 40)
    for options in ({"center": True}, {"whiten": True}):
        hits = ask(bank, example("a", 3, 4), k=20, **options).hits
        exact = ask(Bank(tmp_path, KIND), example("a", 3, 4), k=20, **options).hits
        assert len(set(listed(hits)) & set(listed(exact))) >= 15


def test_a_large_store_may_grow_and_shrink(tmp_path, made):
    bank = Bank(tmp_path, KIND, most_bytes=1000)
    ask(bank, example("a", 3, 4))
    first = bank.axes
    for n in range(5):
        made[f"more{n}"] = fill(tmp_path, f"more{n}", seed=10 + n)
    found = ask(bank, example("a", 3, 4), k=30)
    assert bank.axes is not first  # twice as much: other directions may lead now
    assert found.n_tiles == 99 * 8
    delete_stored(list_stored(tmp_path, "more1")[0])
    query = Query((example("a", 3, 4),), (), Options(exclude_within=0, k=9999))
    hits = search_bank(bank, query, None, "a", describe).hits
    assert "more1" not in {hit.slide for hit in hits}
    assert len(hits) == 99 * 7 - 1
