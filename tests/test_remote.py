"""Slides on servers: few requests, each byte once, and what was read stays on disk."""

import json
import os

import fsspec
import numpy as np
import pytest
from tests.ranged import RangedFileSystem, RangedServer
from tests.slides import picture, write_svs

from napari_virchow import open_slide
from napari_virchow.cli import main
from napari_virchow.paths import remote_cache_bytes
from napari_virchow.slide import SlideError
from napari_virchow.slide.remote import BLOCK, BlockFolder, RemoteFile, merged
from napari_virchow.tiles import Tile

fsspec.register_implementation("ranged", RangedFileSystem, clobber=True)


@pytest.fixture(scope="module")
def svs(tmp_path_factory):
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 40, (1300, 1700, 3), dtype=np.uint8)  # so that no codec makes it small
    return write_svs(tmp_path_factory.mktemp("remote") / "s.svs", picture() // 2 + noise)


@pytest.fixture
def server(svs):
    running = RangedServer(**{"s.svs": svs.read_bytes(), "numbers": bytes(range(256)) * 8192})
    yield running
    running.close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("NAPARI_VIRCHOW_CACHE", str(folder))
    monkeypatch.setenv("NAPARI_VIRCHOW_CACHE_GB", "1")
    return folder


def all_tiles(slide):
    grid = slide.grid(0.5)
    rows, cols = grid.shape
    return grid, [Tile(row, col) for row in range(rows) for col in range(cols)]


def test_a_slide_on_a_server_is_the_same_slide(server, svs):
    with open_slide(svs) as here, open_slide(server.url("s.svs")) as there:
        assert there.identity == here.identity and there.mpp == here.mpp
        assert "fast path" in there.reader_reason
        grid, tiles = all_tiles(here)
        assert np.array_equal(there.read_tiles(grid, tiles), here.read_tiles(grid, tiles))
        assert np.array_equal(there.overview()[0], here.overview()[0])


def test_every_byte_is_asked_for_once_and_neighbours_together(server, svs):
    with open_slide(server.url("s.svs")) as slide:
        opened = len(server.given)
        grid, tiles = all_tiles(slide)
        slide.read_tiles(grid, tiles)
        slide.read_tiles(grid, tiles)
        slide.overview()
    assert server.n_bytes <= svs.stat().st_size
    starts = [start for start, _ in server.given]
    assert len(set(starts)) == len(starts)
    assert len(server.given) - opened < svs.stat().st_size / BLOCK / 2


def test_what_was_read_once_is_on_disk_for_the_next_time(server, cache):
    for _ in range(2):
        with open_slide(server.url("s.svs")) as slide:
            grid, tiles = all_tiles(slide)
            slide.read_tiles(grid, tiles)
        if not any(cache.rglob("*.part")):
            first = server.n_bytes
            server.given.clear()
    assert first == 0 and any(cache.glob("*/*.block"))


def test_a_file_that_changed_on_the_server_is_read_anew(server):
    url = server.url("numbers")
    assert RemoteFile(url).read_at(0, 3) == b"\x00\x01\x02"
    server.files["numbers"] = b"\x07" * len(server.files["numbers"])
    assert RemoteFile(url).read_at(0, 3) == b"\x00\x01\x02"  # the server says it is the same
    server.tag = "two"
    assert RemoteFile(url).read_at(0, 3) == b"\x07\x07\x07"


@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, 0), (5, 7), (BLOCK - 1, 2), (2 * BLOCK, BLOCK), (8 * BLOCK - 3, 9), (9 * BLOCK, 5)],
)
def test_any_range_is_read_as_from_a_file(server, offset, count):
    data = server.files["numbers"]
    remote = RemoteFile(server.url("numbers"))
    assert remote.read_at(offset, count) == data[offset : offset + count]
    with remote.open() as file:
        file.seek(offset)
        assert file.read(count) == data[offset : offset + count]
        assert file.seek(-5, os.SEEK_END) == len(data) - 5 and file.read() == data[-5:]


def test_ranges_that_are_prepared_become_few_requests(server):
    remote = RemoteFile(server.url("numbers"))
    remote.prepare([(0, 5), (BLOCK, 7), (2 * BLOCK + 5, 3), (5 * BLOCK, 1), (99 * BLOCK, 5)])
    assert sorted(server.given) == [(0, 3 * BLOCK), (5 * BLOCK, 6 * BLOCK)]
    assert remote.read_at(2 * BLOCK, BLOCK) and len(server.given) == 2


def test_runs_of_neighbours_are_merged_and_cut_where_they_are_long():
    assert merged([]) == []
    assert merged([7, 3, 4, 5]) == [(3, 5), (7, 7)]
    assert merged(range(7), most=3) == [(0, 2), (3, 5), (6, 6)]


def test_the_folder_stays_within_its_size_and_forgets_what_was_not_used(tmp_path):
    folder = BlockFolder(tmp_path, 500)
    for number in range(5):
        folder.put("a", number, bytes(100))
        os.utime(tmp_path / "a" / f"{number}.block", (number, number))
    assert folder.get("a", 0) is not None  # used again, so younger than the others
    folder.put("b", 7, bytes(100))
    assert [folder.has("a", n) for n in range(5)] == [True, False, False, True, True]
    assert folder.has("b", 7) and folder.get("a", 1) is None


def test_blocks_that_are_gone_or_cut_short_are_fetched_again(server, cache):
    url = server.url("numbers")
    RemoteFile(url).read_at(0, 3 * BLOCK)
    first, second, _ = sorted(cache.glob("*/*.block"))
    first.unlink()
    second.write_bytes(b"half")
    assert RemoteFile(url).read_at(0, 3 * BLOCK) == server.files["numbers"][: 3 * BLOCK]


def test_without_a_folder_that_can_be_written_slides_are_read_all_the_same(server, tmp_path):
    (tmp_path / "file").touch()
    remote = RemoteFile(server.url("numbers"), BlockFolder(tmp_path / "file" / "x", 500))
    assert remote.read_at(5, 7) == server.files["numbers"][5:12]


def test_a_server_that_fails_in_one_place_spoils_only_the_tiles_there(server):
    with open_slide(server.url("s.svs")) as slide:
        given = [start for start, _ in server.given]
        grid, tiles = all_tiles(slide)
        server.bad = {n * BLOCK for n in range(99) if n * BLOCK not in given}
        failed = []
        slide.read_tiles(grid, tiles, on_error=lambda tile, error: failed.append(str(error)))
        assert 0 < len(failed) < len(tiles) and all("cannot be read" in why for why in failed)
        server.bad = set()
        slide.read_tiles(grid, tiles)


def test_a_server_that_cannot_give_parts_is_refused(server):
    server.ranges = False
    with pytest.raises(SlideError, match="only as a whole; download it first"):
        open_slide(server.url("s.svs"))


def test_what_is_not_there_or_no_slide_is_refused_in_a_sentence(server):
    with pytest.raises(SlideError, match="404"):
        open_slide(server.url("missing.svs"))
    with pytest.raises(SlideError, match="cannot be opened"):
        open_slide(server.url("numbers"))
    with pytest.raises(SlideError, match="check the address"):
        open_slide("nonsense://a.svs")


def test_a_size_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("NAPARI_VIRCHOW_CACHE_GB", "much")
    with pytest.raises(ValueError, match="NAPARI_VIRCHOW_CACHE_GB must be a number"):
        remote_cache_bytes()


def test_embedding_from_a_server_reads_each_byte_about_once(server, svs, tmp_path, capsys):
    folder = tmp_path / "elsewhere"
    words = ["embed", server.url("s.svs"), "--store", str(tmp_path / "store"), "--all-tiles"]
    assert main([*words, "--cache", str(folder), "--cache-gb", "0.5", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["failures"] == [] and any(folder.glob("*/*.block"))
    assert server.n_bytes <= 1.05 * svs.stat().st_size
    assert main([*words, "--cache-gb", "-1"]) == 2


def test_plain_http_is_read_with_fsspecs_own_client(server, svs):
    pytest.importorskip("aiohttp", reason="fsspec needs aiohttp for http (the extra 'remote')")
    with open_slide(svs) as here, open_slide(server.url("s.svs", "http")) as there:
        assert there.identity == here.identity
        grid, tiles = all_tiles(here)
        assert np.array_equal(there.read_tiles(grid, tiles), here.read_tiles(grid, tiles))


def test_a_slide_in_a_bucket_is_read_by_ranges_and_kept(svs, monkeypatch):
    pytest.importorskip("s3fs", reason="fsspec needs s3fs for s3 (the extra 'remote')")
    server = RangedServer(**{"bucket/s.svs": svs.read_bytes()})
    where = {"anon": True, "endpoint_url": f"http://127.0.0.1:{server.port}"}
    monkeypatch.setitem(fsspec.config.conf, "s3", where)
    try:
        with open_slide(svs) as here, open_slide("s3://bucket/s.svs") as there:
            assert there.identity == here.identity
            grid, tiles = all_tiles(here)
            assert np.array_equal(there.read_tiles(grid, tiles), here.read_tiles(grid, tiles))
        assert server.n_bytes < 1.5 * svs.stat().st_size
        asked = len(server.given)
        with open_slide("s3://bucket/s.svs") as again:
            again.read_tiles(grid, tiles)
        assert len(server.given) == asked
        with pytest.raises(SlideError, match=r"s3://bucket/other\.svs"):
            open_slide("s3://bucket/other.svs")
    finally:
        server.close()
