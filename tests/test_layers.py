"""The wall: imports go down in rank, and the core leaves Qt, napari and torch alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import napari_virchow

PACKAGE = Path(napari_virchow.__file__).parent
RANK = {
    "paths": 0,
    "foreground": 0,
    "tiles": 0,
    "states": 1,
    "blocks": 1,
    "memory": 1,
    "likeness": 1,
    "pace": 1,
    "latest": 1,
    "histology": 1,
    "labels": 2,
    "classify": 2,
    "slide": 2,
    "encoders": 2,
    "layout": 2,
    "schedule": 2,
    "sample": 2,
    "pictures": 3,
    "tissue": 3,
    "store": 3,
    "shelf": 4,
    "engine": 4,
    "training": 5,
    "evaluate": 5,
    "catalog": 5,
    "pretrain": 7,
    "mapping": 6,
    "qupath": 6,
    "cohort": 6,
    "classification": 7,
    "search": 7.5,
    "interop": 7,
    "session": 8,
    "doctor": 9,
    "_napari": 10,
    "cli": 11,
}
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 400


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Name the modules of ours that a file imports when it runs (not those for types only)."""
    found = set()
    tree = ast.parse(path.read_text("utf-8"))
    tree.body = [n for n in tree.body if not (isinstance(n, ast.If) and "TYPE" in ast.dump(n.test))]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    parts = (name.split(".") for name in found)
    return {p[1] for p in parts if p[0] == "napari_virchow" and len(p) > 1}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_in_rank(path):
    module = module_of(path)
    if module == "__init__":
        return
    for imported in imports_of(path) & RANK.keys():
        assert imported == module or RANK[imported] < RANK[module], f"{module} imports {imported}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_is_too_long_to_read(path):
    assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES


def test_importing_the_core_leaves_qt_napari_and_torch_alone():
    core = [m for m in RANK if m != "_napari"]
    code = (
        f"import sys, importlib\nfor m in {core}: importlib.import_module('napari_virchow.' + m)\n"
        "heavy = {'napari', 'qtpy', 'magicgui', 'superqt', 'torch', 'timm', 'sklearn'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
