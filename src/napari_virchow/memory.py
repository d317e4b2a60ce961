"""What is remembered of a slide between sessions: one small JSON file per slide identity."""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)
_FILE = "slide.json"


@dataclass(frozen=True, slots=True)
class SlideMemory:
    """Name and last path of a slide, and the (x, y) µm per pixel its user gave, if any."""

    name: str = ""
    path: str = ""
    mpp: tuple[float, float] | None = None


def recall_slide(root: Path, identity: str) -> SlideMemory:
    """Return what is remembered of a slide; nothing if the file is not there or makes no sense."""
    file = root / identity / _FILE
    try:
        known = json.loads(file.read_text("utf-8"))
        mpp = known.get("mpp")
        return SlideMemory(
            name=str(known.get("name", "")),
            path=str(known.get("path", "")),
            mpp=None if mpp is None else (float(mpp[0]), float(mpp[1])),
        )
    except FileNotFoundError:
        return SlideMemory()
    except (OSError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        _log.warning("%s cannot be read and is not used: %s", file, error)
        return SlideMemory()


def remember_slide(
    root: Path,
    identity: str,
    *,
    name: str,
    path: str,
    mpp: float | tuple[float, float] | None = None,
) -> None:
    """Write what is remembered of a slide, in one step; `mpp` None keeps the one known already.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    if mpp is None:
        mpp = recall_slide(root, identity).mpp
    elif not isinstance(mpp, tuple):
        mpp = (mpp, mpp)
    file = root / identity / _FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{_FILE}.{uuid.uuid4().hex}.partial")
    text = json.dumps({"name": name, "path": path, "mpp": mpp}, indent=1)
    try:
        partial.write_text(text, "utf-8")
        partial.replace(file)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
