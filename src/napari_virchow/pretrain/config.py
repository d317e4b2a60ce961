"""What a pretraining run is told: a TOML file, checked before anything is computed."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from napari_virchow.encoders.specs import ViTConfig

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
_STRICT = ConfigDict(extra="forbid")


class PretrainError(Exception):
    """A run cannot start or go on; the message is one sentence that ends with what to do."""


@dataclass(frozen=True, config=_STRICT)
class Data:
    """Where the pixels come from.

    Parameters
    ----------
    slides : tuple of str
        Files, folders, lists or patterns, as for the command `embed`; "sample" is the sample slide.
    tiles : tuple of str
        Folders of image files, each one field; their classes, if any, are not used.
    tiles_share : float
        Share of the fields drawn from `tiles`, where there are both.
    mpp, mpp_share : tuple of float
        Magnifications in µm/px, and how often each is drawn. Virchow2: 20 / 40 / 20 / 20 %.
    tissue : float
        Least share of a field that must lie on tissue. Virchow2: 0.65.
    field_px : int
        Side of the square field from which the crops of one sample are cut. Virchow2: 392.
    slide_mpp : float or None
        µm per level-0 pixel of slides that do not say theirs; without it they are refused.
    """

    slides: tuple[str, ...] = ()
    tiles: tuple[str, ...] = ()
    tiles_share: Share = 0.5
    mpp: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    mpp_share: tuple[Share, ...] = (0.2, 0.4, 0.2, 0.2)
    tissue: Share = 0.65
    field_px: Positive = 392
    slide_mpp: Annotated[float, Field(ge=0.1, le=10)] | None = None

    def __post_init__(self) -> None:
        if len(self.mpp) != len(self.mpp_share) or sum(self.mpp_share) <= 0:
            raise ValueError("mpp and mpp_share must be of one length, with a share above 0")


@dataclass(frozen=True, config=_STRICT)
class Crops:
    """How crops are cut from a field and altered.

    Parameters
    ----------
    method : {"translate", "resize"}
        Extended-context translation (Virchow2), or the crop-and-resize of stock DINOv2.
    global_px, local_px, n_local : int
        Sides in pixels of the two large crops and of the small ones, and how many small ones.
    solarise : bool
        Solarise the second large crop sometimes; Virchow2 does, Virchow2G does not.
    """

    method: Literal["translate", "resize"] = "translate"
    global_px: Positive = 224
    local_px: Positive = 98
    n_local: Annotated[int, Field(ge=0)] = 8
    solarise: bool = True


@dataclass(frozen=True, config=_STRICT)
class Model:
    """The network: the words of `ViTConfig`, and what only training needs.

    Parameters
    ----------
    patch, width, depth, heads, hidden, mlp, layer_scale, registers, qk_norm
        As in `ViTConfig`.
    image_px : int
        Image side whose positions are stored in the weights.
    drop_path : float
        Share of the residual branches left out at the last block (less before it).
    """

    patch: Positive = 14
    width: Positive = 384
    depth: Positive = 12
    heads: Positive = 6
    hidden: Positive = 1536
    mlp: Literal["gelu", "swiglu"] = "gelu"
    layer_scale: bool = False
    registers: Annotated[int, Field(ge=0)] = 0
    qk_norm: bool = False
    image_px: Positive = 224
    drop_path: Share = 0.0

    def vit(self) -> ViTConfig:
        """Return the shape of the network that is trained and exported."""
        facts = asdict(self)
        del facts["drop_path"]
        return ViTConfig(**facts)


@dataclass(frozen=True, config=_STRICT)
class Loss:
    """Weights and temperatures of the loss; the defaults are Virchow2's, else DINOv2's.

    Parameters
    ----------
    regulariser : {"kde", "koleo", "none"}
        What spreads the class tokens: Virchow2's kernel density estimate, or DINOv2's KoLeo.
    regulariser_weight, kappa : float
        0.05 and 5 for KDE; stock KoLeo has the weight 0.1.
    prototypes, bottleneck, head_hidden : int
        Of the two heads (one for class tokens, one for masked patches).
    student_temperature, teacher_start, teacher_end : float
        Temperatures; the teacher's goes from start to end over the warm-up.
    mask_probability, mask_low, mask_high : float
        Share of the large crops that are masked, and the least and greatest share masked of them.
    masks : {"blocks", "single"}
        Patches are hidden in rectangles, as DINOv2 draws them, or each by itself.
    """

    dino: float = 1.0
    ibot: float = 1.0
    regulariser: Literal["kde", "koleo", "none"] = "kde"
    regulariser_weight: float = 0.05
    kappa: float = 5.0
    prototypes: Positive = 131072
    bottleneck: Positive = 384
    head_hidden: Positive = 2048
    student_temperature: float = 0.1
    teacher_start: float = 0.07
    teacher_end: float = 0.04
    mask_probability: Share = 0.5
    mask_low: Share = 0.1
    mask_high: Share = 0.5
    masks: Literal["blocks", "single"] = "blocks"


@dataclass(frozen=True, config=_STRICT)
class Optimiser:
    """How the weights follow the loss; not published for Virchow2, so DINOv2's.

    Parameters
    ----------
    batch, steps, warmup : int
        Samples per step over all processes, steps in all, and steps of warm-up.
    lr : float
        For a batch of 1024; scaled with the square root of the batch.
    decay_start, decay_end : float
        Weight decay, which rises along a cosine.
    momentum_start : float
        Of the teacher, an average over past students; rises to 1 along a cosine.
    stable : bool
        StableAdamW, as Virchow2G has it, instead of AdamW.
    """

    batch: Positive = 4096
    steps: Positive = 500_000
    warmup: Annotated[int, Field(ge=0)] = 10_000
    lr: float = 2e-4
    lr_end: float = 1e-6
    decay_start: float = 0.04
    decay_end: float = 0.2
    momentum_start: Share = 0.994
    clip: float = 3.0
    patch_embed_lr: float = 0.2
    beta1: float = 0.9
    beta2: float = 0.999
    stable: bool = False


@dataclass(frozen=True, config=_STRICT)
class Run:
    """How the work is done; none of it changes what is learnt, but for rounding.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16", "float16"}
        Of the matrix products. "auto" is bfloat16 where the device has it.
    shard : bool
        Spread weights and optimiser over the processes (FSDP).
    recompute : bool
        Compute activations again on the way back instead of keeping them.
    compile : bool
        Compile the blocks with `torch.compile`.
    readers : int
        Processes that read and cut, per training process; 0 reads in the training process.
    checkpoint_every, log_every : int
        In steps.
    """

    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    shard: bool = False
    recompute: bool = False
    compile: bool = False
    readers: Annotated[int, Field(ge=0)] = 0
    checkpoint_every: Positive = 500
    log_every: Positive = 10


@dataclass(frozen=True, config=_STRICT)
class Config:
    """A whole run.

    Parameters
    ----------
    name : str
        Of the encoder that comes out.
    licence : str
        Of its weights, which follows from the data; shown wherever the encoder is chosen.
    distil_from : str
        Folder of another run whose teacher is kept fixed and copied (the Mini recipe); or empty.
    """

    name: str = "mine"
    licence: str = "as its training data allow"
    distil_from: str = ""
    data: Data = field(default_factory=Data)
    crops: Crops = field(default_factory=Crops)
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    optimiser: Optimiser = field(default_factory=Optimiser)
    run: Run = field(default_factory=Run)

    def __post_init__(self) -> None:
        for side in (self.crops.global_px, self.crops.local_px, self.model.image_px):
            if side % self.model.patch:
                raise ValueError(f"{side} px is not a multiple of the patch, {self.model.patch} px")
        self.model.vit()

    def with_steps(self, steps: int) -> Config:
        """Return the same run with fewer or more steps."""
        return replace(self, optimiser=replace(self.optimiser, steps=steps))

    def facts(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return asdict(self)


_FOLDER = files("napari_virchow.pretrain") / "presets"


def preset_names() -> list[str]:
    """Return the names of the configurations that come with the package."""
    return sorted(
        one.name.removesuffix(".toml") for one in _FOLDER.iterdir() if one.name.endswith(".toml")
    )


def preset_text(name: str) -> str:
    """Return the TOML of a configuration that comes with the package.

    Raises
    ------
    PretrainError
        If there is none of that name.
    """
    if name not in preset_names():
        raise PretrainError(
            f"there is no configuration {name!r}: choose one of {', '.join(preset_names())}, "
            "or give a TOML file."
        )
    return (_FOLDER / f"{name}.toml").read_text("utf-8")


def read_config(where: str) -> Config:
    """Read a TOML file, or a configuration that comes with the package, by name.

    Paths in a file are relative to that file.

    Raises
    ------
    PretrainError
        If it cannot be read, or a value in it cannot be right; naming the value.
    """
    path = Path(where).expanduser()
    if path.is_file():
        try:
            text, base = path.read_text("utf-8"), path.parent
        except (OSError, UnicodeDecodeError) as error:
            raise PretrainError(f"{where} cannot be read ({error}): check it.") from error
    elif path.suffix:
        raise PretrainError(f"there is no file {where}: check its name and place.")
    else:
        text, base = preset_text(where), Path()
    try:
        config = TypeAdapter(Config).validate_python(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise PretrainError(f"{where} is not TOML ({error}): correct it.") from error
    except ValidationError as error:
        raise PretrainError(f"{where}: {_first(error)}: correct it.") from error
    return _placed(config, base)


def _first(error: ValidationError) -> str:
    one = error.errors()[0]
    place = ".".join(str(part) for part in one["loc"])
    if one["type"] == "unexpected_keyword_argument":
        return f"there is no setting {place}"
    what = one["msg"].removeprefix("Value error, ")
    return f"{place} cannot be {one['input']!r} ({what})" if place else what


def _placed(config: Config, base: Path) -> Config:
    """Make relative paths relative to the file they stand in."""

    def place(text: str) -> str:
        if not text or text == "sample" or "://" in text or Path(text).expanduser().is_absolute():
            return text
        return str(base / text)

    data = replace(
        config.data,
        slides=tuple(place(one) for one in config.data.slides),
        tiles=tuple(place(one) for one in config.data.tiles),
    )
    return replace(config, data=data, distil_from=place(config.distil_from))
