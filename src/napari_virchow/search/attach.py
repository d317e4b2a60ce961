"""What a session has of similarity search, made when it is first asked for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, cast

from napari_virchow.classification.attach import HasClassification
from napari_virchow.search import Similarity

if TYPE_CHECKING:
    from napari_virchow.session import Session


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

    def _close_attached(self) -> None:
        with self._making_search:
            similarity, self._similarity = self._similarity, None
        if similarity is not None:
            similarity.close()
        super()._close_attached()
