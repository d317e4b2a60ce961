"""What similarity search asks and answers: plain frozen facts, passed along by signals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_virchow.tiles import Rect, Tile, TileGrid
from napari_virchow.training import encoder_name

Scope = Literal["slide", "chosen", "store"]
Order = Literal["score", "slide", "diversity"]
MOST_HITS = 10_000


@dataclass(frozen=True, slots=True)
class Example:
    """A tile to look for, or to keep away from; a region is several of them.

    Parameters
    ----------
    slide : str
        Identity of its slide; empty for an image file.
    tile : Tile
        Its place in the grid of `mpp`.
    name : str
        What to call it: the name of its slide, or of the image file.
    mpp : float
        µm per pixel of that grid; 0 where that does not matter.
    vector : ndarray of shape (dim,), float32, optional
        Its embedding by `encoder`, where that is not looked up in the store.
    encoder : str
        Identity of the encoder of `vector`.
    """

    slide: str
    tile: Tile
    name: str
    mpp: float = 0.0
    vector: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    encoder: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Options:
    """Where to search, and how tiles are compared.

    Parameters
    ----------
    scope : {"slide", "chosen", "store"}
        The slide that is looked at, those of `slides`, or every slide that was ever embedded.
    slides : tuple of str
        Identities, for the scope "chosen".
    center : bool
        Subtract the mean embedding first.
    whiten : bool
        Subtract the mean and let every principal direction count equally.
    class_token_only : bool
        Compare the first half of embeddings that are class token and mean of the other tokens.
    exclude_within : int
        Tiles no farther than this from a positive example are no hits (0: only itself).
    group_neighbours : bool
        Of hits side by side keep the best one.
    negative_weight : float
        How strongly negative examples push away: γ of Rocchio's formula, not negative.
    k : int
        How many hits are wanted, up to 10,000.

    Raises
    ------
    ValueError
        If a number or the scope is out of range.
    """

    scope: Scope = "slide"
    slides: tuple[str, ...] = ()
    center: bool = False
    whiten: bool = False
    class_token_only: bool = False
    exclude_within: int = 1
    group_neighbours: bool = False
    negative_weight: float = 0.3
    k: int = 200

    def __post_init__(self) -> None:
        if self.scope not in ("slide", "chosen", "store"):
            raise ValueError(f"The scope is slide, chosen or store, not {self.scope!r}.")
        if not 1 <= self.k <= MOST_HITS:
            raise ValueError(f"From 1 to {MOST_HITS:,} hits can be asked for, not {self.k}.")
        if self.exclude_within < 0:
            raise ValueError(f"exclude_within counts tiles from 0 on, not {self.exclude_within}.")
        if not 0 <= self.negative_weight <= 10:
            raise ValueError(f"negative_weight goes from 0 to 10, not {self.negative_weight}.")


@dataclass(frozen=True, slots=True)
class Query:
    """More like the positives, less like the negatives."""

    positives: tuple[Example, ...] = ()
    negatives: tuple[Example, ...] = ()
    options: Options = Options()


@dataclass(frozen=True, slots=True)
class Kind:
    """Embeddings that can be compared with each other: of one encoder, pooling and tile size.

    `encoder` is its whole identity (name, weights, pooling), `grid` the name of the grid.
    """

    encoder: str
    grid: str
    mpp: float
    n_slides: int = field(default=0, compare=False)

    @property
    def pooling(self) -> str:
        """How tokens become an embedding."""
        return self.encoder.rpartition("-")[2]

    @property
    def name(self) -> str:
        """The encoder without weights and pooling."""
        known = encoder_name(self.encoder)
        return known if known != self.encoder else known.split("-")[0]


@dataclass(frozen=True, slots=True)
class Compared:
    """Which embeddings an answer is about.

    Parameters
    ----------
    kind : Kind
        Encoder, pooling and magnification.
    n_tiles, n_slides : int
        How much was searched.
    n_waiting : int
        Slides in the scope that are still being read.
    others : tuple of Kind
        What else the store has of the scope, which could be compared instead.
    """

    kind: Kind
    n_tiles: int
    n_slides: int
    n_waiting: int = 0
    others: tuple[Kind, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """How many of the stores in the scope are read."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class HitSlide:
    """A slide with hits: identity, what it is called, where it was last, and its grid."""

    identity: str
    name: str
    path: str
    grid: TileGrid


@dataclass(frozen=True, slots=True)
class Hit:
    """A tile that was found; `rect` in level-0 pixels, `score` from -1 to 1."""

    slide: str
    slide_name: str
    slide_path: str
    tile: Tile
    rect: Rect
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Tiles that were found, best first: a sequence of `Hit` that is kept as arrays.

    Parameters
    ----------
    slides : tuple of HitSlide
        The slides they are on.
    of : ndarray of shape (n,), int32
        Index into `slides`.
    tiles : ndarray of shape (n, 2), int32
        Row and column.
    scores : ndarray of shape (n,), float32
        Not increasing.
    variety : ndarray of shape (n,), intp
        The hits in an order in which each differs from those before; see `order`.
    """

    slides: tuple[HitSlide, ...]
    of: NDArray[np.int32]
    tiles: NDArray[np.int32]
    scores: NDArray[np.float32]
    variety: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, number: int) -> Hit:
        slide = self.slides[int(self.of[number])]
        tile = Tile(int(self.tiles[number, 0]), int(self.tiles[number, 1]))
        score = float(self.scores[number])
        return Hit(slide.identity, slide.name, slide.path, tile, slide.grid.rect(tile), score)

    def __iter__(self) -> Iterator[Hit]:
        return (self[number] for number in range(len(self)))

    def above(self, threshold: float) -> int:
        """Count the hits that score at least `threshold`."""
        return int(np.count_nonzero(self.scores >= threshold))

    def histogram(self, bins: int = 50) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Count hits by score; returns counts (bins,) and edges (bins + 1,)."""
        counts, edges = np.histogram(self.scores, bins)
        return counts, edges.astype(np.float64)

    def order(self, by: Order) -> NDArray[np.intp]:
        """Return the numbers of the hits, sorted.

        Parameters
        ----------
        by : {"score", "slide", "diversity"}
            Best first; slide by slide in the order of their best hits; or alternately good and
            unlike what came before.

        Raises
        ------
        ValueError
            If `by` is none of them.
        """
        if by == "score":
            return np.arange(len(self), dtype=np.intp)
        if by == "diversity":
            return self.variety
        if by != "slide":
            raise ValueError(f"Hits are sorted by score, slide or diversity, not by {by!r}.")
        _, first = np.unique(self.of, return_index=True)
        best = np.full(len(self.slides), len(self), np.intp)
        best[np.unique(self.of)] = first
        return np.lexsort((np.arange(len(self)), best[self.of])).astype(np.intp)

    def on(self, slide: str) -> NDArray[np.intp]:
        """Return the numbers of the hits on one slide, best first."""
        mine = [n for n, one in enumerate(self.slides) if one.identity == slide]
        return np.flatnonzero(np.isin(self.of, mine))


@dataclass(frozen=True, slots=True, eq=False)
class Heat:
    """The score of every embedded tile of one slide.

    Parameters
    ----------
    slide : str
        Identity.
    tiles : ndarray of shape (n, 2), int32
        Row and column.
    scores : ndarray of shape (n,), float32
        To about three digits; those of hits are exact.
    """

    slide: str
    grid: TileGrid
    tiles: NDArray[np.int32]
    scores: NDArray[np.float32]

    def above(self, threshold: float) -> int:
        """Count the tiles that score at least `threshold`."""
        return int(np.count_nonzero(self.scores >= threshold))

    def raster(self) -> NDArray[np.float32]:
        """Return the scores as a picture (rows, cols), NaN where nothing is embedded."""
        picture = np.full(self.grid.shape, np.nan, np.float32)
        picture[self.tiles[:, 0], self.tiles[:, 1]] = self.scores
        return picture


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What was found.

    Parameters
    ----------
    generation : int
        Of the request it answers; a later one is never followed by an earlier one.
    query : Query
        What was asked.
    hits : Hits
        Best first.
    heat : Heat or None
        Of the slide that is looked at, if it is in the scope.
    compared : Compared
        Which embeddings it is about.
    seconds : float
        From taking up the request to the answer.
    """

    generation: int
    query: Query
    hits: Hits
    heat: Heat | None
    compared: Compared
    seconds: float = 0.0
