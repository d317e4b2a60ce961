"""What a run leaves on disk: where it stands, and the encoder it has learnt so far."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from napari_virchow.encoders.trained import write_encoder
from napari_virchow.pretrain.config import Config, PretrainError
from napari_virchow.pretrain.network import Network
from napari_virchow.pretrain.ranks import rank

CHECKPOINT = "checkpoint.pt"
CONFIG = "config.json"
LOG = "log.jsonl"
ENCODER = "encoder"
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_SPREAD = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)


def save_checkpoint(
    folder: Path,
    step: int,
    student: Network,
    teacher: Network,
    optimiser: torch.optim.Optimizer,
) -> None:
    """Save where a run stands, whole or not at all; every process must call it.

    Sharded weights are gathered, so that the run may go on with another number of processes.
    """
    state = {
        "step": step,
        "student": get_model_state_dict(student, options=_WHOLE),
        "teacher": get_model_state_dict(teacher, options=_WHOLE),
        "optimiser": get_optimizer_state_dict(student, optimiser, options=_WHOLE),
    }
    if rank() == 0:
        with _replaced(folder / CHECKPOINT) as draft:
            torch.save(state, draft)


def load_checkpoint(
    folder: Path, student: Network, teacher: Network, optimiser: torch.optim.Optimizer
) -> int:
    """Take up a run where it stands; return the number of the next step.

    Raises
    ------
    PretrainError
        If the checkpoint cannot be read or is of another network.
    """
    file = folder / CHECKPOINT
    state = _read(file) if rank() == 0 or not _sharded(student) else {}
    try:
        set_model_state_dict(student, state.get("student", {}), options=_options(student))
        set_model_state_dict(teacher, state.get("teacher", {}), options=_options(student))
        set_optimizer_state_dict(
            student, optimiser, state.get("optimiser", {}), options=_options(student)
        )
    except (RuntimeError, KeyError, ValueError) as error:
        raise PretrainError(
            f"{file} does not fit the configuration ({_short(error)}): use the one it was made "
            "with, or --restart to begin anew."
        ) from error
    step = torch.tensor(int(state.get("step", 0)))
    if _sharded(student):
        device = next(student.parameters()).device
        step = step.to(device)
        torch.distributed.broadcast(step, 0)
    return int(step)


def load_teacher(folder: Path, teacher: Network) -> None:
    """Fill a network with the teacher of another run.

    Raises
    ------
    PretrainError
        If there is none, or it has another shape.
    """
    state = _read(folder / CHECKPOINT)
    try:
        teacher.load_state_dict(state["teacher"])
    except (RuntimeError, KeyError) as error:
        raise PretrainError(
            f"{folder / CHECKPOINT} does not hold the teacher it says ({_short(error)}): choose "
            "another run for distil_from."
        ) from error


def export_encoder(folder: Path, teacher: Network, config: Config, step: int) -> Path | None:
    """Write the encoder a run has learnt so far; every process must call it, the first writes.

    Returns
    -------
    Path or None
        The folder, which `load_encoder` and napari take like any encoder's name.
    """
    whole = get_model_state_dict(teacher, options=_WHOLE)
    if rank() != 0:
        return None
    weights: dict[str, Tensor] = {
        name.removeprefix("encoder."): value.to(torch.float16).contiguous()
        for name, value in whole.items()
        if name.startswith("encoder.") and isinstance(value, Tensor)
    }
    facts: dict[str, Any] = {"step": step, "config": config.facts(), "torch": torch.__version__}
    return write_encoder(
        folder / ENCODER,
        weights,
        name=config.name,
        architecture=config.model.vit(),
        allowed_mpp=tuple(sorted(config.data.mpp)),
        licence=config.licence,
        trained=facts,
    )


def _sharded(network: nn.Module) -> bool:
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in network.parameters())


def _options(network: nn.Module) -> StateDictOptions:
    return _SPREAD if _sharded(network) else StateDictOptions(full_state_dict=True)


def _read(file: Path) -> dict[str, Any]:
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise PretrainError(
            f"{file} cannot be read ({_short(error)}): restore it, or use --restart."
        ) from error
    return dict(loaded)


def save_config(folder: Path, config: Config) -> None:
    """Write what a run is, whole or not at all: other processes of it may be reading it."""
    with _replaced(folder / CONFIG) as draft:
        draft.write_text(json.dumps(config.facts(), indent=1), "utf-8")


def append_log(folder: Path, row: dict[str, float]) -> None:
    """Add a line to the run's log."""
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def cut_log(folder: Path, step: int) -> None:
    """Remove what the log says of steps from `step` on: they are computed again."""
    file = folder / LOG
    if file.exists():
        lines = file.read_text("utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] < step]
        with _replaced(file) as draft:
            draft.write_text("".join(kept), "utf-8")


@contextmanager
def _replaced(file: Path) -> Iterator[Path]:
    """Write a file beside its place, and put it there when it is whole and on disk."""
    draft = file.with_suffix(f".{os.getpid()}")
    yield draft
    with draft.open("rb+") as opened:
        os.fsync(opened.fileno())
    draft.replace(file)


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
