"""Linear algebra on one processor: its own threads wait for each other by spinning.

While the other processors are busy, and they are while tiles are embedded, that turns the few
milliseconds of a small fit into some hundred.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

_Item = TypeVar("_Item")


_lock = threading.RLock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep NumPy's and SciPy's linear algebra to one thread.

    The setting is one for the whole process and is put back afterwards; so one user waits for the
    other, or it would put back what the other has set.
    """
    with _lock, _linear_algebra().limit(limits=1):
        yield


def for_each(items: Sequence[_Item], work: Callable[[_Item], None]) -> None:
    """Do work that releases the interpreter on every item, one processor each.

    It must not call `one_thread` itself.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = min(len(items), cores or 1)
    with one_thread():
        if workers <= 1:
            for item in items:
                work(item)
            return
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, items))


@cache
def _linear_algebra() -> Any:
    import scipy.linalg  # noqa: F401  # its library must be there to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
