"""The embeddings that can be compared with each other: one kind, on every slide of the store."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_virchow.layout import SUFFIX, StoreError, read_facts
from napari_virchow.search.axes import Axes, sample_stores, stored_bytes
from napari_virchow.search.facts import Kind, Options
from napari_virchow.search.rows import SlideRows
from napari_virchow.search.space import Space, make_space, space_name

_log = logging.getLogger(__name__)
SAMPLE = 8192  # embeddings that mean and directions are found on
MOST_BYTES = 2**30  # of embeddings in memory: 210,000 of 2560 numbers
_GROWN = 2.0  # how many times more embeddings there must be before they are found anew


class _Fitted(NamedTuple):
    space: Space
    n: int


class Bank:
    """All stores of one kind, in memory as far as they were read.

    Every method may be called from any thread.

    Parameters
    ----------
    root : Path
        Folder of all stores.
    kind : Kind
        Which embeddings.
    most_bytes : int
        Embeddings of this size are kept in memory and searched exactly; of more only their leading
        directions are, which find candidates whose embeddings are then read from the store.
    """

    def __init__(self, root: Path, kind: Kind, *, most_bytes: int = MOST_BYTES) -> None:
        self.root, self.kind, self.most_bytes = root, kind, most_bytes
        self._axes: Axes | None = None
        self._lock = threading.RLock()
        self._slides: dict[Path, SlideRows] = {}
        self._spaces: dict[str, _Fitted] = {}

    def loaded(self, slides: Collection[str] | None = None) -> list[SlideRows]:
        """Return what was read, of some slides or of all, in a lasting order."""
        with self._lock:
            return [
                rows
                for _, rows in sorted(self._slides.items())
                if slides is None or rows.slide in slides
            ]

    def of(self, slide: str) -> SlideRows | None:
        """Return what was read of one slide."""
        return next(iter(self.loaded((slide,))), None)

    def read(self, path: Path) -> bool:
        """Bring one store up to date; returns whether anything changed. What is gone is dropped."""
        with self._lock:
            known = self._slides.get(path)
            axes = self._axes
        try:
            if known is None or known.axes is not axes:
                known = SlideRows(path, axes)
                known.catch_up()
                with self._lock:
                    self._slides[path] = known
                return True
            return known.catch_up()
        except (OSError, StoreError) as error:
            if path.exists():
                _log.warning("Not searched: %s", error)
            with self._lock:
                return self._slides.pop(path, None) is not None

    def read_all(
        self,
        slides: Collection[str] | None = None,
        *,
        told: Callable[[int, int, bool], bool] = lambda *_: True,
    ) -> bool:
        """Bring all stores of the kind up to date, those of some slides or of all.

        Parameters
        ----------
        told : callable
            Called with (stores done, stores in all, whether the last one changed) after each; ends
            the reading when it says False.

        Returns
        -------
        bool
            Whether anything changed.
        """
        paths = self.paths(slides)
        self._make_room(paths)
        with self._lock:
            known = [
                p for p, rows in self._slides.items() if slides is None or rows.slide in slides
            ]
        gone = [path for path in known if path not in set(paths)]
        changed = False
        for number, path in enumerate([*gone, *paths]):
            new = self.read(path)
            changed |= new
            if not told(max(0, number + 1 - len(gone)), len(paths), new):
                break
        return changed

    def paths(self, slides: Collection[str] | None = None) -> list[Path]:
        """List the stores of the kind on disk, one per slide, in a lasting order."""
        found: dict[str, Path] = {}
        names = sorted(slides) if slides is not None else ["*"]
        for name in names:
            for path in sorted(self.root.glob(f"{name}/{self.kind.encoder}/*{SUFFIX}")):
                slide = path.parent.parent.name
                # A slide whose pixel size was corrected has two: the later one counts.
                if is_of_grid(path, self.kind.grid) and (
                    slide not in found or path.stat().st_mtime_ns > found[slide].stat().st_mtime_ns
                ):
                    found[slide] = path
        return [found[slide] for slide in sorted(found)]

    def space(self, options: Options) -> Space:
        """Return the space that options ask for; fitted anew when there is twice as much.

        Raises
        ------
        ValueError
            As `make_space` does.
        """
        with self._lock:
            name = space_name(options)
            there = self.loaded()
            n = sum(len(rows) for rows in there)
            known = self._spaces.get(name)
            if known is not None and n < _GROWN * max(known.n, 1):
                return known.space
            needed = options.center or options.whiten
            dim = there[0].dim if there else 0
            sample = self.sample(there) if needed else np.empty((0, dim), np.float32)
            space = make_space(options, self.kind.pooling, sample)
            if self._axes is not None and name == "centred":
                space = Space(name, self._axes.mean)  # the norms in it are known exactly
            for rows in there if needed and known is not None else ():
                rows.forget_norms(name)
            self._spaces[name] = _Fitted(space, n)
            return space

    @property
    def nbytes(self) -> int:
        """Memory that is used, in bytes."""
        return sum(rows.nbytes for rows in self.loaded())

    @property
    def axes(self) -> Axes | None:
        """The directions that are kept in memory; None while all embeddings are."""
        return self._axes

    def _make_room(self, paths: Sequence[Path]) -> None:
        """Find axes where the embeddings would not fit in memory, or where those are outgrown."""
        if not paths:
            return
        try:
            dim = read_facts(paths[0]).dim
            n_bytes = stored_bytes(paths, dim)
            axes = self._axes
            if n_bytes <= (self.most_bytes if axes is None else _GROWN * axes.n_bytes):
                return
            sample = sample_stores(paths, dim)
        except (OSError, StoreError) as error:  # it is gone, or going, at this very moment
            _log.debug("not measured", exc_info=error)
            return
        if len(sample) > 1:
            found = Axes.fit(sample, n_bytes)
            with self._lock:
                self._axes = found
                self._spaces.clear()

    def sample(self, there: Sequence[SlideRows], n: int = SAMPLE) -> NDArray[np.float32]:
        """Return up to about `n` embeddings, evenly spread over what was read."""
        step = max(1, sum(map(len, there)) // n)
        return np.concatenate([rows.sample(step) for rows in there])


def is_of_grid(path: Path, grid: str) -> bool:
    """Say whether a store's folder name is of a grid, also after the pixel size was corrected."""
    name = path.name.removesuffix(SUFFIX)
    return name == grid or name.startswith(f"{grid}-of-")


def list_kinds(root: Path, slides: Collection[str] | None = None) -> list[Kind]:
    """List what kinds of embeddings are stored, of some slides or of all; those of most first."""
    found: dict[Kind, set[str]] = {}
    patterns = [f"{slide}/*/*{SUFFIX}" for slide in ("*" if slides is None else sorted(slides))]
    for path in (path for pattern in patterns for path in root.glob(pattern)):
        slide, encoder = path.parent.parent.name, path.parent.name
        grid = path.name.removesuffix(SUFFIX).partition("-of-")[0]
        kind = Kind(encoder, grid, _mpp_of(grid))
        if kind.mpp > 0:
            found.setdefault(kind, set()).add(slide)
    kinds = [Kind(k.encoder, k.grid, k.mpp, len(slides)) for k, slides in found.items()]
    return sorted(kinds, key=lambda k: (-k.n_slides, k.encoder, k.mpp))


def _mpp_of(grid: str) -> float:
    try:
        return float(grid.partition("px-")[2].removesuffix("mpp"))
    except ValueError:
        return 0.0
