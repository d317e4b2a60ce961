"""A network computed by OpenVINO: on a processor it is faster than torch. The extra `openvino`."""

from __future__ import annotations

import sys
import threading
import warnings
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from napari_virchow.encoders.devices import count_cores
from napari_virchow.encoders.specs import EncoderSpec, Pooling
from napari_virchow.encoders.vit import Embed, TileNetwork, ViT


def openvino_embedder(model: ViT, spec: EncoderSpec, pooling: Pooling, dtype: torch.dtype) -> Embed:
    """Return the function that embeds one batch of tiles with a model, through OpenVINO.

    Parameters
    ----------
    model : ViT
        With float32 weights.
    spec : EncoderSpec
        Its row.
    pooling : {"class", "class+mean"}
        How tokens become an embedding.
    dtype : torch.dtype
        Of the products inside: float32 or bfloat16.

    Returns
    -------
    callable
        Embeds (n, px, px, 3) uint8, any n, to (n, dim) float32; calls from several threads wait for
        one another.
    """
    ov = _import_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = torch.zeros(2, spec.input_px, spec.input_px, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing takes the tile's size for granted: it is fixed
        whole = TileNetwork(model, spec, pooling).eval()
        decoder = TorchScriptPythonDecoder(torch.jit.trace(whole, example))  # type: ignore[no-untyped-call]
        frontend = FrontEndManager().load_by_framework("pytorch")
        graph = frontend.convert(frontend.load(decoder))  # which must live as long
    graph.reshape([-1, *example.shape[1:]])
    settings = {
        "INFERENCE_PRECISION_HINT": {torch.bfloat16: "bf16", torch.float32: "f32"}[dtype],
        "INFERENCE_NUM_THREADS": count_cores(),
        "PERFORMANCE_HINT": "LATENCY",  # all cores on one batch
    }
    request = ov.Core().compile_model(graph, "CPU", settings).create_infer_request()
    turn = threading.Lock()

    def embed(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        with turn:
            found = request.infer([np.ascontiguousarray(tiles)], share_inputs=True)
            return np.array(found[0], np.float32)  # what it hands out is overwritten by the next

    return embed


def _import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would tell Intel of every import."""
    sys.modules.setdefault("openvino_telemetry", cast(Any, None))
    import openvino

    return openvino
