"""What is asked of a similarity search: examples come and go, are saved and come back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_virchow.foreground import go_first
from napari_virchow.memory import recall_slide
from napari_virchow.search.facts import Example, Kind, Options, Query
from napari_virchow.search.history import QueryHistory
from napari_virchow.search.lookup import tiles_of_region
from napari_virchow.search.once import image_example
from napari_virchow.search.saved import Pictures, SavedQueries, SavedQuery
from napari_virchow.tiles import Rect, Tile

if TYPE_CHECKING:
    from napari_virchow.search.space import Vector
    from napari_virchow.session import Session
    from napari_virchow.slide import Slide


class Asking(ABC):
    """The part of a `Similarity` that holds the query; see there."""

    # The query is another one now
    changed = Signal(Query)

    def __init__(self, session: Session) -> None:
        self._session = session
        self._history = QueryHistory()
        self.saved = SavedQueries(session.store)

    @property
    @abstractmethod
    def kind(self) -> Kind | None:
        """The embeddings that are compared."""

    @abstractmethod
    def refresh(self) -> int:
        """Answer the present query anew; returns the generation of the request."""

    @abstractmethod
    def vector_of(self, example: Example) -> Vector | None:
        """Return an example's embedding of the kind that is compared."""

    @property
    def query(self) -> Query:
        """The present query."""
        return self._history.query

    @property
    def can_undo(self) -> bool:
        """Whether a change of the query can be undone."""
        return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether an undone change can be done again."""
        return self._history.can_redo

    def ask(self, query: Query) -> int:
        """Make this the present query; returns the generation that its answer will carry."""
        return self._after(self._history.put(query))

    def add(self, slide: Slide | str, tile: Tile, positive: bool = True) -> int:
        """Add a tile of a slide, on the grid that is compared; see `add_tiles`."""
        return self.add_tiles(slide, [tile], positive)

    def add_tiles(self, slide: Slide | str, tiles: Iterable[Tile], positive: bool = True) -> int:
        """Add tiles in one step; a tile that is an example of the other side changes sides.

        Those that are not embedded yet are embedded next.

        Parameters
        ----------
        slide : Slide or str
            Or its identity.
        """
        identity = slide if isinstance(slide, str) else slide.identity
        kind, (name, _) = self.kind, self.describe(identity)
        mpp = kind.mpp if kind is not None else 0.0
        made = [Example(identity, Tile(int(row), int(col)), name, mpp) for row, col in tiles]
        return self.add_examples(made, positive)

    def add_region(self, slide: Slide, region: Rect, positive: bool = True) -> int:
        """Add the tiles whose middle is in a box of level-0 pixels, else the one at its middle."""
        kind = self.kind
        if kind is None:
            raise ValueError("There are no embeddings to search: embed a slide first.")
        return self.add_tiles(slide, tiles_of_region(slide, kind.mpp, region), positive)

    def add_examples(self, examples: Iterable[Example], positive: bool = True) -> int:
        """Add examples in one step."""
        return self._after(self._history.add(examples, positive=positive))

    def read_image(self, path: Path | str) -> Example:
        """Return an image file as an example for `add_examples`; blocks while it is embedded.

        Raises
        ------
        ValueError
            If no encoder is loaded, or it is no image.
        EncoderUnavailable
            If it cannot be embedded.
        """
        encoder = self._session.encoder
        if encoder is None:
            raise ValueError("No encoder is loaded to embed the image; choose one first.")
        return image_example(path, encoder)

    def remove(self, *examples: Example) -> int:
        """Take examples out of the query."""
        return self._after(self._history.remove(examples))

    def clear(self) -> int:
        """Take all examples out; the options stay."""
        return self.ask(Query(options=self.query.options))

    def set_options(self, options: Options) -> int:
        """Keep the examples and search otherwise."""
        return self._after(self._history.set_options(options))

    def undo(self) -> int:
        """Undo the last change of the query."""
        return self._after(self._history.undo())

    def redo(self) -> int:
        """Do again what was undone."""
        return self._after(self._history.redo())

    def save_query(
        self, name: str, notes: str = "", pictures: Pictures | None = None
    ) -> SavedQuery:
        """Keep the present query under a name; a small file is written.

        Raises
        ------
        SavedQueryError, ValueError
            As `SavedQueries.save` does.
        """
        query, kind = self.query, self.kind
        if kind is None:
            raise ValueError("There is nothing to save: pick a tile first.")
        sides = [
            tuple(replace(e, vector=self.vector_of(e), encoder=kind.encoder) for e in side)
            for side in (query.positives, query.negatives)
        ]
        whole = Query(sides[0], sides[1], query.options)
        return self.saved.save(name, whole, kind, notes=notes, pictures=pictures)

    def load_query(self, saved: SavedQuery) -> int:
        """Ask a saved query, in the present scope; returns the generation of the request.

        Its examples are looked up on their slides where those are stored, else their kept vectors
        serve, if they are of the encoder in use.

        Raises
        ------
        SavedQueryError
            If it cannot be read.
        """
        return self.ask(self.saved.load(saved, self.query.options))

    def describe(self, slide: str) -> tuple[str, str]:
        """Return the name and the path of a slide, open or remembered, by its identity."""
        there = self._session.slides.get(slide)
        if there is not None:
            return there.name, there.path
        known = recall_slide(self._session.store, slide)
        return known.name or slide, known.path

    def _after(self, changed: bool) -> int:
        if changed:
            go_first()
            self.changed.emit(self.query)
        return self.refresh()
