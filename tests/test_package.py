"""What is shipped: metadata, manifest, dependencies."""

import ast
import configparser
import re
import sys
from importlib.metadata import entry_points, metadata, requires
from pathlib import Path

import pytest

import napari_virchow

PACKAGE = Path(napari_virchow.__file__).parent
TOP = Path(__file__).parents[1]
BINDINGS = {"pyqt5", "pyqt6", "pyside2", "pyside6", "pyside6-essentials"}
ASKED_FOR = {"napari", "magicgui", "torch", "tiffslide", "qtpy", "scikit-learn", "dask-image"}
MODULES = {
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "openslide-python": "openslide",
    "pillow": "PIL",
    "torch-optimi": "optimi",
    "umap-learn": "umap",
}
# Never imported by us: the OpenSlide library itself, and the codecs that tifffile calls.
NOT_IMPORTED = {"openslide-bin", "imagecodecs"}


def name_of(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def setup():
    parser = configparser.ConfigParser()
    parser.read(TOP / "setup.cfg", "utf-8")
    return parser


def optional():
    """What the extras for users bring."""
    extras = {
        k: v for k, v in setup()["options.extras_require"].items() if k not in ("test", "dev")
    }
    return {name_of(line) for lines in extras.values() for line in lines.strip().splitlines()}


def required():
    lines = setup()["options"]["install_requires"].strip().splitlines()
    return {name_of(line) for line in lines if not line.startswith("#")}


def imported():
    """Names of the foreign top-level modules that our source imports."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
            elif isinstance(node, ast.Import):
                found.update(alias.name.split(".")[0] for alias in node.names)
    return found - set(sys.stdlib_module_names) - {"napari_virchow"}


def test_the_installed_package_is_this_one():
    assert metadata("napari-virchow")["Version"] == napari_virchow.__version__


def test_the_manifest_at_the_top_is_the_one_inside():
    assert (TOP / "napari.yaml").read_bytes() == (PACKAGE / "napari.yaml").read_bytes()
    link = TOP / "napari.yaml"
    if link.is_symlink():
        assert link.readlink() == Path("src/napari_virchow/napari.yaml")


def test_napari_finds_the_manifest_and_the_shell_the_command():
    [manifest] = entry_points(group="napari.manifest", name="napari-virchow")
    [command] = entry_points(group="console_scripts", name="napari-virchow")
    assert manifest.value == "napari_virchow:napari.yaml"
    assert command.value == "napari_virchow.cli:main"


def test_what_was_asked_for_is_required():
    assert required() >= ASKED_FOR


def test_no_qt_binding_is_required():
    assert not required() & BINDINGS
    base = [line for line in requires("napari-virchow") if "extra ==" not in line]
    assert not [line for line in base if "[" in line], "an extra may bring a Qt binding"


def test_the_extra_all_brings_napari_with_a_binding():
    assert re.fullmatch(r"napari\[pyqt6\].*", setup()["options.extras_require"]["all"].strip())


def test_every_dependency_does_real_work():
    unused = {
        name
        for name in required() - NOT_IMPORTED
        if MODULES.get(name, name.replace("-", "_")) not in imported()
    }
    assert unused == set()


def test_every_import_is_a_dependency():
    brought = {MODULES.get(name, name.replace("-", "_")) for name in required() | optional()}
    assert imported() - brought == set()


@pytest.mark.parametrize("name", ["napari.yaml", "py.typed"])
def test_package_data_is_there_and_named(name):
    assert (PACKAGE / name).is_file()
    assert name in setup()["options.package_data"]["napari_virchow"].split()


def test_the_readme_shows_files_that_exist():
    for page in (TOP / "README.md", *(TOP / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} points at {target}"
