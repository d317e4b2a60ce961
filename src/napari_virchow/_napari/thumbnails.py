"""Thumbnails of tiles for any list: read in the background, newest first, kept while they fit."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from qtpy.QtCore import QObject, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen

from napari_virchow._napari.link import call_on_gui
from napari_virchow.pictures import SlidesAtHand, read_picture
from napari_virchow.session import Session
from napari_virchow.slide.chunks import Pixels
from napari_virchow.tiles import Rect, Tile

_log = logging.getLogger(__name__)
CACHE_BYTES = 96 << 20
MAX_WAITING = 400  # more than any screen shows; what waited longest is dropped
_THREADS = 2
_FRAME = "#ffd400"


class TileAt(NamedTuple):
    """A tile of the grid of `mpp`, where the slide's size is not at hand."""

    tile: Tile
    mpp: float


class Thumbnail(NamedTuple):
    """Which thumbnail: slide identity, place in level-0 pixels (or tile), longer side in pixels,
    and how much of its surroundings is shown on each side, as a part of the tile's own side."""

    slide: str
    rect: Rect | TileAt
    size_px: int
    context: float = 0.0


class Thumbnails(QObject):
    """Gives thumbnails at once where they are known, and otherwise tells when they are.

    Slides need not be open in the session: they are opened by the path remembered of them, and
    closed again when nobody looks at them. What cannot be read becomes a grey picture with a
    cross, and `reason` says why.

    Parameters
    ----------
    session : Session
        Where slides come from.
    parent : QObject
        Ends with it; ask for nothing after that.
    """

    ready = Signal(object)  # Thumbnail, on the GUI thread

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        # Empty from the end on: a thumbnail that is told then must not touch what Qt has deleted.
        alive: list[Any] = [self.ready]
        desk = self._desk = _Desk(SlidesAtHand(session), partial(call_on_gui, _emit, alive))
        # Methods, not functions of ours: Python may have let go of what those close over by then.
        self.destroyed.connect(alive.clear)
        self.destroyed.connect(desk.close)

    def get(
        self,
        slide: str,
        rect: Rect | TileAt,
        size_px: int,
        context: float = 0.0,
        *,
        ask: bool = True,
    ) -> QImage | None:
        """Return a thumbnail, or None and have it read: `ready` tells when it can be had.

        Parameters
        ----------
        slide : str
            Identity.
        rect : Rect or TileAt
            The tile, in level-0 pixels or by its place in a grid.
        size_px : int
            Longer side of the picture.
        context : float
            Shows so many sides of the tile more on each side, with a frame around the tile.
        ask : bool
            Have it read if it is not known.
        """
        return self._desk.get(Thumbnail(slide, rect, size_px, context), ask=ask)

    def reason(
        self, slide: str, rect: Rect | TileAt, size_px: int, context: float = 0.0
    ) -> str | None:
        """Return why a thumbnail cannot be had, or None."""
        return self._desk.reasons.get(Thumbnail(slide, rect, size_px, context))

    @property
    def n_known(self) -> int:
        """How many thumbnails are kept."""
        return self._desk.n_known

    def forget_waiting(self) -> None:
        """Drop what is not being read yet: the list shows something else now."""
        self._desk.forget_waiting()

    def try_again(self) -> None:
        """Forget what could not be read, for example after a slide was opened."""
        self._desk.try_again()

    def close(self) -> None:
        """Stop reading, join the threads and close slides. Safe to call twice."""
        self._desk.close()


def _emit(alive: list[Any], key: Thumbnail) -> None:
    for ready in alive:
        ready.emit(key)


class _Desk:
    """The threads and the cache behind `Thumbnails`, without Qt's life cycle."""

    def __init__(self, slides: SlidesAtHand, tell: Callable[[Thumbnail], None]) -> None:
        self._slides, self._tell = slides, tell
        self._changed = threading.Condition()
        self._waiting: OrderedDict[Thumbnail, None] = OrderedDict()
        self._reading: set[Thumbnail] = set()
        self._cache: OrderedDict[Thumbnail, QImage] = OrderedDict()
        self._nbytes = 0
        self._closed = False
        self._threads: list[threading.Thread] = []
        self.reasons: dict[Thumbnail, str] = {}

    def get(self, key: Thumbnail, *, ask: bool) -> QImage | None:
        with self._changed:
            image = self._cache.get(key)
            if image is not None:
                self._cache.move_to_end(key)
                return image
            if not ask or self._closed or key in self._reading:
                return None
            self._waiting[key] = None
            self._waiting.move_to_end(key)
            while len(self._waiting) > MAX_WAITING:
                self._waiting.popitem(last=False)
            self._changed.notify()
            if not self._threads:
                self._start()
        return None

    @property
    def n_known(self) -> int:
        with self._changed:
            return len(self._cache)

    def forget_waiting(self) -> None:
        with self._changed:
            self._waiting.clear()

    def try_again(self) -> None:
        with self._changed:
            for key in self.reasons:
                self._drop(key)
            self.reasons.clear()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._slides.close()

    def _start(self) -> None:
        for number in range(_THREADS):
            thread = threading.Thread(
                target=self._run, name=f"virchow-thumbnails-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _run(self) -> None:
        while (key := self._take()) is not None:
            try:
                image, reason = _picture(self._slides, key), None
            except Exception as error:  # noqa: BLE001  # the border: it becomes a grey picture
                image, reason = _unreadable(key), str(error) or type(error).__name__
                _log.info("No thumbnail of %s: %s", key, reason)
            self._keep(key, image, reason)
            self._tell(key)

    def _take(self) -> Thumbnail | None:
        """Return the newest request; None at the end. Closes slides that nobody looks at."""
        with self._changed:
            while not self._closed:
                if self._waiting:
                    key, _ = self._waiting.popitem()
                    self._reading.add(key)
                    return key
                self._changed.wait(self._slides.close_idle() if not self._reading else None)
        return None

    def _keep(self, key: Thumbnail, image: QImage, reason: str | None) -> None:
        with self._changed:
            self._reading.discard(key)
            self._drop(key)
            if reason is not None:
                self.reasons[key] = reason
            self._cache[key] = image
            self._nbytes += image.sizeInBytes()
            while self._nbytes > CACHE_BYTES and len(self._cache) > 1:
                self._drop(next(iter(self._cache)))

    def _drop(self, key: Thumbnail) -> None:
        image = self._cache.pop(key, None)
        if image is not None:
            self._nbytes -= image.sizeInBytes()


def _picture(slides: SlidesAtHand, key: Thumbnail) -> QImage:
    slide, rect = slides.get(key.slide), key.rect
    if isinstance(rect, TileAt):
        rect = slide.grid(rect.mpp).rect(rect.tile)
    around = rect.grow(key.context * rect.width, key.context * rect.height)
    image = to_qimage(read_picture(slide, around, key.size_px))
    if key.context > 0:
        part = 1 / (1 + 2 * key.context)
        wide, high = image.width() * part, image.height() * part
        frame = QRectF((image.width() - wide) / 2, (image.height() - high) / 2, wide, high)
        painter = QPainter(image)
        painter.setPen(QPen(QColor("black"), 3))
        painter.drawRect(frame)
        painter.setPen(QPen(QColor(_FRAME), 1))
        painter.drawRect(frame)
        painter.end()
    return image


def to_qimage(pixels: Pixels) -> QImage:
    """Return RGB pixels (h, w, 3) as an image of its own memory."""
    pixels = np.ascontiguousarray(pixels)
    high, wide = pixels.shape[:2]
    return QImage(pixels.data, wide, high, 3 * wide, QImage.Format.Format_RGB888).copy()


def _unreadable(key: Thumbnail) -> QImage:
    image = QImage(key.size_px, key.size_px, QImage.Format.Format_RGB888)
    image.fill(QColor("#8a8a8a"))
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(QColor("#5a5a5a"), max(1, key.size_px // 24), Qt.PenStyle.SolidLine))
    inset = key.size_px / 3
    far = key.size_px - inset
    painter.drawLine(round(inset), round(inset), round(far), round(far))
    painter.drawLine(round(inset), round(far), round(far), round(inset))
    painter.end()
    return image
