"""Read HEST-Benchmark: tiles around the spots of spatial transcriptomics, and their genes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_virchow.evaluate.tasks import TASKS
from napari_virchow.evaluate.tilesets import (
    Rows,
    Source,
    TileSet,
    TileSetError,
    from_h5,
    joined,
    open_h5,
)

GENES = "var_50genes.json"


def is_hest(folder: Path) -> bool:
    """Say whether a folder is a HEST task, or holds some."""
    return (folder / GENES).is_file() or any(folder.glob(f"*/{GENES}"))


def read_hest(folder: Path) -> list[TileSet]:
    """Read one task of HEST, or all in a folder; targets are log(1 + counts) of 50 genes.

    Raises
    ------
    TileSetError
        If a task lacks something.
    """
    if (folder / GENES).is_file():
        return [_read_task(folder)]
    return [_read_task(each.parent) for each in sorted(folder.glob(f"*/{GENES}"))]


def _read_task(folder: Path) -> TileSet:
    genes = json.loads((folder / GENES).read_text("utf-8"))["genes"]
    samples = sorted(file.stem for file in (folder / "patches").glob("*.h5"))
    if not samples:
        raise TileSetError(f"{folder} has no patches: {TASKS['hest'].advice}.")
    parts = [_read_sample(folder, sample, genes) for sample in samples]
    targets = np.concatenate([part[1] for part in parts])
    groups = np.repeat(samples, [len(part[1]) for part in parts])
    folds = tuple(_folds(folder, groups))
    if not folds:
        raise TileSetError(f"{folder} has no splits: {TASKS['hest'].advice}.")
    return TileSet(
        name=f"hest-{folder.name}",
        title=f"HEST {folder.name}",
        source=joined([part[0] for part in parts]),
        classes=(),
        labels=np.zeros(len(targets), np.intp),
        groups=groups,
        folds=folds,
        targets=targets,
        mpp=0.5,
        task="hest",
    )


def _read_sample(folder: Path, sample: str, genes: list[str]) -> tuple[Source, NDArray[np.float32]]:
    patches = folder / "patches" / f"{sample}.h5"
    file = open_h5(patches)
    wanted = _words(file["barcode" if "barcode" in file else "barcodes"])
    with open_h5(folder / "adata" / f"{sample}.h5ad") as table:
        spots = _words(table["obs"][_index(table["obs"])])
        names = _words(table["var"][_index(table["var"])])
        counts = _matrix(table["X"], len(spots), len(names))
    missing = sorted((set(wanted) - set(spots)) | (set(genes) - set(names)))
    if missing:
        raise TileSetError(f"{folder}: the table of {sample} has no {missing[0]}: get it again.")
    row_of, column_of = ({n: i for i, n in enumerate(each)} for each in (spots, names))
    chosen = counts[np.ix_([row_of[w] for w in wanted], [column_of[g] for g in genes])]
    return from_h5([patches], "img"), np.log1p(chosen).astype(np.float32)


def _folds(folder: Path, groups: NDArray[np.str_]) -> list[tuple[Rows, Rows]]:
    folds = []
    for train in sorted((folder / "splits").glob("train_*.csv")):
        test = train.with_name(train.name.replace("train", "test"))
        folds.append(
            (
                np.flatnonzero(np.isin(groups, _samples(train))),
                np.flatnonzero(np.isin(groups, _samples(test))),
            )
        )
    return folds


def _samples(table: Path) -> list[str]:
    with table.open(encoding="utf-8", newline="") as file:
        return [row["sample_id"] for row in csv.DictReader(file)]


def _index(frame: Any) -> str:
    """Return the name of the index column of a data frame that AnnData wrote."""
    name = frame.attrs.get("_index", "_index")
    return name.decode() if isinstance(name, bytes) else str(name)


def _words(column: Any) -> list[str]:
    words = np.asarray(column).reshape(-1).tolist()
    return [word.decode() if isinstance(word, bytes) else str(word) for word in words]


def _matrix(stored: Any, n_rows: int, n_columns: int) -> NDArray[np.float32]:
    """Return AnnData's X, which is an array, or a CSR or CSC matrix in three arrays."""
    if not hasattr(stored, "keys"):
        return np.asarray(stored, np.float32)
    from scipy.sparse import csc_matrix, csr_matrix

    kind = csc_matrix if "csc" in str(stored.attrs.get("encoding-type")) else csr_matrix
    parts = (stored["data"][:], stored["indices"][:], stored["indptr"][:])
    return np.asarray(kind(parts, shape=(n_rows, n_columns)).toarray(), np.float32)
