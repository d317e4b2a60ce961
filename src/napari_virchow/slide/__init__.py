"""Slide: a whole-slide image of any size, read lazily, at any magnification."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence

import numpy as np

from napari_virchow.slide.chunks import (
    Chunk,
    ChunkCache,
    Level,
    Pixels,
    Source,
    Window,
    decoders,
    read_windows,
)
from napari_virchow.slide.imaging import shrink, srgb_converter
from napari_virchow.slide.opening import open_file
from napari_virchow.slide.pyramid import SlideLevel, make_overview, make_pyramid
from napari_virchow.slide.readers import MissingPixelSize, Opened, SlideError
from napari_virchow.slide.reduced import ReducedSource
from napari_virchow.tiles import TILE_PX, Tile, TileGrid

__all__ = ["Level", "MissingPixelSize", "Slide", "SlideError", "SlideLevel", "open_slide"]

MPP_RANGE = (0.1, 10.0)  # µm; what a microscope can have made: about 100× to 1×
SAME_SCALE = 0.01  # pixels that differ by less in size are taken as they are
VIEW_CACHE = 256 << 20
BATCH_CACHE = 24 << 20  # a larger one is slower: fresh memory costs more than decoding again
SCRATCH = 96 << 20  # bytes of unreduced windows at a time


class Slide:
    """A slide that is open; `open_slide` makes them. Every method may be called from any thread.

    Attributes
    ----------
    path, name : str
        Where it is, and the last part of that.
    reader, reader_reason : str
        "tiffslide", "openslide" or "ome-zarr", and a sentence that says why.
    identity : str
        32 hex digits that follow the content: the same after moving or renaming.
    width, height : int
        Level-0 pixels.
    levels : tuple of Level
        Sizes and downsamples of the stored levels, finest first.
    mpp : tuple of float or None
        (x, y) µm per level-0 pixel; None if the file does not say it, or says nonsense.
    mpp_note : str
        Where that comes from, or what is wrong with it.
    magnification : float or None
        Of the objective, as the file says.
    vendor : str or None
        Of the scanner.
    bounds : Rect or None
        The scanned part, where the file says it.
    associated : tuple of str
        Names of the label, macro and other images beside the slide.
    warnings : tuple of str
        Sentences the user should read.
    """

    brightfield = True  # what is not is refused at opening

    def __init__(self, path: str, identity: str, opened: Opened, *, icc: bool) -> None:
        self.path, self.identity = path, identity
        self.name = os.path.basename(path.rstrip("/\\")) or path  # noqa: PTH119  # may be a URL
        self.reader, self.reader_reason = opened.reader, _sentence(opened.reason)
        self.levels = opened.source.levels
        self.width, self.height = self.levels[0].width, self.levels[0].height
        self.magnification, self.vendor = opened.magnification, opened.vendor
        self.bounds, self.warnings = opened.bounds, opened.warnings
        self.associated = tuple(opened.associated)
        self.icc_profile = opened.icc_profile
        self.mpp: tuple[float, float] | None = None
        self._opened = opened
        self._source: Source = opened.source
        self._to_srgb = srgb_converter(opened.icc_profile) if icc else None
        if self._to_srgb is not None:  # other pixels, so other embeddings
            mixed = f"{identity} in sRGB".encode()
            self.identity = hashlib.blake2b(mixed, digest_size=16).hexdigest()
        self._batches = ChunkCache(self._source, BATCH_CACHE)
        self._views = ChunkCache(self._source, VIEW_CACHE)
        self._smaller: tuple[ReducedSource, ChunkCache] | None = None
        self._overviews: dict[int, tuple[Pixels, float]] = {}
        self.mpp_note = self._believe(opened)

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Slide {self.name}: {self.width} × {self.height} px, {self.reader}>"

    def set_mpp(self, mpp: float | tuple[float, float]) -> None:
        """Say how large level-0 pixels are, in µm: one number, or (x, y).

        Raises
        ------
        ValueError
            If it is not within 0.1–10 µm per pixel.
        """
        pair = (float(mpp[0]), float(mpp[1])) if isinstance(mpp, tuple) else (float(mpp),) * 2
        if not all(MPP_RANGE[0] <= value <= MPP_RANGE[1] for value in pair):
            raise ValueError(
                f"{_in_words(pair)} µm per pixel cannot be right: it must be between "
                f"{MPP_RANGE[0]:g} and {MPP_RANGE[1]:g}."
            )
        self.mpp, self.mpp_note = pair, "you said so"

    def grid(self, mpp: float = 0.5, tile_px: int = TILE_PX) -> TileGrid:
        """Return the grid of tiles of `tile_px` pixels at `mpp` µm per pixel.

        Raises
        ------
        MissingPixelSize
            If the slide's own pixel size is not known.
        SlideError
            If the slide is coarser than `mpp`, so that tiles would have to be enlarged.
        """
        if self.mpp is None:
            note = f" ({self.mpp_note})" if self.mpp_note else ""
            raise MissingPixelSize(
                f"The size of its pixels is not known for {self.name}{note}; "
                "say it in µm per pixel."
            )
        if mpp < 0.9 * max(self.mpp):
            raise SlideError(
                f"{self.name} has {_in_words(self.mpp)} µm per pixel, so tiles at {mpp:g} would "
                "need upsampling; choose a larger µm per pixel."
            )
        return TileGrid(self.width, self.height, self.mpp, mpp, tile_px)

    def read_region(self, x: float, y: float, level: int, width: int, height: int) -> Pixels:
        """Read a box of one level; white outside the slide.

        Parameters
        ----------
        x, y : float
            Top left corner in level-0 pixels.
        level : int
            Index into `levels`.
        width, height : int
            In pixels of that level.

        Returns
        -------
        ndarray of shape (height, width, 3), uint8
            RGB.

        Raises
        ------
        SlideError
            If it cannot be read.
        """
        size = self.levels[level]
        at = round(x * size.width / self.width), round(y * size.height / self.height)
        return self.read_window(Window(level, *at, width, height))

    def read_window(self, window: Window, *, keep: bool = True) -> Pixels:
        """Read a box of whole pixels of one level, and keep its chunks; see `read_region`."""
        out = np.empty((window.height, window.width, 3), np.uint8)
        fetch = self._views.get if keep else self._source.decode
        errors = read_windows(self._source, [window], [out], fetch)
        for error in errors.values():
            raise self._unreadable(error) from error
        return self._correct(out)

    def read_tiles(
        self,
        grid: TileGrid,
        tiles: Sequence[Tile],
        *,
        on_error: Callable[[Tile, Exception], None] | None = None,
    ) -> Pixels:
        """Read tiles of a grid from the next finer level, antialiased; white outside the slide.

        Each compressed chunk is decoded once. Raster order and 128 tiles or more at a time are
        fastest.

        Parameters
        ----------
        grid : TileGrid
            From `grid`.
        tiles : sequence of Tile
            Which ones, in any order.
        on_error : callable, optional
            Called with each tile that cannot be read, and why; that tile is left white where it is
            missing. Without it the first error is raised.

        Returns
        -------
        ndarray of shape (n, tile_px, tile_px, 3), uint8
            RGB.

        Raises
        ------
        SlideError
            If a tile cannot be read and there is no `on_error`.
        """
        side = grid.tile_px
        out = np.empty((len(tiles), side, side, 3), np.uint8)
        level, (ratio_x, ratio_y) = self._level_for(grid)
        wide, high = _whole(side, ratio_x), _whole(side, ratio_y)
        windows = [self._window(grid, tile, level, wide, high) for tile in tiles]
        smaller, chunks = self._reduced(max(1, wide // side))
        if (wide, high) == (side, side):
            errors = read_windows(self._source, windows, list(out), self._fetch)
        elif smaller.fits(windows, side):
            reduced = [smaller.window(window) for window in windows]
            errors = read_windows(smaller, reduced, list(out), chunks.get)
        else:
            errors = self._read_shrunk(windows, out)
        for number, error in sorted(errors.items()):
            if on_error is None:
                raise self._unreadable(error) from error
            on_error(tiles[number], self._unreadable(error))
        return self._correct(out)

    def pyramid(self) -> list[SlideLevel]:
        """Return the levels as lazy arrays for a viewer, finest first.

        Where the stored levels are more than a factor of 4 apart, or none is small, levels are put
        in between whose pixels are made when they are asked for.
        """
        return make_pyramid(self)

    def overview(self, max_px: int = 1024) -> tuple[Pixels, float]:
        """Return the whole slide, small; kept after the first call.

        Parameters
        ----------
        max_px : int
            Its longer side at most.

        Returns
        -------
        pixels : ndarray of shape (h, w, 3), uint8
            RGB.
        downsample : float
            Level-0 pixels per pixel (mean of x and y; exactly `width / w` and `height / h`).
        """
        if max_px not in self._overviews:
            pixels = make_overview(self, max_px)
            scale = (self.width / pixels.shape[1] + self.height / pixels.shape[0]) / 2
            self._overviews[max_px] = pixels, scale
        return self._overviews[max_px]

    def read_associated(self, name: str) -> Pixels:
        """Read a label, macro or other image beside the slide: (h, w, 3) uint8.

        Raises
        ------
        KeyError
            If it has no image of that name.
        """
        return self._opened.associated[name]()

    def close(self) -> None:
        """Let go of the file. Safe to call twice."""
        self._source.close()
        if self._opened.slow is not None:
            self._opened.slow.close()
        self._views.clear()
        self._batches.clear()
        self._smaller = None

    def _correct(self, pixels: Pixels) -> Pixels:
        return pixels if self._to_srgb is None else self._to_srgb(pixels)

    def _read_shrunk(self, windows: Sequence[Window], out: Pixels) -> dict[int, Exception]:
        """Read windows whole and make them smaller, a few at a time; return errors by number."""
        errors: dict[int, Exception] = {}
        side = out.shape[1]
        step = max(1, SCRATCH // max((w.width * w.height * 3 for w in windows), default=1))
        for start in range(0, len(windows), step):
            part = windows[start : start + step]
            whole = [np.empty((w.height, w.width, 3), np.uint8) for w in part]
            found = read_windows(self._source, part, whole, self._fetch)
            for number, pixels in enumerate(
                decoders().map(lambda p: shrink(p, side), whole), start
            ):
                out[number] = pixels
            errors |= {start + number: error for number, error in found.items()}
        return errors

    def _reduced(self, factor: int) -> tuple[ReducedSource, ChunkCache]:
        """Return the source whose chunks are smaller by `factor`, and its cache; both are kept."""
        if self._smaller is None or self._smaller[0].factor != factor:
            source = ReducedSource(self._source, factor, self._views.peek)
            self._smaller = source, ChunkCache(source, BATCH_CACHE)
        return self._smaller

    def _fetch(self, chunk: Chunk) -> Pixels:
        seen = self._views.peek(chunk)
        return seen if seen is not None else self._batches.get(chunk)

    def _level_for(self, grid: TileGrid) -> tuple[int, tuple[float, float]]:
        """Return the coarsest level that is fine enough, and its pixels per tile pixel (x, y)."""
        wanted = grid.step[0] / grid.tile_px, grid.step[1] / grid.tile_px
        best, ratio = 0, wanted
        for number, level in enumerate(self.levels):
            at = wanted[0] * level.width / self.width, wanted[1] * level.height / self.height
            if min(at) >= 1 - SAME_SCALE:
                best, ratio = number, at
        return best, ratio

    def _window(self, grid: TileGrid, tile: Tile, level: int, wide: int, high: int) -> Window:
        """Return the pixels of a tile, rounded here and nowhere else; centred on the tile."""
        x, y = grid.rect(tile).center
        size = self.levels[level]
        x, y = x * size.width / self.width, y * size.height / self.height
        return Window(level, round(x - wide / 2), round(y - high / 2), wide, high)

    def _unreadable(self, error: Exception) -> SlideError:
        if isinstance(error, SlideError):
            return error
        why = str(error).strip().rstrip(".") or type(error).__name__
        return SlideError(f"A part of {self.name} cannot be read ({why}).")

    def _believe(self, opened: Opened) -> str:
        """Take over the file's pixel size if it can be true; return where it is from, or not."""
        if opened.mpp is None and opened.doubted_mpp is not None:
            found = _in_words(opened.doubted_mpp)
            return f"a resolution tag says {found} µm per pixel, which such files often get wrong"
        if opened.mpp is None:
            return "the file does not say it"
        if not all(MPP_RANGE[0] <= value <= MPP_RANGE[1] for value in opened.mpp):
            return f"the file says {_in_words(opened.mpp)} µm per pixel, outside 0.1–10"
        self.mpp = opened.mpp
        return f"from {opened.mpp_note}"


def open_slide(
    path: str | os.PathLike[str],
    *,
    mpp: float | tuple[float, float] | None = None,
    icc: bool = False,
) -> Slide:
    """Open a whole-slide image; nothing but its index is read.

    Parameters
    ----------
    path : str or path-like
        A file, a folder (DICOM, OME-Zarr) or a URL that fsspec knows.
    mpp : float, (float, float) or None
        µm per level-0 pixel, if the file does not say it or is wrong.
    icc : bool
        Convert colours to sRGB with the slide's ICC profile, if it has one.

    Raises
    ------
    SlideError
        If it cannot be opened as a slide.
    ValueError
        If `mpp` is not within 0.1–10.
    """
    where = os.path.expanduser(os.fspath(path))  # noqa: PTH111  # may be a URL
    opened, identity = open_file(where)
    slide = Slide(where, identity, opened, icc=icc)
    if mpp is not None:
        try:
            slide.set_mpp(mpp)
        except ValueError:
            slide.close()
            raise
    return slide


def _whole(side: int, ratio: float) -> int:
    """Return how many pixels make `side`; a whole multiple where that is true but for rounding."""
    times = round(ratio)
    return side * times if abs(ratio - times) <= SAME_SCALE * times else round(side * ratio)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _in_words(mpp: tuple[float, ...]) -> str:
    return " × ".join(dict.fromkeys(f"{value:.4g}" for value in mpp))
