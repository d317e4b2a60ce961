"""How much the plugin adds to napari's start, and how soon the first dock is there.

    xvfb-run -a -s "-screen 0 1920x1200x24 +extension GLX" python benchmarks/startup.py [--runs 9] [--json]

Each start is a process of its own; those with the plugin and those without it take turns, and the
differences of neighbours are what counts. Without it, `importlib.metadata` does not list it. Timed
are `import napari`, a window that is shown, and its menus with all that plugins add. Then the
dock "Embeddings" is opened, and it is said whether torch was imported on the Qt thread meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

START = """
import json, os, sys, time
began = time.perf_counter()
if {hidden}:
    import importlib.metadata as metadata
    every = metadata.distributions
    metadata.distributions = lambda **given: (
        one for one in every(**given) if one.metadata["Name"] != "napari-virchow"
    )
import napari
from qtpy.QtWidgets import QApplication
viewer = napari.Viewer(show=True)
QApplication.processEvents()
found = {{"start": time.perf_counter() - began}}
from npe2 import PluginManager
there = "napari-virchow" in [one.name for one in PluginManager.instance().iter_manifests()]
assert there is not {hidden}, "the plugin is not hidden"
found["torch"] = "torch" in sys.modules
if not {hidden}:
    import threading
    where = []
    class Watch:
        def find_spec(self, name, path=None, target=None):
            if name == "torch":
                where.append(threading.current_thread() is threading.main_thread())
    sys.meta_path.insert(0, Watch())
    began = time.perf_counter()
    viewer.window.add_plugin_dock_widget("napari-virchow", "Embeddings")
    QApplication.processEvents()
    found["dock"] = time.perf_counter() - began
    end = time.perf_counter() + 3
    while time.perf_counter() < end:
        QApplication.processEvents()
    found["torch"] = found["torch"] or any(where)
print(json.dumps(found))
os._exit(0)
"""


def start(*, hidden: bool) -> dict[str, float]:
    """Start napari in a process of its own, with the plugin or without it."""
    with tempfile.TemporaryDirectory() as folder:
        apart = {"NAPARI_CONFIG": f"{folder}/settings.yaml", "NAPARI_VIRCHOW_STORE": folder}
        words = [sys.executable, "-c", START.format(hidden=hidden)]
        done = subprocess.run(
            words, env=os.environ | apart, check=True, stdout=subprocess.PIPE, text=True
        )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(n_runs: int) -> dict[str, float | bool]:
    """Start napari with and without the plugin in turn; the first pair warms the disk."""
    pairs = [(start(hidden=True), start(hidden=False)) for _ in range(n_runs + 1)][1:]
    without, having = zip(*pairs, strict=True)
    return {
        "runs": n_runs,
        "without_s": statistics.median(one["start"] for one in without),
        "with_s": statistics.median(one["start"] for one in having),
        "added_s": statistics.median(b["start"] - a["start"] for a, b in pairs),
        "first_dock_s": statistics.median(one["dock"] for one in having),
        "torch_on_the_qt_thread": any(one["torch"] for one in having),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    found = measure(given.runs) | {"load": load}
    if given.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
