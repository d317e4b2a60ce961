"""What the commands take, and how it is checked."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FRAMES = "of the image in QuPath: auto, whole, bounds, bounds+90, …"
DEVICES = "auto, cpu, openvino, cuda, cuda:1 or mps"
# `UNKNOWN_ABOVE`, which would bring numpy with it into `--help`
_UNKNOWN_ABOVE = 0.9


def add_embed_arguments(embed: argparse.ArgumentParser) -> None:
    """Add what `embed` takes."""
    embed.add_argument(
        "slides",
        nargs="*",
        metavar="SLIDE",
        help="a file, a folder of slides, a list of them (txt, csv), a pattern or a URL",
    )
    embed.add_argument("--encoder", default="texture", metavar="NAME", help="default: texture")
    embed.add_argument("--weights", metavar="FILE", help="weights on this machine, not the hub's")
    embed.add_argument("--mpp", type=_positive, metavar="X", help="µm per pixel; default: 0.5")
    embed.add_argument(
        "--slide-mpp", type=_plausible_mpp, metavar="X", help="µm per pixel of the slide itself"
    )
    embed.add_argument("--store", type=Path, metavar="DIR", help="folder for the embeddings")
    embed.add_argument("--device", type=_device, default="auto", help=DEVICES)
    embed.add_argument(
        "--compile", action="store_true", help="compile the network first, for long runs"
    )
    embed.add_argument("--all-tiles", action="store_true", help="embed glass too")
    away = embed.add_argument_group("slides on servers (pip install '.[remote]')")
    away.add_argument("--cache", type=Path, metavar="DIR", help="folder for what was read of them")
    away.add_argument("--cache-gb", type=_gigabytes, metavar="N", help="its size; default: 20")
    many = embed.add_argument_group("many slides on many processes (pip install '.[cluster]')")
    many.add_argument("--workers", type=_count, metavar="N", help="processes on this machine")
    many.add_argument("--gpus", metavar="0,1,…", help="GPUs of this machine, one process each")
    many.add_argument("--scheduler", metavar="ADDRESS", help="of a running Dask cluster")
    many.add_argument(
        "--resume",
        action="store_true",
        help="go on with the last run in this store that was cut short or had failures",
    )
    add_json(embed)


def add_classify_arguments(commands: Any, run: Callable[[argparse.Namespace], int]) -> None:
    """Add `classify train|apply|next` and `labels show|merge|export`."""

    def group(name: str, text: str) -> Callable[[str, str], argparse.ArgumentParser]:
        parser = commands.add_parser(name, help=text, description=f"{text}.")
        verbs = parser.add_subparsers(required=True, metavar="VERB", dest="verb")

        def add(verb: str, text: str) -> argparse.ArgumentParser:
            command: argparse.ArgumentParser = verbs.add_parser(
                verb, help=text, description=f"{text}."
            )
            command.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
            command.add_argument("--store", type=Path, metavar="DIR", help="folder of embeddings")
            command.set_defaults(run=run)
            add_json(command)
            return command

        return add

    add = group("classify", "Train a tile classifier on labels, and apply it")
    train = add("train", "Train on labels of embedded tiles, and say honestly how good it is")
    train.add_argument("--labels", nargs="+", type=Path, required=True, metavar="FILE")
    train.add_argument("--out", type=Path, required=True, metavar="MODEL", help="a new folder")
    train.add_argument("--encoder", default="texture", metavar="NAME", help="default: texture")
    apply = add("apply", "Embed what is missing of slides, and classify every tile on tissue")
    apply.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="for the files")
    apply.add_argument("--format", choices=("csv", "geojson"), default="csv")
    apply.add_argument("--frame", default="auto", metavar="NAME", help=_FRAMES)
    _add_unknown_above(apply)
    apply.add_argument("--only-stored", action="store_true", help="embed nothing")
    apply.add_argument("--weights", metavar="FILE", help="of the encoder, on this machine")
    apply.add_argument(
        "--slide-mpp", type=_plausible_mpp, metavar="X", help="µm per pixel of the slide itself"
    )
    apply.add_argument("--device", type=_device, default="auto", help=DEVICES)
    following = add("next", "Name the tiles whose labels would teach most")
    following.add_argument("--labels", nargs="+", type=Path, required=True, metavar="FILE")
    following.add_argument("--count", type=int, default=8, metavar="N")
    for command in (apply, following):
        command.add_argument("model", type=Path, metavar="MODEL")
        command.add_argument("slides", nargs="+", metavar="SLIDE")

    add = group("labels", "Look after labels: CSV files and journals")
    add("show", "Count labels").add_argument("files", nargs="+", type=Path, metavar="FILE")
    merge = add("merge", "Merge annotators' journals, list conflicts, report agreement")
    merge.add_argument("files", nargs="+", type=Path, metavar="JOURNAL")
    merge.add_argument("--out", type=Path, required=True, metavar="JOURNAL")
    export = add("export", "Write a journal's labels as CSV, or as JSON with the classes")
    export.add_argument("file", type=Path, metavar="JOURNAL")
    export.add_argument("--out", type=Path, required=True, metavar="FILE")


def add_file_arguments(commands: Any, run: Callable[[argparse.Namespace], int]) -> None:
    """Add `qupath repair` and `project`, `export` and `import`."""

    def finished(command: argparse.ArgumentParser, verb: str) -> argparse.ArgumentParser:
        command.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
        command.set_defaults(run=run, verb=verb)
        add_json(command)
        return command

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = finished(commands.add_parser(name, help=text, description=f"{text}."), name)
        command.add_argument("--store", type=Path, metavar="DIR", help="folder of embeddings")
        command.add_argument("--labels", type=Path, metavar="JOURNAL", help="default: your own")
        command.add_argument("--mpp", type=_positive, metavar="X", help="of the tiles")
        command.add_argument("--slide-mpp", type=_plausible_mpp, metavar="X", help="of the slide")
        command.add_argument("--frame", default="auto", metavar="NAME", help=_FRAMES)
        return command

    _add_qupath_arguments(commands, finished)

    export = add("export", "Write labels, tiles, regions, predictions or embeddings of a slide")
    export.add_argument("slide", metavar="SLIDE")
    export.add_argument("--to", default="geojson", metavar="FORMAT", help="default: geojson")
    export.add_argument("--out", type=Path, required=True, metavar="FILE")
    export.add_argument("--what", choices=("labels", "tiles", "regions", "predictions"))
    export.add_argument("--model", type=Path, metavar="MODEL", help="of classify train")
    export.add_argument("--encoder", default="texture", metavar="NAME", help="default: texture")
    _add_unknown_above(export)
    export.add_argument("--simplify", type=float, default=0.0, metavar="TILES", help="of regions")
    export.add_argument("--min-tiles", type=int, default=1, metavar="N", help="of a region")
    export.add_argument("--coords", type=Path, metavar="FILE", help="for the places of the tiles")

    _add_import_arguments(
        add("import", "Take over annotations as labels, or embeddings of another tool")
    )


def _add_import_arguments(take: argparse.ArgumentParser) -> None:
    take.add_argument("file", type=Path, metavar="FILE")
    take.add_argument("--slide", required=True, metavar="SLIDE")
    take.add_argument("--from", dest="format", metavar="FORMAT", help="default: by its content")
    take.add_argument("--rule", choices=("centre", "half"), default="centre")
    take.add_argument("--objects", choices=("annotation", "tile", "all"), default="annotation")
    take.add_argument("--min-probability", type=float, default=0.5, metavar="X", help="of WSInfer")
    take.add_argument("--geojson", type=Path, metavar="FILE", help="write the objects for QuPath")
    take.add_argument("--dry-run", action="store_true", help="only say what would happen")
    theirs = take.add_argument_group("embeddings of another tool, and what its file does not say")
    theirs.add_argument("--encoder", metavar="NAME", help="who made them")
    theirs.add_argument("--tile-size", type=_pixels, metavar="PX", help="in level-0 pixels")
    theirs.add_argument("--coords", type=Path, metavar="FILE", help="CLAM's places of the tiles")
    theirs.add_argument("--key", metavar="NAME", help="of AnnData's matrix or LazySlide's table")
    theirs.add_argument(
        "--spatial", choices=("corner", "centre"), help="what AnnData's obsm['spatial'] is"
    )
    theirs.add_argument("--snap", action="store_true", help="take tiles as the nearest of a grid")
    theirs.add_argument("--verify", metavar="NAME", help="the encoder to verify with, or no")
    theirs.add_argument("--weights", metavar="FILE", help="of that encoder")


def _add_qupath_arguments(commands: Any, finished: Callable[..., argparse.ArgumentParser]) -> None:
    text = "Look after files and projects of QuPath"
    group = commands.add_parser("qupath", help=text, description=f"{text}.")
    verbs = group.add_subparsers(required=True, metavar="VERB", dest="verb")
    text = "Write a copy of a GeoJSON file that every QuPath reads, and say what was wrong"
    repair = finished(verbs.add_parser("repair", help=text, description=f"{text}."), "repair")
    repair.add_argument("file", type=Path, metavar="FILE")
    repair.add_argument("--out", type=Path, required=True, metavar="FILE")
    text = "List a project's images, classes and counts; it stays as it is"
    project = finished(verbs.add_parser("project", help=text, description=f"{text}."), "project")
    project.add_argument("project", type=Path, metavar="DIR", help="or its .qpproj file")
    project.add_argument("--script", type=Path, metavar="FILE", help="write one for QuPath to run")
    project.add_argument(
        "--take",
        nargs="+",
        default=[],
        metavar="IMAGE=FILE",
        help="GeoJSON files that the script takes over, by image",
    )


def add_json(command: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    command.add_argument("--json", action="store_true", help="print one JSON document only")


def _positive(text: str) -> float:
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of µm per pixel above 0, got {text!r}")
    return value


def _pixels(text: str) -> float:
    value = _number(text)
    if not 1 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of pixels from 1, got {text!r}")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return int(text)


def _gigabytes(text: str) -> float:
    value = _number(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"must be a number of GB above 0, got {text!r}")
    return value


def _add_unknown_above(command: argparse.ArgumentParser) -> None:
    text = f"tiles of a novelty above this are unknown; from 0 to 1, default: {_UNKNOWN_ABOVE:g}"
    command.add_argument(
        "--unknown-above", type=_share, default=_UNKNOWN_ABOVE, metavar="X", help=text
    )


def _plausible_mpp(text: str) -> float:
    value = _number(text)
    if not 0.1 <= value <= 10:
        raise argparse.ArgumentTypeError(f"must be from 0.1 to 10 µm per pixel, got {text!r}")
    return value


def _share(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|openvino|mps|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"must be {DEVICES}, got {text!r}")
    return text
