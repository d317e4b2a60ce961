"""Numbers that come fast are shown without keeping the window busy."""

from __future__ import annotations

from napari_virchow._napari.parts import Bar
from napari_virchow._napari.progress_box import ProgressBox
from napari_virchow.states import EngineState, Progress


class CountedBar(Bar):
    def __init__(self):
        super().__init__()
        self.painted = 0

    def paintEvent(self, event):
        self.painted += 1
        super().paintEvent(event)


def test_a_bar_is_painted_when_qt_comes_to_it(qtbot):
    bar = CountedBar()
    qtbot.addWidget(bar)
    bar.show()
    qtbot.waitUntil(lambda: bar.painted > 0)
    before = bar.painted
    for value in (10, 50, 90):
        bar.setValue(value)
    assert bar.painted == before
    qtbot.waitUntil(lambda: bar.painted > before)
    assert bar.value() == 90


def test_many_numbers_are_shown_as_one_and_the_last_is(qtbot):
    box = ProgressBox()
    qtbot.addWidget(box)
    box.show_state(EngineState.RUNNING)
    shown = []
    box.bar.valueChanged.connect(shown.append)
    for done in range(1, 8):
        box.show_progress(Progress(done=done, wanted=9))
    qtbot.waitUntil(lambda: bool(shown))
    assert shown[-1] == 7
    assert "7 of 9" in box.sentence.text()
    assert len(shown) == 1


def test_the_end_is_shown_at_once(qtbot):
    box = ProgressBox()
    qtbot.addWidget(box)
    box.show_progress(Progress(done=9, wanted=9))
    box.show_state(EngineState.IDLE)
    assert box.sentence.text() == "Done: 9 of 9 tiles."
