"""Choose among the viewer's slides, and have the chosen one opened in the session."""

from __future__ import annotations

import weakref
from typing import Any

from magicgui.widgets import ComboBox, create_widget
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from napari_virchow._napari.dialogs import PixelSizeDialog
from napari_virchow._napari.layers import place_slide
from napari_virchow._napari.parts import Note, button, heading
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.viewer import is_slide_layer, may_be_slide, shows_all_of, slide_path
from napari_virchow._napari.words import slide_words
from napari_virchow.session import Session
from napari_virchow.slide import Slide


class SlideBox(QWidget):
    """The slide's part of the dock.

    Lists the layers that are slides, ours and those of other readers that our core can open too.
    The chosen one is opened in the session, in a worker, and its pixel size asked for once if
    the file does not say it. `ready` then carries (slide, layer), or (None, None).

    Parameters
    ----------
    viewer : napari.Viewer
        Whose layers are listed.
    session : Session
        Where slides are opened.
    parent : QWidget
        The dock.
    """

    ready = Signal(object, object)
    failed = Signal(object)
    open_wanted = Signal()

    def __init__(self, viewer: Any, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._session = viewer, session
        self._tasks = Tasks(self)
        self._opened: weakref.WeakKeyDictionary[Layer, Slide] = weakref.WeakKeyDictionary()
        self._refused: weakref.WeakSet[Layer] = weakref.WeakSet()
        self._asked: set[str] = set()
        self._current: Layer | None = None
        self.dialog: PixelSizeDialog | None = None
        self.combo: ComboBox = create_widget(
            widget_type="ComboBox",
            options={
                "choices": lambda _: [(layer.name, layer) for layer in self.layers],
                "nullable": False,
                "tooltip": "Which slide to embed: any slide that is open in this viewer",
            },
        )
        self.combo.native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.open = button("Open…", "Open a slide file of a scanner")
        self.facts = Note()
        self.pixel_size = button("Set pixel size…", "Say how large a pixel of this slide is")
        self.pixel_size.hide()
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(heading("Slide"), 1)
        row.addWidget(self.open)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(row)
        column.addWidget(self.combo.native)
        column.addWidget(self.facts)
        column.addWidget(self.pixel_size)
        self.combo.changed.connect(self._on_chosen)
        self.open.clicked.connect(self.open_wanted)
        self.pixel_size.clicked.connect(self._on_size)

    @property
    def layers(self) -> list[Layer]:
        """The layers to choose from, topmost last."""
        return [
            layer
            for layer in self._viewer.layers
            if (is_slide_layer(layer) or may_be_slide(layer)) and layer not in self._refused
        ]

    def reset_choices(self) -> None:
        """List the viewer's slides again, and let go of slides whose layers are all gone."""
        before = set(self.combo.choices)
        self.combo.reset_choices()
        added = [layer for layer in self.layers if layer not in before]
        if added:  # a slide that was just opened is what the user wants to look at
            self.combo.value = added[-1]
        self._on_chosen(self.combo.value)
        shown = {id(slide) for layer, slide in self._opened.items() if layer in self.layers}
        for layer, slide in tuple(self._opened.items()):
            if id(slide) not in shown:
                del self._opened[layer]
                self._tasks.run(
                    self._session.close_slide,
                    slide,
                    done=lambda _: None,
                    failed=self.failed.emit,
                )

    def slide_of(self, layer: Layer | None) -> Slide | None:
        """Return the session's slide behind a layer, or None while it is not open."""
        return None if layer is None else self._opened.get(layer)

    def _on_chosen(self, layer: Layer | None) -> None:
        if layer is self._current:
            return
        self._current = layer
        self.pixel_size.hide()
        slide = self.slide_of(layer)
        if slide is not None:
            self._show(slide)
            return
        self.ready.emit(None, None)
        path = None if layer is None else slide_path(layer)
        if layer is None or path is None:
            self.facts.say("")
            return
        self.facts.say("Opening…")
        known = layer.metadata.get("slide")
        mpp = known.mpp if isinstance(known, Slide) else None
        self._tasks.run(
            _open,
            self._session,
            path,
            mpp,
            done=lambda opened: self._on_opened(layer, opened),
            failed=lambda error: self._on_refused(layer, error),
        )

    def _on_opened(self, layer: Layer, slide: Slide) -> None:
        if not shows_all_of(layer, slide):
            self._on_refused(layer, ValueError(f"{layer.name} shows only a part of {slide.path}."))
            return
        self._opened[layer] = slide
        if slide.mpp is not None and layer.metadata.get("mpp") != slide.mpp:
            place_slide(self._viewer, slide.identity, slide.mpp)
        if layer is self._current:
            self._show(slide)

    def _on_refused(self, layer: Layer, error: Exception) -> None:
        self._refused.add(layer)
        if is_slide_layer(layer):
            self.failed.emit(error)
        self.reset_choices()

    def _show(self, slide: Slide) -> None:
        self.combo.native.setToolTip(slide.path)
        self.facts.say(slide_words(slide))
        self.facts.setToolTip(f"{slide.path}\n{slide.reader_reason}")
        self.pixel_size.setVisible(slide.mpp is None)
        self.ready.emit(slide, self._current)
        if slide.mpp is None and slide.identity not in self._asked:
            self._asked.add(slide.identity)
            self._on_size()

    def _on_size(self) -> None:
        slide = self.slide_of(self._current)
        if slide is None or self.dialog is not None:
            return
        self.dialog = PixelSizeDialog(slide, lambda mpp: self._set_size(slide, mpp), self)
        self.dialog.destroyed.connect(self._on_dialog_gone)
        self.dialog.open()

    def _on_dialog_gone(self) -> None:
        self.dialog = None

    def _set_size(self, slide: Slide, mpp: float) -> None:
        self._tasks.run(
            self._session.set_slide_mpp,
            slide,
            mpp,
            done=lambda _: self._on_sized(slide),
            failed=self.failed.emit,
        )

    def _on_sized(self, slide: Slide) -> None:
        if slide.mpp is not None:
            place_slide(self._viewer, slide.identity, slide.mpp)
        if slide is self.slide_of(self._current):
            self._show(slide)


def _open(session: Session, path: str, mpp: tuple[float, float] | None) -> Slide:
    """Open a slide in the session; `mpp` is what the layer's own slide says, if it says any."""
    slide = session.open_slide(path)
    if slide.mpp is None and mpp is not None:
        session.set_slide_mpp(slide, mpp)
    return slide
