"""The command `pretrain`: train an encoder, or go on with a run."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_virchow.pretrain.config import PretrainError, preset_names, preset_text


def run_pretrain(
    options: argparse.Namespace, show: Callable[[str], None]
) -> tuple[str, dict[str, Any]]:
    """Train; return what to say, and the facts."""
    if options.list:
        firsts = {name: _first_line(preset_text(name)) for name in preset_names()}
        text = "\n".join(f"{name:<14} {words}" for name, words in firsts.items())
        return text, {"configurations": firsts}
    if options.config is None:
        raise PretrainError("no configuration was named: give a TOML file or a name of --list.")
    if options.print:
        text = preset_text(options.config)
        return text.rstrip(), {"toml": text}
    return _train(options, show)


def _train(options: argparse.Namespace, show: Callable[[str], None]) -> tuple[str, dict[str, Any]]:
    from napari_virchow.pretrain.train import config_of, train

    config = config_of(options.config)
    if options.steps is not None:
        if options.steps < 1:
            raise PretrainError(f"--steps must be 1 or more, not {options.steps}: correct it.")
        config = config.with_steps(options.steps)
    folder = options.out or Path(config.name)
    done = train(config, folder, device=options.device, restart=options.restart, tell=show)
    show("")
    facts = {
        "folder": str(folder),
        "steps": done.steps,
        "encoder": None if done.encoder is None else str(done.encoder),
        "loss": None if math.isnan(done.loss) else done.loss,
        "samples_per_s": done.samples_per_s,
    }
    if done.encoder is None:  # another process of the same run says it
        return "", facts
    text = (
        f"{done.steps} steps done, {done.samples_per_s:.1f} samples/s. The encoder lies in "
        f"{done.encoder}: use it with --encoder {done.encoder}, or choose it in napari under "
        "'An encoder of your own…'."
    )
    return text, facts


def _first_line(toml: str) -> str:
    return toml.splitlines()[0].lstrip("# ")
