"""`embed` on many processes: what was typed becomes a cohort's run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from napari_virchow.cli.embed import BadInput, EmbedOptions, check_store, choose_mpp


def run_cohort(
    options: argparse.Namespace,
    chosen: EmbedOptions,
    *,
    say: Callable[[str], None],
    show: Callable[[str], None],
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Embed a cohort; returns what to print as JSON, and path and reason of each failure.

    Raises
    ------
    BadInput
        If what was typed does not fit together.
    CohortError
        If there is nothing to go on with, or the cluster cannot be reached.
    """
    from napari_virchow.cohort import CohortOptions, Record, embed_cohort

    if sum(map(bool, (options.workers, options.gpus, options.scheduler))) > 1:
        raise BadInput("give one of --workers, --gpus and --scheduler, not several.")
    if options.resume and options.slides:
        raise BadInput("--resume takes the slides of the last run: name none, or leave it out.")
    if not options.resume and not options.slides:
        raise BadInput("no slide was named; name slides, folders or lists of them.")
    check_store(chosen.store)
    if options.resume:
        record = Record.last(chosen.store)
        say(f"Going on with the run of {record.started}: {len(record.slides)} slides")
    else:
        asked = CohortOptions(
            encoder=chosen.encoder,
            weights=chosen.weights,
            mpp=choose_mpp(chosen),
            slide_mpp=chosen.slide_mpp,
            store=str(chosen.store.absolute()),
            device=chosen.device,
            all_tiles=chosen.all_tiles,
            compile=chosen.compile,
        )
        record = Record.new(asked, options.slides)
    done = embed_cohort(
        record,
        workers=options.workers or (None if options.scheduler else 1),
        gpus=tuple(part.strip() for part in (options.gpus or "").split(",") if part.strip()),
        scheduler=options.scheduler,
        say=say,
        show=show,
    )
    show("")
    failures = [
        {"slide": slide.path, "error": slide.error or slide.state} for slide in done.failures
    ]
    n_new = sum(slide.n_new for slide in done.slides)
    say(
        f"{len(done.slides) - len(failures)} of {len(done.slides)} slides, {n_new} new tiles in "
        f"{done.seconds:.0f} s; {done.record / 'summary.md'} says more"
    )
    document = asdict(done) | {"record": str(done.record), "failures": failures}
    return document, failures
