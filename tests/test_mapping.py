"""Maps of embeddings: what is stored in, places, clusters and labels out."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from tests.fakes import FakeEncoder, FakeSlide

from napari_virchow.mapping import MappingError, Scope, job
from napari_virchow.mapping.gather import gather, sources_of
from napari_virchow.session import Session
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Tile

MPP = 0.5
DIM = 40


def fill(root, slide, groups, *, dim=DIM, encoder="fake-0-class", seed=0):
    """Store embeddings of the first tiles of a slide: `groups` tiles around each of some points."""
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(99).normal(size=(len(groups), dim)) * 3
    rows = np.concatenate(
        [m + rng.normal(size=(n, dim)) for m, n in zip(middles, groups, strict=True)]
    )
    grid = slide.grid(MPP)
    tiles = [Tile(*divmod(n, grid.shape[1])) for n in range(len(rows))]
    with EmbeddingStore.open(
        root, slide=slide.identity, encoder=encoder, grid=grid, dim=dim, writable=True
    ) as store:
        store.append(tiles, rows)
    return tiles, np.repeat(np.arange(len(groups)), groups)


@pytest.fixture
def session(tmp_path):
    with Session(tmp_path, device="cpu") as made:
        made.use_encoder(FakeEncoder(dim=DIM))
        yield made


def heard(signal):
    told = []
    signal.connect(told.append)
    return told


def mapped_of(session, scope=None):
    mapping = session.mapping
    mapping.look_at(scope or Scope(MPP))
    assert mapping.wait(60)
    return mapping.mapped


def test_every_stored_tile_is_on_the_map_once_and_alike_ones_lie_together(session):
    slide = FakeSlide()
    tiles, group = fill(session.store, slide, (31, 45, 27))
    mapped = mapped_of(session)
    assert sorted(map(tuple, mapped.tiles.tolist())) == sorted(map(tuple, tiles))
    assert (len(mapped), mapped.n_total) == (103, 103)
    of = {tile: g for tile, g in zip(tiles, group, strict=True)}
    found = np.array([of[mapped.tile(n)[1]] for n in range(len(mapped))])
    middles = np.stack([mapped.xy[found == g].mean(axis=0) for g in range(3)])
    nearest = ((mapped.xy[:, None] - middles) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == found).mean() > 0.95
    assert np.allclose(np.linalg.norm(mapped.features, axis=1), 1, atol=1e-5)
    # In random order: the first rows come from all over the slide.
    assert len({of[mapped.tile(n)[1]] for n in range(15)}) == 3


def test_the_scope_is_one_slide_chosen_ones_or_all(session):
    one, two, three = FakeSlide("one"), FakeSlide("two"), FakeSlide("three")
    for n, slide in enumerate((one, two, three)):
        fill(session.store, slide, (17 + n, 5), seed=n)
    fill(session.store, one, (9, 9), encoder="other-0-class")
    assert len(mapped_of(session)) == 22 + 23 + 24
    assert len(mapped_of(session, Scope(MPP, ("slide-two",)))) == 23
    chosen = mapped_of(session, Scope(MPP, ("slide-one", "slide-three", "slide-gone")))
    assert len(chosen) == 22 + 24
    assert {s.identity for s in chosen.slides} == {"slide-one", "slide-three"}
    assert len(chosen.rows_on("slide-one")) == 22
    assert chosen.number("slide-two") == -1


def test_too_many_tiles_become_a_sample_of_every_slide(session):
    for n, name in enumerate(("one", "two")):
        fill(session.store, FakeSlide(name), (90 * (n + 1), 90), seed=n)
    sources = sources_of(session.store, Scope(MPP), "fake-0-class")
    steps = []
    found = gather(sources, max_tiles=99, on_progress=lambda *step: steps.append(step))
    assert found.n_total == 450
    assert len(found.slide) == 99
    assert np.bincount(found.slide).tolist() == [59, 40] or np.bincount(found.slide).tolist() == [
        40,
        59,
    ]
    assert {total for _, total in steps} == {450}


def test_without_embeddings_the_map_says_what_to_do(session):
    said = heard(session.mapping.emptied)
    assert mapped_of(session) is None
    assert "Nothing is embedded by fake at 0.5 µm per pixel yet" in said[-1]
    fill(session.store, FakeSlide(), (7, 8))
    assert mapped_of(session) is None
    assert said[-1] == "Only 15 tiles are embedded: a map needs 16 or more of them."
    session.use_encoder(None)
    assert session.mapping.wait(20)
    assert said[-1] == "Choose an encoder to map what it has embedded."
    with pytest.raises(ValueError, match="There is no map yet"):
        session.mapping.find_clusters("k-means")


def test_the_map_follows_what_is_embedded_and_never_throws_clusters_away(tmp_path):
    with Session(tmp_path, device="cpu") as session:
        one, two = FakeSlide("one", tiles=(5, 7)), FakeSlide("two", tiles=(3, 7))
        for slide in (one, two):
            slide.brightfield = False  # all of it is tissue
            session.add_slide(slide)
        session.use_encoder(FakeEncoder(dim=5))
        assert mapped_of(session) is None
        maps = heard(session.mapping.mapped_anew)
        session.embed_slide(one, mpp=MPP)
        assert session.wait(60)
        assert session.mapping.wait(60)
        assert len(maps[-1]) == 35
        session.mapping.find_clusters("k-means", n_clusters=3)
        assert session.mapping.wait(60)
        old = heard(session.mapping.outdated)
        session.embed_slide(two, mpp=MPP)
        assert session.wait(60)
        assert old == [21]
        assert session.mapping.clusters is not None
        session.mapping.refresh()
        assert session.mapping.wait(60)
        assert len(maps[-1]) == 56
        assert session.mapping.clusters is None
        assert [m.generation for m in maps] == sorted(m.generation for m in maps)


def test_k_means_finds_groups_numbered_by_size(session):
    tiles, group = fill(session.store, FakeSlide(), (31, 55, 43))
    mapped = mapped_of(session)
    session.mapping.find_clusters("k-means", n_clusters=3)
    assert session.mapping.wait(60)
    found = session.mapping.clusters
    assert (found.n_clusters, found.method) == (3, "k-means")
    assert np.bincount(found.cluster).tolist() == [0, 55, 43, 31]
    raster = mapped.raster("slide-one", found.cluster)
    assert raster.shape == (20, 30)
    assert np.count_nonzero(raster > 0) == 129
    assert (
        raster[tiles[-1]] == found.cluster[[mapped.tile(n)[1] for n in range(129)].index(tiles[-1])]
    )
    assert len(np.unique(raster.ravel()[:31])) == 1


def test_hdbscan_finds_how_many_groups_there_are(session):
    fill(session.store, FakeSlide(), (61, 85, 73))
    mapped_of(session)
    session.mapping.find_clusters("HDBSCAN", min_size=21)
    assert session.mapping.wait(60)
    found = session.mapping.clusters
    assert found.n_clusters == 3
    assert (found.cluster > 0).mean() > 0.5


def test_an_accepted_cluster_becomes_a_class_in_one_step_of_undo(session, tmp_path):
    slide = FakeSlide()
    fill(session.store, slide, (31, 55, 43))
    mapped_of(session)
    mapping, labels = session.mapping, session.labels
    mapping.find_clusters("k-means", n_clusters=3)
    assert mapping.wait(60)
    proposals = mapping.proposals()
    assert [(p.name, p.n_tiles) for p in proposals] == [
        ("Cluster 1", 55),
        ("Cluster 2", 43),
        ("Cluster 3", 31),
    ]
    first = proposals[0]
    members = set(np.flatnonzero(mapping.clusters.cluster == 1).tolist())
    assert set(first.representatives) <= members
    assert 1 < len(first.representatives) <= 6
    grid = slide.grid(MPP).name
    n = mapping.accept(first, name="Tumour", which="representatives")
    assert n == len(first.representatives) == len(labels.get("slide-one", grid))
    assert mapping.accept(first, name="tumour", which="all") == 55 - n  # joins the class
    assert [c.name for c in labels.classes] == ["Tumour"]
    assert labels.undo_text == f"label {55 - n} tiles of a cluster as tumour"
    mapping.accept(proposals[1], name="Stroma", which="all")
    assert len(labels.get("slide-one", grid)) == 98
    labels.undo()
    assert (len(labels.get("slide-one", grid)), len(labels.classes)) == (55, 1)
    # What a person said stays.
    tile = mapping.mapped.tile(int(np.flatnonzero(mapping.clusters.cluster == 3)[0]))[1]
    labels.label("slide-one", grid, [tile], labels.classes[0].id)
    assert mapping.accept(proposals[2], name="Fat", which="all") == 30
    with pytest.raises(ValueError, match="class"):
        mapping.accept(proposals[2], name=" ", which="all")


def test_a_stopped_task_ends_its_process_and_leaves_what_was_there(session):
    fill(session.store, FakeSlide(), (131, 145, 127))
    mapped_of(session)
    mapping = session.mapping
    began, ended = threading.Event(), heard(mapping.ended)
    mapping.progressed.connect(lambda _: began.set())
    mapping.find_clusters("k-means")
    assert began.wait(60)
    process = mapping._jobs["clusters"]._process
    mapping.stop("clusters")
    assert mapping.wait(60)
    assert process.returncode not in (None, 0)
    assert ended == ["clusters"]
    assert mapping.clusters is None
    mapping.find_clusters("k-means", n_clusters=2)
    mapping.find_clusters("k-means", n_clusters=5)  # the latest wins
    assert mapping.wait(60)
    assert mapping.clusters.n_clusters == 5


def test_closing_the_session_ends_what_runs(session):
    fill(session.store, FakeSlide(), (131, 145))
    mapped_of(session)
    began = threading.Event()
    session.mapping.progressed.connect(lambda _: began.set())
    session.mapping.find_clusters("k-means")
    assert began.wait(60)
    process = session.mapping._jobs["clusters"]._process
    session.close()
    assert process.poll() is not None
    assert not [t for t in threading.enumerate() if t.name.startswith("virchow-map")]


def test_the_child_ends_with_the_process_that_started_it(tmp_path):
    np.save(tmp_path / "features.npy", np.zeros((3, 2), np.float32))
    (tmp_path / "task.json").write_text('{"task": "nothing of the kind"}')
    child = subprocess.run(
        [sys.executable, "-P", str(job._PROGRAM), str(tmp_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 1
    assert not (tmp_path / "out.npy").exists()


def test_a_task_that_fails_is_told_in_one_sentence():
    features = np.full((20, 3), np.nan, np.float32)
    with pytest.raises(MappingError, match=r"^k-means failed: .*NaN") as told:
        job.Job("k-means", {"n_clusters": 2}).run(features, features[:, :2], lambda *_: None)
    assert "\n" not in str(told.value)


def test_bad_numbers_and_a_missing_package_are_refused(session, monkeypatch):
    fill(session.store, FakeSlide(), (17, 17))
    mapped_of(session)
    with pytest.raises(ValueError, match="2 or more neighbours"):
        session.mapping.arrange(n_neighbors=1)
    with pytest.raises(ValueError, match="two or more"):
        session.mapping.find_clusters("k-means", n_clusters=1)

    def missing(name):
        raise job.PackageNotFoundError(name)

    monkeypatch.setattr(job, "distribution", missing)
    with pytest.raises(MappingError, match=r"pip install 'napari-virchow\[umap\]'"):
        session.mapping.arrange()


@pytest.mark.slow
def test_umap_arranges_a_sample_and_places_the_others(session, monkeypatch):
    monkeypatch.setattr("napari_virchow.mapping.MAX_UMAP", 201)
    tiles, group = fill(session.store, FakeSlide(), (71, 85, 63))
    mapped = mapped_of(session)
    steps, places = heard(session.mapping.progressed), heard(session.mapping.arranged)
    session.mapping.arrange(n_neighbors=11)
    assert session.mapping.wait(280)
    found = places[-1]
    assert (len(found.xy), found.n_fitted) == (219, 201)
    assert np.isfinite(found.xy).all()
    of = {tile: g for tile, g in zip(tiles, group, strict=True)}
    kinds = np.array([of[mapped.tile(n)[1]] for n in range(len(mapped))])
    middles = np.stack([found.xy[kinds == g].mean(axis=0) for g in range(3)])
    nearest = ((found.xy[:, None] - middles) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == kinds).mean() > 0.95
    counted = [(s.done, s.total) for s in steps if s.text == "Arranging"]
    assert counted[-1][0] > 0
    assert [done for done, _ in counted] == sorted(done for done, _ in counted)
