"""What a dock imports while it opens: nothing that makes napari wait."""

from __future__ import annotations

import json
import subprocess
import sys

OPEN_ALL = """
import json, os, sys, threading
import napari
from npe2 import PluginManager
from qtpy.QtWidgets import QApplication

class Watch:
    waited_for = []

    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "timm", "sklearn", "umap"):
            if threading.current_thread() is threading.main_thread():
                self.waited_for.append(name)

viewer = napari.Viewer(show=True)
QApplication.processEvents()
sys.meta_path.insert(0, Watch())
docks = [one.display_name for one in PluginManager.instance().get_manifest("napari-virchow")
         .contributions.widgets]
for dock in docks:
    viewer.window.add_plugin_dock_widget("napari-virchow", dock)
    QApplication.processEvents()
print(json.dumps([docks, Watch.waited_for]), flush=True)
os._exit(0)
"""


def test_docks_open_without_waiting_for_torch():
    done = subprocess.run(
        [sys.executable, "-c", OPEN_ALL], stdout=subprocess.PIPE, text=True, timeout=300, check=True
    )
    docks, waited_for = json.loads(done.stdout.splitlines()[-1])
    assert "Embeddings" in docks
    assert waited_for == []
