"""Imported embeddings are kept like ours, under an encoder of their own: never mixed with ours."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from napari_virchow.encoders.specs import EncoderSpec, EncoderUnavailable, Pooling
from napari_virchow.interop.checking import Check
from napari_virchow.interop.placing import Placed
from napari_virchow.interop.table import InteropError, TileTable
from napari_virchow.layout import read_facts
from napari_virchow.shelf import StoredInfo, delete_stored, list_stored
from napari_virchow.store import EmbeddingStore

if TYPE_CHECKING:
    from napari_virchow.encoders import Encoder
    from napari_virchow.session import Session

PREFIX = "imported-"
NOTE = "imported.json"  # in the folder of the store: where its embeddings are from


def imported_identity(encoder: str, dim: int, form: str) -> str:
    """Return the identity that imported embeddings are kept under, the same for every slide.

    Such as "imported-uni_v1-1024d-trident". Files of several slides by one encoder and tool thus
    belong together; ours by the same encoder do not.

    Raises
    ------
    InteropError
        If nothing is left of the name that is fit for a folder.
    """
    name = re.sub(r"[^\w.+@-]+", "_", encoder, flags=re.ASCII).strip("._-")
    if not name:
        raise InteropError(f"{encoder!r} is no name of an encoder; give one as --encoder.")
    return f"{PREFIX}{name}-{dim}d-{form}"


def store_embeddings(
    table: TileTable,
    placed: Placed,
    root: Path,
    slide: str,
    *,
    encoder: str | None = None,
    check: Check | None = None,
) -> StoredInfo:
    """Keep a file's embeddings; those of an earlier import of the same kind are replaced.

    Parameters
    ----------
    table, placed
        With embeddings.
    root : Path
        Folder of all stores.
    slide : str
        `Slide.identity`.
    encoder : str, optional
        Who computed them, for files that do not say it.
    check : Check, optional
        Noted beside them.

    Returns
    -------
    StoredInfo
        Its `encoder` is what `training.train` and others take.

    Raises
    ------
    InteropError
        If there are no embeddings, they are not finite, or who computed them is not known.
    StoreError
        If they cannot be written.
    """
    rows = embeddings_of(table)[placed.rows]
    identity = imported_identity(encoder_of(table, encoder), rows.shape[1], table.form)
    for old in list_stored(root, slide):
        if old.encoder == identity and old.grid == placed.grid.name:
            delete_stored(old)
    with EmbeddingStore.open(
        root, slide=slide, encoder=identity, grid=placed.grid, dim=rows.shape[1], writable=True
    ) as store:
        store.append(placed.tile_list(), rows)
        path, n, nbytes = store.path, store.n_tiles, store.nbytes
    note = _note(table, placed, check)
    (path / NOTE).write_text(json.dumps(note, indent=2), "utf-8")
    n_rows, n_cols = placed.grid.shape
    return StoredInfo(
        slide=slide,
        encoder=identity,
        grid=placed.grid.name,
        mpp=placed.grid.mpp,
        n_tiles=n,
        n_total=n_rows * n_cols,
        nbytes=nbytes,
        path=path,
    )


def embeddings_of(table: TileTable) -> NDArray[np.float32]:
    """Return a file's embeddings; InteropError if it has none, or some are not finite."""
    if table.embeddings is None:
        raise InteropError(f"{table.path} has places of tiles but no embeddings.")
    if not len(table):
        raise InteropError(f"{table.path} has no tiles.")
    bad = int(np.count_nonzero(~np.isfinite(table.embeddings).all(axis=1)))
    if bad:
        raise InteropError(f"{bad} of the embeddings in {table.path} are not finite; make it anew.")
    return table.embeddings


def encoder_of(table: TileTable, given: str | None) -> str:
    """Return who computed a file's embeddings: as given, else as the file says."""
    name = given or table.encoder
    if not name:
        raise InteropError(
            f"{table.path} does not say which encoder made its embeddings: give its name as "
            "--encoder."
        )
    return name


def imported_encoder(stored: StoredInfo, dim: int) -> Encoder:
    """Return what stands for the encoder of imported embeddings in a session.

    `Session.use_encoder` takes it: labels, classification and search then work on what was
    imported. Tiles that were not imported stay empty: asked for one, it says that it cannot.

    Parameters
    ----------
    stored : StoredInfo
        From `store_embeddings` or `Session.stored`.
    dim : int
        Numbers per embedding.
    """
    from napari_virchow.encoders import Encoder

    name, weights, pooling = stored.encoder.rsplit("-", 2)
    spec = EncoderSpec(
        name=name,
        title=f"{name.removeprefix(PREFIX)} (imported)",
        hub_id=None,
        architecture=None,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        allowed_mpp=(stored.mpp,),
        pooling=cast("Pooling", pooling),
        dim=dim,
        licence="licence not known",
        gate="not downloadable",
    )

    def refuse(_: NDArray[np.uint8]) -> NoReturn:
        raise EncoderUnavailable(
            f"the embeddings by {spec.title} came from a file, so other tiles than those in it "
            "cannot be embedded: load the encoder itself for them."
        )

    return Encoder(
        spec=spec,
        pooling=spec.pooling,
        dim=dim,
        device="none",
        device_note="embeddings from a file",
        precision="float32",
        weights_hash=weights,
        batch_size=1,
        embed_batch=refuse,
        embeds=False,
    )


def use_imported(session: Session, stored: StoredInfo) -> Encoder:
    """Work with imported embeddings in a session: as `Session.load_encoder` does with others.

    Raises
    ------
    StoreError
        If they cannot be read.
    """
    encoder = imported_encoder(stored, read_facts(stored.path).dim)
    session.use_encoder(encoder)
    return encoder


def _note(table: TileTable, placed: Placed, check: Check | None) -> dict[str, Any]:
    return {
        "file": str(table.path),
        "format": table.form,
        "encoder": table.encoder,
        "tiles": len(placed.tiles),
        "left_out": placed.left_out,
        "shift_px": round(float(placed.shifts.max(initial=0)), 3),
        "check": None if check is None else check.to_json(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
