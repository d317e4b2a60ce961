"""UMAP and clusters, run as a program of its own: only a process can be stopped at any moment.

It is started with the path of this file, so it imports nothing of the package. The folder it is
given holds ``task.json`` and ``features.npy`` (``start.npy`` for UMAP too) and gets ``out.npy``.
Lines ``progress DONE TOTAL TEXT`` on the standard output say how far it is, and ``failed WHY`` that
it came to nothing. It ends when its
standard input does: with the process that started it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_CHUNK = 20_000


def say(done: int, total: int, text: str) -> None:
    """Report to the process that started this one."""
    sys.stdout.write(f"progress {done} {total} {text}\n")
    sys.stdout.flush()


class _Epochs:
    """Stands in for the file that UMAP's progress bar is written to."""

    def write(self, text: str) -> None:
        done, slash, total = text.strip().partition("/")
        if slash and done.isdigit() and total.isdigit():
            say(int(done), int(total), "Arranging")

    def flush(self) -> None:
        pass


def umap(features: Floats, start: Floats, options: dict[str, Any]) -> Floats:
    """Arrange tiles by UMAP, beginning with the map of principal components.

    That start keeps the large structure, and makes the result the same each time (Kobak and
    Linderman 2021, "Initialization is critical for preserving global data structure in both t-SNE
    and UMAP").
    """
    say(0, 0, "Starting UMAP")
    from umap import UMAP

    m = min(len(features), int(options["max_fitted"]))
    say(0, 0, "Finding neighbours")
    bar = {"file": _Epochs(), "bar_format": "{n}/{total}", "mininterval": 0.2, "ascii": True}
    mapper = UMAP(
        n_neighbors=min(int(options["n_neighbors"]), m - 1),
        min_dist=float(options["min_dist"]),
        init=start[:m],
        random_state=0,
        n_jobs=1,
        verbose=True,
        tqdm_kwds=bar,
    )
    xy: Floats = np.asarray(mapper.fit_transform(features[:m]), np.float32)
    near, weight = _nearest(features, m, 3)
    rest = (xy[near] * weight[..., None]).sum(axis=1)
    return np.concatenate([xy, rest.astype(np.float32)])


def kmeans(features: Floats, options: dict[str, Any]) -> NDArray[np.int32]:
    """Give every tile one of a chosen number of clusters, from 0."""
    say(0, 0, "Finding clusters")
    from sklearn.cluster import MiniBatchKMeans

    n = min(int(options["n_clusters"]), len(features))
    model = MiniBatchKMeans(n, batch_size=4096, n_init=5, random_state=0)
    return np.asarray(model.fit_predict(features), np.int32)


def hdbscan(features: Floats, options: dict[str, Any]) -> NDArray[np.int32]:
    """Give every tile a cluster of any shape, from 0; -1 where tiles are too unlike all others."""
    say(0, 0, "Finding clusters")
    from sklearn.cluster import HDBSCAN

    m = min(len(features), int(options["max_fitted"]))
    # As many as asked for on all tiles are fewer on a sample of them.
    size = max(5, round(int(options["min_size"]) * m / len(features)))
    found = HDBSCAN(min_cluster_size=size, min_samples=5, copy=True).fit_predict(features[:m])
    near, _ = _nearest(features, m, 1)
    return np.concatenate([found, found[near[:, 0]]]).astype(np.int32)


def _nearest(features: Floats, m: int, k: int) -> tuple[NDArray[np.intp], Floats]:
    """Find for all tiles but the first `m` the `k` of those that are most alike, and their
    weights."""
    near, weight = [np.empty((0, k), np.intp)], [np.empty((0, k), np.float32)]
    if m < len(features):
        from sklearn.neighbors import NearestNeighbors

        index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(features[:m])
        for at in range(m, len(features), _CHUNK):
            say(at, len(features), "Placing the other tiles")
            distance, found = index.kneighbors(features[at : at + _CHUNK])
            closeness = 1 / np.maximum(distance, 1e-6)
            near.append(found)
            weight.append((closeness / closeness.sum(axis=1, keepdims=True)).astype(np.float32))
    return np.concatenate(near), np.concatenate(weight)


def _end_with_parent() -> None:
    # Not sys.stdin: Python cannot shut down while another thread holds that.
    os.read(0, 1)
    os._exit(1)


def main(folder: Path) -> None:
    """Do the task that lies in a folder."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    task = json.loads((folder / "task.json").read_text("utf-8"))
    features = np.load(folder / "features.npy")
    if task["task"] == "umap":
        out: NDArray[Any] = umap(features, np.load(folder / "start.npy"), task)
    else:
        out = {"k-means": kmeans, "HDBSCAN": hdbscan}[task["task"]](features, task)
    # Under its name only once it is whole.
    np.save(folder / "partial.npy", out)
    (folder / "partial.npy").rename(folder / "out.npy")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Exception as error:  # the border: one line for the user, all of it for the log
        sys.stdout.write(f"failed {str(error).strip().partition(chr(10))[0]}\n")
        sys.stdout.flush()
        raise
