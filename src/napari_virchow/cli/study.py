"""What `evaluate` takes; what it needs is imported when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_virchow.cli.arguments import add_json

Show = Callable[[str], None]
Answer = tuple[str, dict[str, Any]]
EPILOG = """\
SET is a folder of tiles in class folders (perhaps inside train, val and test folders, or one per
patient), a CSV file with the columns file, class and perhaps patient and split, the folder of one
of the tasks that --list shows, TASK=FOLDER, or 'sample' for the sample slide."""


def add_evaluate_arguments(command: argparse.ArgumentParser) -> None:
    """Add what `evaluate` takes."""
    command.epilog = EPILOG
    command.add_argument("sets", nargs="*", metavar="SET", help="tiles with labels; see below")
    command.add_argument(
        "--encoder",
        action="append",
        metavar="NAME[=FILE]",
        help="a name, or a name and its weights; may be given again. Default: texture. "
        "'histogram', the baseline, is always there",
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="write Markdown, JSON and a plot")
    command.add_argument(
        "--pattern", metavar="REGEX", help="for a folder of tiles: (?P<class>…) in their names"
    )
    command.add_argument("--mpp", type=float, metavar="X", help="µm per pixel of tiles at 224 px")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    command.add_argument("--store", type=Path, metavar="DIR", help="folder of the embeddings")
    command.add_argument(
        "--robust-tiles", type=int, default=200, metavar="N", help="altered tiles; 0 for none"
    )
    command.add_argument("--draws", type=int, default=20, metavar="N", help="of few labels")
    command.add_argument("--list", action="store_true", help="list the tasks, and where they are")
    command.set_defaults(study=_evaluate)
    add_json(command)


def _evaluate(options: argparse.Namespace, store: Path, show: Show) -> Answer:
    from napari_virchow.cli.evaluate import run_evaluate

    return run_evaluate(options, store, show)
