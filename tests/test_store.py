from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_virchow.blocks import block_name, read_block
from napari_virchow.layout import unwritable
from napari_virchow.shelf import delete_stored, list_stored
from napari_virchow.store import EmbeddingStore, StoreBusy, StoreError
from napari_virchow.tiles import Tile, TileGrid

GRID = TileGrid(width=224 * 11, height=224 * 18, slide_mpp=(0.5, 0.5))  # 18 rows x 11 columns
DIM = 3
KEY = {"slide": "s1", "encoder": "texture-v1-abc-descriptor"}


def open_store(root, *, writable=True, grid=GRID, dim=DIM, **changes):
    return EmbeddingStore.open(root, **{**KEY, **changes}, grid=grid, dim=dim, writable=writable)


def embedding_of(tile, dim=DIM):
    """What each tile gets in these tests, told from its place."""
    return np.array([tile[0] + 1, tile[1] + 1] + [tile[0] * 100 + tile[1]] * (dim - 2), np.float32)


def fill(store, tiles):
    store.append(tiles, np.stack([embedding_of(tile, store.dim) for tile in tiles]))


def assert_holds(store, tiles):
    found, embeddings = store.lookup(tiles)
    assert found.all()
    np.testing.assert_array_equal(
        embeddings, np.stack([embedding_of(tile, store.dim) for tile in tiles]).astype(np.float16)
    )


ALL = [Tile(r, c) for r in range(18) for c in range(11)]


def test_what_was_appended_is_found_by_a_reader_and_after_reopening(tmp_path):
    tiles = [Tile(17, 10), Tile(0, 0), Tile(8, 7), Tile(7, 8)]
    with open_store(tmp_path) as store:
        fill(store, tiles)
        with open_store(tmp_path, writable=False) as reader:
            assert_holds(reader, tiles)
    with open_store(tmp_path) as store:
        assert_holds(store, tiles)
        assert {tuple(t) for t in np.argwhere(store.done).tolist()} == set(tiles)
        assert store.n_tiles == 4


def test_tiles_without_embeddings_are_not_found(tmp_path):
    with open_store(tmp_path) as store:
        fill(store, [Tile(1, 1)])
        found, embeddings = store.lookup([Tile(1, 2), Tile(1, 1), Tile(17, 10)])
    assert found.tolist() == [False, True, False]
    assert np.isnan(embeddings[[0, 2]]).all()


def test_the_matrix_holds_every_tile_once(tmp_path):
    some = [tile for tile in ALL if (tile.row * 7 + tile.col) % 3 or tile.row < 8]
    with open_store(tmp_path) as store:
        for start in range(0, len(some), 13):
            fill(store, some[start : start + 13])
        tiles, matrix = store.matrix()
    assert tiles.dtype == np.int32
    assert sorted(map(tuple, tiles.tolist())) == sorted(some)
    expected = np.stack([embedding_of(t) for t in tiles]).astype(np.float16)
    np.testing.assert_array_equal(matrix, expected)


def test_an_empty_store_gives_an_empty_matrix(tmp_path):
    with open_store(tmp_path) as store:
        tiles, matrix = store.matrix()
        assert store.lookup([])[1].shape == (0, DIM)
    assert tiles.shape == (0, 2)
    assert matrix.shape == (0, DIM)


def test_it_is_plain_zarr(tmp_path):
    with open_store(tmp_path) as store:
        fill(store, ALL[:150])
        array = zarr.open_array(store.path, mode="r")
        read = array[:]
        facts = array.attrs["napari_virchow"]
    assert read.dtype == np.float16
    assert read.shape == (18, 11, DIM)
    expected = np.full((198, DIM), np.nan, np.float16)
    expected[:150] = np.stack([embedding_of(t) for t in ALL[:150]])
    np.testing.assert_array_equal(read.reshape(-1, DIM), expected)
    assert (facts["slide"], facts["encoder"], facts["mpp"]) == ("s1", KEY["encoder"], 0.5)


def test_embeddings_written_by_zarr_itself_are_read(tmp_path):
    with open_store(tmp_path) as store:
        array = zarr.open_array(store.path, mode="r+")
        array[3, 4] = [4, 5, 304]
        store.refresh()
        assert_holds(store, [Tile(3, 4)])
        assert store.n_tiles == 1


def test_a_second_writer_is_refused_and_readers_are_not(tmp_path):
    with open_store(tmp_path):
        with pytest.raises(StoreBusy, match="is writing"):
            open_store(tmp_path)
        open_store(tmp_path, writable=False).close()
    open_store(tmp_path).close()


def test_a_reader_finds_no_store_where_there_is_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_store(tmp_path, writable=False)
    assert not any(tmp_path.iterdir())


def test_a_reader_cannot_append(tmp_path):
    open_store(tmp_path).close()
    with (
        open_store(tmp_path, writable=False) as store,
        pytest.raises(StoreError, match="reading only"),
    ):
        fill(store, [Tile(0, 0)])


def test_values_beyond_float16_are_clipped(tmp_path):
    with open_store(tmp_path) as store:
        store.append([Tile(0, 0)], np.array([[1e6, -1e9, 1]], np.float32))
        assert store.lookup([Tile(0, 0)])[1].tolist() == [[65504, -65504, 1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_refused_as_a_whole(tmp_path, bad):
    with open_store(tmp_path) as store:
        with pytest.raises(ValueError, match=r"Tile\(row=2, col=3\) is not finite"):
            store.append([Tile(1, 1), Tile(2, 3)], np.array([[1, 2, 3], [1, 2, bad]], np.float32))
        assert store.n_tiles == 0


def test_tiles_outside_and_wrong_shapes_are_refused(tmp_path):
    with open_store(tmp_path) as store:
        with pytest.raises(ValueError, match="outside the grid"):
            store.append([Tile(18, 0)], np.zeros((1, DIM), np.float32))
        with pytest.raises(ValueError, match="do not fit"):
            store.append([Tile(1, 0)], np.zeros((1, DIM + 1), np.float32))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-7], id="cut short"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data + b"x", id="too long"),
        pytest.param(lambda data: data[:40] + bytes([data[40] ^ 4]) + data[41:], id="one bit"),
    ],
)
def test_a_damaged_block_counts_as_not_computed_and_can_be_written_again(tmp_path, caplog, damage):
    with open_store(tmp_path) as store:
        fill(store, ALL)
        file = store.path / block_name(1, 0)
    file.write_bytes(damage(file.read_bytes()))
    lost = {tile for tile in ALL if 8 <= tile.row < 16 and tile.col < 8}
    with caplog.at_level(logging.WARNING), open_store(tmp_path) as store:
        found, _ = store.lookup(ALL)
        assert {tile for tile, f in zip(ALL, found, strict=True) if not f} == lost
        assert {tuple(t) for t in np.argwhere(~store.done).tolist()} == lost
        assert "will be computed again" in caplog.text
        fill(store, sorted(lost))
        assert_holds(store, ALL)
        assert store.repair() == 0


def test_the_matrix_leaves_damaged_blocks_out(tmp_path):
    with open_store(tmp_path) as store:
        fill(store, ALL)
        for block in ((0, 0), (2, 1)):  # a full one, and one at the corner
            file = store.path / block_name(*block)
            file.write_bytes(b"\x01" * file.stat().st_size)
        tiles, matrix = store.matrix()
        assert len(tiles) == 198 - 64 - 2 * 3
        expected = np.stack([embedding_of(t) for t in tiles]).astype(np.float16)
        np.testing.assert_array_equal(matrix, expected)
        assert store.n_tiles == len(tiles)


def test_repair_says_how_many_tiles_were_damaged(tmp_path):
    with open_store(tmp_path) as store:
        fill(store, ALL)
        assert store.repair() == 0
        file = store.path / block_name(2, 1)
        file.write_bytes(b"\x01" * file.stat().st_size)
        assert store.check([Tile(0, 0)]) == []
        assert store.repair() == 2 * 3
        assert store.repair() == 0


def test_a_reader_leaves_damaged_files_alone(tmp_path):
    with open_store(tmp_path) as store:
        fill(store, ALL)
        file = store.path / block_name(0, 0)
        file.write_bytes(b"\x01" * file.stat().st_size)
        with open_store(tmp_path, writable=False) as reader:
            assert reader.repair() == 64
        assert file.exists()


def test_what_a_killed_writer_left_half_written_is_swept_up(tmp_path):
    with open_store(tmp_path) as store:
        path = store.path
    left = path / "c.0.0.0.123.partial"
    left.write_bytes(b"half")
    open_store(tmp_path, writable=False).close()
    assert left.exists()
    open_store(tmp_path).close()
    assert not left.exists()


def test_a_newer_layout_is_refused(tmp_path):
    with open_store(tmp_path) as store:
        file = store.path / "zarr.json"
    facts = json.loads(file.read_text())
    facts["attributes"]["napari_virchow"]["layout"] = 2
    file.write_text(json.dumps(facts))
    with pytest.raises(StoreError, match="newer napari-virchow"):
        open_store(tmp_path)
    assert list_stored(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{", "{}", '{"attributes": {"napari_virchow": 3}}'])
def test_a_description_that_makes_no_sense_is_refused(tmp_path, text):
    with open_store(tmp_path) as store:
        (store.path / "zarr.json").write_text(text)
    with pytest.raises(StoreError, match="damaged; move the folder away"):
        open_store(tmp_path)


def test_a_description_that_does_not_fit_the_blocks_is_refused(tmp_path):
    with open_store(tmp_path) as store:
        file = store.path / "zarr.json"
    facts = json.loads(file.read_text())
    facts["shape"][0] += 1
    file.write_text(json.dumps(facts))
    with pytest.raises(StoreError, match="not laid out as it says"):
        open_store(tmp_path)


def test_another_dimension_is_refused(tmp_path):
    open_store(tmp_path).close()
    with pytest.raises(StoreError, match="holds 3 numbers per tile"):
        open_store(tmp_path, dim=4)


def test_a_corrected_pixel_size_gets_a_store_of_its_own(tmp_path):
    corrected = TileGrid(GRID.width, GRID.height, (0.25, 0.25))
    with open_store(tmp_path) as store:
        fill(store, [Tile(1, 1)])
    with open_store(tmp_path, grid=corrected) as store:
        assert store.n_tiles == 0
        fill(store, [Tile(0, 1), Tile(2, 3)])
    with open_store(tmp_path) as store:
        assert store.n_tiles == 1
    with open_store(tmp_path, grid=corrected) as store:
        assert store.n_tiles == 2
    assert [info.n_tiles for info in list_stored(tmp_path)] == [2, 1]


@pytest.mark.parametrize("identity", ["", ".hidden", "a/b", "..", "a\\b"])
def test_identities_that_are_no_folder_names_are_refused(tmp_path, identity):
    with pytest.raises(ValueError, match="not fit for a folder name"):
        open_store(tmp_path, slide=identity)


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path):
    (tmp_path / "s1").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match="cannot be written"):
        open_store(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
def test_a_read_only_folder_is_said_so():
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from napari_virchow.store import EmbeddingStore, StoreError\n"
        "from napari_virchow.tiles import TileGrid\n"
        "if os.getuid() == 0: os.setuid(65534)\n"  # the superuser may write everywhere
        "grid = TileGrid(224, 224, (0.5, 0.5))\n"
        "try: EmbeddingStore.open(Path(sys.argv[1]), slide='s', encoder='e', grid=grid, dim=2,"
        " writable=True)\n"
        "except StoreError as error: print(error)\n"
    )
    with tempfile.TemporaryDirectory() as folder:  # that of pytest is closed to others
        Path(folder).chmod(0o755)
        root = Path(folder, "locked")
        root.mkdir(mode=0o555)
        done = run_child(code, root)
    assert f"{root} cannot be written (permission denied)" in done.stdout


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs POSIX")
def test_a_disk_that_takes_no_more_leaves_what_was_there(tmp_path):
    """A limit on file sizes stands in for the full disk: it fails in the midst of writing, too."""
    code = (
        "import resource, sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from napari_virchow.store import EmbeddingStore, StoreError\n"
        "from napari_virchow.tiles import Tile, TileGrid\n"
        "grid = TileGrid(224 * 8, 224 * 8, (0.5, 0.5))\n"
        "store = EmbeddingStore.open(Path(sys.argv[1]), slide='s', encoder='e', grid=grid,"
        " dim=64, writable=True)\n"
        "store.append([Tile(0, 0)], np.ones((1, 64)))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: store.append([Tile(1, 1)], np.ones((1, 64)))\n"
        "except StoreError as error: print(error)\n"
        "print(store.n_tiles, store.lookup([Tile(0, 0), Tile(1, 1)])[0].tolist())\n"
        "print([p.name for p in store.path.iterdir() if 'partial' in p.name])\n"
    )
    done = run_child(code, tmp_path)
    assert "cannot be written (file too large)" in done.stdout
    assert "1 [True, False]" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_store_deleted_while_in_use_is_said_so(tmp_path):
    with open_store(tmp_path) as store:
        fill(store, [Tile(0, 0)])
        [info] = list_stored(tmp_path)
        for file in info.path.iterdir():
            file.unlink()
        info.path.rmdir()
        with pytest.raises(StoreError, match="deleted while it was in use"):
            fill(store, [Tile(0, 1)])
        assert not store.lookup([Tile(0, 0)])[0].any()
        assert len(store.matrix()[0]) == 0


def test_stores_are_listed_and_deleted(tmp_path):
    with open_store(tmp_path) as store:
        fill(store, ALL[:20])
        nbytes = store.nbytes
    with open_store(tmp_path, slide="s2", grid=TileGrid(500, 500, (0.5, 0.5), mpp=1.0)):
        pass
    one, two = list_stored(tmp_path)
    assert (one.slide, one.encoder, one.grid, one.mpp) == (
        "s1",
        KEY["encoder"],
        "224px-0.5mpp",
        0.5,
    )
    assert (one.n_tiles, one.n_total, one.nbytes) == (20, 198, nbytes)
    assert (two.slide, two.mpp, two.n_tiles, two.nbytes) == ("s2", 1.0, 0, 0)
    assert [info.slide for info in list_stored(tmp_path, "s2")] == ["s2"]
    delete_stored(one)
    delete_stored(one)
    assert [info.slide for info in list_stored(tmp_path)] == ["s2"]
    assert list_stored(tmp_path / "nowhere") == []


def test_a_store_that_is_being_written_is_not_deleted(tmp_path):
    with open_store(tmp_path) as store:
        fill(store, ALL[:3])
        [info] = list_stored(tmp_path)
        with pytest.raises(StoreBusy):
            delete_stored(info)
        assert_holds(store, ALL[:3])


def test_reading_while_another_thread_writes_meets_whole_tiles_only(tmp_path):
    grid = TileGrid(224 * 24, 224 * 24, (0.5, 0.5))
    tiles = [Tile(r, c) for r in range(24) for c in range(24)]
    wrong = []
    with open_store(tmp_path, grid=grid) as store:
        written = threading.Event()

        def read():
            while not written.is_set():
                found, matrix = store.matrix()
                expected = [embedding_of(t) for t in found.tolist()]
                if len(found) and not np.array_equal(matrix, np.array(expected, np.float16)):
                    wrong.append(found)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for start in range(0, len(tiles), 7):
                fill(store, tiles[start : start + 7])
        finally:
            written.set()
            reader.join()
        assert_holds(store, tiles)
    assert not wrong


WRITER = """
import sys
import tempfile
from pathlib import Path
import numpy as np
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Tile, TileGrid

grid = TileGrid(224 * 40, 224 * 40, (0.5, 0.5))
store = EmbeddingStore.open(
    Path(sys.argv[1]), slide="s1", encoder="texture-v1-abc-descriptor", grid=grid, dim=256,
    writable=True)
todo = [Tile(*t) for t in np.argwhere(~store.done).tolist()]
np.random.default_rng(int(sys.argv[2])).shuffle(todo)
todo = [Tile(*t) for t in todo]
for start in range(0, len(todo), 6):
    batch = todo[start : start + 6]
    rows = [[t.row + 1, t.col + 1] + [t.row * 100 + t.col] * 254 for t in batch]
    store.append(batch, np.array(rows, np.float32))
    print(*(f"{t.row},{t.col}" for t in batch), flush=True)
"""


def test_killing_the_writer_at_any_moment_loses_nothing_it_had_written(tmp_path):
    grid = TileGrid(224 * 40, 224 * 40, (0.5, 0.5))
    safe: list[Tile] = []
    for round_, n_batches in enumerate((1, 4, 9, 17, 30)):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(round_)],
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            for _ in range(n_batches):
                line = child.stdout.readline()
                safe += [Tile(*map(int, place.split(","))) for place in line.split()]
            child.send_signal(signal.SIGKILL)
            # What it said before it died counts as well, except for a line cut off by the kill.
            rest = child.stdout.read().split("\n")[:-1]
        safe += [Tile(*map(int, place.split(","))) for line in rest for place in line.split()]
        assert child.returncode == -signal.SIGKILL
        with open_store(tmp_path, grid=grid, dim=256) as store:
            assert_holds(store, safe)
            # Whatever else is there is whole: the batch that ran has come through or it has not.
            done = [Tile(*tile) for tile in np.argwhere(store.done).tolist()]
            assert_holds(store, done)
            assert len(done) - len(safe) <= 6 * (round_ + 1)
            assert store.repair() == 0
            assert not list(store.path.glob("*.partial"))


def test_a_block_read_by_hand_has_the_tiles_in_row_order(tmp_path):
    with open_store(tmp_path) as store:
        fill(store, ALL)
        block = np.empty((8, 8, DIM), np.float16)
        read_block(store.path / block_name(1, 1), block)
        assert block[2, 1].tolist() == embedding_of((10, 9)).tolist()
        assert np.isnan(block[2, 3]).all()  # column 11 is beyond the grid


def run_child(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def test_a_full_disk_is_called_so(tmp_path):
    error = unwritable(tmp_path, OSError(errno.ENOSPC, "No space left on device"))
    assert str(error) == f"The disk of {tmp_path} is full; free some space and try again."
