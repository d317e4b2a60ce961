"""A set of slides: what each one is, and what is stored of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from napari_virchow.memory import recall_slide, remember_slide
from napari_virchow.shelf import StoredInfo, list_stored
from napari_virchow.slide import SlideError, open_slide

_LIST = "slides.json"


@dataclass(frozen=True, slots=True)
class Listed:
    """One slide of a set.

    Parameters
    ----------
    path, name : str
        Where it lies, and its file name.
    identity : str
        Of its content; empty where it cannot be opened.
    width, height : int
        In level-0 pixels.
    mpp : tuple of float or None
        (x, y) µm per level-0 pixel, where it is known.
    stored : tuple of StoredInfo
        Its embeddings.
    reason : str
        Why it cannot be opened; else empty.
    """

    path: str
    name: str
    identity: str = ""
    width: int = 0
    height: int = 0
    mpp: tuple[float, float] | None = None
    stored: tuple[StoredInfo, ...] = ()
    reason: str = ""

    @property
    def n_embedded(self) -> int:
        """Embedded tiles, of all encoders and tile sizes."""
        return sum(info.n_tiles for info in self.stored)


def look_up(path: str, store: Path) -> Listed:
    """Open a slide, remember where it lies, and say what it is; what cannot be opened says why."""
    name = Path(path).name or path
    try:
        with open_slide(path) as slide:
            known = recall_slide(store, slide.identity)
            remember_slide(store, slide.identity, name=slide.name, path=slide.path)
            return Listed(
                slide.path,
                slide.name,
                slide.identity,
                slide.width,
                slide.height,
                slide.mpp or known.mpp,
                tuple(list_stored(store, slide.identity)),
            )
    except (SlideError, OSError) as error:
        return Listed(path, name, reason=str(error))


def look_again(one: Listed, store: Path) -> Listed:
    """Say anew what is stored of a slide, without opening it."""
    return replace(one, stored=tuple(list_stored(store, one.identity))) if one.identity else one


def embedded_before(store: Path) -> list[str]:
    """Return the paths of all slides that have embeddings, as they were last known."""
    identities = dict.fromkeys(info.slide for info in list_stored(store))
    paths = (recall_slide(store, identity).path for identity in identities)
    return [path for path in paths if path]


def save_list(store: Path, paths: Iterable[str]) -> None:
    """Keep a set of slides for next time, whole or not at all.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    store.mkdir(parents=True, exist_ok=True)
    draft = store / f"{_LIST}.{os.getpid()}"
    draft.write_text(json.dumps({"version": 1, "slides": list(paths)}, indent=1), "utf-8")
    draft.replace(store / _LIST)


def load_list(store: Path) -> list[str]:
    """Return the set of slides of last time; none where there was none or it makes no sense."""
    try:
        listed = json.loads((store / _LIST).read_text("utf-8"))["slides"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [path for path in listed if isinstance(path, str)]
