"""AnnData's way of writing values, the same in HDF5 and in zarr: each says how it is encoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.interop.hdf5 import reading
from napari_virchow.interop.table import InteropError

# Groups and arrays of h5py or zarr, which are used alike.
Node = Any
EMPTY = ("layers", "obsp", "varm", "varp")


@dataclass(frozen=True, slots=True)
class Categories:
    """A column of few different texts: AnnData's categorical."""

    values: Sequence[str]


@dataclass(frozen=True, slots=True)
class Frame:
    """A table: AnnData's dataframe."""

    index: Sequence[str]
    columns: Mapping[str, Any] = field(default_factory=dict)


def write_anndata_group(
    group: Node, x: NDArray[np.float32], obs: Frame, *, obsm: Any = None, uns: Any = None
) -> None:
    """Write an AnnData object into a group; what is not given is there and empty."""
    _mark(group, "anndata", "0.1.0")
    write_element(group, "X", x)
    write_element(group, "obs", obs)
    write_element(group, "var", Frame([str(n) for n in range(x.shape[1])]))
    write_element(group, "obsm", obsm or {})
    write_element(group, "uns", uns or {})
    for name in EMPTY:
        write_element(group, name, {})


def write_element(group: Node, name: str, value: Any) -> None:
    """Write a value into a group under a name, with its encoding.

    Parameters
    ----------
    group : h5py.Group or zarr.Group
        Open for writing.
    name : str
        Within the group.
    value : ndarray, number, str, sequence of str, Categories, Frame or mapping
        A mapping becomes a group.
    """
    if isinstance(value, Frame):
        made = _mark(group.create_group(name), "dataframe", "0.2.0")
        made.attrs["_index"] = "_index"
        # h5py: an empty list has no type of its own, so that of texts is said
        made.attrs["column-order"] = _names(made, list(value.columns))
        write_element(made, "_index", list(value.index))
        for column, one in value.columns.items():
            write_element(made, column, one)
    elif isinstance(value, Categories):
        categories, codes = np.unique(np.asarray(value.values, object), return_inverse=True)
        made = _mark(group.create_group(name), "categorical", "0.2.0")
        made.attrs["ordered"] = False
        write_element(made, "categories", [str(one) for one in categories])
        small = np.int8 if len(categories) < 128 else np.int32
        write_element(made, "codes", codes.astype(small))
    elif isinstance(value, Mapping):
        made = _mark(group.create_group(name), "dict", "0.1.0")
        for key, one in value.items():
            write_element(made, key, one)
    elif isinstance(value, str):
        _mark(_texts(group, name, value), "string", "0.2.0")
    elif isinstance(value, list) and all(isinstance(one, str) for one in value):
        _mark(_texts(group, name, value), "string-array", "0.2.0")
    else:
        array = np.asarray(value)
        kind = "array" if array.ndim else "numeric-scalar"
        _mark(_array(group, name, array), kind, "0.2.0")


def read_element(node: Node) -> Any:
    """Return what a group or an array holds, by its encoding.

    A dataframe comes as a mapping with its index as "_index", a categorical as an array of texts,
    what is encoded in another way as None.
    """
    kind = node.attrs.get("encoding-type", "")
    if kind in ("dict", "anndata") or (not kind and hasattr(node, "keys")):
        return {name: read_element(node[name]) for name in node}
    if kind == "dataframe":
        return read_frame(node)
    if kind == "categorical":
        categories = np.asarray(_read_texts(node["categories"]), object)
        codes = np.asarray(node["codes"][()])
        out = np.full(len(codes), "", object)
        out[codes >= 0] = categories[codes[codes >= 0]]
        return out
    if kind == "string":
        return str(_read_texts(node))
    if kind == "string-array":
        return np.asarray(_read_texts(node), object)
    if kind in ("array", "numeric-scalar", "") and not hasattr(node, "keys"):
        value = node[()]
        return value if np.ndim(value) or kind == "array" else np.asarray(value).item()
    return None


def read_frame(node: Node) -> dict[str, Any]:
    """Return the columns of a dataframe by name, and its index as "_index"."""
    index = str(node.attrs["_index"])
    columns = {str(name): read_element(node[str(name)]) for name in node.attrs["column-order"]}
    return {**columns, "_index": read_element(node[index])}


def matrix_in(node: Node, path: Path) -> NDArray[np.float32]:
    """Return a dense matrix, as float32.

    Raises
    ------
    InteropError
        If it is sparse or no matrix, or a part of it is missing.
    """
    if hasattr(node, "keys") or getattr(node, "ndim", 0) != 2 or node.dtype.kind not in "fiu":
        raise InteropError(f"{path}: {node.name.strip('/')} is no dense matrix of embeddings.")
    # zarr gives zeros for chunks whose files are gone
    if hasattr(node, "nchunks") and node.nchunks_initialized < node.nchunks:
        raise InteropError(f"{path} is not complete: parts of {node.name} are missing.")
    return np.asarray(node[()], np.float32)


@contextmanager
def reading_group(path: Path) -> Iterator[Node]:
    """Open an HDF5 file or a zarr folder for reading; errors name it.

    Raises
    ------
    InteropError
        If it is damaged, or something is missing in it.
    FileNotFoundError
        If it is not there.
    """
    if not path.is_dir():
        with reading(path) as file:
            yield file
        return
    import zarr

    try:
        yield zarr.open_group(str(path), mode="r")
    except InteropError:
        raise
    except (KeyError, FileNotFoundError) as error:
        raise InteropError(f"{path} is not complete ({error}); make it anew.") from error
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise InteropError(f"{path} is damaged, or no zarr group ({error}).") from error


def _mark(node: Node, kind: str, version: str) -> Node:
    node.attrs["encoding-type"] = kind
    node.attrs["encoding-version"] = version
    return node


def _is_hdf5(group: Node) -> bool:
    return type(group).__module__.startswith("h5py")


def _names(group: Node, names: list[str]) -> Any:
    if not _is_hdf5(group):
        return names
    import h5py

    return np.array(names, dtype=h5py.string_dtype())


def _array(group: Node, name: str, array: NDArray[Any]) -> Node:
    if _is_hdf5(group):
        return group.create_dataset(name, data=array)
    return group.create_array(name, data=array)


def _texts(group: Node, name: str, texts: str | list[str]) -> Node:
    if _is_hdf5(group):
        import h5py

        return group.create_dataset(name, data=texts, dtype=h5py.string_dtype())
    shape = () if isinstance(texts, str) else (len(texts),)
    made = group.create_array(name, shape=shape, dtype=str)
    if shape != (0,):
        made[...] = texts if isinstance(texts, str) else np.array(texts, object)
    return made


def _read_texts(node: Node) -> Any:
    return node.asstr()[()] if hasattr(node, "asstr") else node[()]
