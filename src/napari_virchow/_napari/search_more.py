"""The menus of the dock "Similarity search": other ways to ask, and ways out for what was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Layer
from numpy.typing import NDArray
from PIL import Image
from qtpy.QtCore import QObject
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QFileDialog, QMenu

from napari_virchow._napari.object_layers import objects_in
from napari_virchow._napari.search_options import SlidesDialog
from napari_virchow._napari.search_saved import PICTURE_PX, SavedDialog
from napari_virchow._napari.shape_tiles import shapes_to_use, tiles_of_shapes
from napari_virchow._napari.tasks import Tasks
from napari_virchow._napari.thumbnails import to_qimage
from napari_virchow.pictures import SlidesAtHand, read_picture
from napari_virchow.qupath.kept import KeptObjects
from napari_virchow.qupath.objects import flatten
from napari_virchow.qupath.regions import tiles_of_objects
from napari_virchow.search import Example, Hits
from napari_virchow.search.export import write_csv, write_gallery, write_geojson
from napari_virchow.search.saved import SavedQuery
from napari_virchow.slide import SlideError
from napari_virchow.tiles import Tile, TileGrid

if TYPE_CHECKING:
    from napari_virchow._napari.search import SearchWidget

IMAGES = "Images (*.png *.jpg *.jpeg *.tif *.tiff *.bmp);;All files (*)"
NO_SHAPES = "Draw shapes first: Layers > New shapes layer, or its button above the list of layers."
SHAPES_TIP = "Of a layer of shapes, or of QuPath's annotations: the chosen ones, else all"
Pictures = NDArray[np.uint8]


class SearchMore(QObject):
    """Fills the menus "More" and "Export" of the dock, and does what they say.

    Parameters
    ----------
    dock : SearchWidget
    """

    def __init__(self, dock: SearchWidget) -> None:
        super().__init__(dock)
        self._dock = dock
        self._tasks = Tasks(self)
        self._images: dict[str, QImage] = {}  # pictures of image files, by name
        self._pixels: dict[str, Pictures] = {}
        self.dialog: SavedDialog | None = None
        dock.page.query.images = self._images
        more, export = dock.page.query.menu, QMenu(dock)
        self._fill(
            more,
            ("Image file…", "Find tiles that look like the middle of an image", self._ask_image),
            ("Tiles inside drawn shapes", SHAPES_TIP, self.add_shapes),
            ("Saved searches…", "Keep this search, or use one that was kept", self.show_saved),
        )
        self._fill(
            export,
            ("Table (CSV)…", "One line per hit", self._ask_csv),
            ("QuPath (GeoJSON)…", "Tiles with their scores, one file per slide", self._ask_geojson),
            ("Picture (PNG)…", "The gallery with scores and scale bars", self._ask_picture),
        )
        export.addSeparator()
        self.only_chosen = export.addAction("Only the chosen hits")
        self.only_chosen.setCheckable(True)
        dock.page.export.setMenu(export)
        dock.page.options.choose_wanted.connect(self.choose_slides)

    @staticmethod
    def _fill(menu: QMenu, *entries: tuple[str, str, Callable[[], object]]) -> None:
        menu.setToolTipsVisible(True)
        for words, tip, action in entries:
            menu.addAction(words, action).setToolTip(tip)

    # ---- other ways to ask

    def add_image(self, path: str) -> None:
        """Take an image file as an example, or as a counter-example; embeds it in a worker."""
        similarity, positive = self._dock.similarity, self._positive

        def work() -> tuple[Example, Pictures]:
            example = similarity.read_image(path)
            with Image.open(path) as image:
                small = image.convert("RGB")
                small.thumbnail((4 * PICTURE_PX, 4 * PICTURE_PX))
                return example, _square(np.asarray(small))

        def done(made: tuple[Example, Pictures]) -> None:
            self._keep(made[0], made[1])
            self._dock.page.said.say("")
            similarity.add_examples([made[0]], positive)

        self._dock.page.said.say(f"Embedding {Path(path).name}…")
        self._tasks.run(work, done=done, failed=self._fail)

    def add_shapes(self) -> None:
        """Take the tiles inside drawn shapes as examples, or as counter-examples."""
        dock = self._dock
        layer = shapes_to_use(dock.viewer)
        if layer is None or dock.grid is None or dock.layer is None:
            dock.page.alert.say(NO_SHAPES)
            return
        done = partial(self._add_inside, layer, dock.layer, dock.grid, self._positive)
        drawn, slide = objects_in(dock.viewer, layer), dock.page.slide_box.slide_of(dock.layer)
        if drawn is None:
            done(tiles_of_shapes(layer, dock.layer, dock.grid))
        elif slide is None or drawn.slide.identity != slide.identity:
            done(())
        else:  # there may be thousands
            work = partial(_tiles_of_chosen, drawn.kept, drawn.chosen, dock.grid)
            self._tasks.run(work, done=done, failed=self._fail)

    def _add_inside(
        self, layer: Layer, below: Layer, grid: TileGrid, positive: bool, tiles: Sequence[Tile]
    ) -> None:
        dock = self._dock
        if dock.layer is not below or dock.grid != grid:
            return  # something else is looked at by now
        if tiles:
            dock.add(tiles, positive)
        else:
            dock.page.alert.say(f"The shapes of {layer.name} lie beside the slide.")

    def show_saved(self) -> None:
        """Show the saved searches."""
        if self.dialog is not None:
            return
        dialog = SavedDialog(
            self._dock.similarity, self._pictures, self._dock.viewer.theme, self._dock
        )
        self.dialog = dialog
        dialog.asked.connect(self._on_asked)
        dialog.destroyed.connect(self._on_dialog_gone)
        dialog.open()

    def choose_slides(self) -> None:
        """Ask which slides to search."""
        session, similarity = self._dock.session, self._dock.similarity

        def names() -> dict[str, str]:
            found = {info.slide for info in session.stored()}
            return {slide: similarity.describe(slide)[0] for slide in found}

        self._tasks.run(names, done=self._ask_slides, failed=self._fail)

    def _ask_slides(self, names: dict[str, str]) -> None:
        options = self._dock.similarity.query.options
        dialog = SlidesDialog(names, options.slides, self._dock)
        dialog.accepted.connect(
            lambda: self._dock.similarity.set_options(
                replace(options, scope="chosen", slides=dialog.slides)
            )
        )
        dialog.open()

    @property
    def _positive(self) -> bool:
        return not self._dock.page.query.unlike.isChecked()

    def _ask_image(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self._dock, "Find tiles like an image", "", IMAGES)
        for name in names:
            self.add_image(name)

    def _on_dialog_gone(self, *_: object) -> None:
        self.dialog = None

    def _on_asked(self, saved: SavedQuery, pictures: Pictures | None) -> None:
        """Show the kept pictures of examples that are on no slide."""
        query = self._dock.similarity.query
        examples = (*query.positives, *query.negatives)
        for example, one in zip(examples, () if pictures is None else pictures, strict=False):
            if not example.slide:
                self._keep(example, one)
        self._dock.page.said.say(f"Searching “{saved.name}”.")
        self._dock.page.query.redraw()

    def _keep(self, example: Example, pixels: Pictures) -> None:
        self._pixels[example.name] = pixels
        self._images[example.name] = to_qimage(pixels)

    def _pictures(self) -> Pictures:
        """Return pictures (n, 48, 48, 3) of the present examples, positives first; blocks."""
        similarity = self._dock.similarity
        query, kind = similarity.query, similarity.kind
        examples = (*query.positives, *query.negatives)
        out = np.full((len(examples), PICTURE_PX, PICTURE_PX, 3), 200, np.uint8)
        with closing(SlidesAtHand(self._dock.session)) as slides:
            for number, example in enumerate(examples):
                out[number] = self._picture(slides, example, 0.5 if kind is None else kind.mpp)
        return out

    def _picture(self, slides: SlidesAtHand, example: Example, mpp: float) -> Pictures:
        grey = np.full((PICTURE_PX, PICTURE_PX, 3), 200, np.uint8)
        if not example.slide:
            return self._pixels.get(example.name, grey)
        try:
            slide = slides.get(example.slide)
            rect = slide.grid(example.mpp or mpp).rect(example.tile)
            return read_picture(slide, rect, PICTURE_PX)
        except (SlideError, ValueError):
            return grey

    # ---- ways out

    def export_csv(self, path: str) -> None:
        """Write the hits as a table."""
        self._export(path, lambda hits, _: write_csv(path, hits))

    def export_geojson(self, path: str) -> None:
        """Write the hits for QuPath."""
        self._export(path, lambda hits, slides: write_geojson(path, hits, slides))

    def export_picture(self, path: str) -> None:
        """Write the gallery as a picture."""
        self._export(path, lambda hits, slides: write_gallery(path, hits, slides))

    def _ask_csv(self) -> None:
        self._ask("Export hits as a table", "hits.csv", self.export_csv)

    def _ask_geojson(self) -> None:
        self._ask("Export hits for QuPath", "hits.geojson", self.export_geojson)

    def _ask_picture(self) -> None:
        self._ask("Export the gallery", "hits.png", self.export_picture)

    def _ask(self, title: str, name: str, write: Callable[[str], None]) -> None:
        if self._hits() is None:
            self._dock.page.alert.say("There are no hits to export: search for something first.")
            return
        path, _ = QFileDialog.getSaveFileName(self._dock, title, name)
        if path:
            write(path if Path(path).suffix else f"{path}{Path(name).suffix}")

    def _hits(self) -> Hits | None:
        """Return what is to be exported."""
        answer = self._dock.answer
        if answer is None or not len(answer.hits):
            return None
        if not self.only_chosen.isChecked():
            return answer.hits
        numbers = self._dock.page.gallery.chosen_numbers
        return part_of(answer.hits, numbers) if len(numbers) else None

    def _export(self, path: str, write: Callable[[Hits, SlidesAtHand], object]) -> None:
        hits, session = self._hits(), self._dock.session
        if hits is None:
            self._dock.page.alert.say("No hits are chosen: choose some in the gallery first.")
            return
        page = self._dock.page

        def work() -> None:
            with closing(SlidesAtHand(session)) as slides:
                write(hits, slides)

        page.said.say(f"Writing {Path(path).name}…")
        self._tasks.run(
            work,
            done=lambda _: page.said.say(f"{len(hits):,} hits written to {path}."),
            failed=self._fail,
        )

    def _fail(self, error: Exception) -> None:
        self._dock.page.said.say("")
        self._dock.page.alert.say(str(error) or type(error).__name__)


def _tiles_of_chosen(kept: KeptObjects, ids: set[str], grid: TileGrid) -> list[Tile]:
    return tiles_of_objects([one for one in flatten(kept.objects) if one.id in ids], grid)


def part_of(hits: Hits, numbers: NDArray[np.intp]) -> Hits:
    """Return some of the hits, best first."""
    numbers = np.sort(numbers)
    return replace(
        hits,
        of=hits.of[numbers],
        tiles=hits.tiles[numbers],
        scores=hits.scores[numbers],
        variety=np.arange(len(numbers), dtype=np.intp),
    )


def _square(pixels: Pictures) -> Pictures:
    """Return the middle of a picture, 48 x 48."""
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    middle = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(middle.resize((PICTURE_PX, PICTURE_PX)))
