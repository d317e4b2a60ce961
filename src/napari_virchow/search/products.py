"""Products and conversions by torch, which is five times as fast as NumPy with half precision.

NumPy's threads also spin on for 20 ms after a product, and would slow what follows in torch's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def single(x: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return a copy in single precision."""
    import torch

    copy: NDArray[np.float32] = torch.from_numpy(x).to(torch.float32, copy=True).numpy()
    return copy


def dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a @ b."""
    import torch

    product: NDArray[np.float32] = (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()
    return product
