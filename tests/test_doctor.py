"""The doctor finds what is there, and is not brought down by what is broken."""

import json
import subprocess
import sys

import pytest

from napari_virchow import doctor
from napari_virchow.cli import main
from napari_virchow.doctor import Finding, diagnose, report


@pytest.fixture(autouse=True)
def logged_out(monkeypatch, tmp_path):
    """No token, so that no test asks the hub; and folders that nobody uses."""
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setenv("NAPARI_VIRCHOW_STORE", str(tmp_path / "not yet" / "store"))


@pytest.fixture
def no_display(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)


def finding(topic):
    return next(found for found in diagnose() if found.topic == topic)


def test_everything_asked_for_is_looked_at(no_display, tmp_path):
    topics = {found.topic for found in diagnose()}

    assert topics >= {"python", "napari", "torch", "tiffslide", "zarr", "device", "Qt"}
    assert topics >= {"reader", "store", "cache", "hub"}
    assert not (tmp_path / "not yet").exists()


def test_no_display_is_said_clearly_and_is_no_problem(no_display):
    found = finding("Qt")
    assert found.level == "note"
    assert "no display" in found.fact


def test_no_qt_binding_is_no_problem_for_the_command_line(monkeypatch):
    monkeypatch.setattr(doctor, "qt_binding", lambda: None)
    found = finding("Qt")
    assert found.level == "note"
    assert "napari-virchow[all]" in found.advice


def test_a_probe_that_crashes_is_a_finding(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(doctor, "_PROBE", "import os; os.abort()")
    found = finding("Qt")
    assert found.level == "problem"
    assert "cannot open a window" in found.fact


def test_a_probe_that_hangs_is_a_finding(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(doctor, "_PROBE", "import threading; threading.Event().wait()")
    monkeypatch.setattr(doctor, "PROBE_S", 0.2)
    found = finding("Qt")
    assert found.level == "problem"
    assert "no answer" in found.fact


def test_a_missing_package_is_a_problem(monkeypatch, no_display):
    monkeypatch.setattr(doctor, "PACKAGES", ("napari", "no-such-package"))
    assert finding("napari").level == "ok"
    assert finding("no-such-package").level == "problem"


def test_the_device_comes_with_its_reason(no_display):
    found = finding("device")
    assert found.fact.split(",")[0].split(":")[0] in ("cpu", "cuda", "mps")
    assert ": " in found.fact


def test_free_space_is_that_of_the_folder_to_be(tmp_path, no_display):
    found = finding("store")
    assert str(tmp_path / "not yet" / "store") in found.fact
    assert "GB free" in found.fact


def test_a_kept_token_and_no_network_is_said(monkeypatch, no_display):
    def no_answer(words, **keywords):
        raise subprocess.TimeoutExpired(words, keywords["timeout"])

    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_something")
    monkeypatch.setattr(doctor.subprocess, "run", no_answer)
    found = finding("hub")
    assert found.level == "note"
    assert "cannot be reached" in found.fact


def test_the_report_marks_problems_and_counts_them():
    text = report([Finding("a", "fine"), Finding("bcd", "broken", "problem", "mend it")])
    assert text.splitlines() == [
        "  a    fine",
        "! bcd  broken",
        "       → mend it",
        "",
        "1 problem found.",
    ]


def test_doctor_as_json_is_one_document(no_display, capsys):
    code = main(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert {row["topic"] for row in document["findings"]} >= {"python", "device"}


def test_doctor_exits_with_1_if_there_is_a_problem(monkeypatch, capsys):
    monkeypatch.setattr("napari_virchow.doctor.diagnose", lambda: [Finding("x", "y", "problem")])
    assert main(["doctor"]) == 1
    assert "1 problem" in capsys.readouterr().out


@pytest.mark.gui
def test_on_a_display_the_renderer_is_named():
    found = finding("OpenGL")
    assert found.level in ("ok", "note")
    assert "textures up to" in found.fact
