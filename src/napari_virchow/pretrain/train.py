"""Train an encoder: DINOv2 with Virchow2's changes, from one CPU to many GPUs."""

from __future__ import annotations

import contextlib
import copy
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from napari_virchow.encoders.devices import choose_device, cpu_has_bfloat16
from napari_virchow.pretrain.checkpoints import (
    CHECKPOINT,
    CONFIG,
    append_log,
    cut_log,
    export_encoder,
    load_checkpoint,
    load_teacher,
    save_checkpoint,
    save_config,
)
from napari_virchow.pretrain.config import Config, PretrainError, read_config
from napari_virchow.pretrain.fields import Batch, Fields, collate
from napari_virchow.pretrain.masks import draw_masks
from napari_virchow.pretrain.network import Network, initialise
from napari_virchow.pretrain.optimisers import make_optimiser, set_values
from napari_virchow.pretrain.ranks import average_gradients, joined, rank, sum_over_ranks, world
from napari_virchow.pretrain.schedules import values_at
from napari_virchow.pretrain.step import Losses, losses_of

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run came to.

    Parameters
    ----------
    steps : int
        Steps done in all.
    encoder : Path or None
        Folder of the encoder; None in processes other than the first.
    loss : float
        Of the last step, over all processes; NaN where no step was left to do.
    samples_per_s : float
        Over this call.
    """

    steps: int
    encoder: Path | None
    loss: float
    samples_per_s: float


def train(
    config: Config,
    folder: Path,
    *,
    device: str = "auto",
    restart: bool = False,
    tell: Tell = lambda _: None,
) -> Trained:
    """Train, or go on where a run in this folder stands.

    Under `torchrun` every process calls this, with a folder that all of them see.

    Parameters
    ----------
    config : Config
        The run. One that goes on must have the same, but for the number of steps.
    folder : Path
        For checkpoint, log and encoder.
    device : str
        "auto", "cpu" or "cuda".
    restart : bool
        Begin anew where there is a run already.
    tell : callable
        Told how far it is, in a few words.

    Raises
    ------
    PretrainError
        If it cannot start or go on; the folder is left as it was.
    """
    where, _ = choose_device(device)
    with joined(torch.device(where)) as mine:
        tell("Looking for tissue…")
        with contextlib.closing(Fields(config)) as fields:
            tell(f"Found {fields.describe()}.")
            return _Run(config, fields, folder, mine, tell).run(restart=restart)


class _Run:
    """One process of a run."""

    def __init__(
        self, config: Config, fields: Fields, folder: Path, device: torch.device, tell: Tell
    ) -> None:
        if config.optimiser.batch % world() or config.optimiser.batch // world() < 2:
            raise PretrainError(
                f"a batch of {config.optimiser.batch} cannot be shared by {world()} processes: "
                "make it a multiple, with two samples or more for each."
            )
        self.config, self.fields, self.folder = config, fields, folder
        self.device, self.tell = device, tell
        self.dtype = _precision(config, device)
        student = initialise(Network(config), config.run.seed).to(device)
        self.teacher, self.average = _teachers(student, config, device)
        self.student = student
        if config.run.shard:
            for network in {id(n): n for n in (student, self.teacher, self.average)}.values():
                _shard(network)
        if config.run.compile:
            for block in student.encoder.blocks:
                block.compile()
        self.optimiser = make_optimiser(student, config.optimiser)
        # float16 underflows without it; elsewhere it does nothing.
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)

    def run(self, *, restart: bool) -> Trained:
        """Do the steps that are left."""
        first = self._begin(restart)
        began, losses = time.monotonic(), None
        steps, board = self.config.optimiser.steps, _board(self.folder)
        with _asked_to_stop() as asked, _closing(board):
            for step, batch in enumerate(self._batches(first, steps), first):
                losses = self._step(step, batch)
                done, taken = step + 1, time.monotonic() - began
                rate = (done - first) * self.config.optimiser.batch / taken
                if done % self.config.run.log_every == 0 or done == steps:
                    self._log(step, losses, rate, board)
                if done % self.config.run.checkpoint_every == 0 and done < steps:
                    self._save(done)
                self.tell(f"Step {done:,} of {steps:,}, {_left(taken, done - first, steps - done)}")
                if asked and world() == 1:
                    self._save(done)
                    raise KeyboardInterrupt
        encoder = self._save(max(first, steps))
        loss = float("nan") if losses is None else float(losses.total.detach())
        taken = max(time.monotonic() - began, 1e-9)
        rate = max(0, steps - first) * self.config.optimiser.batch / taken
        return Trained(max(first, steps), encoder, loss, rate)

    def _begin(self, restart: bool) -> int:
        """Prepare the folder, and take up what is there; return the first step to do."""
        known = self.folder / CONFIG
        goes_on = (self.folder / CHECKPOINT).exists() and not restart
        if goes_on and known.exists():
            _refuse_change(read_run(self.folder), self.config, self.folder)
        first = (
            load_checkpoint(self.folder, self.student, self.average, self.optimiser)
            if goes_on
            else 0
        )
        if rank() == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_config(self.folder, self.config)
            cut_log(self.folder, first)
        return first

    def _batches(self, first: int, steps: int) -> Iterator[Batch]:
        """Yield this process's part of the batch of every step that is left."""
        n, readers = self.config.optimiser.batch // world(), self.config.run.readers
        starts = (step * self.config.optimiser.batch + rank() * n for step in range(first, steps))
        loader: DataLoader[Batch] = DataLoader(
            self.fields,  # type: ignore[arg-type]
            batch_sampler=(list(range(start, start + n)) for start in starts),
            collate_fn=collate,
            num_workers=readers,
            multiprocessing_context="spawn" if readers else None,
            pin_memory=self.device.type == "cuda",
        )
        yield from loader

    def _step(self, step: int, batch: Batch) -> Losses:
        """Do one step: everything random in it depends on its number alone."""
        now = values_at(step, self.config)
        torch.manual_seed((self.config.run.seed * world() + rank()) * 1_000_003 + step)
        set_values(self.optimiser, now)
        n, side = batch.large.shape[1], batch.large.shape[-1] // self.config.model.patch
        first = step * self.config.optimiser.batch + rank() * n
        masks = draw_masks(n, side, self.config.loss, first, self.config.run.seed)
        on_device = Batch(*(part.to(self.device, non_blocking=True) for part in batch))
        hidden = torch.from_numpy(masks).to(self.device)
        with self._autocast():
            losses = losses_of(
                self.student, self.teacher, on_device, hidden, self.config, now.temperature
            )
        self.scaler.scale(losses.total).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimiser)
        parameters = [p for p in self.student.parameters() if p.grad is not None]
        if not self.config.run.shard:
            average_gradients(parameters)
        if self.config.optimiser.clip > 0:
            nn.utils.clip_grad_norm_(parameters, self.config.optimiser.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        average, student = (list(one.parameters()) for one in (self.average, self.student))
        get_ema_multi_avg_fn(now.momentum)(average, student, step)  # type: ignore[no-untyped-call]
        return losses

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.dtype is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def _log(self, step: int, losses: Losses, rate: float, board: Any) -> None:
        now = values_at(step, self.config)
        total = float(sum_over_ranks(losses.total.detach()) / world())
        if not torch.isfinite(torch.tensor(total)):
            raise PretrainError(
                f"the loss is {total} at step {step}: lower lr in [optimiser], or use bfloat16; "
                "the last checkpoint is kept."
            )
        row = {"step": step, "loss": total, "samples_per_s": round(rate, 2)}
        row |= {name: float(getattr(losses, name)) for name in ("dino", "ibot", "spread")}
        row |= now._asdict()
        if rank() == 0:
            append_log(self.folder, row)
            if board is not None:
                for name, value in row.items():
                    board.add_scalar(name, value, step)

    def _save(self, step: int) -> Path | None:
        save_checkpoint(self.folder, step, self.student, self.average, self.optimiser)
        return export_encoder(self.folder, self.average, self.config, step)


def _teachers(student: Network, config: Config, device: torch.device) -> tuple[Network, Network]:
    """Return who teaches, and the average over past students, which is what is exported.

    They are one and the same, but where a student learns from the fixed teacher of another run.
    """
    average = copy.deepcopy(student).requires_grad_(False).eval()
    if not config.distil_from:
        return average, average
    folder = Path(config.distil_from).expanduser()
    other = read_run(folder)
    if other.loss.prototypes != config.loss.prototypes or other.model.patch != config.model.patch:
        raise PretrainError(
            f"the run in {folder} has {other.loss.prototypes} prototypes and a patch of "
            f"{other.model.patch} px: its student must have the same."
        )
    teacher = Network(other).requires_grad_(False).eval()
    load_teacher(folder, teacher)
    return teacher.to(device), average


def read_run(folder: Path) -> Config:
    """Return the configuration of the run in a folder.

    Raises
    ------
    PretrainError
        If there is no run.
    """
    from pydantic import TypeAdapter

    try:
        facts = json.loads((folder / CONFIG).read_text("utf-8"))
        # A run that does not say how patches are hidden was begun when all were hidden singly.
        facts["loss"].setdefault("masks", "single")
        return TypeAdapter(Config).validate_python(facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PretrainError(f"{folder} holds no run ({type(error).__name__}): check it.") from error


def config_of(where: str) -> Config:
    """Return the configuration named by a TOML file, a preset or the folder of a run."""
    folder = Path(where).expanduser()
    return read_run(folder) if (folder / CONFIG).is_file() else read_config(where)


def _refuse_change(known: Config, config: Config, folder: Path) -> None:
    """Refuse to go on with another configuration: what came out would be neither of the two."""
    before, now = known.with_steps(1).facts(), config.with_steps(1).facts()
    for part, values in now.items():
        if part != "run" and before[part] != values:
            raise PretrainError(
                f"the run in {folder} was begun with another {part}: use its configuration, "
                "another folder, or --restart to begin anew."
            )


def _shard(network: Network) -> None:
    """Spread the parameters of each block, and of the rest, over the processes (FSDP)."""
    from torch.distributed.fsdp import fully_shard

    for block in network.encoder.blocks:
        fully_shard(block)
    for part in (network.class_head, network.patch_head):
        fully_shard(part)
    # A teacher has no way back, after which its parameters would be spread again.
    fully_shard(network, reshard_after_forward=True)


def _precision(config: Config, device: torch.device) -> torch.dtype:
    if config.run.precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[
            config.run.precision
        ]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    has = device.type == "cpu" and cpu_has_bfloat16()
    return torch.bfloat16 if has else torch.float32


def _board(folder: Path) -> Any:
    """Return a TensorBoard writer where tensorboard is installed."""
    if rank() != 0:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Yield a list that is filled by Ctrl-C: the step at hand is finished first.

    A second Ctrl-C does not wait. Several processes stop at once, at their last checkpoint.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread() or world() > 1:
        yield asked
        return

    def ask(number: int, _: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _closing(board: Any) -> Iterator[None]:
    try:
        yield
    finally:
        if board is not None:
            board.close()


def _left(taken: float, done: int, left: int) -> str:
    seconds = taken / max(1, done) * left
    return f"{seconds / 3600:.1f} h left" if seconds > 5400 else f"{seconds / 60:.1f} min left"
