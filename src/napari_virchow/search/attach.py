"""What a session has of similarity search, made when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from napari_virchow.classification.attach import HasClassification
from napari_virchow.search import Similarity
from napari_virchow.search.facts import Answer, Options
from napari_virchow.search.once import Place, Wanted, search_once

if TYPE_CHECKING:
    from napari_virchow.session import Session
    from napari_virchow.slide import Slide


class HasSimilarity(HasClassification):
    """The part of a `Session` that searches."""

    def __init__(self) -> None:
        super().__init__()
        self._making_search = threading.RLock()
        self._similarity: Similarity | None = None

    @property
    def similarity(self) -> Similarity:
        """The search for similar tiles; made on first use."""
        with self._making_search:
            if self._similarity is None:
                self._similarity = Similarity(cast("Session", self))
            return self._similarity

    def search(
        self,
        slide: Slide,
        places: Sequence[Place],
        *,
        against: Sequence[Place] = (),
        options: Options | None = None,
        encoder: str | None = None,
        mpp: float | None = None,
    ) -> Answer:
        """Find tiles that look like some places and unlike others, and wait for the answer.

        Nothing is embedded for it but the places themselves, where the encoder is loaded.

        Parameters
        ----------
        slide : Slide
            One of `slides`.
        places, against : sequence
            Positives and negatives: points (x, y) and `Rect` in level-0 pixels of the slide, paths
            of image files, or `Example`.
        options : Options, optional
            Scope, number of hits, how to compare; by default 200 hits on this slide.
        encoder : str, optional
            Name or identity: which of the stored embeddings to compare. By default those of the
            session's encoder, else the only ones there are.
        mpp : float, optional
            µm per pixel of the tiles.

        Returns
        -------
        Answer
            Its generation is 0.

        Raises
        ------
        ValueError
            If a place is beside the slide or not embedded, no image, or nothing is stored that
            fits.
        SlideError
            If the slide has no pixel size.
        """
        wanted = Wanted(encoder, mpp)
        return search_once(
            cast("Session", self), slide, places, against, options or Options(), wanted
        )

    def _close_attached(self) -> None:
        with self._making_search:
            similarity, self._similarity = self._similarity, None
        if similarity is not None:
            similarity.close()
        super()._close_attached()
