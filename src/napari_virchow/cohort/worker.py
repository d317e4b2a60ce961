"""What a worker process does: survey a slide, and embed a part of one."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_virchow.blocks import (
    BLOCK,
    DamagedBlockError,
    Places,
    block_name,
    by_block,
    empty_block,
    read_block,
    write_block,
)
from napari_virchow.cohort.facts import CohortError, CohortOptions, PartDone, Survey
from napari_virchow.layout import create_array, lock_store, store_folder
from napari_virchow.memory import recall_slide, remember_slide
from napari_virchow.store import EmbeddingStore
from napari_virchow.tiles import Tile
from napari_virchow.tissue import tissue_mask

if TYPE_CHECKING:
    from napari_virchow.encoders import Encoder
    from napari_virchow.slide import Slide

BATCH = 128  # tiles read at a time, rounded up to whole blocks
_OPEN_SLIDES = 3
_lock = threading.Lock()
_slides: OrderedDict[tuple[str, float | None], Slide] = OrderedDict()


def survey(path: str, options: CohortOptions) -> Survey:
    """Open a slide, find its tissue, make its store, and say what is left to embed.

    Raises
    ------
    SlideError
        If the slide cannot be used.
    StoreError
        If the store cannot be made, or is being written by somebody else.
    EncoderUnavailable
        If this worker cannot load the encoder.
    """
    encoder, slide = _encoder(options), _slide(path, options)
    grid, root = slide.grid(options.mpp), Path(options.store)
    folder = store_folder(root, slide.identity, encoder.identity, grid)
    lock = lock_store(folder, root)
    try:
        remember_slide(
            root, slide.identity, name=slide.name, path=slide.path, mpp=options.slide_mpp
        )
        if not (folder / "zarr.json").exists():
            create_array(
                folder,
                slide=slide.identity,
                encoder=encoder.identity,
                grid=grid,
                dim=encoder.dim,
            )
    finally:
        lock.release()
    with EmbeddingStore(folder, grid, encoder.dim, None) as store:
        done = store.done
    wanted = np.ones(grid.shape, np.bool_)
    if slide.brightfield and not options.all_tiles:
        wanted = tissue_mask(slide).tiles(grid)
    todo = np.argwhere(wanted & ~done).astype(np.int32)
    order = [members for _, members in by_block(todo)]
    return Survey(
        path=path,
        name=slide.name,
        identity=slide.identity,
        encoder=encoder.identity,
        grid=grid.name,
        store=str(folder),
        dim=encoder.dim,
        n_tiles=done.size,
        n_glass=int(np.count_nonzero(~wanted & ~done)),
        n_there=int(np.count_nonzero(done)),
        todo=todo[np.concatenate(order)] if order else todo,
    )


def embed_part(
    found: Survey, options: CohortOptions, tiles: Places, *, backwards: bool = False
) -> PartDone:
    """Embed some tiles of a surveyed slide and write them, block by block.

    A block whose tiles are all on disk by now is left alone, so that the same part may be tried
    again, or begun from its other end by a second worker.

    Raises
    ------
    CohortError
        If this worker's encoder is not the one the slide was surveyed with.
    SlideError, OSError
        If the slide cannot be opened, or the store cannot be written.
    """
    encoder, slide = _encoder(options), _slide(found.path, options)
    if encoder.identity != found.encoder or slide.identity != found.identity:
        raise CohortError(
            f"{found.path} or the weights differ between workers ({slide.identity} by "
            f"{encoder.identity}, not {found.identity} by {found.encoder}): give all of them the "
            "same files."
        )
    part = _Part(slide, encoder, options.mpp, Path(found.store))
    batches = _batches(tiles)
    return part.run(batches[::-1] if backwards else batches)


class _Part:
    """One part in work: the next batch is read while one is encoded."""

    def __init__(self, slide: Slide, encoder: Encoder, mpp: float, folder: Path) -> None:
        self._slide, self._encoder, self._folder = slide, encoder, folder
        self._grid = slide.grid(mpp)
        self._bad: dict[Tile, Exception] = {}
        self._n_new = 0
        self._seconds = {"reading": 0.0, "encoding": 0.0, "storing": 0.0}

    def run(self, batches: list[Places]) -> PartDone:
        with ThreadPoolExecutor(1, thread_name_prefix="cohort-read") as reader:
            ahead = reader.submit(self._read, batches[0]) if batches else None
            for number in range(len(batches)):
                assert ahead is not None
                places, pixels = ahead.result()
                if number + 1 < len(batches):
                    ahead = reader.submit(self._read, batches[number + 1])
                if len(places):
                    self._embed(places, pixels)
        why = next((str(error) for error in self._bad.values()), "")
        return PartDone(
            n_new=self._n_new,
            n_failed=len(self._bad),
            why=why,
            reading_s=self._seconds["reading"],
            encoding_s=self._seconds["encoding"],
            storing_s=self._seconds["storing"],
        )

    def _read(self, places: Places) -> tuple[Places, NDArray[np.uint8]]:
        """Read the tiles of a batch that are not on disk by now; those that can be read."""
        began = time.perf_counter()
        left = self._missing(places)
        bad: dict[Tile, Exception] = {}
        tiles = [Tile(*place) for place in left.tolist()]
        pixels = self._slide.read_tiles(self._grid, tiles, on_error=bad.__setitem__)
        if bad:
            good = np.array([tile not in bad for tile in tiles], np.bool_)
            self._bad |= bad
            left, pixels = left[good], pixels[good]
        self._seconds["reading"] += time.perf_counter() - began
        return left, pixels

    def _embed(self, places: Places, pixels: NDArray[np.uint8]) -> None:
        began = time.perf_counter()
        rows = self._encoder.encode(pixels)
        middle = time.perf_counter()
        finite = np.isfinite(rows).all(axis=1)
        for place in places[~finite].tolist():
            self._bad[Tile(*place)] = ValueError("the encoder gave no finite numbers")
        largest = float(np.finfo(np.float16).max)
        half = np.clip(rows[finite], -largest, largest).astype("<f2")
        for block, members in by_block(places[finite]):
            self._write(block, places[finite][members], half[members])
        self._n_new += int(np.count_nonzero(finite))
        self._seconds["encoding"] += middle - began
        self._seconds["storing"] += time.perf_counter() - middle

    def _missing(self, places: Places) -> Places:
        keep = np.ones(len(places), np.bool_)
        for block, members in by_block(places):
            data = self._stored(block)
            if data is not None:
                inside = places[members] % BLOCK
                keep[members] = np.isnan(data[inside[:, 0], inside[:, 1], 0])
        return places[keep]

    def _write(self, block: tuple[int, int], places: Places, rows: NDArray[np.float16]) -> None:
        data = self._stored(block)
        if data is None:
            data = empty_block(self._encoder.dim)
        inside = places % BLOCK
        data[inside[:, 0], inside[:, 1]] = rows
        write_block(self._folder / block_name(*block), data)

    def _stored(self, block: tuple[int, int]) -> NDArray[np.float16] | None:
        data = empty_block(self._encoder.dim)
        try:
            read_block(self._folder / block_name(*block), data)
        except (FileNotFoundError, DamagedBlockError):
            return None
        return data


def _batches(tiles: Places) -> list[Places]:
    """Cut a part into batches of whole blocks."""
    batches: list[Places] = []
    held: list[NDArray[np.intp]] = []
    for _, members in by_block(tiles):
        held.append(members)
        if sum(map(len, held)) >= BATCH:
            batches.append(tiles[np.concatenate(held)])
            held = []
    if held:
        batches.append(tiles[np.concatenate(held)])
    return batches


def _slide(path: str, options: CohortOptions) -> Slide:
    """Return an open slide; a worker keeps the last few."""
    from napari_virchow.slide import open_slide

    key = path, options.slide_mpp
    with _lock:
        slide = _slides.get(key)
        if slide is None:
            slide = open_slide(path, mpp=options.slide_mpp)
            if slide.mpp is None:
                remembered = recall_slide(Path(options.store), slide.identity).mpp
                if remembered is not None:
                    slide.set_mpp(remembered)
            _slides[key] = slide
        _slides.move_to_end(key)
        while len(_slides) > _OPEN_SLIDES:  # not closed: another thread may be reading it
            _slides.popitem(last=False)
        return slide


def _encoder(options: CohortOptions) -> Encoder:
    with _lock:
        return _load(options.encoder, options.weights, options.device, options.compile)


@cache
def _load(name: str, weights: str | None, device: str, compiles: bool) -> Encoder:
    from napari_virchow.encoders import load_encoder

    return load_encoder(name, weights=weights, device=device, compile=compiles)
