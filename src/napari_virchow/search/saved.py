"""Queries with a name, kept in the store: usable later, and on other slides."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.search.facts import Example, Kind, Options, Query
from napari_virchow.tiles import Tile

SUFFIX = ".safetensors"
LAYOUT = 1
_KEY = "napari_virchow_query"
Pictures = NDArray[np.uint8]


class SavedQueryError(Exception):
    """A saved query cannot be read or written; one sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class SavedQuery:
    """What a saved query says of itself; `created` is an ISO date in UTC."""

    name: str
    notes: str
    encoder: str
    mpp: float
    n_positives: int
    n_negatives: int
    created: str
    path: Path


class SavedQueries:
    """The saved queries of a store, one file each: JSON, vectors and pictures in safetensors.

    Parameters
    ----------
    root : Path
        Folder of all stores; the files are in ``queries`` in it.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / "queries"

    def all(self) -> list[SavedQuery]:
        """List the saved queries by name; files that cannot be read are left out."""
        found = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            try:
                found.append(_about(path, _facts(path)))
            except SavedQueryError:
                continue
        return sorted(found, key=lambda one: one.name.casefold())

    def find(self, name: str) -> SavedQuery | None:
        """Return the query of a name, in whatever case."""
        return next((q for q in self.all() if q.name.casefold() == name.strip().casefold()), None)

    def save(
        self,
        name: str,
        query: Query,
        kind: Kind,
        *,
        notes: str = "",
        pictures: Pictures | None = None,
    ) -> SavedQuery:
        """Keep a query, in one step.

        Parameters
        ----------
        name : str
            One that is not taken.
        query : Query
            Every example with its vector; see `Similarity.save_query`.
        kind : Kind
            The embeddings that the vectors are of.
        notes : str
            Anything.
        pictures : ndarray of shape (n, h, w, 3), uint8, optional
            Of positives and negatives, in that order.

        Raises
        ------
        SavedQueryError
            If the name is empty or taken, or the folder cannot be written.
        ValueError
            If an example has no vector, or there is none.
        """
        self._check_name(name)
        examples = (*query.positives, *query.negatives)
        if not query.positives:
            raise ValueError("There is nothing to save: pick a tile first.")
        vectors = [e.vector for e in examples if e.vector is not None]
        if len(vectors) != len(examples):
            raise ValueError("An example is not embedded yet: save the query when it is.")
        facts = {
            "layout": LAYOUT,
            "name": name.strip(),
            "notes": notes,
            "encoder": kind.encoder,
            "mpp": kind.mpp,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "n_positives": len(query.positives),
            "examples": [_example_facts(e) for e in examples],
            "options": {
                "center": query.options.center,
                "whiten": query.options.whiten,
                "class_token_only": query.options.class_token_only,
                "negative_weight": query.options.negative_weight,
            },
        }
        arrays: dict[str, NDArray[Any]] = {"vectors": np.stack(vectors).astype(np.float32)}
        if pictures is not None:
            arrays["pictures"] = np.ascontiguousarray(pictures)
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "query"
        path = self.folder / f"{slug}-{uuid.uuid4().hex[:8]}{SUFFIX}"
        self._write(path, facts, arrays)
        return _about(path, facts)

    def load(self, saved: SavedQuery, options: Options | None = None) -> Query:
        """Return a saved query, its examples with their vectors.

        Parameters
        ----------
        saved : SavedQuery
            From `all`.
        options : Options, optional
            Keep scope and numbers of these; how embeddings are compared is the saved query's.

        Raises
        ------
        SavedQueryError
            If it cannot be read.
        """
        facts, arrays = _facts(saved.path), _arrays(saved.path)
        try:
            examples = [
                Example(
                    str(one["slide"]),
                    Tile(int(one["row"]), int(one["col"])),
                    str(one["name"]),
                    float(one["mpp"]),
                    vector,
                    saved.encoder,
                )
                for one, vector in zip(facts["examples"], arrays["vectors"], strict=True)
            ]
            base = options or Options()
            kept = {name: facts["options"][name] for name in facts["options"]}
            names = ("scope", "slides", "exclude_within", "group_neighbours", "k")
            how = Options(**{name: getattr(base, name) for name in names}, **kept)
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(saved.path) from error
        n = saved.n_positives
        return Query(tuple(examples[:n]), tuple(examples[n:]), how)

    def pictures(self, saved: SavedQuery) -> Pictures | None:
        """Return the pictures of the examples, positives first; None if there are none."""
        return _arrays(saved.path).get("pictures")

    def rename(self, saved: SavedQuery, name: str, notes: str | None = None) -> SavedQuery:
        """Give a saved query another name, or other notes, in one step.

        Raises
        ------
        SavedQueryError
            As `save` and `load` do.
        """
        if name.strip().casefold() != saved.name.casefold():
            self._check_name(name)
        facts, arrays = _facts(saved.path), _arrays(saved.path)
        facts |= {"name": name.strip(), "notes": saved.notes if notes is None else notes}
        self._write(saved.path, facts, arrays)
        return _about(saved.path, facts)

    def delete(self, saved: SavedQuery) -> None:
        """Delete a saved query; if it is gone already, nothing happens.

        Raises
        ------
        SavedQueryError
            If it cannot be deleted.
        """
        try:
            saved.path.unlink(missing_ok=True)
        except OSError as error:
            raise SavedQueryError(f"{saved.path} cannot be deleted ({error.strerror}).") from error

    def _check_name(self, name: str) -> None:
        if not name.strip():
            raise SavedQueryError("A saved query needs a name.")
        if self.find(name) is not None:
            raise SavedQueryError(f"There is a saved query “{name.strip()}”: choose another name.")

    def _write(self, path: Path, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        from safetensors.numpy import save

        partial = path.with_name(f"{path.name}.partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(save(arrays, {_KEY: json.dumps(facts)}))
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise SavedQueryError(
                f"{self.folder} cannot be written ({error.strerror or error}); free some space or "
                "choose another folder for embeddings."
            ) from error


def _example_facts(example: Example) -> dict[str, Any]:
    where = {"row": example.tile.row, "col": example.tile.col, "mpp": example.mpp}
    return {"slide": example.slide, "name": example.name, **where}


def _about(path: Path, facts: dict[str, Any]) -> SavedQuery:
    try:
        n = int(facts["n_positives"])
        return SavedQuery(
            name=str(facts["name"]),
            notes=str(facts["notes"]),
            encoder=str(facts["encoder"]),
            mpp=float(facts["mpp"]),
            n_positives=n,
            n_negatives=len(facts["examples"]) - n,
            created=str(facts["created"]),
            path=path,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error


def _facts(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            facts: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise _damaged(path) from error
    if not isinstance(facts, dict) or facts.get("layout") != LAYOUT:
        raise SavedQueryError(f"{path} was saved by a newer napari-virchow; update it to read it.")
    return facts


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> SavedQueryError:
    return SavedQueryError(f"{path} is not a saved query, or damaged; delete the file.")
