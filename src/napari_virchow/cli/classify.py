"""The commands `classify` and `labels`: train on labels, apply to slides, look after labels."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_virchow.classification.facts import ApplyOptions
from napari_virchow.classify import TileClassifier
from napari_virchow.classify.predictions import UNKNOWN
from napari_virchow.cli.embed import STOPPING_S, StoppedByUser, check_slide, check_store
from napari_virchow.cohort import find_slides
from napari_virchow.encoders import EncoderUnavailable
from napari_virchow.labels.agreement import export_csv, export_json, merge_journals
from napari_virchow.layout import StoreError
from napari_virchow.session import Session
from napari_virchow.slide import SlideError
from napari_virchow.training import (
    Stored,
    Trained,
    TrainingError,
    read_label_files,
    stored_of,
    suggest,
    summary,
    train,
)

Answer = tuple[str, dict[str, Any]]


def run_train(options: argparse.Namespace, store: Path) -> Answer:
    """Train on label files, save the classifier, and say how good it is."""
    rows, classes = read_label_files(options.labels)
    trained = train(rows, classes, store, options.encoder)
    trained.classifier.save(options.out)
    facts = {"model": str(options.out), **summary(trained)}
    return _describe(trained, options.out), facts


def run_apply(
    options: argparse.Namespace,
    store: Path,
    *,
    say: Callable[[str], None],
    show: Callable[[str], None],
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Embed what is missing of slides and classify them, one file each; go on where one fails.

    Returns
    -------
    document : dict
        What `--json` prints.
    failures : list of dict
        "slide" and "error" of those that could not be classified, or not whole.

    Raises
    ------
    ModelError, EncoderUnavailable
        If the classifier cannot be read, or its encoder is needed and cannot be had.
    SlideError
        If the only slide given cannot be used.
    StoppedByUser
        On Ctrl-C, after the running batch was stored.
    """
    classifier = TileClassifier.load(options.model)
    if not options.only_stored:
        check_store(store)
    paths = find_slides(options.slides)
    slides: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    with Session(store, device=options.device) as session:
        for path in paths:
            try:
                check_slide(path, classifier.card.mpp, options.slide_mpp, store)
                slides.append(_apply(session, classifier, path, options, show))
            except (SlideError, StoreError, TrainingError, OSError, ValueError) as error:
                if len(paths) == 1:
                    raise
                failures.append({"slide": path, "error": f"{path}: {error}"})
                say(f"{path}\n  failed: {error}")
                continue
            finally:
                show("")
            say(_describe_applied(slides[-1]))
            if slides[-1]["missing"] and not options.only_stored:
                text = f"{path}: {slides[-1]['missing']} tiles could not be embedded."
                failures.append({"slide": path, "error": text})
    return {"model": str(options.model), "slides": slides, "failures": failures}, failures


def _apply(
    session: Session,
    classifier: TileClassifier,
    path: str,
    options: argparse.Namespace,
    show: Callable[[str], None],
) -> dict[str, Any]:
    """Classify one slide, and say what came of it; raises as `Session.apply_classifier` does."""
    how = ApplyOptions(
        options.format,
        "bounds" if options.frame == "auto" else options.frame,
        options.unknown_above,
        not options.only_stored,
        options.weights,
    )
    slide = session.open_slide(path, mpp=options.slide_mpp)
    try:
        [done] = session.apply_classifier(
            classifier,
            [slide],
            out=options.out,
            how=how,
            on_progress=lambda p: show(f"{p.slide}  {p.text}: {p.done} of {p.total} tiles"),
        )
    except EncoderUnavailable as error:
        raise EncoderUnavailable(
            f"{path} has tiles that are not embedded, and their encoder cannot be had: "
            f"{str(error).rstrip('.')}; --only-stored classifies what is there."
        ) from error
    except KeyboardInterrupt:
        session.cancel()
        session.wait(STOPPING_S)
        raise StoppedByUser(
            f"stopped at {slide.name}: what is embedded is kept, the slides before it are "
            "classified, and the same command goes on from there."
        ) from None
    finally:
        session.close_slide(slide)
    names = {c.id: c.name for c in classifier.classes} | {UNKNOWN: "unknown"}
    tiles = {names[i]: n for i, n in sorted(done.counts.items(), key=lambda item: -item[1])}
    return {
        "slide": path,
        "identity": slide.identity,
        "file": done.file,
        "tiles": tiles,
        "missing": done.missing,
    }


def _describe_applied(facts: dict[str, Any]) -> str:
    shares = ", ".join(f"{n} {name}" for name, n in facts["tiles"].items())
    line = f"  {sum(facts['tiles'].values())} tiles: {shares or 'none is embedded'}"
    if facts["missing"]:
        line += f"; {facts['missing']} tiles on tissue are not embedded"
    return f"{facts['slide']}\n{line}\n  {facts['file']}"


def run_next(options: argparse.Namespace, store: Path, identities: dict[str, str]) -> Answer:
    """Name the tiles whose labels would teach most."""
    classifier = TileClassifier.load(options.model)
    rows, _ = read_label_files(options.labels)
    lines, found = [], []
    for path, identity in identities.items():
        stored = _stored_for(classifier, store, identity)
        for one in suggest(classifier, stored, rows, options.count):
            row, col = map(int, stored.tiles[one.row])
            found.append({"slide": path, "row": row, "col": col, "reason": one.reason})
            lines.append(f"{path}: row {row}, column {col}: {one.reason}")
    return "\n".join(lines), {"tiles": found}


def run_show(options: argparse.Namespace) -> Answer:
    """Count labels by slide and class."""
    rows, _ = read_label_files(options.files)
    counts = Counter((row.slide, row.grid, row.class_name) for row in rows)
    found = [
        {"slide": slide, "grid": grid, "class": name, "labels": n}
        for (slide, grid, name), n in sorted(counts.items())
    ]
    lines = [f"{one['slide']}  {one['grid']}  {one['class']}: {one['labels']}" for one in found]
    return "\n".join(lines) or "There are no labels.", {"labels": found}


def run_merge(options: argparse.Namespace) -> Answer:
    """Merge annotators' journals, list conflicts and report agreement."""
    report = merge_journals(options.files, options.out)
    lines = [f"{report.n} labels in {options.out}, {len(report.conflicts)} conflicts"]
    for conflict in report.conflicts:
        said = " / ".join(f"{row.annotator}: {row.class_name}" for row in conflict.rows)
        lines.append(f"  {conflict.slide} row {conflict.tile.row} col {conflict.tile.col}: {said}")
    agreement = []
    for (one, other), value in report.kappa.items():
        shared = report.shared[one, other]
        text = "too few tiles to tell" if value is None else f"Cohen's kappa {value:.2f}"
        lines.append(f"  {one} and {other}: {text} ({shared} tiles labelled by both)")
        agreement.append({"annotators": [one, other], "kappa": value, "tiles": shared})
    conflicts = [
        {
            "slide": conflict.slide,
            "grid": conflict.grid,
            "row": conflict.tile.row,
            "col": conflict.tile.col,
            "kept": conflict.rows[-1].class_name,
            "said": [[row.annotator, row.class_name, row.time] for row in conflict.rows],
        }
        for conflict in report.conflicts
    ]
    facts = {"labels": report.n, "conflicts": conflicts, "agreement": agreement}
    return "\n".join(lines), facts


def run_export(options: argparse.Namespace) -> Answer:
    """Write a journal's labels as CSV or JSON."""
    write = export_json if options.out.suffix.lower() == ".json" else export_csv
    n = write(options.file, options.out)
    return f"{n} labels in {options.out}", {"labels": n, "file": str(options.out)}


def _stored_for(classifier: TileClassifier, store: Path, identity: str) -> Stored:
    card = classifier.card
    return stored_of(store, identity, card.encoder, f"{card.tile_px}px-{card.mpp:g}mpp")


def _describe(trained: Trained, out: Path) -> str:
    facts = summary(trained)
    counts = ", ".join(f"{n} {name}" for name, n in facts["labels"].items())
    lines = [f"Trained on {len(trained.rows)} labels ({counts}) by {facts['encoder']}; in {out}"]
    if trained.n_missing:
        lines.append(f"  {trained.n_missing} labels are on tiles that are not embedded: left out")
    metrics = facts["metrics"]
    if "reason" in metrics:
        lines.append(f"  {metrics['reason']}")
    else:
        low, high = metrics["interval_95"]
        lines.append(
            f"  balanced accuracy {metrics['balanced_accuracy']:.2f} ({low:.2f}–{high:.2f}), "
            f"tested on {metrics['n_blocks']} {metrics['validated_by']}s that training did not see"
        )
        for class_id, value in metrics["f1"].items():
            lines.append(f"    F1 {value:.2f}  {facts['class_names'][class_id]}")
        lines.append(f"  calibration error {metrics['calibration_error']:.2f}")
        curve = ", ".join(
            f"{p['balanced_accuracy']:.2f} with {p['per_class']}" for p in facts["learning_curve"]
        )
        if curve:
            lines.append(f"  with fewer labels per class: {curve}")
    for one in facts["suspects"]:
        where = f"{one['slide']} row {one['row']} col {one['col']}"
        lines.append(f"  look again at {where}: {one['reason']}")
    return "\n".join(lines)
