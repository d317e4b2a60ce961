"""The command `qupath`, and the part of `export` and `import` that is about labels and objects."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_virchow.classify import TileClassifier
from napari_virchow.interop.going import write_tile_table
from napari_virchow.labels import LabelSet, default_journal
from napari_virchow.labels.agreement import import_csv, read_labels
from napari_virchow.labels.edits import LabelRow
from napari_virchow.memory import recall_slide
from napari_virchow.qupath.export import (
    SlideTiles,
    as_tiles,
    prediction_columns,
    region_objects,
    write_regions,
    write_tiles,
)
from napari_virchow.qupath.frame import (
    BLOCK_KEY,
    Frame,
    FrameError,
    SlideBox,
    frame_block,
    frame_of_block,
)
from napari_virchow.qupath.gathering import Content
from napari_virchow.qupath.geojson import (
    ReadResult,
    check_suffix,
    count_objects,
    read_geojson,
    repair_file,
    write_geojson,
)
from napari_virchow.qupath.groovy import project_script
from napari_virchow.qupath.labelling import ImportPlan, apply_import, plan_import
from napari_virchow.qupath.objects import OBJECT_TYPES, ObjectType, PathObject
from napari_virchow.qupath.placing import to_slide
from napari_virchow.qupath.project import describe_project, read_project
from napari_virchow.qupath.reading import Problem
from napari_virchow.qupath.servers import frame_named, frame_of_objects
from napari_virchow.slide import Slide, open_slide
from napari_virchow.tiles import TILE_PX, TileGrid
from napari_virchow.training import TrainingError, classify, read_label_files, stored_of

Answer = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for, with the slide open."""

    options: argparse.Namespace
    slide: Slide
    store: Path


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The objects of a file in level-0 pixels, and which of them become labels of a grid."""

    objects: Sequence[PathObject]
    problems: Sequence[Problem]
    frame: Frame
    grid: TileGrid
    kinds: Sequence[ObjectType]
    origin: str


Handler = Callable[[Job], Answer]


def run_repair(options: argparse.Namespace) -> Answer:
    """Write a repaired copy of a GeoJSON file."""
    found, report = repair_file(options.file, options.out)
    unreadable = [{"index": p.index, "reason": p.reason} for p in found.problems]
    facts = {
        "file": str(options.file),
        "out": str(options.out),
        "read": len(found.objects),
        "malformed": unreadable,
        **report.to_json(),
    }
    lines = [f"{report.written} objects in {options.out}, {report.repaired} of them repaired"]
    lines += [f"  {n} × {what}" for what, n in sorted(report.repairs.items())]
    lines += [f"  left out: number {p.index}, as {p.reason}" for p in report.dropped]
    lines += [f"  cannot be read: number {p.index}, as {p.reason}" for p in found.problems]
    return "\n".join(lines), facts


def run_project(options: argparse.Namespace) -> Answer:
    """Say what is in a project of QuPath; with `--script`, write one that takes over files."""
    project = read_project(options.project)
    text, facts = describe_project(project), project.to_json()
    if options.script is None:
        if options.take:
            raise ValueError("--take says what a script takes over; name its file as --script.")
        return text, facts
    pairs = [said.partition("=") for said in options.take]
    if any(not path for _, _, path in pairs):
        raise ValueError("--take looks like IMAGE=FILE: an image of the project and its GeoJSON.")
    options.script.write_text(project_script(project, {key: path for key, _, path in pairs}))
    text = f"{options.script} is for QuPath: Automate › Script editor › Run › Run for project"
    return text, {**facts, "script": str(options.script)}


def export_geojson(job: Job) -> Answer:
    """Write a slide's labels, tiles, regions or predictions for QuPath."""
    options, what, frame = job.options, _what(job.options), _frame_to_write(job)
    check_suffix(options.out)
    content = gather(job)
    where = replace(content.where, frame=frame)
    if what == "regions":
        report = write_regions(options.out, where, regions_of(options, content))
    else:
        report = write_tiles(
            options.out, where, content.class_ids, content.classes, content.columns
        )
    facts = {
        "slide": job.slide.identity,
        "file": str(options.out),
        "what": what,
        "grid": where.grid.name,
        "tiles": len(where.tiles),
        "frame": frame.to_block(),
        **report.to_json(),
    }
    return f"{report.written} objects in {options.out} ({what}, frame: {frame.name})", facts


def regions_of(options: argparse.Namespace, content: Content) -> list[PathObject]:
    """Return the regions of the classes of some tiles, in level-0 pixels."""
    if content.class_ids is None:
        raise ValueError("Regions need classes: give --model, or label some tiles.")
    return region_objects(
        content.where,
        content.class_ids,
        content.classes,
        content.columns,
        simplify=options.simplify,
        min_tiles=options.min_tiles,
    )


def export_table(job: Job) -> Answer:
    """Write a slide's labels, tiles or predictions as CSV, corners in level-0 pixels."""
    if _what(job.options) == "regions":
        raise ValueError("Regions do not fit a table; export them with --to geojson.")
    content, out = gather(job), Path(job.options.out)
    write_tile_table(out, content)
    n = len(content.where.tiles)
    return f"{n} tiles in {out}", {"slide": job.slide.identity, "file": str(out), "tiles": n}


def import_geojson(job: Job) -> Answer:
    """Take over annotations of QuPath as labels of the tiles they lie on."""
    options = job.options
    found = read_geojson(options.file)
    frame = _frame_of(job, found)
    kinds = OBJECT_TYPES if options.objects == "all" else (options.objects,)
    objects = to_slide(found.objects, frame)
    read = Found(objects, found.problems, frame, grid_of(job, found), kinds, "QuPath")
    return take_over(job, read)


def take_over(job: Job, found: Found) -> Answer:
    """Label the tiles that objects lie on; with ``--geojson`` also write them for QuPath."""
    options = job.options
    with _labels(options) as labels:
        plan = plan_import(
            labels,
            found.objects,
            job.slide.identity,
            found.grid,
            options.rule,
            kinds=found.kinds,
        )
        text = f"import {{tiles}} from {found.origin}"
        changed = 0 if options.dry_run else apply_import(labels, plan, text=text)
    facts = {
        "file": str(options.file),
        "slide": job.slide.identity,
        "objects": len(found.objects),
        "counts": count_objects(found.objects),
        "malformed": [{"index": p.index, "reason": p.reason} for p in found.problems],
        "frame": found.frame.to_block(),
        "plan": plan.to_json(),
        "changed": changed,
        "dry_run": bool(options.dry_run),
        "labels": str(options.labels or default_journal()),
        "geojson": None if options.geojson is None else str(options.geojson),
    }
    said = _describe(plan, facts, found.frame)
    if options.geojson is not None:
        frame, box = _frame_to_write(job), SlideBox.of(job.slide)
        foreign = {BLOCK_KEY: frame_block(frame, job.slide.identity, box)}
        report = write_geojson(options.geojson, found.objects, frame=frame, foreign=foreign)
        said += f"\n{report.written} objects in {options.geojson} (frame: {frame.name})"
    return said, facts


def import_table(job: Job) -> Answer:
    """Take over a CSV file of labels."""
    options = job.options
    with _labels(options) as labels:
        report = import_csv(labels, options.file)
    verb = "would change" if options.dry_run else "changed"
    facts = {"file": str(options.file), "changed": report.n, "dry_run": bool(options.dry_run)}
    return f"{report.n} labels {verb} by {options.file}", facts


def gather(job: Job) -> Content:
    """Return the tiles that `--what` means, for any format.

    Raises
    ------
    ValueError
        If what is needed for it was not given.
    TrainingError
        If there is nothing to export.
    """
    what = _what(job.options)
    if job.options.model is not None and what in ("predictions", "regions"):
        return _predicted(job)
    if what == "predictions":
        raise ValueError("Predictions need a classifier: give its folder as --model.")
    if what == "tiles":
        grid = grid_of(job, None)
        stored = stored_of(job.store, job.slide.identity, job.options.encoder, grid.name)
        where = SlideTiles(job.slide.identity, stored.grid, stored.tiles)
        return Content(where, None, (), {})
    return _labelled(job)


def _predicted(job: Job) -> Content:
    classifier = TileClassifier.load(job.options.model)
    card = classifier.card
    name = f"{card.tile_px}px-{card.mpp:g}mpp"
    stored = stored_of(job.store, job.slide.identity, card.encoder, name)
    predictions = classify(classifier, stored)
    ids = predictions.confident(unknown_above=job.options.unknown_above)
    columns = prediction_columns(predictions, classifier.classes)
    where = SlideTiles(job.slide.identity, stored.grid, stored.tiles)
    return Content(where, ids, tuple(classifier.classes), columns)


def _labelled(job: Job) -> Content:
    path = job.options.labels or default_journal()
    rows, classes = read_label_files([path])
    grid = grid_of(job, None)
    here = [r for r in rows if (r.slide, r.grid) == (job.slide.identity, grid.name)]
    if not here:
        raise TrainingError(
            f"{path} has no labels of {job.slide.name} for tiles of {grid.name}; give the right "
            "file as --labels, or the magnification as --mpp."
        )
    ids = {c.name: c.id for c in classes}
    here.sort(key=_place)
    where = SlideTiles(job.slide.identity, grid, as_tiles(row.tile for row in here))
    return Content(where, np.array([ids[row.class_name] for row in here]), tuple(classes), {})


def _place(row: LabelRow) -> tuple[int, int]:
    return row.tile.row, row.tile.col


def _what(options: argparse.Namespace) -> str:
    given: str | None = options.what
    return given or ("predictions" if options.model is not None else "labels")


def opened(options: argparse.Namespace, store: Path) -> Slide:
    """Open the slide that was named, with the pixel size that was given or remembered."""
    slide = open_slide(options.slide, mpp=options.slide_mpp)
    if slide.mpp is None and (remembered := recall_slide(store, slide.identity).mpp) is not None:
        slide.set_mpp(remembered)
    return slide


def grid_of(job: Job, found: ReadResult | None) -> TileGrid:
    """Return the grid asked for; else the one a file of ours names; else tiles at 0.5 µm/px."""
    said = found.block.get("grid") if found and isinstance(found.block, Mapping) else None
    if job.options.mpp is None and isinstance(said, Mapping):
        try:
            return job.slide.grid(float(said["mpp"]), int(said["tile_px"]))
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{job.options.file}: its grid block is damaged; say --mpp."
            ) from error
    return job.slide.grid(job.options.mpp or 0.5, TILE_PX)


def _frame_of(job: Job, found: ReadResult) -> Frame:
    """Return the frame asked for; else what the file says; else the one its objects fit in."""
    box = SlideBox.of(job.slide)
    if job.options.frame != "auto":
        return frame_named(job.options.frame, box)
    said = frame_of_block(found.block, box, job.slide.identity)
    try:
        return said or frame_of_objects(found.objects, box)
    except FrameError as error:
        raise FrameError(f"{error} Say --frame whole or --frame bounds.") from error


def _frame_to_write(job: Job) -> Frame:
    """Return the frame asked for; QuPath's own way, cropped to bounds, if none is."""
    named = "bounds" if job.options.frame == "auto" else job.options.frame
    return frame_named(named, SlideBox.of(job.slide))


def _labels(options: argparse.Namespace) -> LabelSet:
    """Return the labels to change; for a dry run a copy in memory."""
    path = Path(options.labels or default_journal())
    if not options.dry_run:
        path.parent.mkdir(parents=True, exist_ok=True)
        return LabelSet(path)
    copy = LabelSet(None)
    if path.exists():
        rows, classes = read_labels(path)
        copy.add_rows(rows, "copy", classes)
    return copy


def _describe(plan: ImportPlan, facts: Mapping[str, Any], frame: Frame) -> str:
    verb = "would be" if facts["dry_run"] else "are"
    lines = [f"{facts['objects']} objects in {facts['file']} (frame: {frame.name})"]
    lines += [f"  {len(tiles)} tiles {verb} {name}" for name, tiles in plan.tiles.items()]
    lines += [f"  {note}" for note in plan.notes()]
    for problem in facts["malformed"]:
        lines.append(f"  cannot be read: number {problem['index']}, as {problem['reason']}")
    return "\n".join(lines)
