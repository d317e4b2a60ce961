"""The dock widget "Tile classification": labels in, a map of the whole slide out, at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import napari
from napari.layers import Layer
from qtpy.QtCore import QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_virchow._napari import open_slide
from napari_virchow._napari.ask_box import AskBox
from napari_virchow._napari.asking import Asking
from napari_virchow._napari.camera import CameraFollower
from napari_virchow._napari.class_layers import ClassLayers
from napari_virchow._napari.class_pages import ClassPages
from napari_virchow._napari.film_strip import Frame
from napari_virchow._napari.go_to import GoTo
from napari_virchow._napari.grid_choice import grid_at, remember_view, restore_view
from napari_virchow._napari.label_box import HOVER
from napari_virchow._napari.label_keys import MODE_KEYS, LabelKeys
from napari_virchow._napari.label_tool import LabelMode, LabelTool
from napari_virchow._napari.labelling import Labelling
from napari_virchow._napari.layers import show_only
from napari_virchow._napari.link import Links
from napari_virchow._napari.parts import style
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.viewer import plain, session_of, slide_view
from napari_virchow.classification import Assessment, Classification, Painted
from napari_virchow.labels.edits import HOTKEYS, LabelChange, LabelClass
from napari_virchow.slide import Slide, SlideError
from napari_virchow.states import EngineState
from napari_virchow.tiles import Rect, Tile, TileGrid

DEFAULT_ENCODER = "texture"


class ClassificationWidget(QWidget):
    """Labels tiles, and shows what a classifier makes of them.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Given by napari. All docks of a viewer share its session, and so labels and classifier.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = plain(napari_viewer)
        self.session = session_of(self._viewer)
        self.live: Classification | None = None
        self._slide: Slide | None = None
        self._layer: Layer | None = None
        self._layers: dict[str, ClassLayers] = {}
        self._hover: Tile | None = None
        self._tasks = Tasks(self)
        self._camera = CameraFollower(self._viewer, self)
        self.tool = LabelTool(self._viewer, self)
        self.labelling = Labelling(self)
        self._build()
        self._keys = LabelKeys(self, self.tool, self._actions())
        self._links = Links(
            self,
            (self.session.encoder_changed, self._on_encoder),
            (self.session.failed, self._on_failed),
        )
        self._viewer.events.theme.connect(self._on_theme)
        self._on_theme()
        self._tasks.run(
            lambda: self.session.classification, done=self._on_live, failed=self._on_failed
        )
        if self.session.encoder is None and self.session.state is not EngineState.LOADING:
            load = partial(self.session.load_encoder, DEFAULT_ENCODER)
            self._tasks.run(load, done=lambda _: None, failed=self._on_failed)
        self.reset_choices()

    # ---- what it looks like

    def _build(self) -> None:
        pages = self.pages = ClassPages(self._viewer, self.session)
        self.slide_box, self.magnification = pages.slide_box, pages.magnification
        self.pen, self.classes, self.maps = pages.pen, pages.pen.classes, pages.maps
        self.queue, self.judge = pages.queue, pages.judge
        self.apply, self.model = pages.apply, pages.model
        self.alert, self.said = pages.alert, pages.said
        self.asking = Asking((self.queue, self.judge.review), self)
        self.go_to = GoTo(self._viewer, self.session, self.slide_box, self)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(pages)
        self._connect()

    def _connect(self) -> None:
        edit = self.labelling.edit
        self.slide_box.ready.connect(self._on_slide)
        self.slide_box.open_wanted.connect(lambda: open_slide.ask_for_slide(self._viewer))
        self.magnification.currentIndexChanged.connect(self._focus)
        self.pen.undo.clicked.connect(self.labelling.undo)
        self.pen.redo.clicked.connect(self.labelling.redo)
        self.pen.mode_wanted.connect(self.tool.set_mode)
        self.classes.add_wanted.connect(lambda name: edit("add_class", name))
        self.classes.rename_wanted.connect(lambda i, name: edit("rename_class", i, name))
        self.classes.recolor_wanted.connect(lambda i, color: edit("recolor_class", i, color))
        self.classes.merge_wanted.connect(lambda i, into: edit("merge_classes", i, into))
        self.classes.delete_wanted.connect(lambda i: edit("delete_class", i))
        self.labelling.refused.connect(self._on_refused)
        self.labelling.class_added.connect(self.classes.choose)
        self.tool.dragged.connect(self._on_dragged)
        self.tool.ended.connect(self._on_stroke)
        self.tool.hovered.connect(self._on_hover)
        self.tool.mode_changed.connect(self.pen.show_mode)
        self.asking.asked.connect(self._on_asked)
        self.asking.changed.connect(self._mark_asked)
        for box in (self.queue, self.judge.review):
            box.answered.connect(self._on_answered)
            box.passed.connect(self._on_passed)
        for part in (self.slide_box, self.apply, self.model, self.go_to):
            part.failed.connect(self._on_failed)
        self.model.told.connect(self.said.say)
        self.apply.view_of = self._view
        self.maps.unknown.valueChanged.connect(self._on_unknown)
        self._camera.settled.connect(self._on_settled)

    def showEvent(self, event: QShowEvent) -> None:
        """Follow mouse, keys and camera while the dock can be seen."""
        super().showEvent(event)
        self._camera.attach()
        self.tool.attach()
        self._bind_keys()

    def hideEvent(self, event: QHideEvent) -> None:
        """Leave mouse, keys and camera alone; a dock that is closed gets no other event."""
        self._camera.detach()
        self.tool.detach()
        self._keys.unbind()
        super().hideEvent(event)

    def _on_theme(self, event: object = None) -> None:
        style(self, self._viewer.theme)
        # napari restyles its window after this event, and only then is the palette the new one
        QTimer.singleShot(0, self.judge.curve.redraw)

    def reset_choices(self, event: object = None) -> None:
        """Take in which layers the viewer has; napari calls it when that changes."""
        self.slide_box.reset_choices()
        if self.isVisible():
            self._bind_keys()

    # ---- keys

    def _bind_keys(self) -> None:
        self._keys.bind(self._viewer.layers)

    def _actions(self) -> dict[str, Callable[[], object]]:
        """Return what each key does while the dock is open."""
        keys: dict[str, Callable[[], object]] = {
            "Control-Z": self.labelling.undo,
            "Control-Shift-Z": self.labelling.redo,
            "N": self.queue.go_next,
            "R": self.judge.next_suspect,
            "A": self.asking.accept,
            "S": self.asking.pass_over,
            "Delete": self._erase,
            "Escape": self.asking.stop,
            "E": self.pen.erase.toggle,
        }
        keys |= {key: partial(self._on_hotkey, key) for key in HOTKEYS}
        return keys | {MODE_KEYS[mode]: partial(self.tool.set_mode, mode) for mode in LabelMode}

    def _on_hotkey(self, key: str) -> None:
        """Choose the class of this key, and label with it: the tile that is asked about, else the
        one under the cursor."""
        for one in self._all_classes():
            if one.hotkey == key:
                self.classes.choose(one.id)
                if not self.asking.answer(one.id) and self._hover is not None:
                    self.labelling.label([self._hover], one.id)

    def _erase(self) -> None:
        if not self.asking.answer(None) and self._hover is not None:
            self.labelling.label([self._hover], None)

    # ---- Qt and napari -> session

    def _on_refused(self, sentence: str) -> None:
        self.alert.say(sentence)
        if sentence:
            self._show_classes()  # a name that was typed and refused goes back

    def _on_dragged(self, tiles: tuple[Tile, ...]) -> None:
        erase, class_id = self.pen.erase.isChecked(), self.classes.current
        if self.layers is not None and (erase or class_id is not None):
            self.layers.preview(tiles, None if erase else class_id)

    def _on_stroke(self, tiles: tuple[Tile, ...]) -> None:
        self.asking.stop()
        if self.layers is not None:
            self.layers.preview((), None)
        erase, class_id = self.pen.erase.isChecked(), self.classes.current
        if not erase and class_id is None:
            self.pages.show_page(self.pen)
            self.alert.say("Make a class first: type its name above and press Enter.")
            return
        self.labelling.label(tiles, None if erase else class_id)

    def _on_hover(self, tile: Tile | None) -> None:
        self._hover = tile
        layers = self.layers
        text = "" if tile is None or layers is None else layers.hover_text(tile)
        self.pages.hover.say(text or HOVER)

    def _on_slide(self, slide: Slide | None, layer: Layer | None) -> None:
        self._slide, self._layer = slide, layer
        self.tool.layer = layer
        if slide is not None and layer is not None:
            if slide.identity not in self._layers:
                self._layers[slide.identity] = ClassLayers(self._viewer, slide, layer, self)
            show_only(self._viewer, slide.identity, tiles=None)
        self.maps.bind(self.layers)
        self._on_encoder()
        if slide is not None and self.go_to.arrive(slide.identity, layer):
            self._mark_asked()
        else:
            self._restore_view()

    def _on_encoder(self, _: object = None) -> None:
        labels = None if self.live is None else self.live.labels
        self.magnification.fill(self._slide, self.session.encoder, labels)
        self._focus()

    def _on_settled(self) -> None:
        """Embed what is looked at, and remember the view."""
        slide, view = self._slide, self._view()
        if slide is None or self.mpp is None or view is None or self.session.encoder is None:
            return
        try:
            self.session.look_at(slide, view, mpp=self.mpp)
        except (SlideError, ValueError) as error:
            self.alert.say(str(error))
        if self.live is not None and self.live.labels.grids(slide.identity):
            remember_view(self.live.labels, slide.identity, self._viewer, self.mpp)

    def _on_unknown(self, *_: object) -> None:
        """Have tables and other slides judged as strictly as the map."""
        if self.live is not None:
            self.live.unknown_above = self.maps.unknown.value() / 100

    # ---- questions

    def _on_asked(self, box: AskBox, frame: Frame) -> None:
        self.pages.show_page(box)
        self.go_to.go(frame.slide, frame.rect)

    def _on_answered(self, frame: Frame, class_id: int | None) -> None:
        self.labelling.label([frame.tile], class_id, frame.slide)
        self._mark_asked()

    def _on_passed(self, frame: Frame) -> None:
        if self.live is not None and self.grid is not None:
            self.live.passed.add((frame.slide, self.grid.name, frame.tile))
            if not self.queue.strip.frames:
                self.live.refresh()  # a new queue, without what was passed over
        self._mark_asked()

    def _mark_asked(self) -> None:
        """Show on the slide which tile is asked about."""
        frame = self.asking.frame
        for identity, layers in self._layers.items():
            layers.ask(frame.tile if frame is not None and frame.slide == identity else None)

    # ---- session -> Qt

    def _on_live(self, live: Classification) -> None:
        self.live = self.labelling.live = live
        self.model.bind(live)
        self.apply.bind(live)
        self._on_unknown()
        self._live_links = Links(
            self,
            (live.predicted, self._on_predicted),
            (live.assessed, self._on_assessed),
            (live.emptied, self._on_emptied),
            (live.failed, self._on_failed),
            (live.labels.changed, self._on_labels),
            (live.labels.failed, self._on_failed),
            (live.labels.recovered, self._on_recovered),
        )
        self._show_classes()
        self._on_encoder()
        self._restore_view()

    def _on_predicted(self, painted: Painted) -> None:
        if (layers := self._layers.get(painted.slide)) is not None:
            layers.show_painted(painted)
        self.said.say(
            f"{painted.n_labels} labels paint {len(painted.tiles):,} tiles."
            + (" One class: shown is likeness." if len(painted.names) == 1 else "")
        )
        self._on_hover(self._hover)

    def _on_assessed(self, found: Assessment | None) -> None:
        passed = () if self.live is None else self.live.passed
        for box in (self.queue, self.judge):
            box.show_assessment(found, self._all_classes(), passed)
        self.apply.show_ready()
        self._mark_asked()

    def _on_emptied(self, sentence: str) -> None:
        if self.layers is not None:
            self.layers.show_painted(None)
        self.said.say(sentence)
        self._on_assessed(None)

    def _on_labels(self, change: LabelChange) -> None:
        self._show_classes()
        self._show_labels()

    def _on_recovered(self) -> None:
        self.alert.say("")

    def _on_failed(self, error: Exception) -> None:
        self.alert.say(str(error) or type(error).__name__)

    # ---- helpers

    @property
    def layers(self) -> ClassLayers | None:
        """What draws on the chosen slide."""
        return None if self._slide is None else self._layers.get(self._slide.identity)

    @property
    def mpp(self) -> float | None:
        """The tile size in use, in µm per pixel."""
        value = self.magnification.currentData()
        return None if value is None else float(value)

    @property
    def grid(self) -> TileGrid | None:
        """The grid in use."""
        return grid_at(self._slide, self.mpp)

    def _view(self) -> Rect | None:
        """What is seen of the slide, in level-0 pixels."""
        view = None if self._layer is None else slide_view(self._viewer, self._layer)
        return None if view is None else view.rect

    def _all_classes(self) -> tuple[LabelClass, ...]:
        return () if self.live is None else self.live.labels.classes

    def _focus(self, *_: object) -> None:
        """Paint the chosen grid from now on."""
        self.tool.grid = self.grid
        self.labelling.slide, self.labelling.mpp = self._slide, self.mpp
        self.apply.look_at(self._slide, self.mpp)
        if self.live is not None and self._slide is not None and self.grid is not None:
            self._show_labels()
            self.live.look_at(self._slide, self.grid.mpp)
            self._camera.nudge()

    def _show_classes(self) -> None:
        if self.live is None:
            return
        labels = self.live.labels
        counts = labels.counts(None if self._slide is None else self._slide.identity)
        self.classes.show_classes(labels.classes, counts)
        self.maps.set_classes(labels.classes)
        for layers in self._layers.values():
            layers.set_classes(labels.classes)
        self.pen.show_history(
            labels.undo_text if labels.can_undo else None,
            labels.redo_text if labels.can_redo else None,
        )

    def _show_labels(self) -> None:
        layers, grid = self.layers, self.grid
        if self.live is not None and layers is not None and grid is not None and self._slide:
            layers.set_classes(self.live.labels.classes)
            layers.show_labels(self.live.labels.get(self._slide.identity, grid.name), grid)

    def _restore_view(self) -> None:
        """Go back to where this slide was labelled last."""
        if self.live is None or self._slide is None:
            return
        restore_view(self.live.labels, self._slide.identity, self._viewer)
