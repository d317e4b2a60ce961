"""The command line `napari-virchow`: what is typed becomes calls of the window's own code."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from napari_virchow import __version__
from napari_virchow.cli.arguments import (
    add_classify_arguments,
    add_embed_arguments,
    add_file_arguments,
    add_json,
)
from napari_virchow.cli.search import add_search_arguments
from napari_virchow.cli.study import add_evaluate_arguments, add_pretrain_arguments

PROGRAM = "napari-virchow"
EXPECTED = frozenset(
    ("UsageError", "BadInput", "SlideError", "EncoderUnavailable", "StoreError")
    + ("TrainingError", "ModelError", "JournalError", "FrameError", "CohortError", "TileSetError")
    + ("PretrainError",)
    + ("OSError", "ValueError")
)
FAILED, BAD_INPUT, STOPPED, PIPE_CLOSED = 1, 2, 130, 141


class UsageError(Exception):
    """What was typed cannot be done; the message is one sentence."""


class _Parser(argparse.ArgumentParser):
    """A parser that answers a wrong command with one sentence instead of a page."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.rstrip('.')}; see {self.prog} --help.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after the program's name; those it was started with if None.

    Returns
    -------
    int
        0 if all went well, 1 if something failed on the way, 2 if what was asked for cannot be
        done, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot write µ must not stop us
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        options = _parser().parse_args(words)
        with _our_warnings(debug):
            code: int = options.run(options)
        sys.stdout.flush()
    except SystemExit as end:  # argparse, after --help and --version
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        return _explain("stopped; what was stored until now is kept.", STOPPED)
    except BrokenPipeError:  # the reader had enough, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:  # noqa: BLE001  # the border: whatever it is, say it in a sentence
        if debug:
            raise
        return _explain(*_sentence(error))
    return code


@contextmanager
def _our_warnings(debug: bool) -> Iterator[None]:
    """Show what this package logs; what others log (tifffile: a lot) only when debugging."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{PROGRAM}: %(message)s"))
    quiet = logging.NullHandler()
    ours, root = logging.getLogger("napari_virchow"), logging.getLogger()
    (root if debug else ours).addHandler(handler)
    root.addHandler(quiet)
    try:
        yield
    finally:
        (root if debug else ours).removeHandler(handler)
        root.removeHandler(quiet)


def _sentence(error: Exception) -> tuple[str, int]:
    """Return what to say about an error, and the exit code it means."""
    # By name: importing the classes here would fail where a broken import is the error.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "StoppedByUser" in kinds:
        return str(error), STOPPED
    if kinds & EXPECTED:
        return str(error), BAD_INPUT
    kind = type(error).__name__
    return f"unexpected {kind}: {error}; add --debug to see where it comes from.", FAILED


def _explain(message: str, code: int) -> int:
    _show("")
    print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)
    return code


def _parser() -> _Parser:
    parser = _Parser(prog=PROGRAM, description="Whole-slide images and pathology encoders.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> _Parser:
        command = commands.add_parser(name, help=text, description=f"{text}.")
        command.add_argument("--debug", action="store_true", help="show where an error comes from")
        command.set_defaults(run=run)
        return command

    info = add("info", _info, "Say what a slide is and what is stored of it")
    info.add_argument("slides", nargs="+", metavar="SLIDE", help="a file, a folder or a URL")
    info.add_argument("--store", type=Path, metavar="DIR", help="folder of the embeddings")
    add_json(info)

    encoders = add("encoders", _encoders, "List the encoders and their licences")
    encoders.add_argument("--markdown", action="store_true", help="print a Markdown table")
    add_json(encoders)

    add_embed_arguments(add("embed", _embed, "Embed whole slides; go on where it was stopped"))

    add_classify_arguments(commands, _classify)
    add_file_arguments(commands, _files)

    add_search_arguments(add("search", _study, "Find tiles that look like a place on a slide"))

    text = "Evaluate encoders on labelled tiles, by the protocol of the Virchow2 paper"
    add_evaluate_arguments(add("evaluate", _study, text))
    text = "Pretrain an encoder on slides, by the recipe of Virchow2"
    add_pretrain_arguments(add("pretrain", _study, text))

    demo = add("demo", _demo, "Open napari on the sample slide, with the built-in encoder")
    demo.add_argument("--screenshot", type=Path, metavar="FILE", help="take a picture and quit")

    add_json(add("doctor", _doctor, "Check what is installed and what works here"))

    login = add("login", _login, "Log in to the Hugging Face hub, for encoders behind a gate")
    login.add_argument("--token", help="a read token; asked for if left out")

    sample = add("sample", _sample, "Write the sample slide, or say where it is")
    sample.add_argument("file", nargs="?", type=Path, metavar="FILE", help="where to write it")
    return parser


def _info(options: argparse.Namespace) -> int:
    from napari_virchow.cli.text import describe_slide, slide_facts
    from napari_virchow.paths import store_dir
    from napari_virchow.slide import SlideError

    slides: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    for path in options.slides:
        try:
            slides.append(slide_facts(path, options.store or store_dir()))
        except (SlideError, OSError) as error:
            if len(options.slides) == 1:
                raise
            failures.append({"slide": path, "error": str(error)})
        else:
            _say("" if options.json else describe_slide(slides[-1]))
    if options.json:
        _print_json({"slides": slides, "failures": failures})
    return _account_for(failures, len(options.slides), "opened")


def _encoders(options: argparse.Namespace) -> int:
    from napari_virchow.cli.text import encoder_facts, encoder_table, markdown_table
    from napari_virchow.encoders import SPECS

    if options.json:
        _print_json({"encoders": [encoder_facts(spec) for spec in SPECS.values()]})
    elif options.markdown:
        print(markdown_table(SPECS.values()))
    else:
        print(encoder_table(SPECS.values()))
    return 0


def _embed(options: argparse.Namespace) -> int:
    from napari_virchow.cli.embed import EmbedOptions, SlideDone, SlideFailed, embed_slides
    from napari_virchow.cohort import find_slides
    from napari_virchow.paths import keep_remote_in, store_dir

    keep_remote_in(options.cache, options.cache_gb)
    options.slides = find_slides(options.slides)
    chosen = EmbedOptions(
        encoder=options.encoder,
        weights=options.weights,
        mpp=options.mpp,
        slide_mpp=options.slide_mpp,
        store=options.store or store_dir(),
        device=options.device,
        all_tiles=options.all_tiles,
        compile=options.compile,
    )
    say = _say_nothing if options.json else _say
    if options.workers or options.gpus or options.scheduler or options.resume:
        from napari_virchow.cli.cohort import run_cohort

        document, failures = run_cohort(options, chosen, say=say, show=_show)
        if options.json:
            _print_json(document)
        return _account_for(failures, len(document["slides"]), "embedded")
    if not options.slides:
        raise UsageError("no slide was named; name slides, folders or lists of them.")
    results = embed_slides(options.slides, chosen, say=say, show=_show)
    done = [asdict(result) for result in results if isinstance(result, SlideDone)]
    failures = [asdict(result) for result in results if isinstance(result, SlideFailed)]
    if options.json:
        _print_json({"store": str(chosen.store), "slides": done, "failures": failures})
    n_failed_tiles = sum(slide["failed"] for slide in done)
    code = _account_for(failures, len(results), "embedded")
    if code == 0 and n_failed_tiles:
        return _explain(f"{n_failed_tiles} tiles could not be read and have no embedding.", FAILED)
    return code


def _classify(options: argparse.Namespace) -> int:
    from napari_virchow.cli import classify as verbs
    from napari_virchow.paths import store_dir
    from napari_virchow.slide import open_slide

    store, identities = options.store or store_dir(), {}
    if options.verb == "apply":
        say = _say_nothing if options.json else _say
        facts, failures = verbs.run_apply(options, store, say=say, show=_show)
        if options.json:
            _print_json(facts)
        n = len({one["slide"] for one in [*facts["slides"], *failures]})
        return _account_for(failures, n, "classified")
    if options.verb == "next":
        for path in options.slides:
            with open_slide(path) as slide:
                identities[path] = slide.identity
        text, facts = verbs.run_next(options, store, identities)
    elif options.verb == "train":
        text, facts = verbs.run_train(options, store)
    else:
        text, facts = getattr(verbs, f"run_{options.verb}")(options)
    if options.json:
        _print_json(facts)
    else:
        _say(text)
    return 0


def _files(options: argparse.Namespace) -> int:
    from napari_virchow.cli import formats, qupath
    from napari_virchow.paths import store_dir

    if options.verb in ("repair", "project"):
        text, facts = getattr(qupath, f"run_{options.verb}")(options)
    else:
        run = formats.run_export if options.verb == "export" else formats.run_import
        text, facts = run(options, options.store or store_dir())
    if options.json:
        _print_json(facts)
    else:
        _say(text)
    return 0


def _study(options: argparse.Namespace) -> int:
    from napari_virchow.paths import store_dir

    text, facts = options.study(options, options.store or store_dir(), _show)
    if options.json:
        _print_json(facts)
    else:
        _say(text)
    return 0


def _demo(options: argparse.Namespace) -> int:
    from napari_virchow.doctor import has_display, qt_binding

    if not has_display():
        raise UsageError(
            "there is no display here: set DISPLAY, or let `make demo` take a picture on a "
            "virtual one."
        )
    if qt_binding() is None:
        raise UsageError("no Qt binding is installed: run pip install 'napari-virchow[all]'.")
    from napari_virchow._napari.demo import run_demo

    code: int = run_demo(options.screenshot)
    return code


def _doctor(options: argparse.Namespace) -> int:
    from napari_virchow.doctor import diagnose, report

    findings = diagnose()
    if options.json:
        _print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        print(report(findings))
    return FAILED if any(finding.level == "problem" for finding in findings) else 0


def _login(options: argparse.Namespace) -> int:
    from napari_virchow.encoders import log_in

    token = options.token
    if token is None:
        if not sys.stdin.isatty():
            token = sys.stdin.readline()
        else:
            from getpass import getpass

            token = getpass("Read token from huggingface.co/settings/tokens: ")
    print(f"Logged in to the Hugging Face hub as {log_in(token)}.")
    return 0


def _sample(options: argparse.Namespace) -> int:
    from napari_virchow.sample import sample_slide, write_sample

    if options.file is not None and options.file.exists():
        raise UsageError(f"{options.file} exists already: choose another name.")
    _show("Painting the sample slide, which can take half a minute…")
    if options.file is None:
        path = sample_slide()
    else:
        path = options.file
        write_sample(path)
    _show("")
    print(path)
    return 0


def _account_for(failures: Sequence[dict[str, str]], n: int, verb: str) -> int:
    """Return the exit code for slides that failed among others, after naming them."""
    if not failures:
        return 0
    if n == 1:
        return _explain(failures[0]["error"], FAILED)
    names = "; ".join(failure["error"].rstrip(".") for failure in failures)
    return _explain(f"{len(failures)} of {n} slides could not be {verb}: {names}.", FAILED)


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def _say(text: str) -> None:
    if text:
        print(text, flush=True)


def _say_nothing(_: str) -> None:
    return


def _show(line: str) -> None:
    """Replace the last line of a terminal; say nothing anywhere else."""
    if sys.stderr.isatty():
        width = max(20, _terminal_width() - 1)
        print(f"\r{line[:width]}\033[K", end="", file=sys.stderr, flush=True)


def _terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size().columns
