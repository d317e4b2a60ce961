"""TRIDENT's and CLAM's files: read as their own readers do, written so that they can, verified."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.foreign_files import CORNERS, clam_pair, embed_slide, rows_for, trident_file, write_slide
from tests.slides import picture, write_svs

from napari_virchow.cli import main
from napari_virchow.cli.formats import recognise
from napari_virchow.encoders import EncoderUnavailable, load_encoder
from napari_virchow.interop import (
    InteropError,
    TileTable,
    check_embeddings,
    encoder_named,
    imported_encoder,
    imported_identity,
    place_tiles,
    store_embeddings,
)
from napari_virchow.interop.clam import read_clam, write_clam
from napari_virchow.interop.trident import read_trident, write_trident, write_trident_coords
from napari_virchow.labels import LabelSet
from napari_virchow.session import Session
from napari_virchow.slide import open_slide
from napari_virchow.tiles import Tile
from napari_virchow.training import stored_of, train


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    with open_slide(write_slide(tmp_path_factory.mktemp("interop"))) as slide:
        yield slide


@pytest.fixture(scope="module")
def texture():
    return load_encoder("texture")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def ours(slide, store, texture):
    return embed_slide(store, slide, texture)


# ---- TRIDENT


def test_tridents_reader_finds_all_it_looks_for_in_a_file_of_ours(ours, tmp_path):
    write_trident(tmp_path / "some.h5", ours)
    with h5py.File(tmp_path / "some.h5") as file:  # as TRIDENT's read_coords and its datasets do
        facts, corners = dict(file["coords"].attrs), file["coords"][:]
        features, said = file["features"][:], dict(file["features"].attrs)
        assert file["coords"].chunks == (1, 2) and file["coords"].maxshape == (None, 2)
        assert file["features"].chunks == (1, ours.dim)
        assert file["features"].maxshape == (None, ours.dim)
    assert facts == {
        "patch_size": 224,
        "patch_size_level0": 443,
        "level0_magnification": 20,  # what the file of the slide says
        "target_magnification": 10,
        "overlap": 0,
        "name": "some",
        "savetodir": str(tmp_path.resolve()),
        "level0_width": 2300,
        "level0_height": 1700,
    }
    assert said == {"name": "some", "savetodir": str(tmp_path.resolve()), "encoder": "texture"}
    assert corners.dtype == np.int64 and features.dtype == np.float32
    assert len(corners) == len(features) == 19
    assert corners[:2].tolist() == [[0, 0], [443, 0]] and corners[18].tolist() == [1330, 1330]
    np.testing.assert_array_equal(features, ours.embeddings.astype(np.float32))


def test_places_alone_are_written_for_another_encoder(ours, tmp_path):
    write_trident_coords(tmp_path / "some_patches.h5", ours)
    found = read_trident(tmp_path / "some_patches.h5")
    assert found.embeddings is None and len(found) == 19 and found.side == 443


def test_what_trident_wrote_is_read_to_the_letter(tmp_path):
    rows = rows_for(3)
    found = read_trident(trident_file(tmp_path / "a.h5", CORNERS, rows))
    assert (found.encoder, found.side, found.size) == ("uni_v1", 448, (2300, 1700))
    assert found.corners.tolist() == [list(map(float, at)) for at in CORNERS]
    np.testing.assert_array_equal(found.embeddings, rows)


def test_none_as_trident_spells_it_is_not_known(tmp_path):
    file = trident_file(
        tmp_path / "a.h5", CORNERS, rows_for(3), level0_width="None", encoder="None"
    )
    found = read_trident(file)
    assert found.size is None and found.encoder is None


def test_tiles_of_trident_are_tiles_of_a_grid_of_that_size(slide, tmp_path):
    table = read_trident(trident_file(tmp_path / "a.h5", CORNERS, rows_for(3)))
    placed = place_tiles(table, slide)
    assert placed.grid.step == pytest.approx((448, 448), rel=1e-9)
    assert placed.tile_list() == [Tile(0, 0), Tile(1, 2), Tile(2, 4)]
    assert placed.left_out == 0 and placed.exact.all()


def test_a_file_of_another_slide_is_refused_with_both_sizes(slide, tmp_path):
    table = read_trident(trident_file(tmp_path / "a.h5", CORNERS, rows_for(3), size=(999, 1700)))
    with pytest.raises(InteropError, match=r"999 × 1700.*2300 × 1700"):
        place_tiles(table, slide)


def test_tiles_beside_the_slide_are_refused(slide, tmp_path):
    far = [*CORNERS, (2688, 0)]
    table = read_trident(trident_file(tmp_path / "a.h5", far, rows_for(4), level0_width="None"))
    with pytest.raises(InteropError, match="1 of the 4 tiles"):
        place_tiles(table, slide)


def test_tiles_between_those_of_a_grid_are_moved_only_when_asked(slide, tmp_path):
    crooked = [(0, 0), (100, 30), (996, 448), (1792, 896)]
    table = read_trident(trident_file(tmp_path / "a.h5", crooked, rows_for(4)))
    with pytest.raises(InteropError, match="2 of the 4 tiles.*up to 100 pixels; say --snap"):
        place_tiles(table, slide)
    placed = place_tiles(table, slide, snap=True)
    assert placed.tile_list() == [Tile(0, 0), Tile(1, 2), Tile(2, 4)]
    assert placed.rows.tolist() == [0, 2, 3] and placed.left_out == 1  # the nearer one stays
    assert placed.shifts.tolist() == [0, 100, 0] and placed.exact.tolist() == [True, False, True]


# ---- CLAM


def test_clams_readers_find_all_they_look_for_in_a_pair_of_ours(ours, tmp_path):
    write_clam(tmp_path / "some.h5", tmp_path / "patches.h5", ours)
    with h5py.File(tmp_path / "patches.h5") as file:  # as Whole_Slide_Bag_FP does
        places, facts = file["coords"][:], dict(file["coords"].attrs)
        assert file["coords"].chunks == (1, 2)
    assert int(facts["patch_level"]) == 0 and int(facts["patch_size"]) == 443
    assert facts["downsample"].tolist() == [1, 1]
    assert facts["level_dim"].tolist() == facts["downsampled_level_dim"].tolist() == [2300, 1700]
    assert facts["name"] == "some" and facts["save_path"] == str(tmp_path.resolve())
    with h5py.File(tmp_path / "some.h5") as file:
        assert not file["features"].attrs and not file["coords"].attrs
        assert file["coords"].dtype == np.int32 and file["features"].dtype == np.float32
        np.testing.assert_array_equal(file["coords"][:], places)
        assert file["features"].shape == (19, ours.dim)


def test_embeddings_of_clam_alone_do_not_say_the_size_of_a_tile(slide, tmp_path):
    features, _ = clam_pair(tmp_path, CORNERS, rows_for(3))
    table = read_clam(features)
    assert table.side is None and table.encoder is None
    with pytest.raises(InteropError, match="f.h5 does not say how large.*--tile-size"):
        place_tiles(table, slide)
    assert place_tiles(table, slide, side=448).tile_list()[1] == Tile(1, 2)


@pytest.mark.parametrize(("level", "factor", "size"), [(0, 1, 448), (1, 4, 112)])
def test_clams_places_tell_the_size_at_level_0(level, factor, size, slide, tmp_path):
    rows = rows_for(3)
    features, places = clam_pair(
        tmp_path, CORNERS, rows, level=level, downsample=float(factor), size=size
    )
    table = read_clam(features, places)
    assert table.side == 448
    assert place_tiles(table, slide).tile_list() == [Tile(0, 0), Tile(1, 2), Tile(2, 4)]
    np.testing.assert_array_equal(table.embeddings, rows)


def test_a_pair_of_different_tiles_is_refused(tmp_path):
    features, _ = clam_pair(tmp_path, CORNERS, rows_for(3))
    (tmp_path / "other").mkdir()
    _, places = clam_pair(tmp_path / "other", CORNERS[::-1], rows_for(3))
    with pytest.raises(InteropError, match="different tiles"):
        read_clam(features, places)


def test_a_tensor_of_clam_needs_the_places(tmp_path):
    import torch

    rows = rows_for(3)
    _, places = clam_pair(tmp_path, CORNERS, rows)
    torch.save(torch.from_numpy(rows), tmp_path / "some.pt")
    assert recognise(tmp_path / "some.pt") == "clam"
    with pytest.raises(InteropError, match="--coords"):
        read_clam(tmp_path / "some.pt")
    found = read_clam(tmp_path / "some.pt", places)
    np.testing.assert_array_equal(found.embeddings, rows)
    assert found.side == 224


# ---- what both have in common


def test_ours_come_back_as_they_went(slide, ours, tmp_path):
    write_trident(tmp_path / "t.h5", ours)
    write_clam(tmp_path / "c.h5", tmp_path / "p.h5", ours)
    for table in (read_trident(tmp_path / "t.h5"), read_clam(tmp_path / "c.h5")):
        placed = place_tiles(table, slide)
        assert placed.grid == slide.grid(0.5)  # to the last digit, though 443.2 is no whole number
        np.testing.assert_array_equal(placed.tiles, ours.tiles)
        np.testing.assert_array_equal(table.embeddings, ours.embeddings.astype(np.float32))


def test_our_file_of_a_slide_whose_pixels_were_corrected_is_placed_by_its_pixels(ours, tmp_path):
    write_trident(tmp_path / "t.h5", ours)
    path = write_svs(tmp_path / "some.svs", picture(1700, 2300), mpp=0.5)
    with open_slide(path) as other:
        placed = place_tiles(read_trident(tmp_path / "t.h5"), other)
    assert placed.grid.step == pytest.approx((443, 443))


@pytest.mark.parametrize("spoil", ["cut", "no coords", "rows", "flat"])
def test_a_damaged_file_is_refused_by_name(spoil, tmp_path):
    path = trident_file(tmp_path / "a.h5", CORNERS, rows_for(3))
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:900])
    else:
        with h5py.File(path, "a") as file:
            facts = dict(file["coords"].attrs)
            name = "features" if spoil == "rows" else "coords"
            del file[name]
            if spoil == "rows":
                file["features"] = rows_for(2)
            elif spoil == "flat":
                file["coords"] = np.arange(3)
                file["coords"].attrs.update(facts)
    with pytest.raises(InteropError, match=r"a\.h5"):
        read_trident(path)


def test_numbers_that_are_not_finite_are_not_kept(slide, tmp_path):
    rows = rows_for(3)
    rows[1, 2] = np.nan
    table = read_trident(trident_file(tmp_path / "a.h5", CORNERS, rows))
    with pytest.raises(InteropError, match="1 of the embeddings"):
        store_embeddings(table, place_tiles(table, slide), tmp_path / "s", slide.identity)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("uni_v1", "uni"),
        ("UNI2", "uni2-h"),
        ("hoptimus0", "h-optimus-0"),
        ("H-optimus-1", "h-optimus-1"),
        ("virchow2", "virchow2"),
        ("kaiko-vitb8", "kaiko-b8"),
        ("texture-v1-0123456789ab-descriptor", "texture"),
        ("conch_v15", None),
    ],
)
def test_encoders_are_known_by_the_names_that_others_give_them(theirs, ours):
    found = encoder_named(theirs)
    assert (found.name if found else None) == ours


def test_the_identity_of_imports_is_fit_for_a_folder():
    assert imported_identity("bioptimus/H0 mini", 768, "clam") == (
        "imported-bioptimus_H0_mini-768d-clam"
    )
    with pytest.raises(InteropError, match="--encoder"):
        imported_identity("///", 3, "clam")


# ---- verification


def test_what_we_embedded_is_verified(slide, ours, texture, tmp_path):
    write_trident(tmp_path / "t.h5", ours)
    table = read_trident(tmp_path / "t.h5")
    check = check_embeddings(table, place_tiles(table, slide), slide, texture, n=7)
    assert check.agrees and check.n == 7 and check.lowest > 0.9999 and check.own == 1


def test_embeddings_of_other_tiles_are_a_mismatch(slide, ours, texture):
    turned = TileTable("trident", Path("t.h5"), ours.corners, 443.2, ours.embeddings[::-1].copy())
    check = check_embeddings(turned, place_tiles(turned, slide), slide, texture)
    assert not check.agrees and "t.h5" in check.problem and texture.identity in check.problem


def test_another_number_of_numbers_is_a_mismatch(slide, ours, texture):
    table = TileTable("clam", Path("t.h5"), ours.corners, 443.2, rows_for(len(ours)))
    check = check_embeddings(table, place_tiles(table, slide), slide, texture)
    assert not check.agrees and "6 numbers" in check.problem
    assert check.to_json()["cosine_median"] is None


# ---- kept apart, and used


def test_imports_are_kept_apart_and_train_a_classifier(slide, ours, tmp_path):
    write_trident(tmp_path / "t.h5", ours)
    table = read_trident(tmp_path / "t.h5")
    stored = store_embeddings(table, place_tiles(table, slide), tmp_path / "s", slide.identity)
    assert stored.encoder.startswith("imported-texture-") and stored.n_tiles == 19
    note = json.loads((stored.path / "imported.json").read_text())
    assert note["file"].endswith("t.h5") and note["check"] is None
    labels = LabelSet(None)
    for name, column in (("A", 0), ("B", 3)):
        one = labels.add_class(name)
        tiles = [Tile(row, column) for row in range(4)]
        labels.label(slide.identity, stored.grid, tiles, one.id)
    trained = train(labels.rows(), list(labels.classes), tmp_path / "s", stored.encoder)
    assert trained.classifier.card.encoder == stored.encoder and trained.n_missing == 0


def test_a_session_works_on_imports(slide, ours, tmp_path):
    write_trident(tmp_path / "t.h5", ours)
    table = read_trident(tmp_path / "t.h5")
    stored = store_embeddings(table, place_tiles(table, slide), tmp_path / "s", slide.identity)
    encoder = imported_encoder(stored, ours.dim)
    assert encoder.identity == stored.encoder and not encoder.embeds
    with Session(tmp_path / "s") as session, open_slide(slide.path) as opened:
        session.add_slide(opened)
        session.use_encoder(encoder)
        tiles, matrix = session.embeddings(opened, stored.mpp)
        assert len(tiles) == 19 and matrix.shape == (19, ours.dim)
    with pytest.raises(EncoderUnavailable, match="came from a file"):
        encoder.encode(np.zeros((1, 224, 224, 3), np.uint8))


def test_importing_again_replaces(slide, tmp_path):
    for corners in (CORNERS, CORNERS[:2]):
        table = read_trident(trident_file(tmp_path / "a.h5", corners, rows_for(len(corners))))
        stored = store_embeddings(table, place_tiles(table, slide), tmp_path / "s", slide.identity)
    assert stored.n_tiles == 2


# ---- the command line


@pytest.fixture
def run(capsys):
    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_trident_goes_out_and_comes_back_verified(run, slide, store, ours, tmp_path):
    out, places = tmp_path / "some.h5", tmp_path / "some_patches.h5"
    code, text, _ = run(
        *("export", slide.path, "--to", "trident", "--out", out, "--coords", places),
        *("--store", store, "--json"),
    )
    facts = json.loads(text)
    assert code == 0 and facts["tiles"] == 19 and facts["files"] == [str(out), str(places)]
    odd = out.rename(tmp_path / "some.bin")  # told by what is in it
    words = ("import", odd, "--slide", slide.path, "--store", tmp_path / "s")
    code, text, _ = run(*words, "--dry-run", "--json")
    facts = json.loads(text)
    assert code == 0 and facts["path"] is None and not list(tmp_path.glob("s/*/imported*"))
    assert facts["check"]["agrees"] and facts["check"]["cosine_lowest"] > 0.9999
    code, text, _ = run(*words)
    assert code == 0 and "verified with texture" in text
    assert stored_of(tmp_path / "s", slide.identity, facts["encoder"], facts["grid"]).tiles.size
    code, text, err = run(
        *("import", places, "--slide", slide.path, "--store", tmp_path / "s"),
    )
    assert code == 2 and "no embeddings" in err


def test_clam_goes_out_as_a_pair_and_asks_for_what_is_missing(run, slide, store, ours, tmp_path):
    code, text, _ = run(
        *("export", slide.path, "--to", "clam", "--out", tmp_path / "some.h5", "--store", store)
    )
    assert code == 0 and "some_patches.h5" in text
    (tmp_path / "theirs").mkdir()
    features, places = clam_pair(tmp_path / "theirs", CORNERS, rows_for(3), size=448)
    words = ("import", features, "--slide", slide.path, "--store", tmp_path / "s", "--json")
    code, _, err = run(*words)
    assert code == 2 and "--encoder" in err and err.count("\n") == 1
    code, _, err = run(*words, "--encoder", "resnet50")
    assert code == 2 and "--tile-size" in err
    code, text, _ = run(*words, "--encoder", "resnet50", "--coords", places)
    facts = json.loads(text)
    assert code == 0 and facts["encoder"] == "imported-resnet50-6d-clam"
    assert facts["check"] is None and "resnet50 is no encoder" in facts["not_checked"]


def test_a_mismatch_is_a_warning_that_names_it(run, slide, tmp_path):
    path = trident_file(tmp_path / "a.h5", CORNERS, rows_for(3), encoder="texture")
    code, text, _ = run("import", path, "--slide", slide.path, "--store", tmp_path / "s")
    assert code == 0 and "WARNING" in text and "a.h5" in text and "6 numbers" in text


def test_an_encoder_that_is_not_here_is_not_fetched(run, slide, tmp_path):
    path = trident_file(tmp_path / "a.h5", CORNERS, rows_for(3))
    code, text, _ = run("import", path, "--slide", slide.path, "--store", tmp_path / "s")
    assert code == 0 and "not verified: uni is not on this computer" in text


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x89HDF\r\n\x1a\n and no more"])
def test_what_is_of_no_format_is_refused_in_a_sentence(content, run, slide, tmp_path):
    (tmp_path / "odd.h5").write_bytes(content)
    code, _, err = run("import", tmp_path / "odd.h5", "--slide", slide.path)
    assert code == 2 and "odd.h5" in err and err.count("\n") == 1
