"""Predictions as a table that any other program reads."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_virchow.classify.predictions import Predictions
from napari_virchow.tiles import Tile, TileGrid


def write_table(
    path: Path,
    slide: str,
    grid: TileGrid,
    tiles: NDArray[np.int32],
    predictions: Predictions,
    names: Mapping[int, str],
    labels: Mapping[Tile, int],
) -> int:
    """Write one line per tile (CSV, UTF-8), in one step; returns the number of tiles.

    The columns are slide, row, col, x, y, width, height (level-0 pixels), label, class (empty for
    none), one probability per class, margin and novelty.

    Raises
    ------
    OSError
        If the file cannot be written; what was there before stays.
    """
    columns = [f"p({names[int(c)]})" for c in predictions.classes]
    partial = path.with_name(f"{path.name}.partial")
    confident = predictions.confident()
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        head = ["slide", "row", "col", "x", "y", "width", "height", "label", "class"]
        writer.writerow([*head, *columns, "margin", "novelty"])
        for n, (row, col) in enumerate(tiles.tolist()):
            tile = Tile(row, col)
            rect = grid.rect(tile)
            box = [f"{v:.2f}" for v in (rect.x, rect.y, rect.width, rect.height)]
            said = names.get(labels.get(tile, 0), "")
            chances = [f"{p:.4f}" for p in predictions.probability[n]]
            rest = f"{predictions.margin[n]:.4f}", f"{predictions.novelty[n]:.4f}"
            writer.writerow(
                [slide, row, col, *box, said, names.get(int(confident[n]), ""), *chances, *rest]
            )
    partial.replace(path)
    return len(tiles)
