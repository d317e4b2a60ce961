"""Tiles chosen on the embedding map are chosen in the gallery of the search, and the other way."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_virchow._napari.gallery import Place
from napari_virchow._napari.viewer import plain
from napari_virchow.tiles import Tile

_links: weakref.WeakKeyDictionary[Any, SelectionLink] = weakref.WeakKeyDictionary()


class SelectionLink(QObject):
    """Tells each of the two what was chosen in the other, and nothing back."""

    on_map = Signal(object)  # holds(slide identity, tile) -> bool
    in_gallery = Signal(object)  # sequence of Place

    def __init__(self) -> None:
        super().__init__()
        self._telling = False

    def choose_on_map(self, holds: Callable[[str, Tile], bool]) -> None:
        """Say that tiles were chosen on the map."""
        self._tell(self.on_map, holds)

    def choose_in_gallery(self, places: Sequence[Place]) -> None:
        """Say that tiles were chosen in the gallery; none says nothing, as new hits choose none."""
        if places:
            self._tell(self.in_gallery, places)

    def _tell(self, signal: Any, what: object) -> None:
        if self._telling:
            return
        self._telling = True
        try:
            signal.emit(what)
        finally:
            self._telling = False


def selection_link(viewer: Any) -> SelectionLink:
    """Return the viewer's link, made on first use."""
    viewer = plain(viewer)
    if viewer not in _links:
        _links[viewer] = SelectionLink()
    return _links[viewer]
