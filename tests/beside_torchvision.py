"""Import libraries that need torchvision, also beside a torch it was not built for."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

KEPT: list[object] = []  # an operator is declared for as long as its library object lives


@cache
def load(name: str) -> ModuleType:
    """Import a module that needs torchvision, which needs two ops that it has to find declared.

    Its wheel for CUDA cannot load its own ops beside a torch without CUDA; then we declare them.
    """
    _declare_ops()
    return importlib.import_module(name)


@cache
def _declare_ops() -> None:
    (place,) = importlib.util.find_spec("torchvision").submodule_search_locations
    try:
        for compiled in [*Path(place).glob("_C*.so"), *Path(place).glob("_C*.pyd")]:
            torch.ops.load_library(compiled)
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        KEPT.append(library)
