"""Weights on disk: find the files, identify them by content, read them, and put them in a model."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_virchow.encoders.specs import EncoderUnavailable
from napari_virchow.paths import cache_dir

if TYPE_CHECKING:
    from torch import Tensor, nn

INDEX = "model.safetensors.index.json"
# In this order: safetensors can hold nothing but tensors, and load faster.
FILE_NAMES = ("model.safetensors", INDEX, "pytorch_model.bin")
TORCH_SUFFIXES = (".bin", ".pth", ".pt")
WRAPPERS = ("state_dict", "model", "teacher")
HASH_BYTES = 6
CHUNK_BYTES = 1 << 24


def find_weights(path: Path | str) -> tuple[Path, ...]:
    """Return the files that hold the weights at a local path, in a fixed order.

    Parameters
    ----------
    path : Path or str
        A ``.safetensors``, ``.bin`` or ``.pth`` file, an index of several safetensors files, or a
        folder with ``model.safetensors``, such an index or ``pytorch_model.bin`` (the first found).

    Raises
    ------
    EncoderUnavailable
        If nothing usable is there.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        for name in FILE_NAMES:
            if (path / name).is_file():
                return find_weights(path / name)
        others = sorted(p for p in path.iterdir() if p.suffix in (".safetensors", *TORCH_SUFFIXES))
        if len(others) == 1:
            return (others[0],)
        raise EncoderUnavailable(
            f"the folder {path} has no model.safetensors and no pytorch_model.bin: "
            "give the weights file itself."
        )
    if not path.is_file():
        raise EncoderUnavailable(f"there is no weights file {path}: check its name and place.")
    if path.name.endswith(".index.json"):
        return tuple(_shards(path))
    if path.suffix not in (".safetensors", *TORCH_SUFFIXES):
        raise EncoderUnavailable(
            f"{path} is not a kind of weights file this plugin reads: "
            "give a .safetensors, .bin or .pth file."
        )
    return (path,)


def shard_names(index: Path) -> list[str]:
    """Return the names of the safetensors files that an index lists, sorted.

    Raises
    ------
    EncoderUnavailable
        If it is not such an index.
    """
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        plain = bool(names) and all(Path(name).name == name for name in names)
    except (ValueError, KeyError, TypeError, AttributeError):
        plain = False
    if not plain:
        raise EncoderUnavailable(f"{index} is not an index of weights files: download it again.")
    return names


def _shards(index: Path) -> list[Path]:
    shards = [index.parent / name for name in shard_names(index)]
    for shard in shards:
        if not shard.is_file():
            raise EncoderUnavailable(
                f"{shard} is missing, though {index.name} lists it: download it as well."
            )
    return shards


def hash_weights(paths: Sequence[Path], *, remembered: Path | None = None) -> str:
    """Return 12 hex digits that identify the contents of weights files.

    A file of gigabytes is read once: its hash is remembered with its size and time of change.

    Parameters
    ----------
    paths : sequence of Path
        The files, in order.
    remembered : Path, optional
        JSON file of known hashes; by default in the cache folder.
    """
    remembered = cache_dir() / "weights.json" if remembered is None else remembered
    known = _known_hashes(remembered)
    digests = []
    for path in paths:
        real = path.resolve()
        status = real.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        entry = known.get(str(real))
        if not (isinstance(entry, list) and len(entry) == 3 and entry[:2] == stamp):
            entry = [*stamp, _digest(real)]
            known[str(real)] = entry
            _remember(remembered, known)
        digests.append(str(entry[2]))
    return digests[0] if len(digests) == 1 else short_hash("".join(digests).encode())


def short_hash(data: bytes) -> str:
    """Return 12 hex digits of `data`."""
    return hashlib.blake2b(data, digest_size=HASH_BYTES).hexdigest()


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _known_hashes(remembered: Path) -> dict[str, Any]:
    try:
        known = json.loads(remembered.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(remembered: Path, known: Mapping[str, Any]) -> None:
    # Not being able to remember costs a second next time, so it must not stop the load now.
    with suppress(OSError):
        remembered.parent.mkdir(parents=True, exist_ok=True)
        draft = remembered.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(known), "utf-8")
        draft.replace(remembered)


def read_weights(paths: Sequence[Path]) -> dict[str, Tensor]:
    """Read a state dict in float32; nothing but tensors is ever unpickled.

    Raises
    ------
    EncoderUnavailable
        If a file is damaged, or holds anything but tensors.
    """
    state: dict[str, Tensor] = {}
    for path in paths:
        state.update(
            _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
        )
    return {name: tensor.float() for name, tensor in state.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise EncoderUnavailable(
            f"{path} cannot be read as safetensors ({error}): download it again."
        ) from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise EncoderUnavailable(
            f"{path} is damaged or holds more than plain tensors, which is refused for safety: "
            "download it again, or give a .safetensors file."
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not loaded:
        raise EncoderUnavailable(f"{path} holds no named tensors: give a file with a state dict.")
    for name, value in loaded.items():
        if not isinstance(value, torch.Tensor):
            raise EncoderUnavailable(
                f"{path} holds {name!r}, which is not a tensor: give a file with a state dict only."
            )
    return loaded


def fill_model(model: nn.Module, state: Mapping[str, Tensor], *, file: Path, title: str) -> None:
    """Put a state dict into a model; every name and every shape must agree.

    Raises
    ------
    EncoderUnavailable
        Naming the file and the first difference.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    difference = _first_difference(expected, state)
    if difference:
        raise EncoderUnavailable(
            f"{file} does not hold the weights of {title}: {difference}; "
            "choose the encoder this file belongs to."
        )
    model.load_state_dict(dict(state), strict=True, assign=True)


def _first_difference(
    expected: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor]
) -> str | None:
    for name, shape in expected.items():
        if name not in state:
            return f"it has no {name!r}"
        found = tuple(state[name].shape)
        if found != shape:
            return f"its {name!r} has the shape {found} instead of {shape}"
    unexpected = next((name for name in state if name not in expected), None)
    return f"it has an unexpected {unexpected!r}" if unexpected else None
