"""What a person does in the dock "Tile classification", for tests: click, drag, press, type."""

from __future__ import annotations

from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

LEFT = Qt.MouseButton.LeftButton


def canvas_point(viewer, dock, tile, at=(0.5, 0.5)):
    rect = dock.grid.rect(tile)
    data = rect.y + at[0] * rect.height - 0.5, rect.x + at[1] * rect.width - 0.5
    y, x = dock._layer.data_to_world(data)[-2:]
    height, width = viewer.canvas.size
    camera = viewer.scene.camera
    center_y, center_x = camera.center[-2:]
    return QPoint(
        round(width / 2 + (x - center_x) * camera.zoom),
        round(height / 2 + (y - center_y) * camera.zoom),
    )


def click(viewer, dock, tile):
    canvas = viewer.window._qt_viewer.canvas.native
    QTest.mouseClick(canvas, LEFT, Qt.KeyboardModifier.NoModifier, canvas_point(viewer, dock, tile))
    QTest.qWait(20)


def drag(viewer, dock, tiles, at=(0.5, 0.5)):
    canvas = viewer.window._qt_viewer.canvas.native
    points = [canvas_point(viewer, dock, tile, at) for tile in tiles]
    QTest.mousePress(canvas, LEFT, Qt.KeyboardModifier.NoModifier, points[0])
    for point in points:
        QTest.mouseMove(canvas, point)
        QTest.qWait(20)
    QTest.mouseRelease(canvas, LEFT, Qt.KeyboardModifier.NoModifier, points[-1])
    QTest.qWait(20)


def press(viewer, key, modifier=Qt.KeyboardModifier.NoModifier):
    canvas = viewer.window._qt_viewer.canvas.native
    canvas.setFocus()
    QTest.keyClick(canvas, key, modifier)
    QTest.qWait(20)


def type_class(dock, name):
    QTest.keyClicks(dock.classes.name, name)
    QTest.keyClick(dock.classes.name, Qt.Key.Key_Return)


def said(dock):
    """Tile -> class name."""
    names = {c.id: c.name for c in dock.live.labels.classes}
    found = dock.live.labels.get(dock._slide.identity, dock.grid.name)
    return {tile: names[class_id] for tile, class_id in found.items()}
