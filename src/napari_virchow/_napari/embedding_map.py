"""The dock widget "Embedding map": alike tiles side by side, linked with the slide both ways."""

from __future__ import annotations

from functools import partial

import napari
import numpy as np
from napari.layers import Layer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_virchow._napari import open_slide
from napari_virchow._napari.jumper import Jumper
from napari_virchow._napari.label_tool import LabelTool
from napari_virchow._napari.link import Links
from napari_virchow._napari.map_colors import MapColors
from napari_virchow._napari.map_hand import MapHand
from napari_virchow._napari.map_layers import MapLayers
from napari_virchow._napari.map_page import MapPage, count_words
from napari_virchow._napari.map_paint import MapPaint
from napari_virchow._napari.map_scope import MapScope
from napari_virchow._napari.selection_link import selection_link
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.thumbnails import Thumbnails
from napari_virchow._napari.viewer import plain, session_of
from napari_virchow.labels import LabelSet
from napari_virchow.labels.edits import LabelChange
from napari_virchow.mapping import (
    Arrangement,
    Clusters,
    Mapped,
    MappingError,
    MapProgress,
    Proposal,
)
from napari_virchow.mapping.facts import Method
from napari_virchow.mapping.proposals import Which
from napari_virchow.slide import Slide, SlideError
from napari_virchow.states import EngineState, Progress
from napari_virchow.tiles import TileGrid

DEFAULT_ENCODER = "texture"


class EmbeddingMapWidget(QWidget):
    """Shows embeddings as points, alike ones side by side.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        Given by napari. All docks of a viewer share its session, and so the map.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = plain(napari_viewer)
        self.session = session_of(self._viewer)
        self.mapping = self.session.mapping
        self.labels: LabelSet | None = None
        self.mapped: Mapped | None = None
        self._slide: Slide | None = None
        self._layer: Layer | None = None
        self._embedding = False
        self._tasks = Tasks(self)
        self.thumbnails = Thumbnails(self.session, self)
        self.tool = LabelTool(self._viewer, self)
        self.layers = MapLayers(self._viewer, self)
        self.page = MapPage(self._viewer, self.session, self.thumbnails)
        self.colors = MapColors(self.session, self)
        self.choice = MapScope(self.session, self.page, self)
        self.jumper = Jumper(self._viewer, self.page.slide_box, self)
        self.hand = MapHand(self.session, self.page, self.layers, self.colors, self)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self.page)
        self._connect()
        self._follow()
        self.paint = MapPaint(self._viewer, self.page, self.colors, self)
        self._tasks.run(lambda: self.session.labels, done=self._on_labels, failed=self._on_failed)
        if self.session.encoder is None and self.session.state is not EngineState.LOADING:
            load = partial(self.session.load_encoder, DEFAULT_ENCODER)
            self._tasks.run(load, done=lambda _: None, failed=self._on_failed)
        self.reset_choices()
        self._on_slide(self._slide, self._layer)

    # ---- wiring

    def _connect(self) -> None:
        page = self.page
        page.slide_box.ready.connect(self._on_slide)
        page.slide_box.failed.connect(self._on_failed)
        page.slide_box.open_wanted.connect(lambda: open_slide.ask_for_slide(self._viewer))
        self.choice.changed.connect(self._look)
        self.choice.failed.connect(self._on_failed)
        page.arrange_by.currentIndexChanged.connect(self._on_arrange_by)
        page.color_by.currentIndexChanged.connect(self._recolor)
        page.again.clicked.connect(self._on_umap)
        page.fit.clicked.connect(page.plot.fit)
        page.update.clicked.connect(lambda: self.mapping.refresh())
        page.embed.clicked.connect(self._on_embed)
        page.umap_row.cancel.clicked.connect(lambda: self.mapping.stop("umap"))
        page.cluster_row.cancel.clicked.connect(lambda: self.mapping.stop("clusters"))
        page.embed_row.cancel.clicked.connect(lambda: self.session.cancel())
        for mode, one in page.modes.items():
            one.clicked.connect(lambda _=False, mode=mode: page.plot.set_mode(mode))
        page.plot.activated.connect(self.jump)
        page.selection.pick_wanted.connect(self.tool.set_mode)
        page.clusters.find_wanted.connect(self._on_find)
        page.clusters.accept_wanted.connect(self._on_accept)
        page.clusters.jump_wanted.connect(self.jump)
        self.jumper.failed.connect(self._on_failed)
        self.tool.ended.connect(self.hand.pick)
        self.tool.hovered.connect(self.hand.hover)
        self.tool.mode_changed.connect(page.selection.show_mode)
        self.hand.failed.connect(self._on_failed)
        self.hand.search_wanted.connect(self._show_search)
        link = self._link = selection_link(self._viewer)
        self.hand.selected.connect(self._on_selected)
        link.in_gallery.connect(self.hand.show_places)
        self.colors.failed.connect(self._on_failed)

    def _on_selected(self) -> None:
        self._link.choose_on_map(self.hand.holds)

    def _follow(self) -> None:
        mapping, session = self.mapping, self.session
        self._links = Links(
            self,
            (mapping.mapped_anew, self._on_mapped),
            (mapping.arranged, self._on_arranged),
            (mapping.clustered, self._on_clustered),
            (mapping.emptied, self._on_emptied),
            (mapping.progressed, self._on_progressed),
            (mapping.ended, self._on_ended),
            (mapping.outdated, self._on_outdated),
            (mapping.failed, self._on_failed),
            (session.encoder_changed, self._on_encoder),
            (session.progressed, self._on_embedded),
            (session.state_changed, self._on_state),
            (session.failed, self._on_failed),
        )

    def showEvent(self, event: QShowEvent) -> None:
        """Follow the mouse while the dock can be seen."""
        super().showEvent(event)
        self.tool.attach()

    def hideEvent(self, event: QHideEvent) -> None:
        """Leave the mouse alone; a dock that is closed gets no other event."""
        self.tool.detach()
        super().hideEvent(event)

    def reset_choices(self, event: object = None) -> None:
        """Take in which layers the viewer has; napari calls it when that changes."""
        self.page.slide_box.reset_choices()
        if self.page.scope.currentData() == "open":
            self._look()

    # ---- which tiles

    def _on_slide(self, slide: Slide | None, layer: Layer | None) -> None:
        self._slide, self._layer = slide, layer
        self.tool.layer = layer
        self.layers.look_at(slide, layer)
        self._on_encoder()
        self.hand.look_at(None if slide is None else slide.identity)
        self._recolor()
        self.jumper.on_slide(slide, layer)

    def _on_encoder(self, _: object = None) -> None:
        self.choice.look_at(self._slide, self.labels)
        self._look()

    def _look(self, *_: object) -> None:
        """Have the tiles mapped that are chosen now, unless they are already."""
        self.tool.grid = self.grid
        self.page.embed.setVisible(False)
        scope = self.choice.scope
        if scope is None or self.session.encoder is None:
            self._on_emptied(
                "Open a slide to map its tiles."
                if self._slide is None
                else "Loading the encoder…"
                if self.session.encoder is None
                else "This slide has no pixel size: set it above."
            )
            return
        known, mapping = self.mapping.mapped, self.mapping
        if known is None or (known.scope, known.encoder) != (scope, self.session.encoder.identity):
            mapping.look_at(scope)
        elif known is not self.mapped:
            self._on_mapped(known)
            if mapping.clusters is not None:
                self._on_clustered(mapping.clusters)

    @property
    def grid(self) -> TileGrid | None:
        """The grid in use on the slide that is looked at."""
        return self.choice.grid

    def _on_embed(self) -> None:
        grid = self.grid
        if self._slide is None or grid is None:
            return
        try:
            self.session.embed_slide(self._slide, mpp=grid.mpp)
        except (ValueError, SlideError) as error:
            self._on_failed(error)
            return
        self._embedding = True
        self.page.embed.setVisible(False)
        self.page.plot.say("Embedding the slide; the map follows.")

    # ---- mapping -> Qt

    def _on_mapped(self, mapped: Mapped) -> None:
        page = self.page
        self.mapped = mapped
        self.hand.take(mapped, self.mapping.clusters)
        page.alert.say("")
        page.update.hide()
        page.embed.hide()
        page.plot.say("")
        self._arrange("pca" if self.mapping.arrangement is None else "umap")
        page.count.say(count_words(mapped))
        page.clusters.show_clusters(None, None, ())
        self._recolor()

    def _on_arranged(self, found: Arrangement) -> None:
        self.page.umap_row.hide()
        self._arrange("umap")
        note = f"UMAP of {found.n_fitted:,} tiles"
        if found.n_fitted < len(found.xy):
            note += "; each of the others lies between the three of them that are most alike"
        self.page.arrange_by.setToolTip(f"{note}. It took {found.seconds:.0f} s.")
        if found.n_fitted < len(found.xy):
            self.page.alert.say(f"{note}.")

    def _arrange(self, how: str) -> None:
        """Show one of the arrangements that are there."""
        combo, found, mapped = self.page.arrange_by, self.mapping.arrangement, self.mapped
        combo.blockSignals(True)
        combo.setCurrentIndex(combo.findData(how))
        combo.blockSignals(False)
        if mapped is not None:
            use = found is not None and how == "umap" and found.generation == mapped.generation
            self.page.plot.show_points(found.xy if use and found is not None else mapped.xy)

    def _on_clustered(self, clusters: Clusters) -> None:
        self.page.cluster_row.hide()
        self._tasks.run(
            self.mapping.proposals,
            done=partial(self._on_proposals, clusters),
            failed=self._on_failed,
        )

    def _on_proposals(self, clusters: Clusters, proposals: tuple[Proposal, ...]) -> None:
        mapped = self.mapped
        if mapped is None or clusters.generation != mapped.generation:
            return
        self.hand.take(mapped, clusters)
        self.page.clusters.show_clusters(mapped, clusters, proposals)
        self.page.tabs.setCurrentWidget(self.page.clusters)
        self.page.color_by.setCurrentText("Cluster")
        self._recolor()

    def _on_emptied(self, sentence: str) -> None:
        page = self.page
        self.mapped = None
        self.hand.take(None, None)
        page.plot.show_points(np.zeros((0, 2), np.float32))
        page.plot.say(sentence)
        page.count.say("")
        page.clusters.show_clusters(None, None, ())
        page.embed.setVisible(self.grid is not None and self.session.encoder is not None)
        self._arrange("pca")
        self.layers.clear()
        self._recolor()

    def _on_progressed(self, progress: MapProgress) -> None:
        done, total, text = progress.done, progress.total, progress.text
        if progress.task == "umap":
            self.page.umap_row.tell(done, total, text)
        elif progress.task == "clusters":
            self.page.cluster_row.tell(done, total, text)
        elif self.mapped is None:
            self.page.plot.say(f"{text}: {done:,} of {total:,}")

    def _on_ended(self, task: str) -> None:
        if task == "umap":
            self.page.umap_row.hide()
            self._arrange("pca" if self.mapping.arrangement is None else "umap")
        else:
            self.page.cluster_row.hide()

    def _on_outdated(self, n: int) -> None:
        self.page.update.show()
        self.page.update.setToolTip(f"{n:,} tiles were embedded since: map them, too")

    def _on_embedded(self, progress: Progress) -> None:
        if self._embedding:
            self.page.embed_row.tell(progress.done, progress.wanted, "Embedding")

    def _on_state(self, state: EngineState) -> None:
        if state in (EngineState.IDLE, EngineState.STOPPED):
            self._embedding = False
            self.page.embed_row.hide()

    def _on_failed(self, error: Exception) -> None:
        self.page.alert.say(str(error) or type(error).__name__)

    # ---- Qt -> mapping

    def _on_arrange_by(self, *_: object) -> None:
        how = self.page.arrange_by.currentData()
        if how == "umap" and self.mapping.arrangement is None:
            self._on_umap()
        else:
            self._arrange(how)

    def _on_umap(self, *_: object) -> None:
        page = self.page
        try:
            self.mapping.arrange(n_neighbors=page.neighbors.value(), min_dist=page.distance.value())
        except (ValueError, MappingError) as error:
            self._on_failed(error)
            self._arrange("pca")
            return
        page.alert.say("")
        page.umap_row.tell(0, 0, "Starting UMAP")

    def _on_find(self, method: Method, number: int) -> None:
        try:
            self.mapping.find_clusters(method, n_clusters=number, min_size=number)
        except ValueError as error:
            self._on_failed(error)
            return
        self.page.alert.say("")
        self.page.cluster_row.tell(0, 0, "Finding clusters")

    def _on_accept(self, proposal: Proposal, name: str, which: Which) -> None:
        self._tasks.run(
            partial(self.mapping.accept, proposal, name=name, which=which),
            done=lambda n: self.page.alert.say(
                "" if n else "Those tiles are labelled already; their labels stay."
            ),
            failed=self._on_failed,
        )

    # ---- colours and labels

    def _recolor(self, *_: object) -> None:
        slide = None if self._slide is None else self._slide.identity
        mode = self.page.color_by.currentText()
        self.colors.ask(mode, self.mapped, self.mapping.clusters, slide)

    def _on_labels(self, labels: LabelSet) -> None:
        self.labels = labels
        self.colors.set_labels(labels)
        self._label_links = Links(
            self, (labels.changed, self._on_label_change), (labels.failed, self._on_failed)
        )
        self._show_classes()
        self._on_encoder()

    def _on_label_change(self, change: LabelChange) -> None:
        self._show_classes()

    def _show_classes(self) -> None:
        labels = self.labels
        if labels is not None:
            undo = labels.undo_text if labels.can_undo else None
            self.page.selection.show_classes(labels.classes, undo)

    # ---- elsewhere

    def jump(self, row: int) -> None:
        """Go to a tile of the map, on whatever slide it is."""
        if self.mapped is not None:
            slide, tile = self.mapped.tile(row)
            self.jumper.jump(slide.identity, slide.path, slide.grid.rect(tile))

    def _show_search(self) -> None:
        self._viewer.window.add_plugin_dock_widget(open_slide.PLUGIN, "Similarity search")
