"""Load an encoder by name, and embed tiles with it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from napari_virchow.encoders import devices
from napari_virchow.encoders.checking import check, probe_tiles
from napari_virchow.encoders.endpoint import Endpoint, find_key
from napari_virchow.encoders.hub import fetch_weights, log_in
from napari_virchow.encoders.specs import (
    RANDOM_SUFFIX,
    SPECS,
    EncoderSpec,
    EncoderUnavailable,
    Pooling,
    ViTConfig,
)
from napari_virchow.encoders.trained import (
    all_specs,
    find_spec,
    own_folder,
    read_trained,
    remember_trained,
)
from napari_virchow.encoders.weights import (
    fill_model,
    find_weights,
    hash_weights,
    read_weights,
    short_hash,
)
from napari_virchow.foreground import give_way

if TYPE_CHECKING:
    from napari_virchow.encoders.vit import TileNetwork, ViT

__all__ = [
    "SPECS",
    "Encoder",
    "EncoderSpec",
    "EncoderUnavailable",
    "all_specs",
    "find_spec",
    "load_encoder",
    "log_in",
]

# Part of a random encoder's identity: change it when the way weights are drawn changes.
RANDOM_RECIPE = "normal-0.02-v1"
RANDOM_SEED = 0
TEXTURE_BATCH = 32
ENDPOINT_BATCH = 16

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Tell = Callable[[str], None]


@dataclass(eq=False)
class Encoder:
    """An encoder that is ready to embed tiles; made by `load_encoder`.

    Parameters
    ----------
    spec : EncoderSpec
        Its row of the table.
    pooling : {"class", "class+mean", "descriptor"}
        How tokens become an embedding.
    dim : int
        Length of an embedding.
    device, device_note, precision : str
        Where it computes, why there, and in what ("float32", "bfloat16" or "float16").
    weights_hash : str
        12 hex digits of its weights, or of what stands for them.
    random : bool
        Whether the weights are random: its embeddings then mean nothing.
    batch_size : int
        Tiles computed at a time; halved when memory runs out.
    embed_batch : callable
        Embeds one batch, (n, 224, 224, 3) uint8 to (n, dim) float32.
    network : TileNetwork or None
        The network in torch that `embed_batch` computes, where there is one.
    compiled : bool
        Whether it is compiled for `batch_size` tiles: fewer are filled up and take as long.
    embeds : bool
        False where all embeddings there are came from a file: tiles without one stay empty.
    """

    spec: EncoderSpec
    pooling: Pooling
    dim: int
    device: str
    device_note: str
    precision: str
    weights_hash: str
    batch_size: int
    embed_batch: Embed = field(repr=False)
    random: bool = False
    network: TileNetwork | None = field(default=None, repr=False)
    compiled: bool = False
    embeds: bool = True

    @property
    def identity(self) -> str:
        """Name for this encoder with these weights and this pooling, fit for a file name."""
        suffix = RANDOM_SUFFIX if self.random else ""
        return f"{self.spec.name}{suffix}-{self.weights_hash}-{self.pooling}"

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed tiles, in batches that fit in memory.

        Parameters
        ----------
        tiles : ndarray of shape (n, 224, 224, 3), uint8
            RGB; any n, also 0.

        Returns
        -------
        ndarray of shape (n, dim), float32
            One row per tile, in order.

        Raises
        ------
        ValueError
            If `tiles` has another shape or dtype.
        EncoderUnavailable
            If not even one tile fits in memory, or an endpoint fails.
        """
        px = self.spec.input_px
        if tiles.shape[1:] != (px, px, 3) or tiles.dtype != np.uint8:
            raise ValueError(
                f"tiles must be (n, {px}, {px}, 3) uint8, got {tiles.shape} {tiles.dtype}"
            )
        embeddings = np.empty((len(tiles), self.dim), dtype=np.float32)
        done = 0
        while done < len(tiles):
            batch = self._filled(tiles[done : done + self.batch_size])
            computed = self._try(batch)
            if computed is None:
                self._halve(len(batch))
                continue
            embeddings[done : done + len(batch)] = computed[: len(tiles) - done]
            done += len(batch)
        return embeddings

    def _filled(self, batch: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Fill up a batch if another number of tiles would have to be compiled for."""
        missing = self.batch_size - len(batch) if self.compiled else 0
        return np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else batch

    def _try(self, batch: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Embed one batch; None when memory ran out."""
        try:
            return self.embed_batch(batch)
        except (RuntimeError, MemoryError) as error:
            if not devices.is_out_of_memory(error):
                raise
            return None

    def _halve(self, tried: int) -> None:
        # Not inside the except clause: its traceback would still hold the tensors of the batch.
        if tried <= 1:
            raise EncoderUnavailable(
                f"{self.spec.title} does not fit in the memory of {self.device}, not even with one "
                "tile at a time: choose the device 'cpu' or a smaller encoder."
            )
        self.batch_size = tried // 2
        devices.release_memory(self.device)


def load_encoder(
    name: str,
    *,
    weights: Path | str | None = None,
    device: str = "auto",
    pooling: str | None = None,
    token: str | None = None,
    compile: bool = False,
    on_progress: Tell | None = None,
) -> Encoder:
    """Load an encoder and check that it works.

    Parameters
    ----------
    name : str
        A row of `SPECS`; with "@random" at its end, random weights (for tests and benchmarks).
        Or the folder of an encoder of your own, as `pretrain` writes it; its name is enough once
        it was used.
    weights : Path or str, optional
        A local ``.safetensors``, ``.bin`` or ``.pth`` file, or a folder with one, instead of the
        hub; for encoders that are not downloadable also the https address of an Azure endpoint.
    device : str
        "auto", "cpu", "openvino", "mps", "cuda" or "cuda:1".
    pooling : {"class", "class+mean"}, optional
        Instead of the row's own.
    token : str, optional
        Hugging Face token (else ``HF_TOKEN`` or a login), or the endpoint's key.
    compile : bool
        Compile the network, on a CPU or an NVIDIA GPU: for long runs, as it takes a minute.
    on_progress : callable, optional
        Told what is going on, in a few words, before each step.

    Returns
    -------
    Encoder

    Raises
    ------
    EncoderUnavailable
        If it cannot be used; the message says what to do.
    ValueError
        If `pooling` is not one of the encoder's.
    """
    tell = on_progress or _say_nothing
    spec, random = _look_up(name, weights)
    own = own_folder(name)
    if own is not None and weights is None and not random:
        weights = read_trained(own)[1]
    chosen = cast(Pooling, pooling or spec.pooling)
    spec.dim_of(chosen)  # refuses a pooling the encoder does not have
    if spec.architecture is None:
        encoder = _texture(spec)
    elif isinstance(weights, str) and weights.startswith(("http://", "https://")):
        encoder = _endpoint(spec, chosen, Endpoint(weights, find_key(token)), tell)
    elif random:
        encoder = _random(spec, spec.architecture, chosen, device, tell)
    else:
        where = devices.choose_device(device)  # before gigabytes are fetched for nothing
        files = (
            fetch_weights(spec, token=token, on_progress=tell)
            if weights is None
            else find_weights(weights)
        )
        encoder = _from_files(spec, spec.architecture, chosen, where, files, tell)
    if compile:
        from napari_virchow.encoders.compiled import compile_encoder

        tell("Compiling, which takes a minute…")
        compile_encoder(encoder)
    tell("Checking…")
    check(encoder)
    if own is not None:
        remember_trained(own)
    return encoder


def _say_nothing(_: str) -> None:
    return


def _look_up(name: str, weights: Path | str | None) -> tuple[EncoderSpec, bool]:
    random = name.endswith(RANDOM_SUFFIX)
    spec = find_spec(name)
    if spec.architecture is None and (random or weights is not None):
        raise EncoderUnavailable(f"{spec.name} is built in and takes no weights: leave them out.")
    if random and weights is not None:
        raise EncoderUnavailable(
            f"{name!r} asks for random weights but {str(weights)!r} was given as well: "
            "leave one of them out."
        )
    is_url = isinstance(weights, str) and weights.startswith(("http://", "https://"))
    if is_url and spec.gate != "not downloadable":
        raise EncoderUnavailable(
            f"{spec.title} is not served by an Azure endpoint: give a local weights file, or "
            "leave it out to use the hub."
        )
    return spec, random


def _texture(spec: EncoderSpec) -> Encoder:
    from napari_virchow.encoders import texture

    return Encoder(
        spec=spec,
        pooling="descriptor",
        dim=texture.DIM,
        device="cpu",
        device_note="the built-in descriptor needs no GPU",
        precision="float32",
        weights_hash=f"{texture.VERSION}-{texture.PARAMETERS_HASH}",
        batch_size=TEXTURE_BATCH,
        embed_batch=lambda tiles: _describe_in_threads(texture.describe, tiles),
    )


def _describe_in_threads(describe: Embed, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Share tiles among the cores: numpy and scipy let go of the lock for most of the work."""

    def step(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        give_way()
        return describe(tile[None])

    with ThreadPoolExecutor(min(len(tiles), devices.count_cores())) as pool:
        return np.concatenate(list(pool.map(step, tiles)))


def _endpoint(spec: EncoderSpec, pooling: Pooling, endpoint: Endpoint, tell: Tell) -> Encoder:
    tell(f"Asking {endpoint.host}…")
    # What it returns is what there is: its length is taken from its first answer, not the row.
    dim = endpoint.embed(probe_tiles(spec.input_px)[:1]).shape[1]
    if pooling != spec.pooling and dim != spec.dim_of(pooling):
        raise EncoderUnavailable(
            f"the endpoint {endpoint.host} returns embeddings of {dim} numbers, which is not the "
            f"pooling {pooling!r}: leave the pooling out."
        )
    return Encoder(
        spec=spec,
        pooling=pooling,
        dim=dim,
        device="endpoint",
        device_note=f"computed by {endpoint.host}",
        precision="float32",
        weights_hash=endpoint.hash,
        batch_size=ENDPOINT_BATCH,
        embed_batch=endpoint.embed,
    )


def _random(
    spec: EncoderSpec, config: ViTConfig, pooling: Pooling, device: str, tell: Tell
) -> Encoder:
    from napari_virchow.encoders.vit import random_vit

    where = devices.choose_device(device)
    tell(f"Making random weights for {spec.title}…")
    model = random_vit(config, RANDOM_SEED)
    identity = short_hash(f"{RANDOM_RECIPE} {RANDOM_SEED} {config}".encode())
    return _vit_encoder(spec, model, pooling, where, identity, random=True)


def _from_files(
    spec: EncoderSpec,
    config: ViTConfig,
    pooling: Pooling,
    where: tuple[str, str],
    files: tuple[Path, ...],
    tell: Tell,
) -> Encoder:
    from napari_virchow.encoders.vit import build_on_meta

    tell("Reading weights…")
    model = build_on_meta(config)
    try:
        fill_model(model, read_weights(files), file=files[0], title=spec.title)
        identity = hash_weights(files)
    except MemoryError as error:
        raise EncoderUnavailable(
            f"there is not enough memory to read {files[0]}: close other programs, or choose a "
            "smaller encoder."
        ) from error
    return _vit_encoder(spec, model, pooling, where, identity, random=False)


def _vit_encoder(
    spec: EncoderSpec,
    model: ViT,
    pooling: Pooling,
    where: tuple[str, str],
    weights_hash: str,
    *,
    random: bool,
) -> Encoder:
    from napari_virchow.encoders.vit import TileNetwork, embedder

    device, note = where
    dtype = devices.choose_precision(device)
    network = None
    if device == "openvino":
        from napari_virchow.encoders.openvino import openvino_embedder

        embed = openvino_embedder(model, spec, pooling, dtype)
    else:
        network = TileNetwork(model.lower(dtype), spec, pooling)
        devices.place(network, device, spec.title)
        embed = embedder(network, device)
    return Encoder(
        spec=spec,
        pooling=pooling,
        dim=spec.dim_of(pooling),
        device=device,
        device_note=note,
        precision=str(dtype).removeprefix("torch."),
        weights_hash=weights_hash,
        batch_size=devices.choose_batch_size(model.config, device, dtype, spec.input_px),
        embed_batch=embed,
        random=random,
        network=network,
    )
