"""The dock "Slides": a set of slides is listed, opened, embedded, searched, and found again."""

from __future__ import annotations

import shutil

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_virchow._napari.slide_shelf import state_words
from napari_virchow._napari.viewer import is_slide_layer


@pytest.fixture
def folder(tmp_path, slide_file):
    """Two slides of different content, and a file that is none."""
    from napari_virchow.sample import write_sample

    made = tmp_path / "slides"
    made.mkdir()
    shutil.copy(slide_file, made / "a.tif")
    write_sample(made / "b.tif", width=1024, height=768)
    (made / "broken.svs").write_bytes(b"no slide")
    return made


@pytest.fixture
def slides(viewer):
    """Show the dock."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-virchow", "Slides")
    return widget


def states(widget):
    return {one.name: state_words(one) for one in widget.model.slides}


def opened_slides(viewer):
    return [y.metadata["slide"].name for y in viewer.layers if is_slide_layer(y)]


def place_of(widget, name):
    row = next(n for n, one in enumerate(widget.model.slides) if one.name == name)
    return widget.shelf.visualRect(widget.model.index(row, 0)).center()


def test_a_folder_is_listed_filtered_opened_embedded_and_searched(
    viewer, slides, folder, monkeypatch, qtbot, until
):
    assert slides.pages.currentIndex() == 0  # says what to do
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
    slides.add.menu().actions()[0].trigger()
    until(
        lambda: (
            states(slides)
            == {"a.tif": "not embedded", "b.tif": "not embedded", "broken.svs": "unreadable"}
            and all(one.identity or one.reason for one in slides.model.slides)
        )
    )
    assert "3 slides, 0 embedded, 1 cannot be opened" in slides.count.text()

    qtbot.keyClicks(slides.find, "b.t")
    assert list(states(slides)) == ["b.tif"]
    slides.find.clear()

    view = slides.shelf.viewport()
    qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=place_of(slides, "b.tif"))
    qtbot.mouseDClick(view, Qt.MouseButton.LeftButton, pos=place_of(slides, "b.tif"))
    until(lambda: opened_slides(viewer) == ["b.tif"])

    slides.embed.click()
    assert "encoder" in slides.alert.text()  # none is loaded, and it says so
    slides.session.load_encoder("texture")
    qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=place_of(slides, "b.tif"))
    slides.embed.click()
    until(lambda: "tiles at 0.5" in states(slides)["b.tif"], timeout=60_000)
    until(slides.bar.isHidden)

    slides.search.click()
    chosen = [one.identity for one in slides.model.slides if one.name == "b.tif"]
    until(lambda: slides.session.similarity.query.options.slides == tuple(chosen))
    assert slides.session.similarity.query.options.scope == "chosen"


def test_a_set_is_there_again_and_removing_leaves_the_files_alone(
    viewer, slides, folder, qtbot, until
):
    slides.add_inputs([str(folder)])
    until(lambda: len(slides.model.paths) == 3 and slides.model.slides[0].identity != "")
    until((slides.session.store / "slides.json").exists)

    _, again = viewer.window.add_plugin_dock_widget("napari-virchow", "Slides")
    again = again if again is not slides else type(slides)(viewer)
    qtbot.addWidget(again)
    until(lambda: len(again.model.paths) == 3)

    again.show()
    qtbot.mouseClick(
        again.shelf.viewport(), Qt.MouseButton.LeftButton, pos=place_of(again, "a.tif")
    )
    again.remove.click()
    assert list(states(again)) == ["b.tif", "broken.svs"]
    assert (folder / "a.tif").exists()
