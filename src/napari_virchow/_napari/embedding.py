"""The dock widget "Embeddings": the session's slides, encoder and progress, bound to napari."""

from __future__ import annotations

import time
from typing import Any

import napari
from napari.layers import Layer
from napari.utils.notifications import show_warning
from qtpy.QtCore import QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QSizePolicy,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari import open_slide
from napari_virchow._napari.camera import CameraFollower
from napari_virchow._napari.empty_page import EmptyPage
from napari_virchow._napari.encoder_box import EncoderBox
from napari_virchow._napari.layers import TileLayer, show_only
from napari_virchow._napari.likeness_box import LikenessBox
from napari_virchow._napari.link import Links
from napari_virchow._napari.parts import MIN_WIDTH, Note, button, heading, style
from napari_virchow._napari.progress_box import ProgressBox
from napari_virchow._napari.slide_box import SlideBox
from napari_virchow._napari.stored_box import StoredBox
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.viewer import is_slide_layer, plain, session_of, slide_view
from napari_virchow._napari.words import encoder_title, magnification_words
from napari_virchow.encoders import Encoder
from napari_virchow.schedule import snap_mpp
from napari_virchow.slide import Slide, SlideError
from napari_virchow.states import EngineState, GridStates, Progress, TileUpdate
from napari_virchow.tiles import Rect

AUTO = "Auto"
DEFAULT_ENCODER = "texture"
REPEAT_S = 10.0
_FINEST = 0.9  # tiles may ask for this much more than the slide has, as in `Slide.grid`


class EmbeddingWidget(QWidget):
    """Embeds what the user looks at, and shows how far it is.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Given by napari. Several of these docks share the viewer's one session.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = plain(napari_viewer)
        self.session = session_of(self._viewer)
        self._slide: Slide | None = None
        self._layer: Layer | None = None
        self._mpp: float | None = None
        self._tile_layers: dict[str, TileLayer] = {}
        self._said: tuple[str, float] = ("", 0.0)
        self._tasks = Tasks(self)
        self._camera = CameraFollower(self._viewer, self)
        # napari must not lose more layers while it is still telling that one was removed.
        self._sweep = QTimer(self)
        self._sweep.setSingleShot(True)
        self._sweep.timeout.connect(self._on_sweep)
        self._build()
        self._links = Links(
            self,
            (self.session.encoder_changed, self._on_encoder_changed),
            (self.session.states_reset, self._on_states_reset),
            (self.session.tiles_changed, self._on_tiles_changed),
            (self.session.progressed, self._on_progressed),
            (self.session.state_changed, self._on_state_changed),
            (self.session.failed, self._on_failed),
        )
        self._viewer.events.theme.connect(self._on_theme)
        self._on_theme()
        self._on_encoder_changed(self.session.encoder)
        self.progress_box.show_state(self.session.state)
        self.reset_choices()
        if self.session.encoder is None and self.session.state is not EngineState.LOADING:
            self._load(DEFAULT_ENCODER, None)

    # ---- what it looks like

    def _build(self) -> None:
        self.slide_box = SlideBox(self._viewer, self.session)
        self.encoder_box = EncoderBox()
        self.progress_box = ProgressBox()
        self.stored_box = StoredBox(self.session)
        self.magnification = QComboBox()
        self.magnification.setToolTip("How large a tile is on the slide; Auto follows the zoom")
        self.magnification.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.live = QCheckBox("Live: embed what I look at")
        self.live.setToolTip("Embed the tiles in view whenever the view comes to rest")
        self.live.setChecked(True)
        self.tiles = QCheckBox("Show tiles")
        self.tiles.setToolTip("Colour the tiles: yellow waits, green is embedded, orange failed")
        self.tiles.setChecked(True)
        self.likeness = LikenessBox(self._viewer, self.session)
        self.whole = button("Embed whole slide", "Embed every tissue tile, behind what I look at")
        self.whole.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
        self.alert = Note(alert=True)
        self.pages = QStackedWidget()
        self.empty_page = EmptyPage()
        self.pages.addWidget(self.empty_page)
        self.pages.addWidget(self._page())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.addWidget(self.pages)
        self.setMinimumWidth(MIN_WIDTH)
        self.slide_box.ready.connect(self._on_slide)
        self.slide_box.failed.connect(self._on_failed)
        self.slide_box.open_wanted.connect(self._on_open)
        self.empty_page.open.clicked.connect(self._on_open)
        self.empty_page.sample.clicked.connect(self._on_sample)
        self.encoder_box.wanted.connect(self._load)
        self.encoder_box.chosen.connect(self._on_encoder_chosen)
        self.magnification.currentIndexChanged.connect(self._on_magnification)
        self.live.toggled.connect(self._camera.nudge)
        self.tiles.toggled.connect(self._on_show_tiles)
        self.whole.clicked.connect(self._on_whole_slide)
        self.progress_box.cancel.clicked.connect(self._on_cancel)
        self._camera.settled.connect(self._on_settled)
        self._fill_magnifications()

    def _page(self) -> QWidget:
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.slide_box)
        column.addSpacing(4)
        for title, widget in (
            ("Encoder", self.encoder_box),
            ("Magnification", self.magnification),
        ):
            column.addWidget(heading(title))
            column.addWidget(widget)
            column.addSpacing(4)
        boxes = (self.live, self.tiles, self.likeness)
        for widget in (*boxes, self.whole, self.progress_box, self.alert):
            column.addWidget(widget)
        column.addSpacing(6)
        column.addWidget(self.stored_box)
        column.addStretch()
        return page

    # ---- Qt and napari -> session

    def reset_choices(self, event: object = None) -> None:
        """Take in which layers the viewer has; napari calls it when that changes."""
        self.slide_box.reset_choices()
        self.pages.setCurrentIndex(1 if self.slide_box.layers else 0)
        self._sweep.start()
        present = self.tile_layer is not None and self.tile_layer.present
        if self.tile_layer is not None and self.tile_layer.layer is not None and not present:
            self._check(self.tiles, False)  # the user took the layer away

    def _on_sweep(self) -> None:
        """Take away the tiles and the overview of slides that were taken away."""
        layers = tuple(self._viewer.layers)
        left = {s.identity for s in map(self.slide_box.slide_of, layers) if s is not None}
        left |= {layer.metadata["slide"].identity for layer in layers if is_slide_layer(layer)}
        for identity in self._tile_layers.keys() - left:
            tiles = self._tile_layers.pop(identity)
            tiles.remove()
            tiles.deleteLater()
            for layer in layers:
                if layer.metadata.get("overview_of") == identity and layer in self._viewer.layers:
                    self._viewer.layers.remove(layer)

    def showEvent(self, event: QShowEvent) -> None:
        """Follow the camera while the dock can be seen."""
        super().showEvent(event)
        self._camera.attach()

    def hideEvent(self, event: QHideEvent) -> None:
        """Leave the camera alone; what was asked for goes on."""
        self._camera.detach()
        super().hideEvent(event)

    @property
    def tile_layer(self) -> TileLayer | None:
        """What draws the tiles of the chosen slide."""
        return None if self._slide is None else self._tile_layers.get(self._slide.identity)

    @property
    def mpp(self) -> float | None:
        """The magnification in use, in µm per pixel; None until a slide is looked at."""
        return self._mpp

    def _on_slide(self, slide: Slide | None, layer: Layer | None) -> None:
        self._slide, self._layer = slide, layer
        self.pages.setCurrentIndex(1 if self.slide_box.layers else 0)
        self._say("")
        if slide is not None and layer is not None and slide.identity not in self._tile_layers:
            tiles = self._tile_layers[slide.identity] = TileLayer(self._viewer, slide, layer, self)
            tiles.visible_changed.connect(self._on_tiles_visible)
        if slide is not None and len(self._tile_layers) > 1:
            self._bring_up(slide)
        self.stored_box.show_slide(slide)
        self._fill_magnifications()
        self._update()
        self._camera.nudge()

    def _bring_up(self, slide: Slide) -> None:
        """Show one of several slides, which all lie in the same place."""
        show_only(self._viewer, slide.identity, tiles=self.tiles.isChecked())
        view = None if self._layer is None else slide_view(self._viewer, self._layer)
        if view is not None:
            seen = view.rect.intersect(Rect(0, 0, slide.width, slide.height))
            if seen.width * seen.height == 0:
                self._viewer.reset_view()

    def _on_encoder_chosen(self) -> None:
        self._fill_magnifications()
        self._update()

    def _load(self, name: str, weights: object, device: str = "auto") -> None:
        self._say("")
        self.encoder_box.show_loading("Loading…")
        self._tasks.run(
            self.session.load_encoder,
            name,
            weights=weights,
            device=device,
            on_progress=self._tasks.teller(self.encoder_box.show_loading),
            done=lambda _: None,  # the session tells: `encoder_changed`
            failed=self._on_not_loaded,
        )

    def _on_not_loaded(self, error: Exception) -> None:
        self.encoder_box.show_failure()
        self._on_failed(error)

    def _on_magnification(self) -> None:
        self._mpp = self.magnification.currentData()
        self._update()
        if self._mpp is not None:
            self._show_known()
        self._camera.nudge()

    def _on_settled(self) -> None:
        """Look at what the viewer shows now, if it is to be embedded as I look."""
        view = None if self._layer is None else slide_view(self._viewer, self._layer)
        slide = self._slide
        if slide is None or slide.mpp is None or view is None:
            return
        if self.magnification.currentData() is None:
            mpp_on_screen = view.downsample * slide.mpp[0]
            self._mpp = snap_mpp(mpp_on_screen, self.encoder_box.spec.allowed_mpp, max(slide.mpp))
            self._update()
        # While another encoder is chosen but not loaded, embedding by the old one would surprise.
        if self._mpp is None or not self.live.isChecked() or not self.encoder_box.ready:
            return
        self._try(self.session.look_at, slide, view.rect, mpp=self._mpp)
        self._show_known()

    def _on_whole_slide(self) -> None:
        if self._slide is not None and self._mpp is not None:
            self._try(self.session.embed_slide, self._slide, mpp=self._mpp)
            self._show_known()

    def _on_cancel(self) -> None:
        self._check(self.live, False)  # or the next move of the camera would start it again
        self.session.cancel()

    def _on_show_tiles(self, on: bool) -> None:
        tiles = self.tile_layer
        if tiles is None:
            return
        if tiles.present:
            tiles.set_visible(on)
        elif on:
            self._show_known()

    def _on_tiles_visible(self, on: bool) -> None:
        if self.sender() is self.tile_layer:
            self._check(self.tiles, on)

    def _on_open(self) -> None:
        open_slide.ask_for_slide(self._viewer)

    def _on_sample(self) -> None:
        open_slide.open_sample(self._viewer)

    # ---- session -> Qt

    def _on_encoder_changed(self, encoder: Encoder | None) -> None:
        self.encoder_box.show_encoder(encoder)
        self._fill_magnifications()
        self._update()
        self._camera.nudge()

    def _on_states_reset(self, states: GridStates) -> None:
        slide = self._slide
        if slide is None or states.slide != slide.identity or states.grid.mpp != self._mpp:
            return
        encoder = self.session.encoder
        if encoder is not None and states.encoder == encoder.identity and self.tiles.isChecked():
            self._tile_layers[slide.identity].show(states, encoder_title(states.encoder))
        self.stored_box.refresh()

    def _on_tiles_changed(self, update: TileUpdate) -> None:
        if (tiles := self._tile_layers.get(update.slide)) is not None:
            tiles.update(update)

    def _on_progressed(self, progress: Progress) -> None:
        self.progress_box.show_progress(progress)

    def _on_state_changed(self, state: EngineState) -> None:
        self.progress_box.show_progress(self.session.progress)
        self.progress_box.show_state(state)
        if state is EngineState.RUNNING:
            self._say("")
        self.stored_box.refresh()

    def _on_failed(self, error: Exception) -> None:
        sentence = str(error) or type(error).__name__
        sentence = sentence[:1].upper() + sentence[1:]
        self._say(sentence)
        last, when = self._said
        if sentence != last or time.monotonic() - when > REPEAT_S:
            self._said = sentence, time.monotonic()
            show_warning(sentence)

    # ---- helpers

    def _try(self, verb: Any, *args: Any, **options: Any) -> None:
        """Ask the session for something, and show its answer when that is no."""
        try:
            verb(*args, **options)
        except (SlideError, ValueError) as error:
            self._say(str(error))

    def _show_known(self) -> None:
        """Draw what the session already knows of the grid in use; the rest comes by signal."""
        if self._slide is None or self._mpp is None or self._slide.mpp is None:
            return
        try:
            states = self.session.tile_states(self._slide, self._mpp)
        except SlideError:
            return  # said when it was asked for
        tiles = self._tile_layers[self._slide.identity]
        fresh = states is not None and (not tiles.present or not tiles.shows(states))
        if states is not None and fresh and self.tiles.isChecked():
            tiles.show(states, encoder_title(states.encoder))

    def _fill_magnifications(self) -> None:
        """Offer what the chosen encoder allows and the slide has; keep the choice if possible."""
        combo, slide = self.magnification, self._slide
        finest = max(slide.mpp) if slide is not None and slide.mpp is not None else 0.0
        sizes = [m for m in self.encoder_box.spec.allowed_mpp if m >= _FINEST * finest]
        chosen = combo.currentData()
        combo.blockSignals(True)
        combo.clear()
        combo.addItem(AUTO, None)
        for mpp in sizes:
            combo.addItem(magnification_words(mpp), mpp)
        combo.setCurrentIndex(max(0, combo.findData(chosen)))
        combo.blockSignals(False)
        if combo.currentData() != chosen:
            self._mpp = None

    def _update(self) -> None:
        """Bring texts and buttons in line with what is possible now."""
        slide = self._slide
        if self.magnification.currentData() is None:
            now = "follows the zoom" if self._mpp is None else magnification_words(self._mpp)
            self.magnification.setItemText(0, f"{AUTO} ({now})")
        else:
            self.magnification.setItemText(0, AUTO)
        self.likeness.look_at(slide, self._layer, self._mpp)
        possible = slide is not None and slide.mpp is not None and self.encoder_box.ready
        self.whole.setEnabled(possible and self._mpp is not None)
        at = "" if self._mpp is None else f" at {10 / self._mpp:g}×"
        self.whole.setText(f"Embed whole slide{at}")

    def _say(self, sentence: str) -> None:
        self.alert.say(sentence)
        self.empty_page.alert.say(sentence)

    def _check(self, box: QCheckBox, on: bool) -> None:
        """Set a check box without its slot hearing of it."""
        box.blockSignals(True)
        box.setChecked(on)
        box.blockSignals(False)

    def _on_theme(self, event: object = None) -> None:
        style(self, self._viewer.theme)
