"""Readers: what tiffslide, OpenSlide and Zarr know of a file, all in one shape."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_virchow.slide.chunks import Chunk, Level, Pixels, Source
from napari_virchow.slide.remote import RemoteFile
from napari_virchow.tiles import Rect

VIRTUAL_CHUNK = 512  # px; what is fetched at once from a reader that hides its chunks
ICC_TAG = 34675
# A reader's own vendors write a pixel size on purpose; a plain TIFF's resolution is often 72 dpi.
GENERIC_TIFF = ("generic", "generic-tiff", "shaped", "uniform", "imagej", "lsm", "ome", None)
RGB_PHOTOMETRICS = (2, 6)  # RGB and YCbCr, which the codecs turn into RGB
ALPHA_SAMPLES = (1, 2)  # ExtraSamples values that mean transparency


class SlideError(Exception):
    """A slide cannot be opened or read; one sentence that names it and says what to do."""


class MissingPixelSize(SlideError):
    """The slide does not say how large its pixels are."""


@dataclass(slots=True)
class Opened:
    """What a reader found out about a slide."""

    reader: str
    reason: str
    source: Source
    fast: TiffSource | None = None  # another way to the same pixels, if it is found right
    slow: Source | None = None  # the first way, once the fast one is taken
    mpp: tuple[float, float] | None = None
    mpp_note: str = ""
    doubted_mpp: tuple[float, float] | None = None  # from a tag that is often wrong: not used
    magnification: float | None = None
    vendor: str | None = None
    bounds: Rect | None = None
    icc_profile: bytes | None = None
    quick_hash: str | None = None
    associated: Mapping[str, Callable[[], Pixels]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class RegionSource:
    """Chunks cut from a reader that only gives regions.

    Parameters
    ----------
    levels : tuple of Level
        The pyramid.
    read : callable
        Gives the RGB pixels of (level, x, y, width, height), all in that level's pixels.
    close : callable
        Closes the file.
    """

    def __init__(
        self,
        levels: tuple[Level, ...],
        read: Callable[[int, int, int, int, int], Pixels],
        close: Callable[[], None],
        size: int = VIRTUAL_CHUNK,
    ) -> None:
        self.levels, self._read, self._close, self._size = levels, read, close, size

    def chunk_size(self, level: int) -> tuple[int, int]:
        """Return the (width, height) of the virtual chunks."""
        return self._size, self._size

    def order(self, chunk: Chunk) -> int:
        """Return a number that grows row by row."""
        return (chunk.row << 32) + chunk.col

    def prepare(self, chunks: Sequence[Chunk]) -> None:
        """Do nothing: the reader does not say where its chunks are."""

    def decode(self, chunk: Chunk) -> Pixels:
        """Return the chunk's pixels."""
        level = self.levels[chunk.level]
        x, y = chunk.col * self._size, chunk.row * self._size
        width, height = min(self._size, level.width - x), min(self._size, level.height - y)
        return self._read(chunk.level, x, y, width, height)

    def close(self) -> None:
        """Close the file."""
        self._close()


class TiffSource:
    """The chunks (tiles or strips) of a TIFF, read past tiffslide for speed.

    tifffile's own decoder does the work, so every codec and photometric it knows is right; only the
    reading of the bytes is ours, which lets all cores decode at once.
    """

    def __init__(
        self,
        path: str,
        levels: tuple[Level, ...],
        pages: list[Any],
        remote: RemoteFile | None = None,
    ) -> None:
        self.levels = levels
        self._path = path
        self._pages = pages
        self._lock = threading.Lock()
        self._remote = remote
        # Kept open until close()
        self._file = Path(path).open("rb") if remote is None else None  # noqa: SIM115
        for page in pages:  # made on first use, which must not happen in several threads at once
            page.keyframe.decode  # noqa: B018
        self._grids = [_grid_of(page) for page in pages]

    def chunk_size(self, level: int) -> tuple[int, int]:
        """Return the (width, height) of the file's tiles or strips."""
        _, wide, high = self._grids[level]
        return wide, high

    def order(self, chunk: Chunk) -> int:
        """Return the chunk's place in the file."""
        return int(self._pages[chunk.level].dataoffsets[self._index(chunk)])

    def prepare(self, chunks: Sequence[Chunk]) -> None:
        """Fetch the bytes of chunks from the server that the file is on."""
        if self._remote is not None:
            places = [(self._pages[c.level], self._index(c)) for c in chunks]
            self._remote.prepare(
                (int(page.dataoffsets[n]), int(page.databytecounts[n])) for page, n in places
            )

    def decode(self, chunk: Chunk) -> Pixels:
        """Return the chunk's pixels; white where the file leaves a tile out."""
        page, index = self._pages[chunk.level], self._index(chunk)
        level = self.levels[chunk.level]
        _, wide, high = self._grids[chunk.level]
        width = min(wide, level.width - chunk.col * wide)
        height = min(high, level.height - chunk.row * high)
        count = page.databytecounts[index]
        if count == 0:
            return np.full((height, width, 3), 255, np.uint8)
        data = self._bytes_at(page.dataoffsets[index], count)
        key = page.keyframe
        header = {} if key.jpegheader is None else {"jpegheader": key.jpegheader}
        pixels = key.decode(data, index, jpegtables=page.jpegtables, **header)[0]
        if pixels is None:
            raise SlideError(f"The tile {index} of {self._path} is empty.")
        return opaque(pixels[0, :height, :width], key.extrasamples)

    def some_chunk(self, level: int) -> Chunk:
        """Return a chunk near the middle of a level that the file does not leave out."""
        per_row, wide, high = self._grids[level]
        size = self.levels[level]
        middle = size.height // 2 // high * per_row + size.width // 2 // wide
        there = np.flatnonzero(self._pages[level].databytecounts)
        index = middle if not there.size else int(there[np.abs(there - middle).argmin()])
        return Chunk(level, *divmod(index, per_row))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _index(self, chunk: Chunk) -> int:
        return chunk.row * self._grids[chunk.level][0] + chunk.col

    def _bytes_at(self, offset: int, count: int) -> bytes:
        if self._file is None:
            data = b"" if self._remote is None else self._remote.read_at(int(offset), int(count))
        elif hasattr(os, "pread"):
            data = os.pread(self._file.fileno(), count, offset)
        else:
            with self._lock:
                self._file.seek(offset)
                data = self._file.read(count)
        if len(data) < count:
            raise SlideError(f"The file {self._path} ends too early; copy it again.")
        return data


def _grid_of(page: Any) -> tuple[int, int, int]:
    """Return (chunks per row, chunk width, chunk height) of a TIFF page."""
    high, wide = page.chunks[:2]
    return -(-page.imagewidth // wide), int(wide), int(high)


def refuse_unless_rgb(path: str, page: Any) -> None:
    """Raise SlideError if a TIFF page does not hold 8-bit RGB, which is all we can show rightly."""
    name = Path(path).name
    if page.dtype != np.uint8 or page.samplesperpixel not in (3, 4):
        raise SlideError(
            f"{name} has {page.samplesperpixel} channel(s) of {page.dtype}, not 8-bit RGB, so it "
            "is not a brightfield slide; napari can open it, but it cannot be embedded."
        )
    if page.photometric not in RGB_PHOTOMETRICS:
        kind = getattr(page.photometric, "name", page.photometric)
        raise SlideError(f"{name} has {kind} colours, not RGB; convert it to RGB first.")


def opaque(pixels: Pixels, extrasamples: tuple[int, ...] = (2,)) -> Pixels:
    """Return RGB pixels; where there is a fourth sample that means transparency, on white."""
    rgb, alpha = pixels[..., :3], pixels[..., 3:4]
    if alpha.size == 0 or not set(extrasamples[:1]) & set(ALPHA_SAMPLES) or alpha.min() == 255:
        return np.ascontiguousarray(rgb)
    part = alpha.astype(np.uint16)
    return ((rgb * part + 255 * (255 - part)) // 255).astype(np.uint8)


def fast_tiff_source(
    path: str, levels: tuple[Level, ...], series: Any, remote: RemoteFile | None = None
) -> TiffSource | str:
    """Return a direct source for a TIFF's series, or the reason why there can be none."""
    if remote is None and not Path(path).is_file():
        return "the file is not on this machine"
    pages = []
    for level, found in zip(levels, series.levels, strict=True):
        if len(found.pages) != 1 or found.pages[0] is None:
            return "a level is made of several pages"
        page = found.pages[0]
        key = page.keyframe
        if (key.imagewidth, key.imagelength) != (level.width, level.height):
            return "a level is cut out of a larger one"
        if key.dtype != np.uint8 or key.samplesperpixel not in (3, 4) or key.planarconfig != 1:
            return "the pixels are not plain 8-bit RGB"
        if len(page.dataoffsets) != np.prod(key.chunked):
            return "the file's index is unusual"
        pages.append(page)
    return TiffSource(path, levels, pages, remote)
