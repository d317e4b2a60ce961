"""Where things are kept on disk when nobody says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

APP = "napari-virchow"
STORE_VARIABLE = "NAPARI_VIRCHOW_STORE"


def store_dir() -> Path:
    """Return the folder for embeddings and what is remembered of slides; it need not exist yet.

    The environment variable ``NAPARI_VIRCHOW_STORE`` overrides the user's data folder.
    """
    chosen = os.environ.get(STORE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir(APP)) / "store"


def cache_dir() -> Path:
    """Return the folder for what can be made again at any time; it need not exist yet."""
    return Path(platformdirs.user_cache_dir(APP))
