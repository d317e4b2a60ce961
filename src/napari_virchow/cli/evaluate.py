"""The command `evaluate`: encoders on labelled tiles, by the protocol of the Virchow2 paper."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_virchow.encoders import Encoder, find_spec, load_encoder
from napari_virchow.evaluate import Protocol, Result, TileSetError, evaluate
from napari_virchow.evaluate.embed import HISTOGRAM, histogram_encoder
from napari_virchow.evaluate.published import read_sets
from napari_virchow.evaluate.report import to_json, to_markdown, write_report
from napari_virchow.evaluate.sample_set import SAMPLE, sample_tiles
from napari_virchow.evaluate.tasks import TASKS
from napari_virchow.evaluate.tilesets import TileSet


def run_evaluate(
    options: argparse.Namespace, store: Path, show: Callable[[str], None]
) -> tuple[str, dict[str, Any]]:
    """Evaluate; return the Markdown to say, and the facts."""
    if options.list:
        return _task_list(), {"tasks": [_task_facts(name) for name in TASKS]}
    if not options.sets:
        raise TileSetError("there is nothing to evaluate on: give a SET, or --list to see tasks.")
    if options.robust_tiles < 0 or options.draws < 1:
        raise TileSetError("--robust-tiles must be 0 or more and --draws 1 or more: correct it.")
    sets = [each for text in options.sets for each in _sets_of(text, options, show)]
    encoders = [histogram_encoder()]
    encoders += [
        _load(name, options.device, show)
        for name in dict.fromkeys(options.encoder or ["texture"])
        if name != HISTOGRAM
    ]
    protocol = Protocol(draws=options.draws, robust_tiles=options.robust_tiles)
    results: list[Result] = []
    for result in evaluate(sets, encoders, store, protocol=protocol, tell=show):
        results.append(result)
        if options.out:  # what is there is kept when the rest is stopped
            write_report(results, options.out, protocol)
    show("")
    facts = to_json(results, protocol)
    text = to_markdown(results, protocol)
    if options.out:
        facts["files"] = [str(file) for file in write_report(results, options.out, protocol)]
        text += "\n" + "\n".join(facts["files"])
    return text, facts


def _sets_of(text: str, options: argparse.Namespace, show: Callable[[str], None]) -> list[TileSet]:
    if text == SAMPLE and not Path(SAMPLE).exists():
        show("Reading the sample slide…")
        return [sample_tiles()]
    task, _, folder = text.partition("=")
    if task in TASKS and folder:
        return read_sets(Path(folder).expanduser(), task=task)
    if text in TASKS and not Path(text).exists():
        raise TileSetError(f"{TASKS[text].title} is not here: {TASKS[text].advice} as {text}=DIR.")
    show(f"Looking at {text}…")
    return read_sets(Path(text).expanduser(), pattern=options.pattern, mpp=options.mpp)


def _load(text: str, device: str, show: Callable[[str], None]) -> Encoder:
    """Load an encoder; with class+mean where it has that, which holds the class token too."""
    name, _, weights = text.partition("=")
    both = "class+mean" in find_spec(name).poolings
    return load_encoder(
        name,
        weights=weights or None,
        device=device,
        pooling="class+mean" if both else None,
        on_progress=show,
    )


def _task_list() -> str:
    lines = ["| task | data | licence | folder with |", "|---|---|---|---|"]
    lines += [f"| {t.name} | {t.where} | {t.licence} | {t.layout} |" for t in TASKS.values()]
    return "\n".join(lines)


def _task_facts(name: str) -> dict[str, str]:
    task = TASKS[name]
    return {
        "name": task.name,
        "title": task.title,
        "where": task.where,
        "licence": task.licence,
        "layout": task.layout,
    }
