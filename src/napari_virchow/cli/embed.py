"""Embed slides from the command line, one after another, with the `Session` of the window."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_virchow.encoders import Encoder
    from napari_virchow.session import Session
    from napari_virchow.slide import Slide
    from napari_virchow.states import Progress, TileUpdate

LOOK_AGAIN_S = 0.1
STOPPING_S = 30.0
DEFAULT_MPP = 0.5


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """What to embed with, and where to keep it.

    Parameters
    ----------
    encoder : str
        Name for `load_encoder`.
    weights : str or None
        Local weights, or an endpoint's address.
    mpp : float or None
        µm per pixel of the tiles; None takes 0.5, or the encoder's nearest to it.
    slide_mpp : float or None
        µm per level-0 pixel of slides that do not say it.
    store : Path
        Folder of the embeddings.
    device : str
        Where to compute.
    all_tiles : bool
        Embed glass too.
    compile : bool
        Compile the network.
    """

    encoder: str
    weights: str | None
    mpp: float | None
    slide_mpp: float | None
    store: Path
    device: str
    all_tiles: bool
    compile: bool = False


@dataclass(frozen=True, slots=True)
class SlideDone:
    """What embedding one slide came to; the tile counts add up to `tiles` unless it was cut short.

    Parameters
    ----------
    slide, identity, encoder, grid : str
        Path, content identity, encoder identity and name of the grid.
    random : bool
        Whether the encoder's weights are random, so that the embeddings mean nothing.
    dim : int
        Length of an embedding.
    tiles, new, already_there, glass_skipped, failed : int
        Tiles of the grid, and what became of them.
    seconds, tiles_per_s : float
        Time on the clock, and new tiles per second of it.
    share_reading, share_encoding, share_storing : float
        Parts of the busy time; they overlap on the clock and add up to 1, or to 0.
    """

    slide: str
    identity: str
    encoder: str
    grid: str
    random: bool
    dim: int
    tiles: int
    new: int
    already_there: int
    glass_skipped: int
    failed: int
    seconds: float
    tiles_per_s: float
    share_reading: float
    share_encoding: float
    share_storing: float


@dataclass(frozen=True, slots=True)
class SlideFailed:
    """A slide that could not be embedded, or not to its end, and why in one sentence."""

    slide: str
    error: str


class EmbeddingStopped(Exception):  # noqa: N818  # the engine's own word
    """A slide could not be embedded to its end; the message is one sentence."""


class StoppedByUser(Exception):  # noqa: N818  # a wish, not an error
    """The user pressed Ctrl-C; the message says in one sentence what is kept."""


class BadInput(Exception):  # noqa: N818  # raised for what the user typed
    """What the user asked for cannot be done; the message is one sentence."""


def embed_slides(
    paths: Sequence[str],
    options: EmbedOptions,
    *,
    say: Callable[[str], None],
    show: Callable[[str], None],
) -> list[SlideDone | SlideFailed]:
    """Embed slides one after another, and go on with the next where one fails.

    Nothing is written before the first slide and the encoder are known to be good.

    Parameters
    ----------
    paths : sequence of str
        Files, folders or URLs.
    options : EmbedOptions
        How.
    say : callable
        Told each result as text, when it is there.
    show : callable
        Told the state of things often: one line that replaces the last one.

    Returns
    -------
    list of SlideDone or SlideFailed
        One per path, in order.

    Raises
    ------
    BadInput
        If the magnification does not suit the encoder, or the store cannot be written.
    SlideError
        If the only slide given cannot be used.
    EncoderUnavailable
        If the encoder cannot be had.
    StoppedByUser
        On Ctrl-C, after the running batch was stored.
    """
    from napari_virchow.session import Session
    from napari_virchow.slide import SlideError

    mpp = choose_mpp(options)
    check_store(options.store)
    results: list[SlideDone | SlideFailed] = []
    with Session(options.store, device=options.device) as session:
        for path in paths:
            try:
                check_slide(path, mpp, options.slide_mpp, options.store)
                if session.encoder is None:
                    say(describe_encoder(_load_encoder(session, options, show)))
                done = _embed_slide(session, path, mpp, options, show)
            except (SlideError, OSError, ValueError, EmbeddingStopped) as error:
                if len(paths) == 1 and not isinstance(error, EmbeddingStopped):
                    raise
                results.append(SlideFailed(path, str(error)))
            else:
                results.append(done)
            show("")
            if len(paths) > 1 or isinstance(results[-1], SlideDone):
                say(describe_result(results[-1]))
    return results


def choose_mpp(options: EmbedOptions) -> float:
    """Return the magnification to work at, which must be one of the encoder's."""
    from napari_virchow.encoders import find_spec

    allowed = find_spec(options.encoder).allowed_mpp
    if options.mpp is None:
        return min(allowed, key=lambda mpp: abs(mpp - DEFAULT_MPP))
    if options.mpp not in allowed:
        choices = ", ".join(f"{mpp:g}" for mpp in allowed)
        raise BadInput(
            f"{options.encoder} works at {choices} µm per pixel, not at {options.mpp:g}: "
            "pass one of these as --mpp."
        )
    return options.mpp


def check_store(folder: Path) -> None:
    """Raise BadInput if nothing can be written to a folder, which need not exist yet."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise BadInput(f"{there} cannot be written: choose another folder as --store.")


def check_slide(path: str, mpp: float, slide_mpp: float | None, store: Path) -> None:
    """Raise what stands in the way of embedding a slide at `mpp`, before anything is written.

    `slide_mpp` is what the user says of its pixels, if anything; else the store may remember.
    """
    from napari_virchow.memory import recall_slide
    from napari_virchow.slide import MissingPixelSize, open_slide

    with open_slide(path, mpp=slide_mpp) as slide:
        if slide.mpp is None:
            remembered = recall_slide(store, slide.identity).mpp
            if remembered is None:
                note = f" ({slide.mpp_note.rstrip('.')})" if slide.mpp_note else ""
                raise MissingPixelSize(
                    f"{path}: the size of its pixels is not known{note}: "
                    "pass it in µm per pixel as --slide-mpp."
                )
            slide.set_mpp(remembered)
        slide.grid(mpp)


def _load_encoder(session: Session, options: EmbedOptions, show: Callable[[str], None]) -> Encoder:
    return session.load_encoder(
        options.encoder, weights=options.weights, compile=options.compile, on_progress=show
    )


def _embed_slide(
    session: Session, path: str, mpp: float, options: EmbedOptions, show: Callable[[str], None]
) -> SlideDone:
    """Embed one slide to its end, or raise what stopped it."""
    slide = session.open_slide(path, mpp=options.slide_mpp)
    watch = _Watch(slide.identity)
    session.tiles_changed.connect(watch.on_tiles_changed)
    session.failed.connect(watch.on_failed)
    started = time.monotonic()
    try:
        session.embed_slide(slide, mpp=mpp, all_tiles=options.all_tiles)
        while not session.wait(LOOK_AGAIN_S):
            show(describe_progress(slide.name, session.progress))
        return _sum_up(session, slide, path, mpp, watch, time.monotonic() - started)
    except KeyboardInterrupt:
        session.cancel()
        session.wait(STOPPING_S)
        raise StoppedByUser(
            f"stopped while embedding {slide.name}: {_tiles(watch.new, 'new')} and all from "
            "before are kept, and the same command goes on from there."
        ) from None
    finally:
        session.tiles_changed.disconnect(watch.on_tiles_changed)
        session.failed.disconnect(watch.on_failed)
        session.close_slide(slide)


class _Watch:
    """Count what happens to one slide; told so from worker threads."""

    def __init__(self, identity: str) -> None:
        self.new = 0
        self.error: Exception | None = None
        self._identity = identity
        self._lock = threading.Lock()

    def on_tiles_changed(self, update: TileUpdate) -> None:
        from napari_virchow.states import TileState

        if update.slide == self._identity and update.state == TileState.EMBEDDED:
            with self._lock:
                self.new += len(update.tiles)

    def on_failed(self, error: Exception) -> None:
        with self._lock:
            self.error = self.error or error


def _sum_up(
    session: Session, slide: Slide, path: str, mpp: float, watch: _Watch, seconds: float
) -> SlideDone:
    from napari_virchow.states import EngineState, TileState

    if session.state == EngineState.STOPPED:
        raise EmbeddingStopped(
            f"{path}: embedding stopped after {_tiles(watch.new, 'new')}: {watch.error}"
        ) from watch.error
    encoder, states = session.encoder, session.tile_states(slide, mpp)
    if encoder is None or states is None:  # only if another thread closed them
        raise EmbeddingStopped(f"{path}: the slide was closed while it was being embedded.")
    count = {state: int((states.states == state).sum()) for state in TileState}
    progress = session.progress
    return SlideDone(
        slide=path,
        identity=slide.identity,
        encoder=encoder.identity,
        grid=states.grid.name,
        random=encoder.random,
        dim=encoder.dim,
        tiles=states.states.size,
        new=watch.new,
        already_there=count[TileState.EMBEDDED] - watch.new,
        glass_skipped=count[TileState.GLASS],
        failed=count[TileState.FAILED],
        seconds=round(seconds, 3),
        tiles_per_s=round(watch.new / seconds, 2) if seconds > 0 else 0.0,
        share_reading=round(progress.share_reading, 3) if watch.new else 0.0,
        share_encoding=round(progress.share_encoding, 3) if watch.new else 0.0,
        share_storing=round(progress.share_storing, 3) if watch.new else 0.0,
    )


def describe_encoder(encoder: Encoder) -> str:
    """Return one line about the encoder and where it computes."""
    line = (
        f"{encoder.spec.title} ({encoder.pooling}, {encoder.dim} numbers per tile) on "
        f"{encoder.device}, {encoder.precision}: {encoder.device_note}"
    )
    if encoder.random:
        line += "\nIts weights are random: the embeddings mean nothing."
    return line


def describe_progress(name: str, progress: Progress) -> str:
    """Return one line on how far a slide has come."""
    line = f"{name}  {progress.done} of {progress.wanted} tiles"
    if progress.tiles_per_s:
        line += f"  {progress.tiles_per_s:.3g} tiles/s"
    if progress.seconds_left is not None:
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        line += f"  {minutes}:{seconds:02d} left"
    return line


def describe_result(result: SlideDone | SlideFailed) -> str:
    """Return a few lines on what became of a slide."""
    if isinstance(result, SlideFailed):
        return f"{result.slide}\n  failed: {result.error}"
    lines = [
        result.slide,
        f"  {_tiles(result.tiles)} ({result.grid}): {result.new} new, "
        f"{result.already_there} already there, {result.glass_skipped} skipped as glass, "
        f"{result.failed} failed",
    ]
    if result.new:
        lines.append(
            f"  {result.seconds:.1f} s, {result.tiles_per_s:.3g} tiles/s; of the busy time "
            f"{result.share_reading:.0%} reading, {result.share_encoding:.0%} encoding, "
            f"{result.share_storing:.0%} storing"
        )
    if result.random:
        lines.append("  random weights: these embeddings mean nothing")
    return "\n".join(lines)


def _tiles(n: int, kind: str = "") -> str:
    return f"{n} {kind + ' ' * bool(kind)}{'tile' if n == 1 else 'tiles'}"
