"""HDF5 files: opened with errors that are sentences, written row by row as other tools do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.interop.table import InteropError

if TYPE_CHECKING:
    import h5py

MAGIC = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    """Say whether a file begins as HDF5 does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; what goes wrong while it is open is told about that file.

    Raises
    ------
    InteropError
        If it is damaged, or something is missing in it.
    FileNotFoundError
        If it is not there.
    """
    import h5py

    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except KeyError as error:
        what = str(error.args[0]) if error.args else "something"
        raise InteropError(f"{path} is not complete ({what}); make it anew.") from error
    except (OSError, RuntimeError) as error:
        raise InteropError(f"{path} is damaged, or no HDF5 file; make it anew.") from error


def add_rows(
    file: h5py.File, name: str, rows: NDArray[Any], attributes: Mapping[str, Any] | None = None
) -> None:
    """Add a dataset that grows by rows: chunks of one row, as TRIDENT and CLAM make them."""
    shape = rows.shape[1:]
    dataset = file.create_dataset(name, data=rows, chunks=(1, *shape), maxshape=(None, *shape))
    for key, value in (attributes or {}).items():
        # h5py has no null and no mappings: written as TRIDENT spells them
        dataset.attrs[key] = (
            "None" if value is None else json.dumps(value) if isinstance(value, dict) else value
        )


def embeddings_in(file: h5py.File, name: str = "features") -> NDArray[np.float32]:
    """Return a dataset of embeddings, (n, dim); a leading axis of length 1 is taken off."""
    rows = np.asarray(file[name][()], np.float32)
    return rows[0] if rows.ndim == 3 and len(rows) == 1 else rows


def number(attributes: Mapping[str, Any], key: str) -> float | None:
    """Return an attribute as a number above 0; None if it is not there, "None" or no number."""
    value = attributes.get(key)
    try:
        found = float(np.ravel(value)[0]) if value is not None else 0.0
    except (TypeError, ValueError, IndexError):
        return None
    return found if found > 0 else None


def text(attributes: Mapping[str, Any], key: str) -> str | None:
    """Return an attribute as text; None if it is not there, empty or "None"."""
    value = attributes.get(key)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) and value not in ("", "None") else None
