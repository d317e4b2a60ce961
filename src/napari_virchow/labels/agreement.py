"""Labels of several annotators: put together, compared, and brought to and from files."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, TextIO

from napari_virchow.labels import LabelSet
from napari_virchow.labels.edits import LabelClass, LabelRow, name_key
from napari_virchow.labels.journal_file import backup_path, read_journal
from napari_virchow.labels.plans import clean_row
from napari_virchow.tiles import Tile

COLUMNS = ("slide", "grid", "row", "col", "class", "annotator", "time")
JSON_FORMAT = "napari-virchow labels"


@dataclass(frozen=True, slots=True)
class Conflict:
    """A tile that was called different things; the last of `rows`, by time, was kept."""

    slide: str
    grid: str
    tile: Tile
    rows: tuple[LabelRow, ...]


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What came of putting labels together.

    Attributes
    ----------
    n : int
        Labels in the result (merging), or labels that changed (importing).
    conflicts : tuple of Conflict
        Every tile called differently, also by one annotator at two times.
    kappa : dict of pair → float or None
        Cohen's kappa of each two annotators, names sorted, over the tiles that both labelled. None
        where it says nothing: fewer than two such tiles, or all of one class.
    shared : dict of pair → int
        How many tiles both labelled.
    """

    n: int
    conflicts: tuple[Conflict, ...]
    kappa: dict[tuple[str, str], float | None]
    shared: dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class _Settled:
    winners: list[LabelRow]
    losers: list[LabelRow]
    report: MergeReport


def merge_journals(paths: Sequence[Path | str], out: Path | str) -> MergeReport:
    """Put the labels of several journals into a new one.

    Classes are matched by name, whatever the case; the first journal's colours and hotkeys win.
    Where labels differ the later one counts and every such tile is listed; the others are kept as
    `LabelSet.overruled`, so that merging merged journals still compares all annotators. A journal
    may be open in napari meanwhile: what was saved when this starts is read.

    Raises
    ------
    ValueError
        If there are no journals, or `out` exists.
    JournalError
        If one cannot be read, or `out` cannot be written; then there is no `out`.
    """
    out = Path(out)
    if not paths:
        raise ValueError("there are no label journals to merge")
    if out.exists():
        raise ValueError(f"{out} exists already; choose another name for the merged labels")
    rows: list[LabelRow] = []
    classes: list[LabelClass] = []
    for path in paths:
        contents = read_journal(Path(path))
        rows += [*contents.state.rows(), *contents.overruled]
        classes += [contents.state.classes[i] for i in sorted(contents.state.classes)]
    settled = _settle(rows)
    names = " and ".join(Path(path).stem for path in paths)
    with _whole_or_gone(out), LabelSet(out) as merged:
        merged.add_rows(settled.winners, f"merge {{tiles}} from {names}", classes)
        merged.overrule(settled.losers)
    return settled.report


def export_csv(source: LabelSet | Path | str, path: Path | str) -> int:
    """Write all labels of a `LabelSet` or of a journal as CSV and return how many.

    One line per label, in UTF-8, with the columns of `COLUMNS`. `import_csv` reads them back
    without loss; colours and hotkeys are not in there, see `export_json`.

    Raises
    ------
    JournalError
        If the journal cannot be read.
    OSError
        If the file cannot be written; an older one is left as it was.
    """
    rows, _ = read_labels(source)
    with _replaced(Path(path)) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((row.slide, row.grid, *row.tile, *row[3:]) for row in rows)
    return len(rows)


def export_json(source: LabelSet | Path | str, path: Path | str) -> int:
    """Write all classes, with colours and hotkeys, and labels as JSON; else as `export_csv`."""
    rows, classes = read_labels(source)
    content = {
        "format": JSON_FORMAT,
        "version": 1,
        "classes": [asdict(label_class) for label_class in classes],
        "columns": COLUMNS,
        "labels": [(row.slide, row.grid, *row.tile, *row[3:]) for row in rows],
    }
    with _replaced(Path(path)) as file:
        json.dump(content, file, ensure_ascii=False, indent=None, separators=(",", ":"))
    return len(rows)


def import_csv(labels: LabelSet, path: Path | str) -> MergeReport:
    """Take over the labels of a CSV file, annotators and times included, as one undo step.

    Where a tile is called something else already, the later label counts and the tile is listed.

    Raises
    ------
    ValueError
        If the file is not such a table; the text names file and line, and nothing is taken over.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    rows = _read_csv(path)
    concerned = {row[:3] for row in rows}
    settled = _settle([*(row for row in labels.rows() if row[:3] in concerned), *rows])
    n = labels.add_rows(settled.winners, f"import {{tiles}} from {path.name}")
    return replace(settled.report, n=n)


def kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Return Cohen's kappa of two annotators' classes for the same tiles, in [-1, 1].

    None where it says nothing: fewer than two tiles, or one class for all by both.
    """
    if len(first) < 2 or len({*first, *second}) < 2:
        return None
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(list(first), list(second)))


def _settle(rows: Iterable[LabelRow]) -> _Settled:
    """Find out which label of each tile counts, and how far annotators agree."""
    by_tile: dict[tuple[str, str, Tile], list[LabelRow]] = defaultdict(list)
    for row in dict.fromkeys(rows):
        by_tile[row[:3]].append(row)
    winners: list[LabelRow] = []
    losers: list[LabelRow] = []
    conflicts: list[Conflict] = []
    opinions: dict[str, dict[tuple[str, str, Tile], str]] = defaultdict(dict)
    for key, said in sorted(by_tile.items()):
        said.sort(key=lambda row: row.time)  # of two at one time, the one read last counts
        winners.append(said[-1])
        losers += said[:-1]
        if len({name_key(row.class_name) for row in said}) > 1:
            conflicts.append(Conflict(*key, tuple(said)))
        for row in said:
            opinions[row.annotator][key] = name_key(row.class_name)
    agreement: dict[tuple[str, str], float | None] = {}
    shared: dict[tuple[str, str], int] = {}
    for a, b in combinations(sorted(opinions), 2):
        both = sorted(opinions[a].keys() & opinions[b].keys())
        shared[a, b] = len(both)
        agreement[a, b] = kappa([opinions[a][k] for k in both], [opinions[b][k] for k in both])
    report = MergeReport(len(winners), tuple(conflicts), agreement, shared)
    return _Settled(winners, losers, report)


def read_labels(source: LabelSet | Path | str) -> tuple[list[LabelRow], list[LabelClass]]:
    """Return the labels and the classes of a `LabelSet` or of a journal, which is only read.

    Raises
    ------
    JournalError
        If the journal cannot be read.
    """
    if isinstance(source, LabelSet):
        return source.rows(), list(source.classes)
    state = read_journal(Path(source)).state
    return state.rows(), [state.classes[i] for i in sorted(state.classes)]


def _read_csv(path: Path) -> list[LabelRow]:
    with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a mark in front
        reader = csv.DictReader(file)
        try:
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"{path} has no column {missing[0]!r}; it needs {COLUMNS}")
            return [_row_of(path, reader.line_num, line) for line in reader]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error


def _row_of(path: Path, line_number: int, line: dict[str, Any]) -> LabelRow:
    slide, grid, row, col, class_name, annotator, time = (line[name] or "" for name in COLUMNS)
    try:
        tile = Tile(int(row), int(col))
        return clean_row(LabelRow(slide, grid, tile, class_name, annotator, time))
    except ValueError as error:
        raise ValueError(f"{path}, line {line_number}: {error}; nothing was imported") from error


@contextmanager
def _replaced(path: Path) -> Iterator[TextIO]:
    """Write a file that takes its name only when it is whole."""
    made = path.with_name(path.name + ".new")
    try:
        with made.open("w", newline="", encoding="utf-8") as file:
            yield file
        made.replace(path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


@contextmanager
def _whole_or_gone(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for left in (path, backup_path(path), path.with_name(path.name + "-wal")):
            with suppress(OSError):
                left.unlink(missing_ok=True)
        raise
