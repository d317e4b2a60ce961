"""Where an encoder computes, how precisely, and how many tiles at a time."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from napari_virchow.encoders.specs import EncoderUnavailable, ViTConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

# One batch is about this much work: a second on two CPU cores, 50 ms on a large GPU. Larger ones
# gain nothing, and a cancelled run has to wait for the batch that is being computed.
CPU_GFLOP = 600.0
GPU_GFLOP = 20_000.0
MAX_BATCH = 512
ON_CPU = ("cpu", "openvino")
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


def choose_device(wanted: str = "auto") -> tuple[str, str]:
    """Choose where to compute, and say why.

    Parameters
    ----------
    wanted : str
        "auto" (CUDA, else Apple's MPS, else the CPU), "cpu", "openvino" (the CPU, faster, with the
        extra of that name), "mps", "cuda" or "cuda:1".

    Returns
    -------
    device : str
        A name torch understands, or "openvino".
    note : str
        Why this device, in a few words.

    Raises
    ------
    EncoderUnavailable
        If that device is not there.
    """
    import torch

    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda", torch.cuda.get_device_name()
        if torch.backends.mps.is_available():
            return "mps", "Apple GPU"
        return "cpu", no_gpu_reason()
    if wanted == "cpu":
        return "cpu", "the CPU was asked for"
    if wanted == "openvino":
        if not has_openvino():
            raise EncoderUnavailable(
                "OpenVINO is not installed: say pip install 'napari-virchow[openvino]', or choose "
                "the device 'cpu'."
            )
        return "openvino", "the CPU, through OpenVINO"
    if wanted == "mps" and torch.backends.mps.is_available():
        return "mps", "Apple GPU"
    kind, _, number = wanted.partition(":")
    if kind == "cuda" and (number == "" or number.isdecimal()):
        index = int(number or 0)
        if torch.cuda.is_available() and index < torch.cuda.device_count():
            return wanted, torch.cuda.get_device_name(index)
        raise EncoderUnavailable(
            f"device {wanted!r} cannot be used because {no_gpu_reason()}: choose 'auto' or 'cpu'."
        )
    raise EncoderUnavailable(f"there is no device {wanted!r} here: choose 'auto' or 'cpu'.")


def has_openvino() -> bool:
    """Say whether OpenVINO is installed, without importing it."""
    return importlib.util.find_spec("openvino") is not None


def no_gpu_reason() -> str:
    """Say in a few words why there is no such CUDA device."""
    import torch

    if torch.version.cuda is None:
        return f"no CUDA device was found: torch {torch.__version__} is a build without CUDA"
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found:
        return f"only {found} CUDA device(s) were found"
    return f"no CUDA device was found: torch for CUDA {torch.version.cuda} sees no GPU or driver"


def choose_precision(device: str) -> torch.dtype:
    """Return the dtype for matrix products: half where the device is built for it.

    CUDA computes in float16, which the Virchow cards recommend; a CPU in bfloat16 where it has
    instructions for it; everything else in float32.
    """
    import torch

    if device.startswith("cuda"):
        # Before Volta there are no tensor cores, and half precision is slower than single.
        return torch.float16 if torch.cuda.get_device_capability(device)[0] >= 7 else torch.float32
    if device in ON_CPU and cpu_has_bfloat16():
        return torch.bfloat16
    return torch.float32


def cpu_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Say whether this CPU multiplies bfloat16 natively; False where that cannot be told."""
    try:
        flags = next(
            (line for line in cpuinfo.read_text("utf-8").splitlines() if line.startswith("flags")),
            "",
        )
    except OSError:  # not Linux
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(flags.split()))


def choose_batch_size(config: ViTConfig, device: str, dtype: torch.dtype, input_px: int) -> int:
    """Return how many tiles to compute at a time, by the work they are and the memory free now."""
    import torch

    tokens = config.tokens(input_px)
    # The widest moment of a block: the MLP's two layers, or query, key and value; and the
    # residual stream, its normalised copy and one sum in float32.
    half = dtype.itemsize * max(1.5 * config.hidden + config.width, 5 * config.width)
    bytes_per_tile = tokens * (half + 3 * 4 * config.width)
    if device.startswith("cuda"):
        free, work = torch.cuda.mem_get_info(device)[0], GPU_GFLOP
    else:
        free = psutil.virtual_memory().available
        work = CPU_GFLOP if device in ON_CPU else GPU_GFLOP / 10
    by_memory = int(free / 2 / bytes_per_tile)
    by_work = round(work / config.gflop(input_px))
    return max(1, min(by_memory, by_work, MAX_BATCH))


def place(network: nn.Module, device: str, title: str) -> None:
    """Put a network on a device. Raises EncoderUnavailable if it does not fit in its memory."""
    try:
        network.to(device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise EncoderUnavailable(
            f"the weights of {title} do not fit in the memory of {device}: "
            "choose the device 'cpu' or a smaller encoder."
        ) from error


def count_cores() -> int:
    """Return how many cores this process may use."""
    return len(psutil.Process().cpu_affinity()) if psutil.LINUX else psutil.cpu_count() or 1


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an error of torch or numpy means that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        text in str(error).lower() for text in OUT_OF_MEMORY
    )


def release_memory(device: str) -> None:
    """Give torch's unused blocks back, so that a smaller batch finds room."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()
