"""Where the workers of a cohort run: processes here, one per GPU, or a Dask cluster elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_virchow.cohort.facts import CohortError

if TYPE_CHECKING:
    from distributed import Client

LOGGING = "DASK_LOGGING__DISTRIBUTED"
CONNECT_S = 10
START_S = 60  # until the first process is up
HERE = "127.0.0.1"  # nobody else on the network can give our processes work
# A worker that dies takes its tasks with it; so often may that happen to one before it is blamed.
LIVES = 4


@contextmanager
def cluster_client(
    *, workers: int | None = None, gpus: tuple[str, ...] = (), scheduler: str | None = None
) -> Iterator[Client]:
    """Start worker processes, or connect to a running cluster; on leaving, ours are stopped.

    Parameters
    ----------
    workers : int or None
        Processes on this machine, each with its share of the cores.
    gpus : tuple of str
        GPUs of this machine, as CUDA_VISIBLE_DEVICES names them: one process each.
    scheduler : str or None
        Address of a Dask scheduler whose workers have napari-virchow, the slides and the store at
        the same paths.

    Raises
    ------
    CohortError
        If distributed is not installed, or the scheduler does not answer.
    """
    try:
        import dask
        from distributed import Client
    except ImportError as error:
        raise CohortError(
            "Working with several processes needs the package distributed: "
            "pip install 'napari-virchow[cluster]'."
        ) from error
    with dask.config.set(
        {
            "distributed.scheduler.allowed-failures": LIVES,
            "distributed.comm.timeouts.connect": f"{CONNECT_S}s",
            "logging.distributed": "error",
        }
    ):
        if scheduler is not None:
            try:
                client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)
            except (OSError, ValueError) as error:
                raise CohortError(
                    f"No Dask scheduler answers at {scheduler}; start one with `dask scheduler` "
                    "and workers with `dask worker`, or check the address."
                ) from error
            with client, client.as_current():
                yield client
            return
        with (
            _quiet_children(),
            _local(workers or 1, gpus) as cluster,
            Client(cluster, set_as_default=False) as client,
            client.as_current(),
        ):
            client.wait_for_workers(1, timeout=START_S)
            yield client


@contextmanager
def _quiet_children() -> Iterator[None]:
    """Have processes that are started now log errors only; they read it when Dask is imported."""
    before = os.environ.get(LOGGING)
    os.environ[LOGGING] = "error"
    try:
        yield
    finally:
        if before is None:
            del os.environ[LOGGING]
        else:
            os.environ[LOGGING] = before


def _local(workers: int, gpus: tuple[str, ...]) -> Any:
    """Return processes on this machine, each with cores, or a GPU, of its own."""
    from distributed import Nanny, Scheduler, SpecCluster

    count = len(gpus) or workers
    shares = _core_shares(count)
    spec = {}
    for number in range(count):
        threads = str(max(1, len(shares[number])))
        env = {name: threads for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        if gpus:
            env["CUDA_VISIBLE_DEVICES"] = gpus[number]
        options = {
            "host": HERE,
            "nthreads": 1,
            "env": env,
            "preload": [_pin(shares[number])],
            "memory_limit": 0,  # embeddings never stay in a worker
            "dashboard": False,
        }
        spec[number] = {"cls": Nanny, "options": options}
    board = {"dashboard": True, "dashboard_address": f"{HERE}:0", "host": HERE, "port": 0}
    scheduler = {"cls": Scheduler, "options": board}
    return SpecCluster(workers=spec, scheduler=scheduler, silence_logs=40)


def _core_shares(count: int) -> list[list[int]]:
    """Deal out this process's cores; more workers than cores share them."""
    if not hasattr(os, "sched_getaffinity"):
        return [[] for _ in range(count)]
    cores = sorted(os.sched_getaffinity(0))
    return [cores[number::count] or [cores[number % len(cores)]] for number in range(count)]


def _pin(cores: list[int]) -> str:
    """Return what a worker runs at its start, so that its threads stay on its own cores."""
    return f"import os\nos.sched_setaffinity(0, {cores})" if cores else "import os"
