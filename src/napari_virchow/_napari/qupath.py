"""The dock widget "QuPath": objects come in, are seen and edited, and go out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import napari
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QFrame, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_virchow._napari import open_slide
from napari_virchow._napari.edit_box import EditBox
from napari_virchow._napari.export_box import ExportBox
from napari_virchow._napari.import_box import Here, ImportBox
from napari_virchow._napari.import_forms import ENDINGS
from napari_virchow._napari.layers import show_only
from napari_virchow._napari.link import Links
from napari_virchow._napari.live_box import LiveBox
from napari_virchow._napari.live_view import LiveView
from napari_virchow._napari.object_hover import ObjectHover
from napari_virchow._napari.object_layers import ObjectLayers, object_layers
from napari_virchow._napari.parts import MIN_WIDTH, Note, style
from napari_virchow._napari.project_box import ProjectBox
from napari_virchow._napari.slide_box import SlideBox
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.viewer import plain, session_of
from napari_virchow.labels import LabelSet
from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.kept import KeptObjects
from napari_virchow.slide import Slide


class QuPathWidget(QWidget):
    """Brings objects from QuPath onto a slide, and takes them and our labels back.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Given by napari. All docks of a viewer share its session.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = plain(napari_viewer)
        self.session = session_of(self._viewer)
        self._slide: Slide | None = None
        self._layer: Layer | None = None
        self.layers: ObjectLayers | None = None
        self._labels: LabelSet | None = None
        self._kept_links = Links(self)
        self._tasks = Tasks(self)
        self._build()
        self.hover = ObjectHover(self._viewer, self)
        self.hover.told.connect(self.under.say)
        self.live_view = LiveView(self._viewer, self.session.live, self)
        self._viewer.events.theme.connect(self._on_theme)
        self._on_theme()
        self._tasks.run(lambda: self.session.labels, done=self._on_labels, failed=self._on_failed)
        self.reset_choices()

    def _build(self) -> None:
        self.slide_box = SlideBox(self._viewer, self.session)
        self.import_box = ImportBox()
        self.export_box = ExportBox()
        self.edit_box = EditBox()
        self.project_box = ProjectBox(self._viewer)
        self.live_box = LiveBox(self.session.live)
        self.tabs = QTabWidget()
        for title, box in (
            ("Import", self.import_box),
            ("Edit", self.edit_box),
            ("Export", self.export_box),
            ("Project", self.project_box),
            ("Live", self.live_box),
        ):
            self.add_tab(title, box)
        self.said = Note()
        self.alert = Note(alert=True)
        self.under = Note()
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 8, 8, 8)
        column.setSpacing(4)
        for widget in (self.slide_box, self.alert, self.said, self.tabs, self.under):
            column.addWidget(widget, int(widget is self.tabs))
        self.setMinimumWidth(MIN_WIDTH + 40)
        self.setAcceptDrops(True)
        self.slide_box.ready.connect(self._on_slide)
        self.slide_box.failed.connect(self._on_failed)
        self.slide_box.open_wanted.connect(lambda: open_slide.ask_for_slide(self._viewer))
        self.import_box.taken.connect(self._on_taken)
        self.edit_box.looked_for.connect(self._go_to)
        self.export_box.saved.connect(self.project_box.script.exported)
        self.live_box.selected.connect(self._on_selected)
        for box in (self.import_box, self.export_box, self.project_box, self.live_box):
            box.told.connect(self._say)
        for box in (self.import_box, self.export_box, self.edit_box, self.live_box):
            box.failed.connect(self._on_failed)

    def add_tab(self, title: str, box: QWidget) -> None:
        """Give a part of the dock its tab; one that is too high scrolls."""
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(box)
        self.tabs.addTab(scroll, title)

    # ---- napari -> dock

    def reset_choices(self, event: object = None) -> None:
        """Take in which layers the viewer has; napari calls it when that changes."""
        self.slide_box.reset_choices()

    def showEvent(self, event: Any) -> None:
        """Say what is under the cursor while the dock can be seen."""
        super().showEvent(event)
        self.hover.attach()
        self.live_view.camera.attach()

    def hideEvent(self, event: Any) -> None:
        """Leave the mouse alone; what is edited is kept all the same."""
        self.hover.detach()
        self.live_view.camera.detach()
        super().hideEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Welcome files that may be imported."""
        if _dropped(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Look into a file that was dropped here."""
        path = _dropped(event)
        if path is not None:
            event.acceptProposedAction()
            self.tabs.setCurrentIndex(0)
            self.import_box.look_into(path)

    def _on_slide(self, slide: Slide | None, layer: Layer | None) -> None:
        self._slide, self._layer = slide, layer
        self.live_view.slide, self.live_view.layer = slide, layer
        self.said.say("")
        self.alert.say("")
        self._bind(None)
        if slide is None or layer is None:
            self.said.say("Open a slide: annotations lie on one.")
            return
        show_only(self._viewer, slide.identity, tiles=True)
        self._tasks.run(
            partial(self.session.objects, slide),
            done=lambda kept: self._on_kept(slide, layer, kept),
            failed=self._on_failed,
        )

    def _on_kept(self, slide: Slide, layer: Layer, kept: KeptObjects) -> None:
        if slide is not self._slide or layer not in self._viewer.layers:
            return
        layers = object_layers(self._viewer, slide, layer, kept)
        self._bind(layers)
        here = Here(self.session, slide, kept)
        for box in (self.import_box, self.export_box, self.live_box):
            box.bind(here)
        if len(kept):
            self._say(f"{len(kept):,} objects of this slide were kept from last time.")

    def _bind(self, layers: ObjectLayers | None) -> None:
        if self.layers is not None:
            self.layers.drawn.disconnect(self._on_drawn)
            self.layers.failed.disconnect(self._on_failed)
            self._kept_links.close()
        self.layers = layers
        self.hover.layers = layers
        self.edit_box.bind(layers)
        if layers is None:
            for box in (self.import_box, self.export_box, self.live_box):
                box.bind(None)
            return
        layers.drawn.connect(self._on_drawn)
        layers.failed.connect(self._on_failed)
        kept = layers.kept
        self._kept_links = Links(
            self,
            (kept.failed, self._on_failed),
            (kept.recovered, self._on_recovered),
            (kept.changed, self._on_changed),
        )
        self._on_drawn()

    # ---- core -> dock

    def _on_labels(self, labels: LabelSet) -> None:
        self._labels = labels
        self._on_drawn()

    def _on_drawn(self) -> None:
        labels = () if self._labels is None else self._labels.classes
        self.edit_box.show_objects([PathClass.of(c.name, c.color) for c in labels])

    def _on_changed(self, change: object) -> None:
        self.alert.say("")
        if self.export_box.isVisible():
            self.export_box.refresh()

    def _on_selected(self, ids: tuple[str, ...]) -> None:
        if self.layers is not None:
            self.layers.select(ids)

    def _on_taken(self, sentence: str) -> None:
        self._say(sentence)
        self.tabs.setCurrentIndex(1)

    def _on_recovered(self) -> None:
        self.alert.say("")

    def _on_failed(self, error: Exception) -> None:
        self.alert.say(str(error) or type(error).__name__)

    def _say(self, sentence: str) -> None:
        self.alert.say("")
        self.said.say(sentence)

    def _go_to(self, uid: str) -> None:
        """Look at an object."""
        one = None if self.layers is None else self.layers.kept.get(uid)
        if one is None or self._layer is None:
            return
        left, top, right, bottom = one.geometry.bounds
        center = ((top + bottom) / 2 - 0.5, (left + right) / 2 - 0.5)
        self._viewer.scene.camera.center = tuple(self._layer.data_to_world(center))[-2:]
        height, width = self._viewer.canvas.size
        scale = float(self._layer.scale[-1])
        fits = min(width / max(right - left, 50), height / max(bottom - top, 50)) / scale
        self._viewer.scene.camera.zoom = 0.6 * fits

    def _on_theme(self, event: object = None) -> None:
        style(self, self._viewer.theme)


def _dropped(event: Any) -> Path | None:
    """Return the one file that is dragged, if it may be imported."""
    urls = event.mimeData().urls() if event.mimeData().hasUrls() else []
    paths = [Path(url.toLocalFile()) for url in urls if url.isLocalFile()]
    good = [path for path in paths if path.name.lower().endswith(ENDINGS)]
    return good[0] if len(good) == 1 else None
