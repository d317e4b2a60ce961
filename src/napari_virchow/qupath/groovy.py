"""Scripts that QuPath runs itself, so that no project and no data of it is ever written here."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from napari_virchow.qupath.project import Project, ProjectError, ProjectImage

# QuPath's import only ever adds; this replaces what has the same id. An object that lies where it
# lay is changed in place, which keeps its children and its place in the hierarchy.
MERGE = """\
def merge(hierarchy, objects) {
    def known = [:]
    hierarchy.getFlattenedObjectList(null).each { known[it.getID()] = it }
    def box = { roi -> [roi.getBoundsX(), roi.getBoundsY(), roi.getBoundsWidth(), \
roi.getBoundsHeight(), roi.getArea()] }
    def added = [], removed = [], updated = 0
    objects.each { one ->
        def old = known[one.getID()]
        if (old == null) {
            added << one
        } else if (old.getClass() != one.getClass() || box(old.getROI()) != box(one.getROI())) {
            removed << old
            added << one
        } else {
            old.setPathClass(one.getPathClass())
            if (one.getName() != null) old.setName(one.getName())
            def list = old.getMeasurementList()
            list.clear()
            one.getMeasurements().each { name, value -> list.put(name, value as double) }
            list.close()
            updated++
        }
    }
    if (!removed.isEmpty()) hierarchy.removeObjects(removed, true)
    if (!added.isEmpty()) hierarchy.addObjects(added)
    if (updated > 0) hierarchy.fireHierarchyChangedEvent(hierarchy)
    return [added.size() - removed.size(), updated + removed.size()]
}
"""

# What the live link needs beyond plain calls. `onScreen` waits, so that what is read back is new.
BRIDGE = (
    """\
class NapariVirchowBridge {
"""
    + MERGE
    + """
def onScreen(task) {
    def done = new java.util.concurrent.CountDownLatch(1)
    javafx.application.Platform.runLater { try { task() } finally { done.countDown() } }
    done.await(2, java.util.concurrent.TimeUnit.SECONDS)
}
String view(viewer) {
    return [viewer.getCenterPixelX(), viewer.getCenterPixelY(), viewer.getDownsampleFactor(), \
viewer.getRotation(), viewer.getZPosition(), viewer.getTPosition()].join(' ')
}
String look(viewer, double x, double y, double downsample) {
    onScreen {
        viewer.setDownsampleFactor(downsample)
        viewer.setCenterPixelLocation(x, y)
    }
    return view(viewer)
}
String builder(server) {
    try {
        def kind = Class.forName('qupath.lib.images.servers.ImageServerBuilder$ServerBuilder', \
true, server.getClass().getClassLoader())
        return qupath.lib.io.GsonTools.getInstance().toJson(server.getBuilder(), kind)
    } catch (Exception error) {
        return ''
    }
}
int addClass(classes, name, int color) {
    if (classes.any { it.toString() == name }) return 0
    def made = qupath.lib.objects.classes.PathClass.fromString(name, color)
    onScreen { classes.add(made) }
    return 1
}
}
return new NapariVirchowBridge()
"""
)

_PROJECT = """\
// Made by napari-virchow. In QuPath: Automate > Script editor, then Run > Run for project.
// Objects are taken over from GeoJSON files; those with an id that is there are replaced.
%(merge)s
def files = [
%(files)s
]
def entry = getProjectEntry()
def path = entry == null ? null : files[entry.getID()]
if (path == null) {
    println 'Nothing to take over for this image'
    return
}
def file = new File(path)
if (!file.exists()) {
    println 'Missing: ' + path
    return
}
def counts = merge(getCurrentHierarchy(), qupath.lib.io.PathIO.readObjects(file))
println entry.getImageName() + ': ' + counts[0] + ' new, ' + counts[1] + ' replaced'
"""


def project_script(project: Project, files: Mapping[str, Path | str]) -> str:
    """Return a script that takes over GeoJSON files into the images of a project.

    Run for the whole project, it replaces objects of the same id and adds the rest; images that
    are not named are left alone.

    Parameters
    ----------
    project : Project
        Which the script is run for.
    files : mapping of str to Path
        Entry or name of an image → its file, in that image's frame.

    Raises
    ------
    ProjectError
        If there is nothing to take over, or an image is not in the project or not told apart by
        its name.
    """
    if not files:
        raise ProjectError("No file was named to take over into the project; name at least one.")
    rows = [
        f"    {_quoted(find_image(project, key).entry)}: {_quoted(Path(path).resolve().as_posix())}"
        for key, path in files.items()
    ]
    return _PROJECT % {"merge": MERGE, "files": ",\n".join(rows)}


def find_image(project: Project, key: str) -> ProjectImage:
    """Return an image by its entry, or by its name where only one has it.

    Raises
    ------
    ProjectError
        If there is none, or several.
    """
    found = [one for one in project.images if one.entry == key]
    found = found or [one for one in project.images if one.name == key]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ProjectError(f"{project.name} has no image {key!r}; its images can be listed.")
    entries = ", ".join(one.entry for one in found)
    raise ProjectError(f"{project.name} has several images {key!r}; name one by {entries}.")


def script_command(
    program: Path | str,
    project: Project,
    script: Path | str,
    images: Sequence[str] = (),
) -> str:
    """Return the command that runs a script with QuPath's own command line, and saves.

    Parameters
    ----------
    program : Path or str
        QuPath's program.
    project : Project
        Whose images it runs for.
    script : Path or str
        Its file.
    images : sequence of str
        Names; all of the project if empty.
    """
    options = [part for name in images for part in ("-i", name)]
    words = [str(program), "script", "-p", str(project.path), *options, "-s", str(script)]
    return shlex.join(words)


def _quoted(text: str) -> str:
    """Return a string of Groovy without interpolation."""
    body = json.dumps(text)[1:-1].replace('\\"', '"').replace("'", "\\'")
    return f"'{body}'"
