"""The dock widget "Similarity search": pick a tile, and see where else it looks like that."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import napari
from napari.layers import Layer
from qtpy.QtCore import QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QWidget

from napari_virchow._napari import open_slide
from napari_virchow._napari.camera import CameraFollower
from napari_virchow._napari.gallery import Place, Shown
from napari_virchow._napari.grid_choice import grid_at
from napari_virchow._napari.jumper import Jumper
from napari_virchow._napari.label_hits import class_named, label_tiles
from napari_virchow._napari.label_keys import LabelKeys
from napari_virchow._napari.label_tool import LabelMode, LabelTool
from napari_virchow._napari.link import Links
from napari_virchow._napari.parts import style
from napari_virchow._napari.search_more import SearchMore
from napari_virchow._napari.search_page import SearchPage
from napari_virchow._napari.search_results import ANSWER_MS, SearchResults
from napari_virchow._napari.selection_link import selection_link
from napari_virchow._napari.shift_click import ShiftClick
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.thumbnails import Thumbnails, TileAt
from napari_virchow._napari.viewer import plain, session_of, slide_view
from napari_virchow.labels import LabelSet
from napari_virchow.search import Answer, Example, Kind, Query, Similarity
from napari_virchow.slide import Slide, SlideError
from napari_virchow.states import EngineState, Progress
from napari_virchow.tiles import Tile, TileGrid

DEFAULT_ENCODER = "texture"


class SearchWidget(QWidget):
    """Searches the tiles that look like those the user points at.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Given by napari. All docks of a viewer share its session, and so the search.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = plain(napari_viewer)
        self.session = session_of(self.viewer)
        self.similarity: Similarity = self.session.similarity
        self._slide: Slide | None = None
        self.layer: Layer | None = None
        self._hover: Tile | None = None
        self._kind: Kind | None = None  # what is compared instead of the encoder in use
        self._labelled_last = False  # whether undo takes back labels, or a change of the query
        self._tasks = Tasks(self)
        self._sweep = QTimer(self)
        self._sweep.setSingleShot(True)
        self._camera = CameraFollower(self.viewer, self)
        self.thumbnails = Thumbnails(self.session, self)
        self.tool = LabelTool(self.viewer, self)
        self.click = ShiftClick(self.viewer, self.tool.tile, self)
        self.page = SearchPage(self.viewer, self.session, self.thumbnails, self)
        self.results = SearchResults(self.viewer, self.similarity, self.page, self)
        self.jumper = Jumper(self.viewer, self.page.slide_box, self)
        self.setMinimumWidth(self.page.minimumWidth())
        self.more = SearchMore(self)
        self._connect()
        self._keys = LabelKeys(self, self.tool, self._actions())
        self.click.clicked.connect(self._keys.use)
        self._links = Links(
            self,
            (self.similarity.answered, self.results.show_answer),
            (self.similarity.changed, self._on_query),
            (self.similarity.emptied, self.results.show_nothing),
            (self.similarity.failed, self._on_failed),
            (self.session.encoder_changed, self._on_encoder),
            (self.session.progressed, self._on_progressed),
            (self.session.state_changed, self._on_state),
            (self.session.failed, self._on_failed),
        )
        self.viewer.events.theme.connect(self._on_theme)
        self._on_theme()
        self._tasks.run(lambda: self.session.labels, done=self._on_labels, failed=self._on_failed)
        if self.session.encoder is None and self.session.state is not EngineState.LOADING:
            load = partial(self.session.load_encoder, DEFAULT_ENCODER)
            self._tasks.run(load, done=lambda _: None, failed=self._on_failed)
        self._on_query(self.similarity.query)
        self.reset_choices()

    def _connect(self) -> None:
        page = self.page
        page.slide_box.ready.connect(self._on_slide)
        page.slide_box.failed.connect(self._on_failed)
        for opens in (page.slide_box.open_wanted, page.empty.open.clicked):
            opens.connect(lambda *_: open_slide.ask_for_slide(self.viewer))
        page.empty.sample.clicked.connect(lambda: open_slide.open_sample(self.viewer))
        page.sizes.currentIndexChanged.connect(lambda _: self.compare(None))
        page.embed.clicked.connect(self._on_embed)
        page.query.remove_wanted.connect(lambda example: self._do("remove", example))
        page.query.jump_wanted.connect(self._on_example)
        page.query.mode_wanted.connect(self.tool.set_mode)
        page.query.undo.clicked.connect(self.undo)
        page.query.redo.clicked.connect(self.redo)
        page.query.clear.clicked.connect(lambda: self._do("clear"))
        page.options.wanted.connect(lambda options: self._do("set_options", options))
        page.options.kind_wanted.connect(self.compare)
        page.show_box.visible_wanted.connect(self.results.set_visible)
        page.show_box.threshold_changed.connect(self.results.set_threshold)
        page.show_box.order_changed.connect(lambda _: self.results.list_hits())
        page.show_box.size_changed.connect(page.gallery.set_size)
        page.show_box.back_wanted.connect(self.jumper.back)
        page.show_box.forward_wanted.connect(self.jumper.forward)
        page.show_box.choose_above_wanted.connect(self.results.choose_above)
        page.gallery.jump_wanted.connect(self.jump)
        page.gallery.key_pressed.connect(self._on_gallery_key)
        page.gallery.chosen_changed.connect(self._on_chosen)
        self._chosen_link = selection_link(self.viewer)
        self._chosen_link.on_map.connect(page.gallery.choose_where)
        page.label_hits.wanted.connect(self._on_label)
        self.tool.dragged.connect(self._on_dragged)
        self.tool.ended.connect(self._on_stroke)
        self.tool.hovered.connect(self._on_hover)
        self.tool.mode_changed.connect(page.query.show_mode)
        self.click.clicked.connect(lambda tile, positive: self.add([tile], positive))
        self.jumper.moved.connect(self._on_moved)
        self.jumper.failed.connect(self._on_failed)
        self._camera.settled.connect(self._on_settled)
        self._sweep.timeout.connect(self.results.sweep)

    def _actions(self) -> dict[str, Callable[[], object]]:
        """Return what each key does while the dock is open, on the canvas and in the dock."""
        return {
            "Control-Z": self.undo,
            "Control-Shift-Z": self.redo,
            "P": partial(self._on_pick_key, True),
            "Shift-P": partial(self._on_pick_key, False),
            "T": self._on_tile_key,
            "Alt-Left": self.jumper.back,
            "Alt-Right": self.jumper.forward,
        }

    # ---- coming and going

    def showEvent(self, event: QShowEvent) -> None:
        """Follow mouse, keys and camera while the dock can be seen."""
        super().showEvent(event)
        self._camera.attach()
        self.tool.attach()
        self.click.attach()
        self._bind_keys()

    def hideEvent(self, event: QHideEvent) -> None:
        """Leave mouse, keys and camera alone; a dock that is closed gets no other event."""
        self._camera.detach()
        self.click.detach()
        self.tool.detach()
        self._keys.unbind()
        super().hideEvent(event)

    def _on_theme(self, event: object = None) -> None:
        style(self, self.viewer.theme)

    def reset_choices(self, event: object = None) -> None:
        """Take in which layers the viewer has; napari calls it when that changes."""
        self.page.slide_box.reset_choices()
        self.page.show_empty(not self.page.slide_box.layers)
        self._sweep.start()  # napari must not lose layers while it tells that one was removed
        if self.isVisible():
            self._bind_keys()

    def _bind_keys(self) -> None:
        self._keys.bind(y for y in self.viewer.layers if y is self.layer or "kind" in y.metadata)

    # ---- Qt and napari -> session

    def add(self, tiles: Iterable[Tile], positive: bool = True) -> None:
        """Take tiles of the slide that is shown as examples, or as counter-examples."""
        if self._slide is not None and self.grid is not None:
            self._do("add_tiles", self._slide, tuple(tiles), positive)

    def compare(self, kind: Kind | None) -> None:
        """Compare these embeddings; None: those of the encoder in use, at the chosen tile size."""
        self._kind = kind
        self.similarity.compare(kind)
        if kind is not None:
            self.page.sizes.blockSignals(True)
            self.page.sizes.setCurrentIndex(self.page.sizes.findData(kind.mpp))
            self.page.sizes.blockSignals(False)
        self._focus()

    def undo(self) -> None:
        """Take back the labels just given, else the last change of the search."""
        if self._labelled_last and self.labels is not None:
            self._labelled_last = False
            self.labels.undo()
            self.page.said.say("The labels are taken back.")
        else:
            self.similarity.undo()

    def redo(self) -> None:
        """Do again what was taken back of the search."""
        self.similarity.redo()

    def jump(self, hit: Shown) -> None:
        """Go to a hit; opens its slide when needed."""
        path = self.similarity.describe(hit.slide)[1]
        self.jumper.jump(hit.slide, path, hit.rect)

    def _do(self, verb: str, *args: object) -> None:
        """Change the query."""
        self.page.alert.say("")
        self._labelled_last = False
        try:
            getattr(self.similarity, verb)(*args)
        except (ValueError, SlideError) as error:
            self.page.alert.say(str(error))

    def _on_dragged(self, tiles: tuple[Tile, ...]) -> None:
        self.results.draw_squares(tiles, not self.page.query.unlike.isChecked())

    def _on_stroke(self, tiles: tuple[Tile, ...]) -> None:
        self.add(tiles, not self.page.query.unlike.isChecked())

    def _on_hover(self, tile: Tile | None) -> None:
        self._hover = tile

    def _on_pick_key(self, positive: bool) -> None:
        """Take the chosen hits where the gallery has the focus, else the tile under the mouse."""
        chosen = self.page.gallery.chosen
        if self.page.gallery.hasFocus() and chosen:
            self._add_hits(chosen, positive)
        elif self._hover is not None:
            self.add([self._hover], positive)

    def _on_tile_key(self) -> None:
        on = self.tool.mode is not LabelMode.BRUSH
        self.tool.set_mode(LabelMode.BRUSH if on else LabelMode.OFF)

    def _on_gallery_key(self, key: str) -> None:
        if key in ("P", "+", "Shift-P", "-", "N"):
            self._add_hits(self.page.gallery.chosen, key in ("P", "+"))
        elif self.labels is not None:
            named = [c.name for c in self.labels.classes if c.hotkey == key]
            if named:
                self._on_label(named[0])
            else:
                self.page.alert.say(f"No class has the key {key}: type a class below the gallery.")

    def _add_hits(self, hits: list[Shown], positive: bool) -> None:
        mpp = self.mpp or 0.0
        made = [Example(hit.slide, hit.tile, hit.slide_name, mpp) for hit in hits]
        if made:
            self._do("add_examples", made, positive)

    def _on_label(self, name: str) -> None:
        chosen, grid = self.page.gallery.chosen, self.grid
        if self.labels is None or grid is None:
            self.page.alert.say(
                "The labels are not open: close other programs that use them, then reopen."
            )
            return
        if not chosen:
            self.page.alert.say("Choose hits in the gallery first: click, Ctrl- or Shift-click.")
            return
        try:
            one = class_named(self.labels, name)
            tiles = [(hit.slide, grid.name, hit.tile) for hit in chosen]
            n = label_tiles(self.labels, tiles, one.id)
        except (KeyError, ValueError) as error:
            self.page.alert.say(str(error))
            return
        self._labelled_last = n > 0
        self.page.alert.say("")
        self.page.said.say(f"{n} tiles labelled {one.name}. Ctrl+Z takes that back.")

    def _on_example(self, example: Example) -> None:
        path = self.similarity.describe(example.slide)[1]
        at = TileAt(example.tile, example.mpp or self.mpp or 0.5)
        self.jumper.jump(example.slide, path, at)

    def _on_embed(self) -> None:
        if self.page.whole:
            self.session.cancel()
        elif self._slide is not None and self.mpp is not None:
            self.page.whole = True
            try:
                self.session.embed_slide(self._slide, mpp=self.mpp)
            except (SlideError, ValueError) as error:
                self.page.whole = False
                self._on_failed(error)

    def _on_chosen(self) -> None:
        chosen = self.page.gallery.chosen
        self.page.label_hits.show_chosen(len(chosen))
        self.results.draw_squares()
        self._chosen_link.choose_in_gallery([Place(one.slide, one.tile) for one in chosen])

    def _on_slide(self, slide: Slide | None, layer: Layer | None) -> None:
        self._slide, self.layer = slide, layer
        self.tool.layer = layer
        if self.isVisible():
            self._bind_keys()
        self.results.look_at(slide, layer)
        self._on_encoder()
        self.thumbnails.try_again()
        self.jumper.on_slide(slide, layer)

    def _on_encoder(self, _: object = None) -> None:
        self.page.sizes.fill(self._slide, self.session.encoder, None)
        self._focus()

    def _on_settled(self) -> None:
        """Embed what is looked at."""
        view = None if self.layer is None else slide_view(self.viewer, self.layer)
        ready = self.session.encoder is not None and self._kind is None
        if self._slide is None or self.mpp is None or view is None or not ready:
            return
        try:
            self.session.look_at(self._slide, view.rect, mpp=self.mpp)
        except (SlideError, ValueError) as error:
            self.page.alert.say(str(error))

    # ---- session -> Qt

    def _on_query(self, query: Query) -> None:
        self.page.query.show_query(query, self.mpp or 0.0)
        self.page.query.show_history(
            can_undo=self.similarity.can_undo, can_redo=self.similarity.can_redo
        )
        self.page.options.show_options(query.options)
        self.results.show_marks()
        self.results.draw_squares(within_ms=ANSWER_MS)

    def _on_labels(self, labels: LabelSet) -> None:
        self.results.labels = labels
        self._label_links = Links(self, (labels.changed, self._on_labels_changed))
        self._on_labels_changed()

    def _on_labels_changed(self, _: object = None) -> None:
        if self.labels is not None:
            self.page.label_hits.show_classes(self.labels.classes)
            self.results.show_marks()

    def _on_moved(self) -> None:
        visits = self.jumper.visits
        self.page.show_box.show_visits(back=visits.can_go_back, forward=visits.can_go_forward)

    def _on_progressed(self, progress: Progress) -> None:
        self.page.show_progress(progress, self.session.state)

    def _on_state(self, state: EngineState) -> None:
        self.page.show_progress(self.session.progress, state)

    def _on_failed(self, error: Exception) -> None:
        self.page.alert.say(str(error) or type(error).__name__)

    # ---- helpers

    @property
    def mpp(self) -> float | None:
        """The tile size in use, in µm per pixel."""
        value = self._kind.mpp if self._kind is not None else self.page.sizes.currentData()
        return None if value is None else float(value)

    @property
    def grid(self) -> TileGrid | None:
        """The grid in use."""
        return grid_at(self._slide, self.mpp)

    @property
    def labels(self) -> LabelSet | None:
        """The labels, once they are read."""
        return self.results.labels

    @property
    def answer(self) -> Answer | None:
        """What was found last, if anything."""
        return self.results.answer

    def _focus(self) -> None:
        """Search on the chosen grid from now on."""
        self.tool.grid = self.grid
        self.results.use_grid(self.grid)
        if self._slide is not None and self.grid is not None:
            self.similarity.look_at(self._slide, self.grid.mpp)
            self._camera.nudge()
