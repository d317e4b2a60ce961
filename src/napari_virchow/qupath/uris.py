"""The URIs by which QuPath names files, also of other machines, and where those files are now."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

_DRIVE = re.compile(r"/[A-Za-z]:(/|$)")


def uris_of_builder(builder: Any) -> tuple[str, ...]:
    """Return the URIs of all files that an image in QuPath is made of, each once."""
    found: dict[str, None] = {}

    def search(said: Any) -> None:
        if isinstance(said, Mapping):
            uri = said.get("uri")
            if isinstance(uri, str) and urlsplit(uri).scheme:
                found.setdefault(uri)
            for key, value in said.items():
                if key != "metadata":
                    search(value)
        elif isinstance(said, list):
            for value in said:
                search(value)

    search(builder)
    return tuple(found)


def is_local(uri: str) -> bool:
    """Say whether a URI is of a file."""
    return urlsplit(uri).scheme == "file"


def path_of_uri(uri: str) -> Path:
    """Return the file of a ``file:`` URI, as this machine would call it."""
    return Path(_plain(uri))


def uri_of_path(path: Path) -> str:
    """Return the URI of a file, spelt as Java does: ``file:/…``."""
    text = path.as_posix()
    return "file:" + quote(text if text.startswith("/") else f"/{text}", safe="/:")


def moved(uri: str, before: Any, folder: Path) -> Path | None:
    """Return where a file would be if it had moved along with its project.

    Parameters
    ----------
    uri : str
        Of the file, as the project says it.
    before : str or None
        URI of the project's file when it was written.
    folder : Path
        Where the project is now.

    Returns
    -------
    Path or None
        None if the project does not say where it was, or that was another disk.
    """
    if not isinstance(before, str) or not is_local(before):
        return None
    file, home = _rooted(uri), posixpath.dirname(_rooted(before))
    if _DRIVE.match(file) and file[:3].lower() != home[:3].lower():
        return None
    return Path(posixpath.normpath(folder.as_posix() + "/" + posixpath.relpath(file, home or "/")))


def same_file(uri: str, path: str | Path) -> bool:
    """Say whether a URI that QuPath on this machine uses is of a file."""
    if not is_local(uri):
        return uri == str(path)
    mine, other = path_of_uri(uri), Path(path)
    try:
        return mine.samefile(other)
    except OSError:
        return mine == other


def _plain(uri: str) -> str:
    path = _rooted(uri)
    return path[1:] if _DRIVE.match(path) else path


def _rooted(uri: str) -> str:
    parts = urlsplit(uri)
    host = f"//{parts.netloc}" if parts.netloc and parts.netloc != "localhost" else ""
    return host + unquote(parts.path)
