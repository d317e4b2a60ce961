"""A task in a process of its own, which can be stopped at any moment."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)
_PROGRAM = Path(__file__).with_name("child.py")
Report = Callable[[int, int, str], object]


class MappingError(Exception):
    """A map or its clusters cannot be made; one sentence that says what to do."""


class Stopped(Exception):  # noqa: N818  # no error: somebody wanted it
    """The task was stopped before it was done."""


def check_umap() -> None:
    """Make sure that umap-learn is installed, without importing it, which takes seconds.

    Raises
    ------
    MappingError
        If it is not; the sentence says how to install it.
    """
    try:
        distribution("umap-learn")
    except PackageNotFoundError:
        raise MappingError(
            "UMAP needs the package umap-learn: run pip install 'napari-virchow[umap]', "
            "then start napari again."
        ) from None


class Job:
    """One task of `child`; `stop` ends it from any thread.

    Parameters
    ----------
    task : str
        "umap", "k-means" or "HDBSCAN".
    options : mapping
        What `child` takes for it, fit for JSON.
    """

    def __init__(self, task: str, options: Mapping[str, Any]) -> None:
        self._what = {"task": task, **options}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False
        self._why = ""

    def run(
        self, features: NDArray[np.float32], start: NDArray[np.float32], report: Report
    ) -> NDArray[Any]:
        """Do the task, and return what it found, one row per row of `features`; blocks.

        Parameters
        ----------
        features : ndarray of shape (n, dim)
        start : ndarray of shape (n, 2)
            Where UMAP begins.
        report : callable
            Called with (done, total, text) now and then, on this thread.

        Raises
        ------
        Stopped
            If `stop` was called.
        MappingError
            If the process cannot be started, or fails.
        """
        task = self._what["task"]
        with tempfile.TemporaryDirectory(prefix="virchow-map-") as name:
            folder = Path(name)
            np.save(folder / "features.npy", features)
            np.save(folder / "start.npy", start)
            (folder / "task.json").write_text(json.dumps(self._what), "utf-8")
            with (folder / "errors.txt").open("w+") as errors:
                code = self._watch(folder, errors, report)
            if self._stopped:
                raise Stopped
            if code != 0 or not (folder / "out.npy").exists():
                _log.warning("%s: %s", task, (folder / "errors.txt").read_text("utf-8", "replace"))
                why = self._why or f"its process ended with {code}"
                raise MappingError(f"{task} failed: {why}")
            found: NDArray[Any] = np.load(folder / "out.npy")
            return found

    def stop(self) -> None:
        """End the task at once; one that is over, or not begun, does nothing any more."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def _watch(self, folder: Path, errors: Any, report: Report) -> int:
        with self._lock:
            if self._stopped:
                raise Stopped
            try:
                # -P: the files beside the program are not modules of its own.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", str(_PROGRAM), str(folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
            except OSError as error:
                raise MappingError(f"{sys.executable} cannot be started: {error}.") from error
        with self._process as process:
            assert process.stdout is not None
            for line in process.stdout:
                word, _, rest = line.rstrip().partition(" ")
                if word == "progress":
                    done, total, text = rest.split(" ", 2)
                    report(int(done), int(total), text)
                elif word == "failed":
                    self._why = rest
            return process.wait()
