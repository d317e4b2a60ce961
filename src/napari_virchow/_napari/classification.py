"""The dock widget "Tile classification": labels in, a map of the whole slide out, at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import napari
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import (
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari import open_slide
from napari_virchow._napari.camera import CameraFollower
from napari_virchow._napari.class_layers import ClassLayers
from napari_virchow._napari.grid_choice import GridChoice, remember_view, restore_view
from napari_virchow._napari.judge_box import JudgeBox
from napari_virchow._napari.label_box import LabelBox
from napari_virchow._napari.label_keys import MODE_KEYS, LabelKeys
from napari_virchow._napari.label_tool import LabelMode, LabelTool
from napari_virchow._napari.link import Links
from napari_virchow._napari.map_box import MapBox
from napari_virchow._napari.model_box import ModelBox
from napari_virchow._napari.parts import MIN_WIDTH, Note, heading, style
from napari_virchow._napari.slide_box import SlideBox
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.viewer import plain, session_of, slide_view
from napari_virchow.classification import Assessment, Classification, Painted
from napari_virchow.labels.edits import HOTKEYS, LabelChange, LabelRow
from napari_virchow.slide import Slide, SlideError
from napari_virchow.states import EngineState
from napari_virchow.tiles import Tile, TileGrid

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
        self._build()
        self._keys = LabelKeys(self, self._actions())
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
        self.slide_box = SlideBox(self._viewer, self.session)
        self.magnification = GridChoice()
        self.pen = LabelBox()
        self.classes = self.pen.classes
        self.maps = MapBox()
        self.judge = JudgeBox()
        self.model = ModelBox(self.session)
        self.alert = Note(alert=True)
        self.said = Note()
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 8, 8, 8)
        column.setSpacing(4)
        parts = (self.slide_box, heading("Tile size"), self.magnification, self.pen, self.said)
        for part in (*parts, self.alert, heading("Show"), self.maps, self.judge, self.model):
            column.addWidget(part)
        column.addStretch()
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self.setMinimumWidth(MIN_WIDTH + 40)
        self._connect()

    def _connect(self) -> None:
        self.slide_box.ready.connect(self._on_slide)
        self.slide_box.failed.connect(self._on_failed)
        self.slide_box.open_wanted.connect(lambda: open_slide.ask_for_slide(self._viewer))
        self.magnification.currentIndexChanged.connect(self._focus)
        self.pen.undo.clicked.connect(self.undo_label)
        self.pen.redo.clicked.connect(self.redo_label)
        self.pen.mode_wanted.connect(self.set_mode)
        self.classes.add_wanted.connect(lambda name: self._edit("add_class", name))
        self.classes.rename_wanted.connect(lambda i, name: self._edit("rename_class", i, name))
        self.classes.recolor_wanted.connect(lambda i, color: self._edit("recolor_class", i, color))
        self.classes.merge_wanted.connect(lambda i, into: self._edit("merge_classes", i, into))
        self.classes.delete_wanted.connect(lambda i: self._edit("delete_class", i))
        self.tool.dragged.connect(self._on_dragged)
        self.tool.ended.connect(self._on_stroke)
        self.tool.hovered.connect(self._on_hover)
        self.tool.mode_changed.connect(self.pen.show_mode)
        self.judge.jump_wanted.connect(self._on_jump)
        self.judge.accepted.connect(lambda tile, class_id: self._label([tile], class_id))
        self.judge.rows_chosen.connect(self._on_rows)
        self.model.failed.connect(self._on_failed)
        self.model.told.connect(self.said.say)
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

    def reset_choices(self, event: object = None) -> None:
        """Take in which layers the viewer has; napari calls it when that changes."""
        self.slide_box.reset_choices()
        if self.isVisible():
            self._bind_keys()

    # ---- keys

    def _bind_keys(self) -> None:
        mine = [y for y in self._viewer.layers if y is self._layer or "kind" in y.metadata]
        self._keys.bind(mine)

    def _actions(self) -> dict[str, Callable[[], object]]:
        """Return what each key does while the dock is open."""
        keys: dict[str, Callable[[], object]] = {
            "Control-Z": self.undo_label,
            "Control-Shift-Z": self.redo_label,
            "N": self.judge.go_next,
            "A": self.judge.accept_current,
            "S": self.judge.skip_current,
            "E": self.pen.erase.toggle,
        }
        keys |= {key: partial(self._on_hotkey, key) for key in HOTKEYS}
        return keys | {MODE_KEYS[mode]: partial(self.set_mode, mode) for mode in LabelMode}

    def _on_hotkey(self, key: str) -> None:
        """Choose the class of this key; and label the tile under the cursor if there is one."""
        if self.live is None:
            return
        for one in self.live.labels.classes:
            if one.hotkey == key:
                self.classes.choose(one.id)
                if self._hover is not None:
                    self._label([self._hover], one.id)

    # ---- Qt and napari -> session

    def set_mode(self, mode: LabelMode) -> None:
        """Choose what the left button does."""
        self.tool.set_mode(mode)

    def undo_label(self) -> None:
        """Take back the last change of labels or classes."""
        if self.live is not None:
            self.live.labels.undo()

    def redo_label(self) -> None:
        """Do again what was taken back."""
        if self.live is not None:
            self.live.labels.redo()

    def _edit(self, verb: str, *args: Any) -> None:
        if self.live is None:
            return
        try:
            made = getattr(self.live.labels, verb)(*args)
        except (ValueError, KeyError) as error:
            self.alert.say(str(error))
            self._show_classes()
            return
        self.alert.say("")
        if verb == "add_class":
            self.classes.choose(made.id)

    def _on_dragged(self, tiles: tuple[Tile, ...]) -> None:
        erase, class_id = self.pen.erase.isChecked(), self.classes.current
        if self.layers is not None and (erase or class_id is not None):
            self.layers.preview(tiles, None if erase else class_id)

    def _on_stroke(self, tiles: tuple[Tile, ...]) -> None:
        if self.layers is not None:
            self.layers.preview((), None)
        erase, class_id = self.pen.erase.isChecked(), self.classes.current
        if not erase and class_id is None:
            self.alert.say("Make a class first: type its name above and press Enter.")
            return
        self._label(tiles, None if erase else class_id)

    def _label(self, tiles: Any, class_id: int | None) -> None:
        if self.live is None or self._slide is None or self.mpp is None:
            return
        try:
            self.live.label(self._slide, self.mpp, tiles, class_id)
        except (KeyError, ValueError, SlideError) as error:
            self.alert.say(str(error))

    def _on_hover(self, tile: Tile | None) -> None:
        self._hover = tile
        layers = self.layers
        text = "" if tile is None or layers is None else layers.hover_text(tile)
        self.pen.hover.say(text or "Move over a tile to see what is known of it.")

    def _on_slide(self, slide: Slide | None, layer: Layer | None) -> None:
        self._slide, self._layer = slide, layer
        self.tool.layer = layer
        if slide is not None and layer is not None and slide.identity not in self._layers:
            self._layers[slide.identity] = ClassLayers(self._viewer, slide, layer, self)
        self.maps.bind(self.layers)
        self._on_encoder()
        self._restore_view()

    def _on_encoder(self, _: object = None) -> None:
        self._fill_magnifications()
        self._focus()

    def _on_settled(self) -> None:
        """Embed what is looked at, and remember the view."""
        slide, layer = self._slide, self._layer
        view = None if layer is None else slide_view(self._viewer, layer)
        if slide is None or self.mpp is None or view is None or self.session.encoder is None:
            return
        try:
            self.session.look_at(slide, view.rect, mpp=self.mpp)
        except (SlideError, ValueError) as error:
            self.alert.say(str(error))
        if self.live is not None and self.live.labels.grids(slide.identity):
            remember_view(self.live.labels, slide.identity, self._viewer, self.mpp)

    def _on_jump(self, identity: str, tile: Tile) -> None:
        if self._slide is None or self._layer is None or self.grid is None:
            return
        if identity != self._slide.identity:
            self.alert.say("That label is on another slide: choose that slide above to see it.")
            return
        rect = self.grid.rect(tile)
        at = (rect.y + rect.height / 2 - 0.5, rect.x + rect.width / 2 - 0.5)
        self._viewer.scene.camera.center = tuple(self._layer.data_to_world(at))[-2:]
        self._on_hover(tile)
        if self.layers is not None:
            self.layers.preview([tile], self.classes.current)

    def _on_rows(self, rows: tuple[LabelRow, ...]) -> None:
        here = [r.tile for r in rows if self._slide is not None and r.slide == self._slide.identity]
        self.said.say(f"{len(rows)} labels in this cell" + ("." if not here else ", shown."))
        if here:
            self._on_jump(self._slide.identity if self._slide else "", here[0])

    # ---- session -> Qt

    def _on_live(self, live: Classification) -> None:
        self.live = live
        self.model.bind(live)
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

    def _on_assessed(self, found: Assessment) -> None:
        self.judge.show_assessment(found, self._names())

    def _on_emptied(self, sentence: str) -> None:
        if self.layers is not None:
            self.layers.show_painted(None)
        self.said.say(sentence)
        self.judge.show_assessment(None, self._names())

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
        if self._slide is None or self._slide.mpp is None or self.mpp is None:
            return None
        try:
            return self._slide.grid(self.mpp)
        except SlideError:
            return None

    def _names(self) -> dict[int, str]:
        return {} if self.live is None else {c.id: c.name for c in self.live.labels.classes}

    def _fill_magnifications(self) -> None:
        labels = None if self.live is None else self.live.labels
        self.magnification.fill(self._slide, self.session.encoder, labels)

    def _focus(self, *_: object) -> None:
        """Paint the chosen grid from now on."""
        self.tool.grid = self.grid
        self.model.look_at(self._slide, self.mpp)
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
