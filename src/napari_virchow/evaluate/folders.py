"""Tile sets of the user's own: folders of class folders, flat folders by a pattern, CSV tables."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_virchow.evaluate.tilesets import (
    TEST,
    TRAIN,
    UNUSED,
    VALID,
    TileSet,
    TileSetError,
    from_files,
    image_files,
)

SPLITS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALID,
    "valid": VALID,
    "validation": VALID,
    "test": TEST,
    "testing": TEST,
}
FILE_COLUMNS = ("file", "path", "tile", "image", "filename")
CLASS_COLUMNS = ("class", "label")
GROUP_COLUMNS = ("patient", "case", "slide", "group")
SPLIT_COLUMNS = ("split", "partition")
Record = tuple[Path, str, str, str]  # file, class, group, split; the last two may be empty


def read_folder(folder: Path, *, pattern: str | None = None, mpp: float | None = None) -> TileSet:
    """Read a folder of tiles.

    It may hold class folders, class folders inside train / val / test folders, class folders
    inside one folder per patient or slide, folders per patient inside class folders, or only
    tiles, whose class a pattern finds in their names.

    Parameters
    ----------
    folder : Path
        Where they are.
    pattern : str, optional
        Regular expression for a flat folder, with a group named "class" and perhaps one named
        "group".
    mpp : float, optional
        µm per pixel of the tiles at 224 px.

    Raises
    ------
    TileSetError
        If no labelled tiles are found there.
    """
    records = _by_pattern(folder, pattern) if image_files(folder) else _by_folders(folder)
    if not records:
        raise TileSetError(f"{folder} has no tiles in class folders: give another folder.")
    return from_records(folder.name, folder, records, mpp=mpp)


def read_table(table: Path, *, mpp: float | None = None) -> TileSet:
    """Read a CSV file with one row per tile.

    Its columns are: file (or path, tile, image), relative to the table; class (or label); and
    perhaps patient (or case, slide, group) and split (or partition): train, val or test.

    Raises
    ------
    TileSetError
        If it lacks a column or has no rows.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TileSetError(f"{table} cannot be read as a CSV file: check it.") from error
    names = {name.strip().lower(): name for name in (rows[0] if rows else ()) if name}
    columns = [
        next((names[name] for name in wanted if name in names), None)
        for wanted in (FILE_COLUMNS, CLASS_COLUMNS, GROUP_COLUMNS, SPLIT_COLUMNS)
    ]
    if not rows or columns[0] is None or columns[1] is None:
        raise TileSetError(
            f"{table} needs a column 'file' and a column 'class' and at least one row: add them."
        )
    records = [
        (table.parent / row[columns[0]], row[columns[1]])
        + tuple(row[column] if column else "" for column in columns[2:])
        for row in rows
    ]
    return from_records(table.stem, table.parent, records, mpp=mpp)  # type: ignore[arg-type]


def from_records(
    name: str,
    root: Path,
    records: Sequence[Record],
    *,
    title: str = "",
    task: str = "",
    mpp: float | None = None,
) -> TileSet:
    """Make a tile set of (file, class, group, split); empty groups or splits mean: not known.

    Raises
    ------
    TileSetError
        If a split has no known name, or some tiles have a group or a split and others have not.
    """
    files, labels, groups, splits = zip(*records, strict=True)
    classes = tuple(sorted(set(labels), key=_natural))
    number = {each: index for index, each in enumerate(classes)}
    for what, values in (("patient or slide", groups), ("split", splits)):
        if any(values) and not all(values):
            raise TileSetError(f"{root}: some tiles have a {what} and others have none: add it.")
    if unknown := sorted(set(splits) - {""} - SPLITS.keys() - {"unused"}):
        raise TileSetError(f"{root}: there is no split {unknown[0]!r}: say train, val or test.")
    codes = np.array([SPLITS.get(each, UNUSED) for each in splits], np.int8)
    return TileSet(
        name=name,
        title=title or name,
        source=from_files(files, root),
        classes=classes,
        labels=np.array([number[each] for each in labels], np.intp),
        groups=np.array(groups, np.str_) if all(groups) else None,
        split=codes if all(splits) and {TRAIN, TEST} <= set(codes.tolist()) else None,
        mpp=mpp,
        task=task,
    )


def _by_pattern(folder: Path, pattern: str | None) -> list[Record]:
    files = image_files(folder)
    if pattern is None:
        raise TileSetError(
            f"{folder} holds tiles but no class folders: say with --pattern where a name has its "
            r"class, such as 'label_(?P<class>\d+)'."
        )
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise TileSetError(f"the pattern {pattern!r} is not valid ({error}): correct it.") from None
    if "class" not in expression.groupindex:
        raise TileSetError(f"the pattern {pattern!r} has no group (?P<class>…): add it.")
    records: list[Record] = []
    for file in files:
        found = expression.search(file.name)
        if found is None:
            raise TileSetError(f"the pattern {pattern!r} does not fit {file.name}: correct it.")
        named = found.groupdict()
        records.append((file, named["class"], named.get("group") or "", ""))
    return records


def _by_folders(folder: Path) -> list[Record]:
    outer = sorted(each for each in folder.iterdir() if each.is_dir())
    if outer and {each.name.lower() for each in outer} <= SPLITS.keys():
        return [
            (file, label, group, each.name.lower())
            for each in outer
            for file, label, group, _ in _by_folders(each)
        ]
    if any(image_files(each) for each in outer):
        return [(file, each.name, "", "") for each in outer for file in image_files(each)]
    pairs = [(a, b) for a in outer for b in sorted(a.iterdir()) if b.is_dir()]
    # The names that come again in every folder are the classes; the others are patients.
    inner_repeat = len({b.name for _, b in pairs}) < len(pairs)
    return [
        (file, b.name if inner_repeat else a.name, a.name if inner_repeat else b.name, "")
        for a, b in pairs
        for file in image_files(b)
    ]


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key by which "2" comes before "10"."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
