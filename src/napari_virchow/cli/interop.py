"""Other tools on the command line: their embeddings, verified, and their annotations."""

from __future__ import annotations

from typing import Any

from napari_virchow.cli.qupath import (
    Answer,
    Found,
    Job,
    gather,
    grid_of,
    regions_of,
    take_over,
)
from napari_virchow.interop import (
    Check,
    SlideEmbeddings,
    imported_identity,
    store_embeddings,
)
from napari_virchow.interop.asap import read_asap, write_asap
from napari_virchow.interop.coming import Answers, look_at, verify
from napari_virchow.interop.going import write_embeddings
from napari_virchow.interop.stored import embeddings_of
from napari_virchow.interop.wsinfer import read_wsinfer
from napari_virchow.qupath.frame import SlideBox, whole_slide
from napari_virchow.training import stored_of


def export_embeddings(job: Job) -> Answer:
    """Write embeddings in a format that holds them; CLAM has the places in a file of their own."""
    options, form = job.options, job.options.to
    if options.what not in (None, "tiles"):
        raise ValueError(f"{form} holds embeddings, not {options.what}: leave out --what.")
    grid = grid_of(job, None)
    stored = stored_of(job.store, job.slide.identity, options.encoder, grid.name)
    ours = SlideEmbeddings.of(job.slide, stored)
    files = write_embeddings(form, options.out, ours, options.coords)
    facts = {
        "slide": job.slide.identity,
        "format": form,
        "files": [str(file) for file in files],
        "encoder": ours.encoder,
        "grid": grid.name,
        "tiles": len(ours),
        "dim": ours.dim,
    }
    names = " and ".join(str(file) for file in files)
    return f"{len(ours)} embeddings by {ours.encoder} in {names} ({form})", facts


def import_embeddings(form: str, job: Job) -> Answer:
    """Take over embeddings of a format that holds them."""
    options = job.options
    answers = Answers(
        encoder=options.encoder,
        side=options.tile_size,
        places=options.coords,
        key=options.key,
        spatial=options.spatial,
        snap=options.snap,
    )
    coming = look_at(form, options.file, job.slide, answers)
    table, placed, name = coming.table, coming.placed, coming.encoder
    embeddings = embeddings_of(table)
    check, unchecked = verify(coming, job.slide, asked=options.verify, weights=options.weights)
    facts: dict[str, Any] = {
        "file": str(options.file),
        "format": table.form,
        "slide": job.slide.identity,
        "encoder": imported_identity(name, embeddings.shape[1], table.form),
        "grid": placed.grid.name,
        "mpp": placed.grid.mpp,
        "tiles": len(placed.tiles),
        "left_out": placed.left_out,
        "shift_px": round(float(placed.shifts.max(initial=0)), 2),
        "dim": int(embeddings.shape[1]),
        "check": None if check is None else check.to_json(),
        "not_checked": unchecked,
        "dry_run": bool(options.dry_run),
        "path": None,
    }
    if not options.dry_run:
        stored = store_embeddings(
            table, placed, job.store, job.slide.identity, encoder=name, check=check
        )
        facts["path"] = str(stored.path)
    return _describe(facts, check), facts


def export_asap(job: Job) -> Answer:
    """Write regions of a slide for ASAP; with ``--what`` also tiles one by one."""
    what, out = job.options.what or "regions", job.options.out
    content = gather(job)
    if content.class_ids is None:
        raise ValueError("ASAP shows annotations of classes: choose --what regions or labels.")
    objects = regions_of(job.options, content) if what == "regions" else content.boxes
    written, left_out = write_asap(out, objects)
    facts = {
        "slide": job.slide.identity,
        "file": str(out),
        "what": what,
        "grid": content.where.grid.name,
        "tiles": len(content.where.tiles),
        "written": written,
        "left_out": left_out,
    }
    return f"{written} annotations in {out} ({what})", facts


def import_asap(job: Job) -> Answer:
    """Take over annotations of ASAP as labels."""
    objects, problems = read_asap(job.options.file)
    frame = whole_slide(SlideBox.of(job.slide))
    grid = grid_of(job, None)
    return take_over(job, Found(objects, problems, frame, grid, ("annotation",), "ASAP"))


def import_wsinfer(job: Job) -> Answer:
    """Take over the predictions of WSInfer as labels."""
    objects = read_wsinfer(job.options.file, min_probability=job.options.min_probability)
    frame = whole_slide(SlideBox.of(job.slide))
    grid = grid_of(job, None)
    return take_over(job, Found(objects, (), frame, grid, ("tile",), "WSInfer"))


def _describe(facts: dict[str, Any], check: Check | None) -> str:
    verb = "would be kept" if facts["dry_run"] else "are kept"
    lines = [
        f"{facts['tiles']} embeddings of {facts['file']} ({facts['format']}) {verb}",
        f"  encoder  {facts['encoder']}, {facts['dim']} numbers per tile",
        f"  tiles    {facts['grid']}, up to {facts['shift_px']:g} pixels from where the file has "
        "them",
    ]
    if facts["left_out"]:
        lines.append(
            f"  {facts['left_out']} tiles are left out, as others are nearer to their place"
        )
    if check is None:
        lines.append(f"  not verified: {facts['not_checked']}")
    elif check.agrees:
        lines.append(
            f"  verified with {check.encoder}: cosine {check.median:.4f} (median of {check.n} "
            f"tiles), {check.lowest:.4f} at the lowest"
        )
    else:
        lines.append(f"  WARNING  {check.problem}")
    return "\n".join(lines)
