"""Where things are kept on disk when nobody says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

APP = "napari-virchow"
STORE_VARIABLE = "NAPARI_VIRCHOW_STORE"
CACHE_VARIABLE, CACHE_GB_VARIABLE = "NAPARI_VIRCHOW_CACHE", "NAPARI_VIRCHOW_CACHE_GB"
CACHE_GB = 20.0


def store_dir() -> Path:
    """Return the folder for embeddings and what is remembered of slides; it need not exist yet.

    The environment variable ``NAPARI_VIRCHOW_STORE`` overrides the user's data folder.
    """
    chosen = os.environ.get(STORE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir(APP)) / "store"


def cache_dir() -> Path:
    """Return the folder for what can be made again at any time; it need not exist yet."""
    return Path(platformdirs.user_cache_dir(APP))


def remote_cache_dir() -> Path:
    """Return the folder for what was read of slides on servers; it need not exist yet.

    The environment variable ``NAPARI_VIRCHOW_CACHE`` overrides the user's cache folder.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else cache_dir() / "slides"


def keep_remote_in(folder: Path | None, gb: float | None) -> None:
    """Say for this process, and those that it starts, where `remote_cache_dir` is and its size."""
    if folder is not None:
        os.environ[CACHE_VARIABLE] = str(folder)
    if gb is not None:
        os.environ[CACHE_GB_VARIABLE] = f"{gb:g}"


def remote_cache_bytes() -> int:
    """Return how large `remote_cache_dir` may become.

    The environment variable ``NAPARI_VIRCHOW_CACHE_GB`` says it in GB; 20 if it is not set.

    Raises
    ------
    ValueError
        If it is not a number above 0.
    """
    said = os.environ.get(CACHE_GB_VARIABLE) or CACHE_GB
    try:
        size = float(said)
    except ValueError:
        size = 0.0
    if not 0 < size < 1e9:
        raise ValueError(f"{CACHE_GB_VARIABLE} must be a number of GB above 0, got {said!r}.")
    return int(size * 1e9)
