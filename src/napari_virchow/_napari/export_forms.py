"""The formats of the page Export, and what would be written in them; all of it works on workers."""

from __future__ import annotations

from dataclasses import dataclass

from napari_virchow._napari.import_box import Here
from napari_virchow.interop.going import (
    Going,
    asap_going,
    embeddings_going,
    table_going,
)
from napari_virchow.qupath.frame import Frame
from napari_virchow.qupath.gathering import Sources, What, gather
from napari_virchow.qupath.outgoing import Outgoing
from napari_virchow.shelf import StoredInfo

FILTER = "GeoJSON (*.geojson);;Packed GeoJSON (*.geojson.gz)"


@dataclass(frozen=True, slots=True)
class Form:
    """A format in the words of the dock."""

    name: str
    title: str
    suffix: str
    filter: str


FORMS = (
    Form("geojson", "GeoJSON: QuPath", ".geojson", FILTER),
    Form("csv", "CSV: a table of tiles", ".csv", "CSV (*.csv)"),
    Form("asap", "XML: ASAP", ".xml", "ASAP (*.xml)"),
    Form("trident", "HDF5: TRIDENT", ".h5", "TRIDENT (*.h5)"),
    Form("clam", "HDF5: CLAM", ".h5", "CLAM (*.h5)"),
    Form("anndata", "AnnData: scanpy, squidpy", ".h5ad", "AnnData (*.h5ad *.zarr)"),
    Form("spatialdata", "SpatialData: LazySlide", ".zarr", "SpatialData (*.zarr)"),
)


def gathered(here: Here, what: What, frame: Frame, mpp: float | None) -> tuple[Outgoing, int]:
    """Return what would go to QuPath, and about how many bytes; raises as `gather` does."""
    outgoing = gather(what, _sources(here, what, mpp), frame)
    return outgoing, outgoing.about_bytes()


def other(here: Here, form: str, what: What, mpp: float | None) -> Going:
    """Return what would go to a table or to ASAP; raises as `gather` does."""
    going = table_going if form == "csv" else asap_going
    return going(what, _sources(here, what, mpp))


def embedded(
    here: Here, form: str, info: StoredInfo | None
) -> tuple[list[StoredInfo], Going | None]:
    """Return what is stored of a slide, and what of it would go out: `info`, or else the first."""
    infos = [one for one in here.session.stored(here.slide) if one.n_tiles]
    paths = [one.path for one in infos]
    chosen = paths.index(info.path) if info is not None and info.path in paths else 0
    if not infos:
        return infos, None
    return infos, embeddings_going(form, here.slide, here.session.store, infos[chosen])


def _sources(here: Here, what: What, mpp: float | None) -> Sources:
    labels, grid, painted = None, None, None
    if what is not What.OBJECTS:
        labels = here.session.labels
        if mpp is not None and here.slide.mpp is not None:
            grid = here.slide.grid(mpp)
    if what in (What.PREDICTIONS, What.REGIONS):
        painted = here.session.classification.painted
    return Sources(here.slide, here.kept, labels, grid, painted)
