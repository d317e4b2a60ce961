"""Questions of the dock "Tile classification": the queue, labels to review, cells, other slides."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from tests.gui.hands import LEFT, click, press, said

from napari_virchow.sample import CLASSES, read_truth, sample_slide
from napari_virchow.session import Session
from napari_virchow.tiles import Tile

KINDS = (1, 2, 4)  # of the sample's classes: these are easy to tell apart
WRONG = "wrong"


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """A store with the labelled tiles of the sample slide, and their truth."""
    store = tmp_path_factory.mktemp("store")
    truth = read_truth(sample_slide().with_suffix(".csv"))
    rng = np.random.default_rng(3)
    chosen = {}
    for kind in KINDS:
        at = np.argwhere((truth.classes == kind) & (truth.purity > 0.9))
        chosen[kind] = [Tile(*t) for t in rng.permutation(at)[:12].tolist()]
    with Session(store, device="cpu") as session:
        slide = session.open_slide(sample_slide())
        session.load_encoder("texture")
        grid = slide.grid(0.5)
        for tiles in chosen.values():
            for tile in tiles:
                session.look_at(slide, grid.rect(tile), mpp=0.5)
                assert session.wait(60)
    return store, chosen


@pytest.fixture
def judged(viewer, open_slide, embedded, store, until):
    """The dock with ten labels for each of three classes, one of them wrong, and an assessment."""
    kept, chosen = embedded
    shutil.copytree(kept, store)
    layer = open_slide(sample_slide())
    viewer.scene.camera.center = layer.data_to_world((3000, 3000))
    viewer.scene.camera.zoom = 1.5  # few tiles are in view, so few are embedded
    _, dock = viewer.window.add_plugin_dock_widget("napari-virchow", "Tile classification")
    until(lambda: dock.live is not None and dock.grid is not None, 60_000)
    ids = {}
    for kind in KINDS:
        dock.labelling.edit("add_class", CLASSES[kind])
        ids[kind] = dock.live.labels.classes[-1].id
        dock.labelling.label(chosen[kind][:10], ids[kind])
    dock.wrong = chosen[KINDS[0]][10]
    dock.labelling.label([dock.wrong], ids[KINDS[1]])
    ready = lambda: (  # noqa: E731
        (found := dock.live.assessment) is not None
        and len(found.rows) == 31
        and found.evaluation.reason is None
    )
    until(ready, 120_000)
    until(lambda: len(dock.judge.review.strip.frames) > 0, 60_000)
    return dock


def center_tile(viewer, dock):
    """The tile in the middle of the canvas."""
    y, x = np.asarray(dock._layer.world_to_data(viewer.scene.camera.center[-2:])) + 0.5
    return dock.grid.tile_at(x, y)


def frame_point(strip, number):
    return strip.visualRect(strip.model().index(number)).center()


def test_a_wrong_label_is_listed_and_jumped_to_and_relabelled(viewer, judged, until):
    places = [f.tile for f in judged.judge.review.strip.frames]
    assert judged.wrong in places
    press(viewer, Qt.Key.Key_R)
    frame = judged.judge.review.current
    assert frame.tile == places[0]
    assert center_tile(viewer, judged) == frame.tile
    assert judged.pages.tabs.currentIndex() == 2
    assert "classifier says" in judged.judge.review.reason.text()
    number = places.index(judged.wrong)
    strip = judged.judge.review.strip
    QTest.mouseClick(strip.viewport(), LEFT, pos=frame_point(strip, number))
    assert center_tile(viewer, judged) == judged.wrong
    press(viewer, Qt.Key.Key_A)
    assert said(judged)[judged.wrong] == CLASSES[KINDS[0]]
    assert judged.wrong not in [f.tile for f in strip.frames]


def test_suspicious_labels_are_kept_and_erased_by_key(viewer, judged, until):
    press(viewer, Qt.Key.Key_R)
    kept, before, first = judged.judge.review.current, said(judged), judged.live.assessment
    press(viewer, Qt.Key.Key_S)
    assert said(judged) == before
    judged.live.refresh()
    until(lambda: judged.live.assessment not in (None, first), 120_000)
    until(lambda: kept.tile not in [f.tile for f in judged.judge.review.strip.frames])
    judged.judge.show_cell(kept.said, kept.predicted)
    tile = judged.judge.review.current.tile
    press(viewer, Qt.Key.Key_Delete)
    assert tile not in said(judged)
    judged.labelling.undo()
    assert tile in said(judged)


def test_figures_and_a_plot_are_shown_and_a_cell_lists_its_tiles(viewer, judged, until):
    judged.pages.tabs.setCurrentIndex(2)
    text = judged.judge.figures.text()
    assert all(word in text for word in ("Balanced accuracy", "95 %", "F1"))
    assert len(judged.live.assessment.curve) >= 2
    until(lambda: not judged.judge.curve.isHidden() and not judged.judge.curve.pixmap().isNull())
    table, found = judged.judge.matrix, judged.live.assessment
    one = found.evaluation
    row, col = (int(n) for n in np.argwhere(one.confusion == one.confusion.max())[0])
    item = table.visualItemRect(table.item(row, col)).center()
    QTest.mouseClick(table.viewport(), LEFT, pos=item)
    frames = judged.judge.review.strip.frames
    ids = [int(c) for c in one.classes]
    expected = {found.rows[int(n)].tile for n in one.cell(ids[row], ids[col])}
    assert {f.tile for f in frames} == expected
    assert center_tile(viewer, judged) == frames[0].tile
    press(viewer, Qt.Key.Key_R)  # back to the labels that look mistaken
    assert judged.wrong in {f.tile for f in judged.judge.review.strip.frames}


def test_the_queue_is_corrected_by_class_key_skipped_and_left(viewer, judged, until):
    strip = judged.queue.strip
    until(lambda: len(strip.frames) >= 3)
    press(viewer, Qt.Key.Key_N)
    first = judged.queue.current
    assert center_tile(viewer, judged) == first.tile
    press(viewer, Qt.Key.Key_3)
    assert said(judged)[first.tile] == CLASSES[KINDS[2]]
    second = judged.queue.current
    assert second.tile != first.tile
    assert center_tile(viewer, judged) == second.tile
    press(viewer, Qt.Key.Key_S)
    assert second.tile not in said(judged)
    assert second.tile not in [f.tile for f in strip.frames]
    assert (second.slide, judged.grid.name, second.tile) in judged.live.passed
    press(viewer, Qt.Key.Key_Escape)
    assert judged.asking.frame is None
    # A click is no answer: it labels what was clicked, and ends the question.
    press(viewer, Qt.Key.Key_N)
    asked = judged.queue.current
    press(viewer, Qt.Key.Key_B)
    beside = Tile(asked.tile.row, asked.tile.col + 2)
    click(viewer, judged, beside)
    assert beside in said(judged)
    assert asked.tile not in said(judged)
    assert judged.asking.frame is None


def test_another_slide_is_gone_back_to_and_the_classifier_applied_to_it(
    viewer, judged, open_slide, slide_file, until
):
    press(viewer, Qt.Key.Key_R)
    frame, home = judged.judge.review.current, judged._slide.identity
    other = open_slide(slide_file)
    judged.slide_box.combo.value = other
    QTest.qWait(50)
    judged.go_to.go(home, frame.rect)
    for _ in range(200):
        QTest.qWait(50)
        if judged._slide is not None and judged._slide.identity == home:
            break
    assert judged._slide.identity == home
    assert center_tile(viewer, judged) == frame.tile
    assert judged._layer.visible
    assert not other.visible

    box = judged.apply
    judged.pages.tabs.setCurrentIndex(3)
    QTest.mouseClick(box.view, LEFT)
    until(lambda: "tiles," in box.told.text() and not box._running, 120_000)
    assert not box.chosen.isEnabled()
    box.list.item(0).setCheckState(Qt.CheckState.Checked)
    assert box.chosen.isEnabled()
    QTest.mouseClick(box.chosen, LEFT)
    assert box.cancel.isVisible()
    QTest.mouseClick(box.cancel, LEFT)
    until(lambda: not box._running, 120_000)
    assert box.chosen.isEnabled()
