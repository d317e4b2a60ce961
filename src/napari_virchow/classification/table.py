"""Predictions and figures as tables that any other program reads."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from napari_virchow.classification.facts import Assessment
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


def write_figures(path: Path, found: Assessment, names: Mapping[int, str]) -> int:
    """Write what is honestly known of a classifier (CSV, UTF-8); returns the number of lines.

    The columns are figure, class, predicted, labels_per_class and value; what a figure does not
    have is empty. Where labels are too few there is one line, "too few labels to tell", with the
    reason.

    Parameters
    ----------
    names : mapping of class id to name

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    lines = list(_figures(found, names))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["figure", "class", "predicted", "labels_per_class", "value"])
        writer.writerows(lines)
    return len(lines)


def _figures(found: Assessment, names: Mapping[int, str]) -> Iterator[tuple[str, ...]]:
    one = found.evaluation
    ids = [int(c) for c in one.classes]
    called = {c: names.get(c, str(c)) for c in ids}
    for c in ids:
        yield "labels", called[c], "", "", str(int((one.y_true == c).sum()))
    if one.reason is not None or one.interval is None:
        yield "too few labels to tell", "", "", "", one.reason or ""
        return
    low, high = one.interval
    yield "validated by", "", "", "", one.plan.by
    for figure, value in (
        ("balanced accuracy", one.balanced_accuracy),
        ("balanced accuracy, 95 % from", low),
        ("balanced accuracy, 95 % to", high),
        ("calibration error", one.calibration_error),
    ):
        yield figure, "", "", "", "" if value is None else f"{value:.4f}"
    for figure, rates in (("f1", one.f1), ("recall", one.recall), ("precision", one.precision)):
        for c, value in rates.items():
            yield figure, called[c], "", "", f"{value:.4f}"
    for row, c in enumerate(ids):
        for col, d in enumerate(ids):
            yield "confusion", called[c], called[d], "", str(int(one.confusion[row, col]))
    for point in found.curve:
        per_class = str(point.per_class)
        for figure, value in (
            ("learning curve", point.balanced_accuracy),
            ("learning curve, lowest draw", point.low),
            ("learning curve, highest draw", point.high),
        ):
            yield figure, "", "", per_class, f"{value:.4f}"
