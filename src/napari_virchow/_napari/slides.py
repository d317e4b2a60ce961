"""The dock widget "Slides": a set of slides, what is embedded of each, and search across them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.link import Links
from napari_virchow._napari.open_slide import FILTER, PLUGIN, open_in_background
from napari_virchow._napari.parts import MIN_WIDTH, Bar, Note, button, heading, style
from napari_virchow._napari.slide_shelf import Shelf, ShelfModel
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.thumbnails import Thumbnails
from napari_virchow._napari.viewer import is_slide_layer, plain, session_of
from napari_virchow.catalog import (
    Listed,
    embedded_before,
    load_list,
    look_again,
    look_up,
    save_list,
)
from napari_virchow.cohort.inputs import find_slides
from napari_virchow.schedule import snap_mpp
from napari_virchow.session import Session
from napari_virchow.states import Progress

HINT = (
    "Add a folder, or the slides that were embedded before. Nothing is copied or changed; double "
    "click opens a slide."
)
_AGAIN_MS = 1500  # the list follows what is embedded, but does not read the disk for every tile


class SlidesWidget(QWidget):
    """Shows a set of slides, embeds them, and searches in them.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Given by napari.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = plain(napari_viewer)
        self.session = session_of(self._viewer)
        self._tasks = Tasks(self)
        self._stop = threading.Event()
        self.model = ShelfModel(self)
        self.thumbnails = Thumbnails(self.session, self)
        self._build()
        self._again = QTimer(self)
        self._again.setSingleShot(True)
        self._again.setInterval(_AGAIN_MS)
        self._again.timeout.connect(self._look_again)
        self._links = Links(self, (self.session.progressed, self._on_progress))
        self._viewer.events.theme.connect(self._on_theme)
        self._on_theme()
        self._read(lambda: load_list(self.session.store), keep=False)

    # ---- what it looks like

    def _build(self) -> None:
        self.add = button("Add…", "Add slides to the set")
        menu = QMenu(self.add)
        menu.addAction("Folder…", self._ask_folder)
        menu.addAction("Files or lists…", self._ask_files)
        menu.addAction("Embedded before", self.add_embedded)
        self.add.setMenu(menu)
        self.find = QLineEdit()
        self.find.setPlaceholderText("Filter by name")
        self.find.setClearButtonEnabled(True)
        self.find.setAccessibleName("Filter by name")
        self.shelf = Shelf(self.model, self.thumbnails)
        self.count, self.alert = Note(), Note(alert=True)
        self.bar = Bar()
        self.bar.hide()
        self._buttons()
        self.pages = QStackedWidget()
        self.pages.addWidget(self._empty())
        self.pages.addWidget(self.shelf)
        self._lay_out()
        self._connect()
        self._show_state()

    def _buttons(self) -> None:
        self.open = button("Open", "Open the chosen slides in the viewer (double click, Enter)")
        self.embed = button(
            "Embed",
            "Embed the chosen slides, or all that are shown, at 0.5 µm/px or what comes nearest",
        )
        self.search = button("Search here", "Search for similar tiles in these slides only")
        self.remove = button("Remove", "Take the chosen slides out of the set; no file changes")
        self.cancel = button("Cancel", "Stop; what is embedded is kept")
        self.cancel.hide()

    def _lay_out(self) -> None:
        top, below = QHBoxLayout(), QHBoxLayout()
        top.addWidget(heading("Slides"))
        top.addWidget(self.find, 1)
        top.addWidget(self.add)
        for each in (self.open, self.embed, self.search, self.remove):
            below.addWidget(each)
        below.addStretch()
        going = QHBoxLayout()
        going.addWidget(self.bar, 1)
        going.addWidget(self.cancel)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 8, 8, 8)
        column.setSpacing(4)
        column.addLayout(top)
        column.addWidget(self.pages, 1)
        column.addWidget(self.count)
        column.addLayout(going)
        column.addWidget(self.alert)
        column.addLayout(below)
        self.setMinimumWidth(MIN_WIDTH + 40)

    def _empty(self) -> QWidget:
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(0, 0, 0, 0)
        folder = button("Add a folder…", "All slides in a folder, through and through", wide=True)
        before = button("Add slides embedded before", "Every slide in the store", wide=True)
        folder.clicked.connect(self._ask_folder)
        before.clicked.connect(self.add_embedded)
        for widget in (heading("No slides yet"), Note(HINT), folder, before):
            column.addWidget(widget)
        column.addStretch()
        return page

    def _connect(self) -> None:
        self.find.textChanged.connect(self._on_filter)
        self.shelf.open_wanted.connect(self.open_chosen)
        self.shelf.selectionModel().selectionChanged.connect(self._show_state)
        self.model.modelReset.connect(self._show_state)
        self.open.clicked.connect(self.open_chosen)
        self.embed.clicked.connect(self.embed_chosen)
        self.search.clicked.connect(self.search_chosen)
        self.remove.clicked.connect(self.remove_chosen)
        self.cancel.clicked.connect(self._on_cancel)

    def showEvent(self, event: QShowEvent) -> None:
        """Look again what is stored: other docks and other programs embed too."""
        super().showEvent(event)
        self._again.start()

    def hideEvent(self, event: QHideEvent) -> None:
        """Read nothing while nobody looks."""
        self._again.stop()
        super().hideEvent(event)

    def _on_theme(self, event: object = None) -> None:
        style(self, self._viewer.theme)

    # ---- the set

    def add_inputs(self, inputs: Sequence[str]) -> None:
        """Add files, folders, lists or patterns, in the background."""
        self._read(partial(find_slides, list(inputs)))

    def add_embedded(self) -> None:
        """Add every slide that has embeddings in the store."""
        self._read(partial(embedded_before, self.session.store))

    def remove_chosen(self) -> None:
        """Take the chosen slides out of the set."""
        self.model.remove([one.path for one in self.shelf.chosen])
        self._save()

    def _ask_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder of slides")
        if name:
            self.add_inputs([name])

    def _ask_files(self) -> None:
        lists = FILTER.replace("All files", "Lists of slides (*.txt *.csv *.lst);;All files")
        names, _ = QFileDialog.getOpenFileNames(self, "Slides, or lists of slides", "", lists)
        if names:
            self.add_inputs(names)

    def _read(self, find: Callable[[], list[str]], *, keep: bool = True) -> None:
        """Find slides, list them, and then look at each."""
        self.alert.say("")
        self._tasks.run(
            find, done=lambda paths: self._on_found(paths, keep=keep), failed=self._on_failed
        )

    def _on_found(self, paths: list[str], *, keep: bool) -> None:
        known = set(self.model.paths)
        new = [Listed(path, Path(path).name) for path in paths if path not in known]
        self.model.take(new)
        if keep:
            self._save()
            if not new:
                self.alert.say("No slide was added: they are all here, or there are none.")
        self._look_at([one.path for one in new])

    def _look_at(self, paths: Sequence[str]) -> None:
        """Say anew what is known of slides: open each, in a worker."""
        self._in_worker(partial(look_up, store=self.session.store), list(paths))

    def _in_worker(self, look: Callable[[Any], Listed], what: Sequence[Any]) -> None:
        if what:
            self._tasks.run(
                _look_at_all,
                look,
                what,
                self._tasks.teller(self.model.change),
                done=lambda _: self._show_state(),
                failed=self._on_failed,
            )

    def _look_again(self) -> None:
        """Say anew what is stored of the slides that are shown."""
        known = [one for one in self.model.slides if one.identity]
        self._in_worker(partial(look_again, store=self.session.store), known)

    def _save(self) -> None:
        self._tasks.run(
            save_list,
            self.session.store,
            self.model.paths,
            done=lambda _: None,
            failed=self._on_failed,
        )

    # ---- what is done with it

    def open_chosen(self) -> None:
        """Open the chosen slides in the viewer; one that is open is brought to the front."""
        shown = {
            layer.metadata["slide"].identity: layer
            for layer in self._viewer.layers
            if is_slide_layer(layer)
        }
        for one in self.shelf.chosen:
            if one.reason:
                self.alert.say(one.reason)
            elif one.identity in shown:
                layer = shown[one.identity]
                self._viewer.layers.move(self._viewer.layers.index(layer), len(self._viewer.layers))
                self._viewer.layers.selection = {layer}
            else:
                open_in_background(self._viewer, one.path)

    def embed_chosen(self) -> None:
        """Embed what is missing of the chosen slides, or of all that are shown, one by one."""
        slides = [one for one in self.shelf.chosen or self.model.slides if not one.reason]
        if self.session.encoder is None:
            self.alert.say("Choose an encoder in the panel Embeddings first.")
            return
        without = [one.name for one in slides if one.mpp is None]
        if without:
            self.alert.say(f"{without[0]} does not say its pixel size: open it and say it first.")
            return
        self._stop.clear()
        self.alert.say("")
        self._busy(on=True)
        self._tasks.run(
            _embed_all,
            self.session,
            slides,
            self._stop,
            self._tasks.teller(self._on_embedding),
            done=lambda _: self._on_embedded(slides),
            failed=self._on_failed,
        )

    def search_chosen(self) -> None:
        """Let the dock "Similarity search" search in the chosen slides, or all that are shown."""
        slides = [one for one in self.shelf.chosen or self.model.slides if one.stored]
        if not slides:
            self.alert.say("None of these slides is embedded yet: press Embed first.")
            return
        self._viewer.window.add_plugin_dock_widget(PLUGIN, "Similarity search")
        search, identities = self.session.similarity, tuple(one.identity for one in slides)
        options = replace(search.query.options, scope="chosen", slides=identities)
        self._tasks.run(search.set_options, options, done=lambda _: None, failed=self._on_failed)

    def _on_cancel(self) -> None:
        self._stop.set()
        self.session.cancel()

    # ---- what it hears

    def _on_filter(self, text: str) -> None:
        self.model.filter(text)

    def _on_progress(self, progress: Progress) -> None:
        if not self.bar.isHidden() and progress.wanted:
            self.bar.setMaximum(progress.wanted)
            self.bar.setValue(progress.done)

    def _on_embedding(self, words: str) -> None:
        self.count.say(words)
        self._look_again_soon()

    def _on_embedded(self, slides: Sequence[Listed]) -> None:
        self._busy(on=False)
        self._look_at([one.path for one in slides])

    def _look_again_soon(self) -> None:
        if self.isVisible() and not self._again.isActive():
            self._again.start()

    def _on_failed(self, error: Exception) -> None:
        self._busy(on=False)
        self.alert.say(str(error) or type(error).__name__)

    def _busy(self, *, on: bool) -> None:
        self.bar.setRange(0, 0)
        self.bar.setVisible(on)
        self.cancel.setVisible(on)
        self.embed.setEnabled(not on)
        self._show_state()

    def _show_state(self, *_: Any) -> None:
        slides, chosen = self.model.slides, self.shelf.chosen
        n = len(self.model.paths)
        self.pages.setCurrentIndex(1 if n else 0)
        busy = not self.bar.isHidden()
        for each in (self.open, self.remove):
            each.setEnabled(bool(chosen))
        self.embed.setEnabled(bool(slides) and not busy)
        self.search.setEnabled(bool(slides))
        self.find.setVisible(n > 0)
        if busy:
            return
        done = sum(bool(one.stored) for one in slides)
        broken = sum(bool(one.reason) for one in slides)
        words = f"{len(slides)} of {n} slides" if len(slides) != n else f"{n} slides"
        words += f", {done} embedded" + (f", {broken} cannot be opened" if broken else "")
        words += f"; {len(chosen)} chosen" if chosen else ""
        self.count.say(words if n else "")


def _look_at_all(
    look: Callable[[Any], Listed], what: Sequence[Any], tell: Callable[[Any], None]
) -> None:
    for one in what:
        tell(look(one))


def _embed_all(
    session: Session, slides: Sequence[Listed], stop: threading.Event, tell: Callable[[Any], None]
) -> None:
    """Embed slides one after another; those that nobody had open are closed again."""
    encoder = session.encoder
    allowed = () if encoder is None else encoder.spec.allowed_mpp
    for number, one in enumerate(slides, 1):
        if stop.is_set():
            return
        tell(f"Slide {number} of {len(slides)}: {one.name}")
        open_already = one.identity in session.slides
        slide = session.open_slide(one.path)
        try:
            if slide.mpp is not None:
                session.embed_slide(slide, mpp=snap_mpp(0.5, allowed, max(slide.mpp)))
                session.wait()
        finally:
            if not open_already:
                session.close_slide(slide)
