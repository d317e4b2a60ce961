"""Colours of points and legend, on a dark or a light theme."""

from __future__ import annotations

from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QObject
from qtpy.QtGui import QColor

from napari_virchow._napari.legend import palette_of
from napari_virchow._napari.map_colors import MapColors
from napari_virchow._napari.map_page import MapPage
from napari_virchow._napari.parts import style
from napari_virchow.mapping.coloring import Coloring


class MapPaint(QObject):
    """Brings what `MapColors` says onto the page, and follows the viewer's theme.

    Parameters
    ----------
    viewer : napari.Viewer
    page : MapPage
    colors : MapColors
    parent : QWidget
        The dock; ends with it.
    """

    def __init__(self, viewer: Any, page: MapPage, colors: MapColors, parent: Any) -> None:
        super().__init__(parent)
        self._viewer, self._page, self._colors, self._dock = viewer, page, colors, parent
        colors.changed.connect(self._show)
        viewer.events.theme.connect(self._on_theme)
        self._on_theme()

    def _on_theme(self, event: object = None) -> None:
        style(self._dock, self._viewer.theme)
        paper, ink = self._of_theme()
        self._page.plot.set_colors(paper, ink)
        self._show(self._colors.shown)

    def _of_theme(self) -> tuple[QColor, QColor]:
        colors = get_theme(self._viewer.theme)
        return QColor(colors.canvas.as_hex()), QColor(colors.text.as_hex())

    def _show(self, found: Coloring | None) -> None:
        paper, ink = self._of_theme()
        kind = "dark" if paper.lightness() < 128 else "light"
        plot = self._page.plot
        # The map may have changed since: its own colours are on their way then.
        if found is not None and len(found.value) == len(plot.raster.xy):
            plot.color_points(found.value, palette_of(found, kind))
        self._page.legend.show_coloring(found, kind, ink.name())
