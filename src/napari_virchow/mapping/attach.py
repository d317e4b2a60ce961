"""What a session has of maps, made when it is first asked for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, cast

from napari_virchow.mapping import Mapping

if TYPE_CHECKING:
    from napari_virchow.session import Session


class HasMapping:
    """The part of a `Session` that maps embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self._making_map = threading.Lock()
        self._mapping: Mapping | None = None

    @property
    def mapping(self) -> Mapping:
        """The map of what is embedded; made on first use."""
        with self._making_map:
            if self._mapping is None:
                self._mapping = Mapping(cast("Session", self))
            return self._mapping

    def _close_mapping(self) -> None:
        with self._making_map:
            mapping, self._mapping = self._mapping, None
        if mapping is not None:
            mapping.close()
