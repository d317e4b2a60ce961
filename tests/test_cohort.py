"""A cohort on several real processes: some of them are killed, and every tile is there once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import psutil
import pytest

from napari_virchow.cohort import CohortError, CohortOptions, Record, embed_cohort, run
from napari_virchow.encoders import load_encoder
from napari_virchow.sample import write_sample
from napari_virchow.session import Session
from napari_virchow.slide import open_slide
from napari_virchow.tiles import Tile
from napari_virchow.tissue import tissue_mask


@pytest.fixture(scope="session")
def slides(tmp_path_factory):
    """Two slides of 12 x 9 and 5 x 4 tiles."""
    folder = tmp_path_factory.mktemp("cohort")
    write_sample(folder / "large.tif", width=2560, height=1920)
    write_sample(folder / "small.tif", width=1024, height=768)
    return folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(run, "PART_TILES", (24, 24))


def options(store):
    return CohortOptions("texture", None, 0.5, None, str(store))


def quiet(_):
    return


def check_store(store, path):
    """Every tissue tile is there, the others are not, and what is there is right."""
    with open_slide(path) as slide, Session(store) as session:
        grid = slide.grid(0.5)
        session.use_encoder(load_encoder("texture"))
        tiles, matrix = session.embeddings(slide, 0.5)
        wanted = np.argwhere(tissue_mask(slide).tiles(grid))
        assert sorted(map(tuple, tiles.tolist())) == sorted(map(tuple, wanted.tolist()))
        some = slice(None, None, 17)
        pixels = slide.read_tiles(grid, [Tile(*at) for at in tiles[some].tolist()])
        expected = session.encoder.encode(pixels).astype(np.float16)
        np.testing.assert_allclose(matrix[some], expected, rtol=2e-3, atol=2e-3)
    return len(wanted)


def worker_processes():
    return [
        child
        for child in psutil.Process().children()
        if "multiprocessing.spawn" in child.cmdline()
        or any("spawn_main" in word for word in child.cmdline())
    ]


def test_a_worker_that_is_killed_costs_nothing(slides, tmp_path):
    killed = []

    def kill_one(line):
        if not killed and " 0 new tiles" not in line:
            victim = worker_processes()[0]
            killed.append(victim.pid)
            victim.send_signal(signal.SIGKILL)

    (tmp_path / "bad.svs").write_text("not a slide")
    paths = [str(slides / "small.tif"), str(tmp_path / "bad.svs"), str(slides / "large.tif")]
    record = Record.new(options(tmp_path / "store"), paths)
    done = embed_cohort(record, workers=2, say=quiet, show=kill_one)

    assert killed
    assert [slide.state for slide in done.slides] == ["done", "failed", "done"]
    assert "bad.svs" in done.failures[0].error
    for n, name in ((0, "small.tif"), (2, "large.tif")):
        assert check_store(tmp_path / "store", slides / name) == done.slides[n].n_new
    summary = (done.record / "summary.md").read_text("utf-8")
    assert summary.startswith("# 2 of 3 slides embedded")
    assert "bad.svs" in summary


def test_a_slow_part_is_begun_from_its_other_end(slides, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "SLOW", 0.0)
    monkeypatch.setattr(run, "SLOW_S", 0.0)
    monkeypatch.setattr(run, "TICK_S", 0.05)
    path = slides / "large.tif"
    record = Record.new(options(tmp_path / "store"), [str(path), str(path)])
    done = embed_cohort(record, workers=2, say=quiet, show=quiet)
    assert done.n_helped >= 1
    assert check_store(tmp_path / "store", path) == sum(slide.n_new for slide in done.slides)
    assert sorted(slide.error for slide in done.slides) == ["", f"the same slide as {path}"]


def test_a_run_that_was_killed_goes_on_on_a_cluster_that_is_there_already(slides, tmp_path):
    from distributed import LocalCluster

    store = tmp_path / "store"
    command = [sys.executable, "-c", "from napari_virchow.cli import main; main()"]
    words = ["embed", str(slides), "--store", str(store)]
    first = subprocess.Popen([*command, *words, "--workers", "1"], stdout=subprocess.DEVNULL)
    blocks = "*/*/*.zarr/c.*"
    while not any(store.glob(blocks)) and first.poll() is None:
        psutil.wait_procs([psutil.Process(first.pid)], timeout=0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    there = {file.name: file.read_bytes() for file in store.glob(blocks)}
    assert there

    with LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        done = subprocess.run(
            [*command, "embed", "--resume", "--store", str(store), "--json"]
            + ["--scheduler", cluster.scheduler_address],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [Path(slide["path"]).name for slide in facts["slides"]] == ["large.tif", "small.tif"]
    assert sum(slide["n_there"] for slide in facts["slides"]) > 0
    for name in ("large.tif", "small.tif"):
        check_store(store, slides / name)
    with pytest.raises(CohortError, match="no run that was cut short"):
        Record.last(store)


def test_a_scheduler_that_does_not_answer_is_one_sentence(slides, tmp_path, monkeypatch):
    from napari_virchow.cohort import clusters

    monkeypatch.setattr(clusters, "CONNECT_S", 1)
    record = Record.new(options(tmp_path / "store"), [str(slides / "small.tif")])
    with pytest.raises(CohortError, match="No Dask scheduler answers at"):
        embed_cohort(record, scheduler="tcp://127.0.0.1:9", say=quiet, show=quiet)


def test_every_process_gets_cores_of_its_own():
    from napari_virchow.cohort.clusters import _core_shares

    mine = sorted(os.sched_getaffinity(0))
    shares = _core_shares(2)
    assert sorted(shares[0] + shares[1]) == mine or len(mine) == 1
    assert all(_core_shares(len(mine) + 3))


def test_every_gpu_has_a_process_that_sees_no_other():
    from napari_virchow.cohort.clusters import cluster_client

    with cluster_client(gpus=("3", "GPU-5f1c")) as client:
        client.wait_for_workers(2, timeout=60)
        seen = client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
    assert sorted(seen.values()) == ["3", "GPU-5f1c"]


def test_the_dashboard_that_is_named_can_be_looked_at():
    from napari_virchow.cohort.clusters import cluster_client

    with cluster_client(workers=1) as client, urlopen(client.dashboard_link) as page:
        assert b"Dask Diagnostic UI" in page.read()
