"""What `evaluate` and `pretrain` take; what they need is imported when they run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_virchow.cli.arguments import DEVICES, add_json

Show = Callable[[str], None]
Answer = tuple[str, dict[str, Any]]
EPILOG = """\
SET is a folder of tiles in class folders (perhaps inside train, val and test folders, or one per
patient), a CSV file with the columns file, class and perhaps patient and split, the folder of one
of the tasks that --list shows, TASK=FOLDER, or 'sample' for the sample slide."""
PRETRAIN_EPILOG = """\
CONFIG names slides, network and losses: write one with `napari-virchow pretrain first-steps
--print > my.toml` and change it, or name one of --list. A run that was stopped goes on with the
same command. On several GPUs: torchrun --nproc-per-node 8 --no-python napari-virchow pretrain
my.toml."""


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
    command.add_argument("--device", default="auto", help=DEVICES)
    command.add_argument("--store", type=Path, metavar="DIR", help="folder of the embeddings")
    command.add_argument(
        "--robust-tiles", type=int, default=200, metavar="N", help="altered tiles; 0 for none"
    )
    command.add_argument("--draws", type=int, default=20, metavar="N", help="of few labels")
    command.add_argument("--list", action="store_true", help="list the tasks, and where they are")
    command.set_defaults(study=_evaluate)
    add_json(command)


def add_pretrain_arguments(command: argparse.ArgumentParser) -> None:
    """Add what `pretrain` takes."""
    command.epilog = PRETRAIN_EPILOG
    command.add_argument("config", nargs="?", metavar="CONFIG", help="a TOML file, or a name")
    command.add_argument("--out", type=Path, metavar="DIR", help="of the run; default: its name")
    command.add_argument("--steps", type=int, metavar="N", help="instead of the configuration's")
    command.add_argument("--device", default="auto", help="auto, cpu or cuda")
    command.add_argument("--restart", action="store_true", help="begin anew where there is a run")
    command.add_argument("--list", action="store_true", help="list the configurations by name")
    command.add_argument(
        "--print", action="store_true", help="print the configuration, to change it"
    )
    command.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    command.set_defaults(study=_pretrain)
    add_json(command)


def _pretrain(options: argparse.Namespace, store: Path, show: Show) -> Answer:
    from napari_virchow.cli.pretrain import run_pretrain

    return run_pretrain(options, show)


def _evaluate(options: argparse.Namespace, store: Path, show: Show) -> Answer:
    from napari_virchow.cli.evaluate import run_evaluate

    return run_evaluate(options, store, show)
