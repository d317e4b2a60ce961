"""A saved classifier: one folder with a JSON file to read and a safetensors file of numbers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FORMAT: Final = "napari-virchow tile classifier"
FORMAT_VERSION: Final = 1
HEADER_NAME: Final = "classifier.json"
ARRAYS_NAME: Final = "classifier.safetensors"


class ModelError(Exception):
    """A saved classifier that cannot be read, or was made for something else: one sentence."""


def write_model(
    folder: str | os.PathLike[str],
    header: Mapping[str, Any],
    arrays: Mapping[str, NDArray[np.generic]],
) -> Path:
    """Write header and arrays to a folder, made if need be; returns it.

    A classifier that is already there is replaced. Each file appears whole or not at all, and the
    header names the hash of the arrays: a pair torn by a crash is noticed on reading.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    from safetensors.numpy import save

    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    full = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "arrays_sha256": hashlib.sha256(data).hexdigest(),
        **header,
    }
    text = json.dumps(full, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    _replace(path / ARRAYS_NAME, data)
    _replace(path / HEADER_NAME, text.encode("utf-8"))
    return path


def read_model(
    folder: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read header and arrays back. Nothing in the files is ever run.

    Raises
    ------
    ModelError
        If there is no classifier, it is of a newer format, or its files are damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = Path(folder)
    if path.name == HEADER_NAME:
        path = path.parent
    try:
        header = json.loads((path / HEADER_NAME).read_text("utf-8"))
        data = (path / ARRAYS_NAME).read_bytes()
    except FileNotFoundError as error:
        name = Path(str(error.filename)).name
        raise ModelError(f"{path} holds no classifier: {name} is not there.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} cannot be read as a classifier: {error}.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelError(f"{path / HEADER_NAME} does not describe a tile classifier.")
    version = header.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ModelError(
            f"{path} was saved in format {version}, this version reads up to {FORMAT_VERSION}: "
            "update napari-virchow."
        )
    if hashlib.sha256(data).hexdigest() != header.get("arrays_sha256"):
        raise ModelError(
            f"{path} is damaged: {ARRAYS_NAME} does not belong to {HEADER_NAME}. Save it again."
        )
    try:
        return header, dict(load(data))
    except SafetensorError as error:
        raise ModelError(f"{path / ARRAYS_NAME} is damaged: {error}.") from error


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
