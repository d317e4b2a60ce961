"""Encoders of one's own: a folder with weights and what is known of them, used like any other."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_virchow.encoders.specs import (
    IMAGENET,
    RANDOM_SUFFIX,
    SPECS,
    EncoderSpec,
    EncoderUnavailable,
    ViTConfig,
)
from napari_virchow.paths import store_dir

if TYPE_CHECKING:
    from torch import Tensor

REMEMBERED = "own-encoders.json"
FACTS = "encoder.json"
WEIGHTS = "model.safetensors"
VERSION = 1


def is_trained(name: str | os.PathLike[str]) -> bool:
    """Say whether this is the folder of an encoder of one's own, or the JSON file in it."""
    return _facts_file(name).is_file()


def read_trained(name: str | os.PathLike[str]) -> tuple[EncoderSpec, Path]:
    """Read what is known of an encoder of one's own.

    Returns
    -------
    spec : EncoderSpec
        Its row, as if it stood in the table.
    weights : Path
        Its weights file.

    Raises
    ------
    EncoderUnavailable
        If the file is damaged or made by a newer version.
    """
    file = _facts_file(name)
    try:
        facts = json.loads(file.read_text("utf-8"))
        if facts["version"] > VERSION:
            raise EncoderUnavailable(
                f"{file} was made by a newer version of this plugin: update the plugin."
            )
        spec = EncoderSpec(
            name=_plain(facts["name"]),
            title=f"{facts['name']} (your own)",
            hub_id=None,
            architecture=ViTConfig(**facts["architecture"]),
            mean=tuple(facts["mean"]),
            std=tuple(facts["std"]),
            allowed_mpp=tuple(facts["allowed_mpp"]),
            pooling="class+mean",
            dim=2 * int(facts["architecture"]["width"]),
            licence=str(facts["licence"]),
            gate="none",
            input_px=int(facts["input_px"]),
            notes=f"Trained for {facts['trained'].get('step', '?')} steps; {file}",
        )
    except EncoderUnavailable:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderUnavailable(
            f"{file} does not describe an encoder ({error}): export it again."
        ) from error
    return spec, file.parent / WEIGHTS


def write_encoder(
    folder: Path,
    weights: Mapping[str, Tensor],
    *,
    name: str,
    architecture: ViTConfig,
    allowed_mpp: tuple[float, ...],
    licence: str,
    trained: Mapping[str, Any],
) -> Path:
    """Write an encoder so that `load_encoder(folder)` takes it.

    Parameters
    ----------
    folder : Path
        Made if it is not there; files of the same names are replaced.
    weights : mapping of str to Tensor
        With the names of `vit.ViT`.
    name, architecture, allowed_mpp, licence
        As in `EncoderSpec`.
    trained : mapping
        How it came about; JSON values.

    Returns
    -------
    Path
        The folder.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    mean, std = IMAGENET
    facts = {
        "version": VERSION,
        "name": name,
        "architecture": asdict(architecture),
        "allowed_mpp": list(allowed_mpp),
        "input_px": 224,
        "mean": list(mean),
        "std": list(std),
        "licence": licence,
        "trained": dict(trained),
    }
    draft = folder / f"{WEIGHTS}.{os.getpid()}"
    draft.write_bytes(save(dict(weights)))
    draft.replace(folder / WEIGHTS)
    words = folder / f"{FACTS}.{os.getpid()}"
    words.write_text(json.dumps(facts, indent=1), "utf-8")
    words.replace(folder / FACTS)
    return folder


def remember_trained(folder: Path) -> None:
    """Remember an encoder that was used, so that its name is enough from now on."""
    file = store_dir() / REMEMBERED
    known = [str(one) for one in _remembered() if one != folder.absolute()]
    # Not being able to remember costs a choice next time, so it must not stop the load now.
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps([*known, str(folder.absolute())], indent=1), "utf-8")
        draft.replace(file)


def known_trained() -> dict[str, tuple[EncoderSpec, Path]]:
    """Return the remembered encoders that are still there, by name, with their folders."""
    known = {}
    for folder in _remembered():
        with suppress(EncoderUnavailable):
            if is_trained(folder):
                spec, _ = read_trained(folder)
                known[spec.name] = spec, folder
    return known


def all_specs() -> dict[str, EncoderSpec]:
    """Return the rows of the table, and those of your own encoders that were used, by name."""
    return dict(SPECS) | {
        name: spec for name, (spec, _) in known_trained().items() if name not in SPECS
    }


def find_spec(name: str) -> EncoderSpec:
    """Return the row of an encoder by its name (with or without "@random") or its folder.

    Raises
    ------
    EncoderUnavailable
        If there is none.
    """
    plain = name.removesuffix(RANDOM_SUFFIX)
    if plain in SPECS:
        return SPECS[plain]
    if is_trained(plain):
        return read_trained(plain)[0]
    specs = all_specs()
    if plain not in specs:
        raise EncoderUnavailable(
            f"there is no encoder {name!r}: choose one of {', '.join(specs)}, or give the folder "
            "of one of your own."
        )
    return specs[plain]


def own_folder(name: str) -> Path | None:
    """Return the folder of an encoder of one's own that `find_spec` finds; None for a row."""
    plain = name.removesuffix(RANDOM_SUFFIX)
    if plain in SPECS:
        return None
    if is_trained(plain):
        return read_trained(plain)[1].parent
    return known_trained()[plain][1]


def _remembered() -> list[Path]:
    try:
        listed = json.loads((store_dir() / REMEMBERED).read_text("utf-8"))
        return [Path(one) for one in listed]
    except (OSError, ValueError, TypeError):
        return []


def _facts_file(name: str | os.PathLike[str]) -> Path:
    path = Path(name).expanduser()
    return path if path.name == FACTS else path / FACTS


def _plain(name: str) -> str:
    """Return a name that is fit for a file name: it becomes part of the encoder's identity."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in str(name)) or "unnamed"
