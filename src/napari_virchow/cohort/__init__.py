"""Many slides on many processes: Dask gives out parts of slides, workers write to one store.

`embed_cohort` is the way in. A slide is first surveyed by a worker (opened, its tissue found, its
store made), then cut into parts of whole blocks. Workers read, encode and write their parts by
themselves, so no embedding ever passes through one place; a part that is tried again, by whatever
worker, skips the blocks that are on disk.
"""

from __future__ import annotations

from napari_virchow.cohort.facts import CohortDone, CohortError, CohortOptions, SlideState
from napari_virchow.cohort.inputs import find_slides
from napari_virchow.cohort.record import Record
from napari_virchow.cohort.run import embed_cohort

__all__ = [
    "CohortDone",
    "CohortError",
    "CohortOptions",
    "Record",
    "SlideState",
    "embed_cohort",
    "find_slides",
]
