"""The commands `classify` and `labels`: train on labels, apply to slides, look after labels."""

from __future__ import annotations

import argparse
import csv
import io
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from napari_virchow.classify import TileClassifier
from napari_virchow.classify.predictions import UNKNOWN, Predictions
from napari_virchow.labels.agreement import export_csv, export_json, merge_journals
from napari_virchow.training import (
    Stored,
    Trained,
    classify,
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


def run_apply(options: argparse.Namespace, store: Path, identities: dict[str, str]) -> Answer:
    """Classify slides whose embeddings are stored, one CSV file each."""
    classifier = TileClassifier.load(options.model)
    options.out.mkdir(parents=True, exist_ok=True)
    lines, slides = [], []
    for path, identity in identities.items():
        stored = _stored_for(classifier, store, identity)
        predictions = classify(classifier, stored)
        ids = predictions.confident(unknown_above=options.unknown_above)
        target = options.out / f"{Path(path).stem}-{identity[:8]}.csv"
        _write_atomically(target, _table(classifier, stored, predictions, ids))
        names = {c.id: c.name for c in classifier.classes} | {UNKNOWN: "unknown"}
        counts = Counter(names[int(i)] for i in ids)
        slides.append({"slide": path, "identity": identity, "file": str(target), "tiles": counts})
        shares = ", ".join(f"{n} {name}" for name, n in counts.most_common())
        lines.append(f"{path}\n  {len(ids)} tiles: {shares or 'none is embedded'}\n  {target}")
    return "\n".join(lines), {"model": str(options.model), "slides": slides}


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
    facts = {"labels": report.n, "conflicts": len(report.conflicts), "agreement": agreement}
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
    for one in facts["suspects"]:
        where = f"{one['slide']} row {one['row']} col {one['col']}"
        lines.append(f"  look again at {where}: {one['reason']}")
    return "\n".join(lines)


def _table(
    classifier: TileClassifier, stored: Stored, predictions: Predictions, ids: np.ndarray
) -> str:
    """Return predictions as CSV: a line per tile, its corner in level-0 pixels."""
    names = {c.id: c.name for c in classifier.classes} | {UNKNOWN: "unknown"}
    step_x, step_y = stored.grid.step
    text = io.StringIO()
    writer = csv.writer(text)
    chances = [f"p({c.name})" for c in classifier.classes]
    writer.writerow(["row", "col", "x", "y", "class", *chances, "margin", "novelty"])
    for number, (row, col) in enumerate(stored.tiles.tolist()):
        writer.writerow(
            [row, col, f"{col * step_x:.1f}", f"{row * step_y:.1f}", names[int(ids[number])]]
            + [f"{value:.4f}" for value in predictions.probability[number]]
            + [f"{predictions.margin[number]:.4f}", f"{predictions.novelty[number]:.4f}"]
        )
    return text.getvalue()


def _write_atomically(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text, "utf-8", newline="")
    os.replace(part, path)  # noqa: PTH105  # says what it is
