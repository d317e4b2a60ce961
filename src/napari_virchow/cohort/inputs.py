"""Which slides are meant: files, folders, lists of files, patterns and URLs."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from napari_virchow.cohort.facts import CohortError

SUFFIXES = (
    *(".svs", ".tif", ".tiff", ".ndpi", ".scn", ".bif", ".mrxs", ".vsi", ".vms", ".vmu", ".qptiff"),
    *(".dcm", ".zarr"),
)
LISTS = (".txt", ".csv", ".lst")
_COLUMNS = ("slide", "path", "file", "filename")


def find_slides(inputs: Sequence[str]) -> list[str]:
    """Return the slides that are meant, each once, in the order they were named.

    Parameters
    ----------
    inputs : sequence of str
        Files; folders, searched through and through for slide files, where a folder of DICOM
        files or an OME-Zarr is one slide; text files with a path or URL per line, or CSV files
        with a column "slide" or "path"; patterns such as ``data/*.svs``; URLs.

    Raises
    ------
    CohortError
        If a folder holds no slide, a pattern fits none, or a list cannot be used.
    """
    found: dict[str, None] = {}
    for one in inputs:
        found.update(dict.fromkeys(_expand(one)))
    return list(found)


def _expand(one: str) -> Iterator[str]:
    if "://" in one:
        yield one
        return
    path = Path(one).expanduser()
    if path.suffix.lower() in LISTS and path.is_file():
        for line in _lines(path):
            relative = "://" not in line and not Path(line).expanduser().is_absolute()
            yield from _expand(str(path.parent / line) if relative else line)
    elif path.is_dir() and not _is_one_slide(path):
        slides = sorted(_slides_in(path))
        if not slides:
            raise CohortError(f"{one} holds no slide file ({', '.join(SUFFIXES[:5])}, …).")
        yield from slides
    elif not path.exists() and glob.has_magic(one):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  # ** and absolute
        if not matches:
            raise CohortError(f"No file fits the pattern {one}; check it.")
        for match in matches:
            yield from _expand(match)
    else:
        yield str(path)  # also one that is not there: it is told when it is its turn


def _lines(path: Path) -> list[str]:
    """Return the paths in a list: one per line, or the column of a CSV file."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CohortError(f"{path} cannot be read as a list of slides ({error}).") from error
    if path.suffix.lower() == ".csv":
        return _column(path, text)
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise CohortError(f"{path} names no slide; write one path or URL per line.")
    return found


def _column(path: Path, text: str) -> list[str]:
    import csv

    rows = list(csv.DictReader(text.splitlines()))
    names = {name.strip().lower(): name for name in (rows[0] if rows else {}) if name}
    column = next((names[name] for name in _COLUMNS if name in names), None)
    if column is None:
        raise CohortError(f"{path} has no column {' or '.join(_COLUMNS[:2])}; name it so.")
    return [row[column].strip() for row in rows if (row[column] or "").strip()]


def _is_one_slide(folder: Path) -> bool:
    """Say whether a folder is a slide itself: an OME-Zarr, or DICOM files side by side."""
    if (folder / "zarr.json").exists() or (folder / ".zattrs").exists():
        return True
    return any(child.suffix.lower() == ".dcm" for child in folder.iterdir())


def _slides_in(folder: Path) -> Iterator[str]:
    for child in sorted(folder.iterdir()):
        if child.name.startswith("."):
            continue
        if child.is_dir():
            if child.suffix.lower() == ".zarr" or _is_one_slide(child):
                yield str(child)
            else:
                yield from _slides_in(child)
        elif child.suffix.lower() in SUFFIXES:
            yield str(child)
