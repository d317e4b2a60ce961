"""Session: open slides, an encoder and an engine; what every user interface drives."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_virchow.engine import Engine
from napari_virchow.mapping.attach import HasMapping
from napari_virchow.memory import recall_slide, remember_slide
from napari_virchow.paths import store_dir
from napari_virchow.qupath.attach import HasObjects
from napari_virchow.schedule import snap_mpp
from napari_virchow.search.attach import HasSimilarity
from napari_virchow.shelf import StoredInfo, delete_stored, list_stored, load_stored
from napari_virchow.states import EngineState, GridStates, Progress, TileUpdate
from napari_virchow.tiles import Rect, Tile, TileGrid

if TYPE_CHECKING:
    from napari_virchow.encoders import Encoder
    from napari_virchow.slide import Slide
    from napari_virchow.tissue import TissueMask

_log = logging.getLogger(__name__)


class _View(NamedTuple):
    """What the user last looked at."""

    slide: str
    rect: Rect
    mpp: float
    all_tiles: bool


class Session(HasMapping, HasObjects, HasSimilarity):
    """Slides, one encoder, and an engine that embeds what is looked at.

    Every method may be called from any thread. Signals are facts; they are emitted from worker
    threads (those about slides and encoders from the calling thread), one after another and in the
    order in which things happened. A slot must not wait for the session.

    Parameters
    ----------
    store : Path or None
        Folder for all that is kept on disk; `paths.store_dir()` if None.
    device : str
        Where encoders run unless `load_encoder` is told otherwise: "auto", "cpu", "cuda", "mps".
    """

    slide_opened = Signal(object)
    slide_closed = Signal(str)
    encoder_changed = Signal(object)
    states_reset = Signal(GridStates)
    tiles_changed = Signal(TileUpdate)
    progressed = Signal(Progress)
    state_changed = Signal(EngineState)
    failed = Signal(Exception)

    def __init__(self, store: Path | None = None, *, device: str = "auto") -> None:
        super().__init__()
        self.store = Path(store) if store is not None else store_dir()
        self.device = device
        self._slides: dict[str, Slide] = {}
        self._encoder: Encoder | None = None
        self._view: _View | None = None
        self._lock = threading.RLock()
        self._encoder_lock = threading.Lock()  # held while loading: one encoder at a time
        self._masks: dict[str, TissueMask] = {}
        self._engine = Engine(self.store, self.tissue)
        for name in ("states_reset", "tiles_changed", "progressed", "state_changed", "failed"):
            getattr(self._engine, name).connect(getattr(self, name).emit)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def slides(self) -> dict[str, Slide]:
        """The open slides by identity, in the order they were opened; a copy."""
        with self._lock:
            return dict(self._slides)

    @property
    def encoder(self) -> Encoder | None:
        """The encoder in use, or None before the first was loaded."""
        return self._encoder

    @property
    def progress(self) -> Progress:
        """How far the present run, or the last one, has come."""
        return self._engine.progress

    @property
    def state(self) -> EngineState:
        """What the engine is doing."""
        return self._engine.state

    def open_slide(
        self, path: str | os.PathLike[str], *, mpp: float | tuple[float, float] | None = None
    ) -> Slide:
        """Open a slide, or return the open one with the same content.

        Parameters
        ----------
        path : str or path-like
            A file, a folder (DICOM, OME-Zarr) or a URL.
        mpp : float, (float, float) or None
            µm per level-0 pixel, for files that do not say it; remembered for this slide.
            None takes what the file says, else what was remembered.

        Raises
        ------
        SlideError
            If the file cannot be opened as a slide.
        ValueError
            If `mpp` is outside 0.1–10 µm.
        """
        from napari_virchow.slide import open_slide

        return self.add_slide(open_slide(path, mpp=mpp), mpp=mpp)

    def add_slide(self, slide: Slide, *, mpp: float | tuple[float, float] | None = None) -> Slide:
        """Take in a slide that is open already; see `open_slide`. The session closes it."""
        with self._lock:
            known = self._slides.get(slide.identity)
            if known is None:
                remembered = recall_slide(self.store, slide.identity).mpp
                if mpp is None and remembered is not None:
                    slide.set_mpp(remembered)
                self._slides[slide.identity] = slide
        if known is not None:
            if known is not slide:
                slide.close()
            if mpp is not None:
                self.set_slide_mpp(known, mpp)
            return known
        self._remember(slide, mpp)
        self.slide_opened.emit(slide)
        return slide

    def set_slide_mpp(self, slide: Slide, mpp: float | tuple[float, float]) -> None:
        """Say how large the slide's level-0 pixels are, and remember it for this slide.

        Raises ValueError if `mpp` is outside 0.1–10 µm.
        """
        slide.set_mpp(mpp)
        self._remember(slide, mpp)
        self._engine.drop_slide(slide.identity)
        self.look_again()

    def close_slide(self, slide: Slide) -> None:
        """Stop working on a slide and close it; one that is not open is left alone."""
        with self._lock:
            if self._slides.pop(slide.identity, None) is None:
                return
            if self._view is not None and self._view.slide == slide.identity:
                self._view = None
        self._engine.drop_slide(slide.identity)
        self._masks.pop(slide.identity, None)
        slide.close()
        self.slide_closed.emit(slide.identity)

    def load_encoder(self, name: str, **options: Any) -> Encoder:
        """Load an encoder and use it from now on; blocks, so call it from a worker.

        What is queued for the old one is dropped, and the present view is taken up with the new
        one. If loading fails the old one stays.

        Parameters
        ----------
        name : str
            A row of `encoders.SPECS`, or such a name with "@random".
        **options
            As for `encoders.load_encoder`: weights, device, pooling, token, compile, on_progress.

        Raises
        ------
        EncoderUnavailable
            If the encoder cannot be had; the sentence says what to do.
        """
        from napari_virchow.encoders import load_encoder

        options.setdefault("device", self.device)
        with self._encoder_lock, self._engine.loading():
            encoder = load_encoder(name, **options)
            self.use_encoder(encoder)
        return encoder

    def use_encoder(self, encoder: Encoder | None) -> None:
        """Use an encoder that is loaded already, or none; see `load_encoder`."""
        self._engine.set_encoder(encoder)
        self._encoder = encoder
        self.encoder_changed.emit(encoder)
        self.look_again()

    def look_at(self, slide: Slide, view: Rect, *, mpp: float, all_tiles: bool = False) -> int:
        """Embed the tiles of a view from its centre outwards, then those around it.

        Returns at once. What was queued only for this slide's last view is dropped. Without an
        encoder the view is taken up once one is loaded.

        Parameters
        ----------
        slide : Slide
            One of `slides`.
        view : Rect
            In level-0 pixels; may hang off the slide.
        mpp : float
            µm per pixel of the tiles: one that the encoder allows.
        all_tiles : bool
            Embed tiles on glass too.

        Returns
        -------
        generation : int
            Number of this request, found again in the updates and the progress.

        Raises
        ------
        ValueError
            If the slide is not open, or the encoder does not work at `mpp`.
        SlideError
            If the slide has no pixel size (`MissingPixelSize`), or is coarser than `mpp`.
        """
        grid = self._checked_grid(slide, mpp)
        with self._lock:
            self._view = _View(slide.identity, view, mpp, all_tiles)
        return self._engine.look_at(slide, grid, view, all_tiles=all_tiles)

    def embed_slide(self, slide: Slide, *, mpp: float, all_tiles: bool = False) -> int:
        """Embed a whole slide behind what is looked at; several slides are done in order.

        Returns at once. Tiles that failed before get another try.

        Returns
        -------
        generation : int
            Number of this request.

        Raises
        ------
        ValueError
            If no encoder is loaded; ValueError and SlideError otherwise as for `look_at`.
        """
        self._needed_encoder()
        grid = self._checked_grid(slide, mpp)
        return self._engine.embed(slide, grid, all_tiles=all_tiles)

    def embed_next(self, slide: Slide, tiles: Sequence[Tile], *, mpp: float) -> int:
        """Embed these tiles now, also on glass; `look_again` goes back to the view. Raises as
        `embed_slide` does."""
        self._needed_encoder()
        return self._engine.embed_some(slide, self._checked_grid(slide, mpp), tiles)

    def cancel(self) -> None:
        """Let the running batch finish and drop the rest. Returns at once; see `wait`."""
        self._engine.cancel()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until nothing is left to do and every signal is out; say whether that was reached.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait at most; None waits for ever.
        """
        return self._engine.wait(timeout)

    def tile_states(self, slide: Slide, mpp: float) -> GridStates | None:
        """Return the states of a grid with the present encoder, or None if it was not opened yet.

        Raises
        ------
        SlideError
            As for `look_at`.
        """
        return self._engine.states(slide.identity, slide.grid(mpp))

    def stored(self, slide: Slide | str | None = None) -> list[StoredInfo]:
        """List what is stored, of one slide (or its identity) or of all."""
        identity = slide if slide is None or isinstance(slide, str) else slide.identity
        return list_stored(self.store, identity)

    def delete_stored(self, info: StoredInfo) -> None:
        """Delete one stored grid of embeddings, after stopping our own work on it.

        Raises
        ------
        StoreBusy
            If another process is writing it.
        StoreError
            If it cannot be deleted.
        """
        with self._engine.released(info.path):
            delete_stored(info)

    def embeddings(
        self, slide: Slide, mpp: float, tiles: Sequence[Tile] | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float16]]:
        """Return all embeddings of a slide by the present encoder, or those of some tiles.

        Returns
        -------
        tiles : ndarray of shape (n, 2)
            Row and column of each tile.
        matrix : ndarray of shape (n, dim)
            One embedding per tile; n is 0 when nothing is stored.

        Raises
        ------
        ValueError
            If no encoder is loaded.
        StoreError
            If what is stored cannot be read.
        """
        encoder, grid = self._needed_encoder(), slide.grid(mpp)
        store = self._engine.store_of(slide.identity, grid)
        if store is not None and tiles is not None:
            found, rows = store.lookup(tiles)
            return np.asarray(tiles, np.int32).reshape(-1, 2)[found], rows[found]
        if store is not None:
            return store.matrix()
        return load_stored(self.store, slide.identity, encoder.identity, grid, encoder.dim)

    def close(self) -> None:
        """Stop, join all threads and close the slides. Safe to call twice."""
        self._engine.close()
        self._close_mapping()
        self._close_attached()
        with self._lock:
            slides, self._slides, self._view = list(self._slides.values()), {}, None
        for slide in slides:
            slide.close()
            self.slide_closed.emit(slide.identity)

    def _needed_encoder(self) -> Encoder:
        if self._encoder is None:
            raise ValueError("No encoder is loaded; load one first, for example 'texture'.")
        return self._encoder

    def _checked_grid(self, slide: Slide, mpp: float) -> TileGrid:
        """Return the slide's grid at `mpp`, or raise as `look_at` says."""
        with self._lock:
            known = self._slides.get(slide.identity)
        if known is not slide:
            raise ValueError(f"The slide {slide.name} is not open in this session.")
        allowed = _allowed_mpp(self._encoder)
        if allowed and mpp not in allowed:
            choices = ", ".join(f"{value:g}" for value in allowed)
            raise ValueError(f"The encoder works at {choices} µm per pixel, not at {mpp:g}.")
        return slide.grid(mpp)

    def look_again(self) -> None:
        """Take up the present view, if its slide is open, with the encoder and mpp of now."""
        with self._lock:
            view = self._view
            slide = self._slides.get(view.slide) if view is not None else None
        if view is None or slide is None or slide.mpp is None or self._encoder is None:
            return
        from napari_virchow.slide import SlideError

        allowed = _allowed_mpp(self._encoder)
        mpp = snap_mpp(view.mpp, allowed, max(slide.mpp)) if allowed else view.mpp
        try:
            self.look_at(slide, view.rect, mpp=mpp, all_tiles=view.all_tiles)
        except (ValueError, SlideError) as error:
            _log.warning("The view was not taken up again: %s", error)

    def tissue(self, slide: Slide, grid: TileGrid) -> NDArray[np.bool_]:
        """Say which tiles lie on tissue, (rows, cols); all do where the method does not apply."""
        if not slide.brightfield:
            return np.ones(grid.shape, np.bool_)
        from napari_virchow.tissue import tissue_mask

        mask = self._masks.get(slide.identity) or tissue_mask(slide)
        self._masks[slide.identity] = mask
        return mask.tiles(grid)

    def _remember(self, slide: Slide, mpp: float | tuple[float, float] | None) -> None:
        """Note the slide's name and path, and a pixel size the user gave, for next time."""
        try:
            remember_slide(self.store, slide.identity, name=slide.name, path=slide.path, mpp=mpp)
        except OSError as error:
            _log.warning("What is known of %s could not be remembered: %s", slide.name, error)


def _allowed_mpp(encoder: Encoder | None) -> Sequence[float]:
    return () if encoder is None else encoder.spec.allowed_mpp
