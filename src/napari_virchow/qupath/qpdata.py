"""The head of QuPath's own ``.qpdata`` files: which image they are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from napari_virchow.qupath.project import ProjectError

_HEADER = b"\xac\xed\x00\x05"  # of every Java serialisation stream


def read_qpdata_server(path: Path | str) -> dict[str, Any]:
    """Return the description of the image (its server builder) in the head of a ``.qpdata`` file.

    The objects behind it are Java's own and cannot be read here.

    Raises
    ------
    ProjectError
        If the file is no data of QuPath, or of a version (before 0.2) without a description.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(1 << 20)
    try:
        server = json.loads(_second_item(head))["server"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ProjectError(
            f"{path.name} does not say which image it is of: it is damaged, or older than "
            "QuPath 0.2; open it in QuPath and export the objects as GeoJSON."
        ) from error
    if not isinstance(server, dict):
        raise ProjectError(f"{path.name} describes no image; export the objects as GeoJSON.")
    return server


def _second_item(head: bytes) -> str:
    """Return the second string of a Java stream; the first says the version."""
    if not head.startswith(_HEADER):
        raise ValueError("no Java stream")
    place = 4
    if head[place] == 0x77:  # a short block, in which the version stands
        place += 2 + head[place + 1]
    else:
        place = _string(head, place)[1]
    return _string(head, place)[0]


def _string(head: bytes, place: int) -> tuple[str, int]:
    """Return a string object of a Java stream, short (0x74) or long (0x7c), and where it ends."""
    width = {0x74: 2, 0x7C: 8}[head[place]]
    start = place + 1 + width
    end = start + int.from_bytes(head[place + 1 : start], "big")
    return head[start:end].decode("utf-8"), end
