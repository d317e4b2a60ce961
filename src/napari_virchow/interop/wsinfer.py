"""WSInfer's CSV: tiles with the probability of each class."""

from __future__ import annotations

import csv
import math
import uuid
from pathlib import Path

import shapely

from napari_virchow.interop.table import InteropError
from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.objects import NAMESPACE, PathObject

FORM = "wsinfer"
PLACE = ("minx", "miny", "width", "height")
PREFIX = "prob_"


def is_wsinfer(names: list[str]) -> bool:
    """Say whether a CSV file with these columns is of WSInfer."""
    return set(PLACE) <= set(names) and any(
        name.startswith(PREFIX) and name[len(PREFIX) :].strip(": ") for name in names
    )


def read_wsinfer(path: Path | str, *, min_probability: float = 0.5) -> list[PathObject]:
    """Read tiles, each with its most likely class and all probabilities as measurements.

    Parameters
    ----------
    path : Path or str
        ``model-outputs-csv/<slide>.csv``.
    min_probability : float
        Tiles whose most likely class is less likely than this are unclassified.

    Returns
    -------
    list of PathObject
        Of type "tile", in level-0 pixels; ids follow from place and size.

    Raises
    ------
    InteropError
        If it is no table of WSInfer, or a line is damaged; nothing is returned then.
    FileNotFoundError
        If it is not there.
    """
    path = Path(path)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            names = list(reader.fieldnames or ())
            if not is_wsinfer(names):
                raise InteropError(
                    f"{path} is no table of WSInfer: it needs the columns {', '.join(PLACE)} and "
                    f"at least one {PREFIX}…"
                )
            # a name of blanks and colons is none that a class can have
            classes = [n for n in names if n.startswith(PREFIX) and n[len(PREFIX) :].strip(": ")]
            return [_tile(path, reader.line_num, line, classes, min_probability) for line in reader]
        except (csv.Error, UnicodeDecodeError) as error:
            raise InteropError(f"{path} is no CSV file in UTF-8: {error}.") from error


def _tile(
    path: Path, line_number: int, line: dict[str, str], classes: list[str], least: float
) -> PathObject:
    try:
        x, y, width, height = (float(line[name]) for name in PLACE)
        chances = {name.removeprefix(PREFIX): float(line[name]) for name in classes}
    except (TypeError, ValueError) as error:
        raise InteropError(f"{path}, line {line_number}: {error}; nothing was read.") from error
    numbers = (x, y, width, height, *chances.values())
    if not all(map(math.isfinite, numbers)) or width <= 0 or height <= 0:
        raise InteropError(
            f"{path}, line {line_number}: a number is not finite, or a tile has no size; nothing "
            "was read."
        )
    best = max(chances, key=lambda name: chances[name])
    seed = f"wsinfer/{path.stem}/{x:.2f}/{y:.2f}/{width:.2f}/{height:.2f}"
    return PathObject(
        id=str(uuid.uuid5(NAMESPACE, seed)),
        object_type="tile",
        geometry=shapely.box(x, y, x + width, y + height),
        path_class=PathClass.of(best) if chances[best] >= least else None,
        measurements={f"p({name})": chance for name, chance in chances.items()},
    )
