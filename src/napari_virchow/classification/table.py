"""Predictions as a table that any other program reads."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from napari_virchow.classify.predictions import UNKNOWN_ABOVE, Predictions
from napari_virchow.qupath.export import SlideTiles
from napari_virchow.tiles import Tile


def write_table(
    path: Path,
    where: SlideTiles,
    predictions: Predictions,
    names: Mapping[int, str],
    labels: Mapping[Tile, str],
    unknown_above: float = UNKNOWN_ABOVE,
) -> int:
    """Write one line per tile (CSV, UTF-8), in one step; returns the number of tiles.

    The columns are slide, row, col, x, y, width, height (level-0 pixels), label, class, one
    probability per class, margin and novelty. The class of glass, and of tiles whose novelty is
    above `unknown_above`, is "unknown"; it is empty where only one class was labelled.

    Parameters
    ----------
    names : mapping of class id to name
    labels : mapping of Tile to name
        What people said; empty in the table where they said nothing.

    Raises
    ------
    OSError
        If the file cannot be written; what was there before stays.
    """
    columns = [f"p({names[int(c)]})" for c in predictions.classes]
    partial = path.with_name(f"{path.name}.partial")
    confident = predictions.confident(unknown_above=unknown_above)
    unknown = "unknown" if predictions.kind == "classes" else ""
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        head = ["slide", "row", "col", "x", "y", "width", "height", "label", "class"]
        writer.writerow([*head, *columns, "margin", "novelty"])
        for n, (row, col) in enumerate(where.tiles.tolist()):
            tile = Tile(row, col)
            rect = where.grid.rect(tile)
            box = [f"{v:.2f}" for v in (rect.x, rect.y, rect.width, rect.height)]
            found = names.get(int(confident[n]), unknown)
            chances = [f"{p:.4f}" for p in predictions.probability[n]]
            rest = f"{predictions.margin[n]:.4f}", f"{predictions.novelty[n]:.4f}"
            writer.writerow(
                [where.slide, row, col, *box, labels.get(tile, ""), found, *chances, *rest]
            )
    partial.replace(path)
    return len(where.tiles)
