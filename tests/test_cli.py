"""The command line, called as a user would; answers are checked by their exit code and output."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_virchow import __version__
from napari_virchow.classify.predictions import UNKNOWN_ABOVE
from napari_virchow.cli import _parser, main
from napari_virchow.sample import write_sample

README = Path(__file__).parents[1] / "README.md"
# 2048 x 1536 px at 0.5 um/px in tiles of 224 px: 7 rows (the last one overhangs) x 10 columns.
N_TILES = 70


@pytest.fixture(scope="session")
def made_slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "small.tiff"
    write_sample(path, width=2048, height=1536)
    return path


@pytest.fixture(scope="session")
def without_mpp(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "no mpp.tiff"
    noise = np.random.default_rng(5).integers(90, 200, (512, 512, 3), dtype=np.uint8)
    tifffile.imwrite(path, noise, tile=(256, 256), photometric="rgb")
    return path


@pytest.fixture
def slide(made_slide, tmp_path):
    """A slide that no other test has written anything about."""
    return shutil.copy(made_slide, tmp_path / "small.tiff")


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def run(capsys):
    """Call the command line; return its exit code, what it printed, and what it complained."""

    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def assert_is_one_sentence(err):
    assert err.startswith("napari-virchow: ")
    assert len(err.splitlines()) == 1
    assert err.endswith((".\n", "?\n"))
    assert "Traceback" not in err


def test_help_needs_nothing_heavy():
    code = (
        "import sys\nfrom napari_virchow.cli import main\nmain(['--help'])\n"
        "heavy = {'numpy', 'torch', 'napari', 'qtpy', 'zarr', 'psygnal', 'tifffile'}\n"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "embed" in done.stdout


def test_default_novelty_of_the_commands_is_that_of_the_map():
    options = _parser().parse_args(["classify", "apply", "MODEL", "SLIDE"])
    assert options.unknown_above == UNKNOWN_ABOVE


def test_version(run):
    assert run("--version") == (0, f"napari-virchow {__version__}\n", "")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], id="no command"),
        pytest.param(["frobnicate"], id="unknown command"),
        pytest.param(["embed"], id="no slide"),
        pytest.param(["info", "SLIDE", "--frob"], id="unknown option"),
        pytest.param(["embed", "SLIDE", "--slide-mpp", "50"], id="implausible pixel size"),
        pytest.param(["embed", "SLIDE", "--slide-mpp", "fine"], id="pixel size in words"),
        pytest.param(["embed", "SLIDE", "--mpp", "-1"], id="negative mpp"),
        pytest.param(["embed", "SLIDE", "--mpp", "nan"], id="mpp that is no number"),
        pytest.param(["embed", "SLIDE", "--mpp", "0.3"], id="mpp the encoder does not have"),
        pytest.param(["embed", "SLIDE", "--mpp", "0.25"], id="mpp finer than the slide"),
        pytest.param(["embed", "SLIDE", "--device", "toaster"], id="unknown device"),
        pytest.param(["embed", "SLIDE", "--encoder", "virchow9"], id="unknown encoder"),
        pytest.param(
            ["embed", "SLIDE", "--encoder", "uni", "--weights", "/no/such.bin"], id="no weights"
        ),
        pytest.param(["embed", "/no/such/slide.svs"], id="no such slide"),
        pytest.param(["embed", __file__], id="not a slide"),
        pytest.param(["info", "/no/such/slide.svs"], id="info on no such slide"),
        pytest.param(["info", __file__], id="info on what is not a slide"),
        pytest.param(["sample", "SLIDE"], id="sample over a file that exists"),
    ],
)
def test_bad_input_gets_one_sentence_and_writes_nothing(run, slide, store, monkeypatch, words):
    monkeypatch.setenv("NAPARI_VIRCHOW_STORE", str(store))

    code, out, err = run(*[slide if word == "SLIDE" else word for word in words])

    assert (code, out) == (2, "")
    assert_is_one_sentence(err)
    assert not store.exists()


def test_a_store_that_cannot_be_written_is_bad_input(run, slide):
    code, out, err = run("embed", slide, "--store", Path(__file__) / "store")

    assert (code, out) == (2, "")
    assert "--store" in err
    assert_is_one_sentence(err)


def test_an_unexpected_error_is_one_sentence_too_unless_debugging(run, monkeypatch):
    def fall_over(*_):
        raise RuntimeError("the sky fell")

    monkeypatch.setattr("napari_virchow.doctor.diagnose", fall_over)

    code, out, err = run("doctor")

    assert (code, out) == (1, "")
    assert "RuntimeError: the sky fell" in err
    assert_is_one_sentence(err)
    with pytest.raises(RuntimeError):
        main(["doctor", "--debug"])


def test_info_as_text_says_what_matters(run, slide, store):
    code, out, err = run("info", slide, "--store", store)

    assert (code, err) == (0, "")
    assert "2048 × 1536 px" in out
    assert "0.5 µm" in out
    assert "tiffslide" in out
    assert not store.exists()


def test_info_as_json_is_one_document(run, slide, store):
    code, out, err = run("info", slide, "--json", "--store", store)

    assert (code, err) == (0, "")
    [facts] = json.loads(out)["slides"]
    assert (facts["width"], facts["height"]) == (2048, 1536)
    assert facts["mpp"] == pytest.approx([0.5, 0.5])
    assert len(facts["identity"]) == 32
    assert facts["stored"] == []


def test_info_goes_on_after_a_file_that_is_no_slide(run, slide):
    code, out, err = run("info", __file__, slide, "--json")

    document = json.loads(out)
    assert code == 1
    assert [facts["slide"] for facts in document["slides"]] == [str(slide)]
    assert [failure["slide"] for failure in document["failures"]] == [__file__]
    assert_is_one_sentence(err)


def test_embedding_twice_computes_nothing_the_second_time(run, slide, store):
    code, out, err = run("embed", slide, "--store", store, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    [first] = document["slides"]
    assert document["store"] == str(store)
    assert first["tiles"] == N_TILES
    assert first["new"] > 0
    assert first["new"] + first["glass_skipped"] == N_TILES
    assert (first["already_there"], first["failed"]) == (0, 0)
    assert first["tiles_per_s"] > 0
    shares = [first[f"share_{part}"] for part in ("reading", "encoding", "storing")]
    assert sum(shares) == pytest.approx(1, abs=0.01)

    code, out, err = run("embed", slide, "--store", store, "--json")
    assert (code, err) == (0, "")
    [second] = json.loads(out)["slides"]
    assert (second["new"], second["already_there"]) == (0, first["new"])
    assert second["glass_skipped"] == first["glass_skipped"]

    [kept] = json.loads(run("info", slide, "--json", "--store", store)[1])["slides"][0]["stored"]
    assert (kept["tiles"], kept["of"]) == (first["new"], N_TILES)


def test_embed_as_text_says_what_was_done(run, slide, store):
    code, out, err = run("embed", slide, "--store", store, "--all-tiles")

    assert (code, err) == (0, "")
    assert "70 tiles (224px-0.5mpp): 70 new, 0 already there, 0 skipped as glass" in out
    assert "tiles/s" in out
    assert "% reading" in out


def test_embed_shows_its_progress_on_a_terminal_only(run, slide, store, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    code, _, err = run("embed", slide, "--store", store, "--all-tiles")

    assert code == 0
    assert "of 70 tiles" in err
    assert "\n" not in err


def test_the_store_can_be_named_by_the_environment(run, slide, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_VIRCHOW_STORE", str(tmp_path / "elsewhere"))

    document = json.loads(run("embed", slide, "--mpp", 2, "--json")[1])

    assert document["store"] == str(tmp_path / "elsewhere")
    assert list((tmp_path / "elsewhere").glob("*/*/224px-2mpp.zarr"))


def test_a_slide_without_pixel_size_stops_with_a_way_out(run, without_mpp, store):
    code, out, err = run("embed", without_mpp, "--store", store)

    assert (code, out) == (2, "")
    assert_is_one_sentence(err)
    assert "--slide-mpp" in err
    assert not store.exists()


def test_a_pixel_size_that_was_given_is_remembered(run, without_mpp, store):
    words = ("embed", without_mpp, "--store", store, "--all-tiles", "--json")
    first = json.loads(run(*words, "--slide-mpp", 0.5)[1])["slides"][0]
    second = json.loads(run(*words)[1])["slides"][0]
    facts = json.loads(run("info", without_mpp, "--store", store, "--json")[1])["slides"][0]

    assert (first["new"], second["new"], second["already_there"]) == (9, 0, 9)
    assert facts["mpp"] == [0.5, 0.5]


def test_one_bad_slide_does_not_keep_the_others_waiting(run, slide, store):
    code, out, err = run("embed", __file__, slide, "/no/such.svs", "--store", store, "--json")

    document = json.loads(out)
    assert code == 1
    assert [done["slide"] for done in document["slides"]] == [str(slide)]
    assert [failure["slide"] for failure in document["failures"]] == [__file__, "/no/such.svs"]
    assert "2 of 3 slides" in err
    assert_is_one_sentence(err)


def command(slide, store):
    words = ["embed", str(slide), "--store", str(store), "--all-tiles", "--json"]
    code = f"import sys; from napari_virchow.cli import main; sys.exit(main({words!r}))"
    return [sys.executable, "-c", code]


@pytest.fixture(scope="session")
def larger_slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "larger.tiff"
    write_sample(path, width=3584, height=2688)  # 12 rows x 16 columns
    return path


def wait_for_first_block(store, process):
    deadline = time.monotonic() + 60
    pause = threading.Event()
    while not list(store.glob("*/*/*.zarr/c.*.0")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        pause.wait(0.005)


def embeddings_in(store):
    [path] = store.glob("*/*/*.zarr")
    return zarr.open_array(path, mode="r")[:]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_killed_run_loses_nothing_that_was_stored(run, larger_slide, tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    with subprocess.Popen(
        command(larger_slide, killed), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_for_first_block(killed, process)
        process.kill()

    again = json.loads(run("embed", larger_slide, "--store", killed, "--all-tiles", "--json")[1])[
        "slides"
    ][0]
    run("embed", larger_slide, "--store", whole, "--all-tiles")

    assert again["already_there"] > 0
    assert again["already_there"] + again["new"] == again["tiles"] == 192
    np.testing.assert_array_equal(embeddings_in(killed), embeddings_in(whole))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_keeps_what_is_done_and_says_so(larger_slide, store):
    with subprocess.Popen(
        command(larger_slide, store), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for_first_block(store, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out) == (130, "")
    assert_is_one_sentence(err)
    assert "kept" in err
    assert np.isfinite(embeddings_in(store)).any()


def test_random_weights_are_marked_in_the_output(run, slide, store):
    words = ("embed", slide, "--encoder", "kaiko-s16@random", "--mpp", 2, "--store", store)
    code, out, err = run(*words)

    assert (code, err) == (0, "")
    assert "mean nothing" in out
    document = json.loads(run(*words, "--json")[1])
    assert document["slides"][0]["random"] is True
    assert document["slides"][0]["dim"] == 384


def test_encoders_as_json_lists_texture_first(run):
    code, out, err = run("encoders", "--json")

    assert (code, err) == (0, "")
    rows = json.loads(out)["encoders"]
    assert rows[0]["name"] == "texture"
    assert {row["name"] for row in rows} >= {"virchow", "virchow2", "uni2-h", "gigapath"}
    assert all(row["licence"] and row["dim"] > 0 for row in rows)


def test_the_table_in_the_readme_is_the_table_in_the_code(run):
    table = run("encoders", "--markdown")[1].strip()

    readme = README.read_text("utf-8")

    between = readme.split("<!-- encoders:")[1].split("-->", 1)[1].split("<!-- end of")[0].strip()
    assert between == table, "put the output of `napari-virchow encoders --markdown` in the README"


def test_demo_without_a_display_says_so(run, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)

    code, out, err = run("demo")

    assert (code, out) == (2, "")
    assert "display" in err
    assert_is_one_sentence(err)


def test_demo_without_qt_says_so(run, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("napari_virchow.doctor.qt_binding", lambda: None)

    code, out, err = run("demo")

    assert (code, out) == (2, "")
    assert "napari-virchow[all]" in err
    assert_is_one_sentence(err)


def test_sample_writes_a_slide_where_it_is_told(run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "napari_virchow.sample.write_sample", lambda path: path.write_bytes(b"a slide")
    )

    code, out, err = run("sample", tmp_path / "sample.tiff")

    assert (code, out, err) == (0, f"{tmp_path / 'sample.tiff'}\n", "")
    assert (tmp_path / "sample.tiff").read_bytes() == b"a slide"


def test_login_with_an_empty_token_says_where_to_get_one(run):
    code, out, err = run("login", "--token", " ")

    assert (code, out) == (2, "")
    assert_is_one_sentence(err)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_reader_that_had_enough_is_no_error():
    code = "import sys; from napari_virchow.cli import main; sys.exit(main(['encoders']))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "CMU-1-Small-Region.dcmdir"])
def test_real_slides_are_embedded(run, data_dir, store, name):
    code, out, err = run("embed", data_dir / "slides" / name, "--store", store, "--json")

    assert (code, err) == (0, "")
    [done] = json.loads(out)["slides"]
    assert done["tiles"] == 14 * 10
    assert done["new"] > 50
    assert done["failed"] == 0


def test_a_real_slide_without_mpp_needs_one(run, data_dir, store):
    slide = data_dir / "slides" / "TCGA-CR-7395-01A-01-TS1.svs"

    code, out, err = run("embed", slide, "--store", store)
    assert (code, out) == (2, "")
    assert "--slide-mpp" in err
    assert_is_one_sentence(err)

    code, out, _ = run("embed", slide, "--store", store, "--slide-mpp", 0.5, "--mpp", 2, "--json")
    assert code == 0
    assert json.loads(out)["slides"][0]["new"] > 0
