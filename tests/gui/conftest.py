"""Fixtures of the tests that need a display: a real napari, a real session, a small real slide."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

# Before napari is imported: nobody's settings are read or written.
os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp(prefix="virchow-gui-")) / "settings.yaml")

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    headless = sys.platform.startswith("linux") and not os.environ.get("DISPLAY")
    for item in items:
        if HERE in Path(item.path).parents:
            item.add_marker(pytest.mark.gui)
            if headless and not os.environ.get("CI"):
                item.add_marker(pytest.mark.skip(reason="no display; try xvfb-run"))


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """Keep what these tests store in their own folder."""
    folder = tmp_path / "store"
    monkeypatch.setenv("NAPARI_VIRCHOW_STORE", str(folder))
    return folder


@pytest.fixture(scope="session")
def slide_file(tmp_path_factory):
    """A slide of 2048 x 1536 px at 0.5 µm/px: 10 x 7 tiles at 0.5, 5 x 4 at 1."""
    from napari_virchow.sample import write_sample

    path = tmp_path_factory.mktemp("slides") / "small.tif"
    write_sample(path, width=2048, height=1536)
    return path


@pytest.fixture
def viewer(make_napari_viewer):
    """A real window of 1280 x 720."""
    made = make_napari_viewer(show=True)
    made.window.resize(1280, 720)
    return made


@pytest.fixture
def open_slide(viewer):
    """Open a file with our reader; returns the slide's layer."""

    def open_(path):
        return viewer.open(str(path), plugin="napari-virchow")[-1]

    return open_


@pytest.fixture
def dock(viewer, qtbot):
    """Show the dock and return it once its encoder is loaded."""

    def show():
        _, widget = viewer.window.add_plugin_dock_widget("napari-virchow", "Embeddings")
        qtbot.waitUntil(lambda: widget.encoder_box.ready, timeout=60_000)
        return widget

    return show


@pytest.fixture
def until(qtbot):
    """Wait, with the event loop running, until something holds; a busy machine takes its time."""

    def wait(condition, timeout=60_000):
        qtbot.waitUntil(condition, timeout=timeout)

    return wait


@pytest.fixture
def search(viewer, qtbot, open_slide, slide_file, until):
    """Open a slide and the dock "Similarity search", and embed all tiles; returns the dock."""

    def show(*, path=slide_file, whole=True):
        if not any("slide" in layer.metadata for layer in viewer.layers):
            open_slide(path)
        _, dock = viewer.window.add_plugin_dock_widget("napari-virchow", "Similarity search")
        until(lambda: dock.grid is not None and dock.session.encoder is not None, 60_000)
        until(lambda: dock.labels is not None)
        if whole:
            dock.session.embed_slide(dock._slide, mpp=dock.mpp, all_tiles=True)
            until(lambda: dock.session.wait(0.01), 60_000)
        viewer.reset_view()
        qtbot.wait(50)
        return dock

    return show
