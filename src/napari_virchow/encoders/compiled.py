"""A network that torch compiles, for long runs: on a GPU it is launched as a whole."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_virchow.encoders import Encoder
from napari_virchow.encoders.checking import SAME_COSINE, least_cosine, probe_tiles
from napari_virchow.encoders.specs import EncoderUnavailable
from napari_virchow.encoders.vit import Embed, embedder

MOST = 128  # tiles at a time: what a cohort's workers read at once
WARM_UP = 3  # runs before one is recorded, as torch advises


def compile_encoder(encoder: Encoder) -> None:
    """Compile an encoder's network, for one number of tiles, and check that it computes the same.

    Its blocks are compiled, which are all the same code: so a deep network takes no longer than a
    shallow one. On a GPU the whole network is then recorded and launched at once.

    Parameters
    ----------
    encoder : Encoder
        Changed in place; its batches become a power of 2, which what is read at a time is too.

    Raises
    ------
    EncoderUnavailable
        If it has no network to compile, if that fails, or if embeddings differ from before.
    """
    network, device = encoder.network, encoder.device
    if network is None or not (device == "cpu" or device.startswith("cuda")):
        raise EncoderUnavailable(
            f"{encoder.spec.title} on {device} cannot be compiled, only a network on 'cpu' or "
            "'cuda': choose such a device, or leave --compile out."
        )
    tiles = probe_tiles(encoder.spec.input_px)
    expected = encoder.encode(tiles)
    encoder.batch_size = min(MOST, 2 ** round(math.log2(encoder.batch_size)))
    for block in network.model.blocks:
        block.compile(dynamic=False, fullgraph=True)  # fullgraph: never partly, in silence
    run = _Recorder(network) if device.startswith("cuda") else network
    encoder.embed_batch = _in_turn(embedder(run, device))
    encoder.compiled = True
    try:
        found = encoder.encode(tiles)
    except EncoderUnavailable:  # it does not fit in memory
        raise
    except Exception as error:  # noqa: BLE001  # what torch's compilers raise has no public name
        why = str(getattr(error, "inner_exception", error)).strip().partition("\n")[0].rstrip(".")
        raise EncoderUnavailable(
            f"{encoder.spec.title} cannot be compiled ({why}): a CPU needs a C++ compiler such as "
            "g++ for it, a GPU needs Triton; install that, or leave --compile out."
        ) from error
    cosine = least_cosine(found, expected)
    if not cosine >= SAME_COSINE:  # NaN too
        raise EncoderUnavailable(
            f"{encoder.spec.title} embeds differently when it is compiled (cosine {cosine:.4f}): "
            "leave --compile out, and report this."
        )
    encoder.device_note += f"; compiled for {encoder.batch_size} tiles at a time"


def _in_turn(embed: Embed) -> Embed:
    """Let calls wait for one another: what was recorded writes to one place."""
    turn = threading.Lock()

    def embed_in_turn(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        with turn:
            return embed(tiles)

    return embed_in_turn


class _Recorder:
    """Computes on a GPU by launching all kernels of a network at once, as a CUDA graph.

    Recorded here, not by the mode "reduce-overhead", whose graphs belong to one thread.

    Parameters
    ----------
    network : callable
        From (n, px, px, 3) uint8 tiles on the GPU to (n, dim) embeddings.
    """

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        self._network = network
        self._graph: torch.cuda.CUDAGraph | None = None
        self._tiles = self._found = torch.empty(0)

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return the embeddings, which the next call overwrites."""
        if self._graph is None or self._tiles.shape != tiles.shape:
            self._record(tiles)
        self._tiles.copy_(tiles)
        assert self._graph is not None
        self._graph.replay()
        return self._found

    def _record(self, tiles: Tensor) -> None:
        self._graph, self._tiles = None, tiles.clone()  # what was recorded before gives way
        with torch.cuda.device(tiles.device):
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    self._network(self._tiles)
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            # Another thread may go on embedding with the encoder before: only our calls count.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._found = self._network(self._tiles)
        self._graph = graph
