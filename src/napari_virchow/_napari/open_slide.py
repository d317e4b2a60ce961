"""Commands in napari's menus: open a slide, and show the dock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari
from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QFileDialog

from napari_virchow._napari.layers import LayerData, slide_layers
from napari_virchow._napari.sample_data import synthetic_slide
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.viewer import main_window, plain
from napari_virchow.slide import open_slide

PLUGIN = "napari-virchow"
FILTER = (
    "Slides (*.svs *.tif *.tiff *.ndpi *.scn *.bif *.mrxs *.dcm *.vsi *.vms *.vmu *.qptiff);;"
    "All files (*)"
)


def ask_for_slide(viewer: napari.viewer.Viewer) -> None:
    """Ask for a slide file, and open it in the background."""
    window = main_window(plain(viewer))
    names, _ = QFileDialog.getOpenFileNames(window, "Open slide", "", FILTER)
    for name in names:
        open_in_background(viewer, name)


def ask_for_slide_folder(viewer: napari.viewer.Viewer) -> None:
    """Ask for a folder that is a slide (DICOM, OME-Zarr), and open it in the background."""
    window = main_window(plain(viewer))
    name = QFileDialog.getExistingDirectory(window, "Open slide folder")
    if name:
        open_in_background(viewer, name)


def show_embeddings(viewer: napari.viewer.Viewer) -> None:
    """Show the dock "Embeddings"."""
    viewer.window.add_plugin_dock_widget(PLUGIN, "Embeddings")


def open_sample(viewer: Any) -> None:
    """Open the sample slide in the background; the first time it has to be made."""
    _in_background(viewer, synthetic_slide)


def open_in_background(viewer: Any, path: str | Path) -> None:
    """Open a slide without keeping napari waiting; errors become a notification."""
    _in_background(viewer, lambda: _read(path))


def _read(path: str | Path) -> list[LayerData]:
    return slide_layers(open_slide(path))


def _in_background(viewer: Any, read: Any) -> None:
    viewer = plain(viewer)

    def add(layers: list[LayerData]) -> None:
        first = not viewer.layers
        for data, options, _ in layers:
            viewer.add_image(data, **options)
        if first:
            viewer.reset_view()

    window = main_window(viewer)
    owner = window if window is not None else QObject()
    tasks = owner.findChild(Tasks, "virchow-tasks") or Tasks(owner)
    tasks.setObjectName("virchow-tasks")
    tasks.run(read, done=add, failed=lambda error: show_warning(str(error)))
