"""Other tools' files: tiles and embeddings of TRIDENT, CLAM, LazySlide and others, in and out.

A reader returns a `TileTable`: what the file says, and nothing that it does not say. `place_tiles`
finds those tiles on a slide, `check_embeddings` computes some of them again, and
`store_embeddings` keeps them, apart from our own.
"""

from __future__ import annotations

from napari_virchow.interop.checking import Check, check_embeddings, encoder_named
from napari_virchow.interop.placing import Placed, place_tiles
from napari_virchow.interop.stored import (
    imported_encoder,
    imported_identity,
    store_embeddings,
    use_imported,
)
from napari_virchow.interop.table import InteropError, SlideEmbeddings, TileTable

__all__ = [
    "Check",
    "InteropError",
    "Placed",
    "SlideEmbeddings",
    "TileTable",
    "check_embeddings",
    "encoder_named",
    "imported_encoder",
    "imported_identity",
    "place_tiles",
    "store_embeddings",
    "use_imported",
]
