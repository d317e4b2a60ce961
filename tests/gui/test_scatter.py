"""The plot of the embedding map, with a mouse."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QColor, QMouseEvent, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_virchow._napari import raster
from napari_virchow._napari.raster import Raster
from napari_virchow._napari.scatter import Scatter, ScatterMode

LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton
NONE = Qt.KeyboardModifier.NoModifier
RED, BLUE = (200, 0, 0), (0, 0, 200)
PALETTE = np.array([(90, 90, 90), RED, BLUE], np.uint8)


@pytest.fixture
def plot(qtbot):
    made = Scatter()
    qtbot.addWidget(made)
    made.resize(300, 240)
    made.set_colors(QColor("black"), QColor("white"))
    made.show()
    qtbot.waitExposed(made)
    made.show_points(np.array([(0, 0), (10, 0), (0, 8), (10, 8), (5, 4)], np.float32))
    made.color_points(np.array([1, 1, 2, 2, 0], np.uint16), PALETTE)
    return made


def move(plot, point, buttons=LEFT & RIGHT, modifier=NONE):
    """Tell the plot itself: `QTest.mouseMove` moves the cursor, which the display tells later."""
    place = QPointF(point), QPointF(plot.mapToGlobal(point))
    event = QMouseEvent(QEvent.Type.MouseMove, *place, LEFT & RIGHT, buttons, modifier)
    QApplication.sendEvent(plot, event)


def drag(plot, points, button=LEFT, modifier=NONE):
    QTest.mousePress(plot, button, modifier, points[0])
    for point in points:
        move(plot, point, button, modifier)
    QTest.mouseRelease(plot, button, modifier, points[-1])


def around(plot, *rows):
    """Corners of a line around some points."""
    x = [plot.position(row).x() for row in rows]
    y = [plot.position(row).y() for row in rows]
    left, right, top, bottom = min(x) - 9, max(x) + 9, min(y) - 9, max(y) + 9
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return [QPoint(round(a), round(b)) for a, b in corners]


def heard(signal):
    told = []
    signal.connect(lambda *args: told.append(args))
    return told


def color_at(plot, row):
    point = plot.position(row).toPoint()
    return QColor(plot.grab().toImage().pixel(point)).getRgb()[:3]


def test_all_points_are_seen_in_their_colours(plot):
    assert [color_at(plot, row) for row in range(5)] == [RED, RED, BLUE, BLUE, (90, 90, 90)]
    assert plot.position(0).y() > plot.position(2).y()  # y goes up


def test_a_lasso_a_box_and_a_click_select(plot):
    told = heard(plot.selected)
    drag(plot, around(plot, 0, 1))
    plot.set_mode(ScatterMode.BOX)
    corners = around(plot, 1, 3)
    drag(plot, [corners[0], corners[2]], modifier=Qt.KeyboardModifier.ShiftModifier)
    QTest.mouseClick(plot, LEFT, Qt.KeyboardModifier.ControlModifier, plot.position(4).toPoint())
    QTest.mouseClick(plot, LEFT, NONE, QPoint(2, 2))
    assert [(rows.tolist(), how) for rows, how in told] == [
        ([0, 1], "new"),
        ([1, 3], "more"),
        ([4], "less"),
        ([], "new"),
    ]


def test_what_is_not_selected_fades(plot):
    plot.select(np.array([1]))
    assert color_at(plot, 1) == RED
    assert color_at(plot, 0)[0] < 100


def test_the_wheel_zooms_where_the_cursor_is_and_a_drag_moves(plot):
    at = plot.position(3)
    told = heard(plot.hovered)
    up = QPoint(0, 240)
    wheel = QWheelEvent(
        at,
        QPointF(plot.mapToGlobal(at.toPoint())),
        QPoint(),
        up,
        LEFT & RIGHT,
        NONE,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    apart = plot.position(3).x() - plot.position(2).x()
    QApplication.sendEvent(plot, wheel)
    assert plot.position(3).x() - plot.position(2).x() == pytest.approx(1.44 * apart)
    assert (plot.position(3) - at).manhattanLength() < 1
    drag(plot, [QPoint(50, 50), QPoint(20, 80)], RIGHT)
    assert (plot.position(3) - at - QPointF(-30, 30)).manhattanLength() < 1
    QTest.keyClick(plot, Qt.Key.Key_F)
    move(plot, plot.position(4).toPoint())
    assert told[-1] == (4,)


def test_digits_and_escape_are_told(plot):
    keys, rows = heard(plot.key_pressed), heard(plot.selected)
    QTest.keyClick(plot, Qt.Key.Key_3)
    QTest.keyClick(plot, Qt.Key.Key_Escape)
    assert keys == [("3",)]
    assert rows[0][0].size == 0


def test_many_points_are_painted_slice_by_slice_into_the_same_picture(monkeypatch):
    rng = np.random.default_rng(1)
    xy = rng.normal(size=(3001, 2)).astype(np.float32)
    value = rng.integers(0, 3, 3001).astype(np.uint16)
    pictures = []
    for size in (5000, 700):
        monkeypatch.setattr(raster, "SLICE", size)
        made = Raster()
        made.set_points(xy)
        made.set_colors(value, PALETTE)
        made.begin(np.zeros(2), 40.0, (251, 199), 1.0)
        steps = 0
        while not made.complete:
            made.step()
            steps += 1
        pictures.append(made.pixels())
    assert steps == 5
    assert np.array_equal(*pictures)
    assert (pictures[0] == 255)[..., 3].all()


def test_a_plot_of_no_points_shows_a_sentence(plot):
    plot.show_points(np.zeros((0, 2), np.float32))
    plot.say("Nothing is embedded yet.")
    image = plot.grab().toImage()
    seen = {image.pixel(x, y) for x in range(0, 300) for y in range(100, 140)}
    assert len(seen) > 3
    told = heard(plot.selected)
    drag(plot, [QPoint(5, 5), QPoint(200, 5), QPoint(200, 200)])
    assert told[0][0].size == 0
