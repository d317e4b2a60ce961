"""Clusters as classes to be: a few tiles that stand for each, and labels once one is accepted."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_virchow.labels import LabelSet
from napari_virchow.labels.edits import LabelRow, clean_text
from napari_virchow.labels.history import now
from napari_virchow.mapping.facts import Clusters, Mapped, Proposal

REPRESENTATIVES = 6
_APART = 3  # tiles: two of one slide that are nearer show nearly the same
Which = Literal["representatives", "all"]


def propose(mapped: Mapped, clusters: Clusters) -> tuple[Proposal, ...]:
    """Return every cluster as a class to be, the largest first."""
    found = []
    for cluster in range(1, clusters.n_clusters + 1):
        rows = np.flatnonzero(clusters.cluster == cluster)
        chosen = _representatives(mapped, rows)
        found.append(Proposal(cluster, f"Cluster {cluster}", len(rows), chosen))
    return tuple(found)


def accept(
    labels: LabelSet,
    mapped: Mapped,
    clusters: Clusters,
    proposal: Proposal,
    *,
    name: str,
    which: Which,
) -> int:
    """Label tiles of a cluster as a class of this name, which is made where it is missing.

    It is one step of undo. What a person said of a tile before stays.

    Returns
    -------
    int
        How many tiles were labelled.

    Raises
    ------
    ValueError
        If the name is not allowed; nothing is labelled then.
    """
    name = clean_text(name, "a class")
    rows = np.array(proposal.representatives, np.intp)
    if which == "all":
        rows = np.flatnonzero(clusters.cluster == proposal.cluster)
    said = {
        n: labels.get(mapped.slides[n].identity, mapped.slides[n].grid.name)
        for n in np.unique(mapped.slide[rows]).tolist()
    }
    stamp, new = now(), []
    for row in rows.tolist():
        slide, tile = mapped.tile(row)
        if tile not in said[int(mapped.slide[row])]:
            new.append(
                LabelRow(slide.identity, slide.grid.name, tile, name, labels.annotator, stamp)
            )
    return labels.add_rows(new, f"label {{tiles}} of a cluster as {name}") if new else 0


def _representatives(mapped: Mapped, rows: NDArray[np.intp]) -> tuple[int, ...]:
    """Choose tiles near the middle of a cluster that are not neighbours on their slide."""
    features = mapped.features[rows]
    order = np.argsort(((features - features.mean(axis=0)) ** 2).sum(axis=1), kind="stable")
    chosen: list[int] = []
    for row in rows[order].tolist():
        at = mapped.tiles[row]
        beside = any(
            mapped.slide[other] == mapped.slide[row]
            and int(np.abs(mapped.tiles[other] - at).max()) < _APART
            for other in chosen
        )
        if not beside:
            chosen.append(row)
        if len(chosen) == REPRESENTATIVES:
            break
    return tuple(chosen)
