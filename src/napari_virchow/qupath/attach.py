"""What a session has of QuPath's objects: those of each slide, read when first asked for."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, cast

from psygnal import SignalInstance

if TYPE_CHECKING:
    from napari_virchow.qupath.kept import KeptObjects
    from napari_virchow.qupath.live import LiveLink
    from napari_virchow.session import Session
    from napari_virchow.slide import Slide

_log = logging.getLogger(__name__)


class HasObjects:
    """The part of a `Session` that keeps the objects of QuPath."""

    store: Path
    slide_closed: SignalInstance

    def __init__(self) -> None:
        super().__init__()
        self._finding = threading.RLock()
        self._objects: dict[str, KeptObjects] = {}
        self._live: LiveLink | None = None

    def objects(self, slide: Slide) -> KeptObjects:
        """Return the objects of an open slide; they are closed, and saved, with it.

        They are kept in ``<store>/labels/objects``, next to the labels; the first call reads them.

        Raises
        ------
        KeptBusy
            If another window or process has them open.
        KeptError
            If they cannot be read.
        """
        from napari_virchow.qupath.kept import KeptObjects

        with self._finding:
            known = self._objects.get(slide.identity)
            if known is None:
                path = self.store / "labels" / "objects" / f"{slide.identity}.sqlite"
                known = self._objects[slide.identity] = KeptObjects(path)
                if len(self._objects) == 1:
                    self.slide_closed.disconnect(self._close_objects, missing_ok=True)
                    self.slide_closed.connect(self._close_objects)
            return known

    @property
    def live(self) -> LiveLink:
        """The link to a running QuPath, off at first; made on first use."""
        from napari_virchow.qupath.live import LiveLink

        with self._finding:
            if self._live is None:
                self._live = LiveLink(cast("Session", self))
            return self._live

    def _close_attached(self) -> None:
        with self._finding:
            live, self._live = self._live, None
        if live is not None:
            live.close()
        super()._close_attached()  # type: ignore[misc]  # what else is attached

    def _close_objects(self, identity: str) -> None:
        from napari_virchow.qupath.kept_file import KeptError

        with self._finding:
            kept = self._objects.pop(identity, None)
        if kept is None:
            return
        try:
            kept.close()
        except KeptError as error:
            _log.error("%s", error)
