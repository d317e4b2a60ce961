"""Look over the installation: what is there, what works here, and what to do about the rest."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Literal

from napari_virchow import __version__
from napari_virchow.paths import cache_dir, store_dir

Level = Literal["ok", "note", "problem"]
PACKAGES = (
    "napari",
    "magicgui",
    "qtpy",
    "numpy",
    "torch",
    "scikit-learn",
    "scikit-image",
    "dask-image",
    "tiffslide",
    "openslide-python",
    "openslide-bin",
    "imagecodecs",
    "zarr",
    "safetensors",
    "huggingface_hub",
)
BINDINGS = ("PyQt6", "PySide6", "PySide6-Essentials", "PyQt5", "PySide2")
PROBE_S = 60.0
HUB_S = 5.0
ENOUGH_BYTES = 5e9

# Run apart, since a Qt or OpenGL library that does not fit ends the whole process.
_PROBE = """
import json
from qtpy import API_NAME, QT_VERSION
from qtpy.QtGui import QGuiApplication, QOffscreenSurface, QOpenGLContext
app = QGuiApplication([])
context, surface = QOpenGLContext(), QOffscreenSurface()
context.create()
surface.create()
facts = {"binding": API_NAME, "qt": QT_VERSION, "platform": app.platformName(), "renderer": ""}
if context.makeCurrent(surface):
    from OpenGL import GL
    facts["renderer"] = GL.glGetString(GL.GL_RENDERER).decode()
    facts["version"] = GL.glGetString(GL.GL_VERSION).decode()
    facts["texture"] = int(GL.glGetIntegerv(GL.GL_MAX_TEXTURE_SIZE))
print(json.dumps(facts))
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the doctor looked at.

    Parameters
    ----------
    topic, fact : str
        What was looked at, and what was found.
    level : {"ok", "note", "problem"}
        Fine; worth knowing; or in the way of the plugin's work.
    advice : str
        What to do, if anything.
    """

    topic: str
    fact: str
    level: Level = "ok"
    advice: str = ""


def diagnose() -> list[Finding]:
    """Look at everything, and return what was found in the order to read it. Changes nothing."""
    findings = [
        Finding("napari-virchow", __version__),
        Finding("python", f"{platform.python_version()} at {sys.executable}"),
        Finding("system", f"{platform.platform()}, {os.cpu_count()} cores"),
    ]
    findings += _packages()
    findings += _plugin()
    findings += _device()
    findings += _window()
    findings += _readers()
    findings += _folders()
    findings += _hub()
    return findings


def report(findings: Sequence[Finding]) -> str:
    """Return the findings as text: one line each, marked where something is to be done."""
    marks = {"ok": " ", "note": "·", "problem": "!"}
    width = max((len(finding.topic) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{marks[finding.level]} {finding.topic.ljust(width)}  {finding.fact}")
        if finding.advice:
            lines.append(f"  {' ' * width}  → {finding.advice}")
    n_problems = sum(finding.level == "problem" for finding in findings)
    verdict = f"{n_problems} problem{'s' * (n_problems > 1)} found." if n_problems else "All well."
    return "\n".join([*lines, "", verdict])


def has_display() -> bool:
    """Say whether windows can be expected to open here."""
    if sys.platform != "linux":
        return True
    names = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    return any(os.environ.get(name) for name in names)


def qt_binding() -> str | None:
    """Return name and version of the installed Qt binding, or None. Imports nothing of it."""
    for name in BINDINGS:
        found = _version(name)
        if found:
            return f"{name} {found}"
    return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _packages() -> Iterator[Finding]:
    for package in PACKAGES:
        found = _version(package)
        if found:
            yield Finding(package, found)
        else:
            advice = "run pip install napari-virchow again"
            yield Finding(package, "not installed", "problem", advice)


def _plugin() -> Iterator[Finding]:
    known = {point.name for point in entry_points(group="napari.manifest")}
    if "napari-virchow" not in known:
        advice = "install the package with pip; a bare source folder is not enough"
        yield Finding("plugin", "napari does not know it", "problem", advice)


def _device() -> Iterator[Finding]:
    from napari_virchow.encoders.devices import choose_device, choose_precision

    try:
        device, note = choose_device()
        precision = str(choose_precision(device)).removeprefix("torch.")
    except (ImportError, OSError, RuntimeError) as error:
        advice = "install torch again, as the README says"
        yield Finding("device", f"torch does not work: {error}", "problem", advice)
        return
    level: Level = "note" if device == "cpu" else "ok"
    yield Finding("device", f"{device}, {precision}: {note}", level)


def _window() -> Iterator[Finding]:
    binding = qt_binding()
    if binding is None:
        advice = "for the window: pip install 'napari-virchow[all]'; the command line works without"
        yield Finding("Qt", "no binding is installed", "note", advice)
        return
    if not has_display():
        fact = f"{binding}; no display here (DISPLAY and WAYLAND_DISPLAY are not set)"
        advice = "`make demo` uses a virtual one; the command line needs none"
        yield Finding("Qt", fact, "note", advice)
        return
    facts, why = _probe_window()
    if facts is None:
        advice = "check DISPLAY; on Debian and Ubuntu `make libraries` installs what Qt needs"
        yield Finding("Qt", f"{binding} cannot open a window: {why}", "problem", advice)
        return
    yield Finding("Qt", f"{facts['binding']} with Qt {facts['qt']} on {facts['platform']}")
    if not facts["renderer"]:
        advice = "napari cannot draw here: install a graphics driver, or run it under xvfb-run"
        yield Finding("OpenGL", "no context could be made", "problem", advice)
        return
    fact = f"{facts['renderer']}, {facts['version']}, textures up to {facts['texture']} px"
    software = "llvmpipe" in str(facts["renderer"]).lower()
    advice = "drawn by the CPU: it works, but a graphics driver would be faster" * software
    yield Finding("OpenGL", fact, "note" if software else "ok", advice)


def _probe_window() -> tuple[dict[str, object] | None, str]:
    """Open Qt and OpenGL in a process of their own; return the facts, or None and why not."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {PROBE_S:.0f} s"
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        facts: dict[str, object] = json.loads(lines[-1])
        return facts, ""
    last = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[0]
    return None, last


def _readers() -> Iterator[Finding]:
    yield Finding("reader", "tiffslide: SVS, NDPI, SCN, BIF, tiled TIFF, OME-TIFF")
    try:
        import openslide

        library = openslide.__library_version__
        yield Finding("reader", f"OpenSlide {library}: MRXS, DICOM, VMS and others")
    except (ImportError, OSError) as error:
        advice = "pip install openslide-bin; without it MRXS and DICOM cannot be opened"
        yield Finding("reader", f"OpenSlide does not load: {error}", "note", advice)
    yield Finding("reader", "zarr: OME-Zarr 0.4 and 0.5")


def _folders() -> Iterator[Finding]:
    for topic, folder in (("store", store_dir()), ("cache", cache_dir())):
        there = _nearest_existing(folder)
        free = shutil.disk_usage(there).free
        fact = f"{folder}, {free / 1e9:.1f} GB free"
        if not os.access(there, os.W_OK):
            advice = f"{there} cannot be written: choose another folder"
            if topic == "store":
                advice += " with --store or NAPARI_VIRCHOW_STORE"
            yield Finding(topic, fact, "problem", advice)
        elif free < ENOUGH_BYTES:
            yield Finding(topic, fact, "note", "that is little for embeddings and weights")
        else:
            yield Finding(topic, fact)


def _nearest_existing(folder: Path) -> Path:
    """Return the folder, or the first one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _hub() -> Iterator[Finding]:
    """Ask who is logged in; only where there is a token, and with a short wait."""
    from huggingface_hub import get_token

    token = get_token()
    if token is None:
        advice = "only encoders behind a gate need it: napari-virchow login"
        yield Finding("hub", "not logged in to the Hugging Face hub", "note", advice)
        return
    code = "import huggingface_hub as h; print(h.HfApi().whoami()['name'])"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=HUB_S, check=False
        )
        name = done.stdout.strip() if done.returncode == 0 else ""
        refused = "401" in done.stderr or "Invalid" in done.stderr
    except subprocess.TimeoutExpired:
        name, refused = "", False
    if name:
        yield Finding("hub", f"logged in to the Hugging Face hub as {name}")
    elif refused:
        advice = "run napari-virchow login with a new read token"
        yield Finding("hub", "the hub does not accept the token that is kept", "note", advice)
    else:
        fact = "a token is kept, but the Hugging Face hub cannot be reached"
        yield Finding("hub", fact, "note", "encoders that are downloaded already work all the same")
