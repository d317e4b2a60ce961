"""Which tiles are on the map: of this slide, of open ones, of chosen ones, or all there are."""

from __future__ import annotations

from qtpy.QtCore import QObject, Signal

from napari_virchow._napari.grid_choice import grid_at
from napari_virchow._napari.map_page import MapPage
from napari_virchow._napari.search_options import SlidesDialog
from napari_virchow._napari.tasks import Tasks
from napari_virchow.labels import LabelSet
from napari_virchow.mapping import Scope
from napari_virchow.memory import recall_slide
from napari_virchow.session import Session
from napari_virchow.slide import Slide
from napari_virchow.tiles import TileGrid


class MapScope(QObject):
    """Reads the choice off the page, and asks which slides where that is to be chosen.

    Parameters
    ----------
    session : Session
    page : MapPage
    parent : QObject
        Ends with it.
    """

    changed = Signal()
    failed = Signal(object)

    def __init__(self, session: Session, page: MapPage, parent: QObject) -> None:
        super().__init__(parent)
        self._session, self._page = session, page
        self._tasks = Tasks(self)
        self._slide: Slide | None = None
        self._chosen: tuple[str, ...] = ()
        self._before = 0
        self.dialog: SlidesDialog | None = None
        page.scope.activated.connect(self._on_activated)
        page.sizes.currentIndexChanged.connect(lambda _: self.changed.emit())

    def look_at(self, slide: Slide | None, labels: LabelSet | None) -> None:
        """Take in which slide is looked at, and offer its tile sizes."""
        self._slide = slide
        self._page.sizes.fill(slide, self._session.encoder, labels)

    @property
    def mpp(self) -> float | None:
        """The tile size that is chosen, in µm per pixel."""
        value = self._page.sizes.currentData()
        return None if value is None else float(value)

    @property
    def grid(self) -> TileGrid | None:
        """The grid in use on the slide that is looked at."""
        return grid_at(self._slide, self.mpp)

    @property
    def scope(self) -> Scope | None:
        """What is to be mapped; None while there is no slide to go by."""
        if self.mpp is None or self._slide is None:
            return None
        which = self._page.scope.currentData()
        if which == "store":
            return Scope(self.mpp)
        if which == "chosen":
            return Scope(self.mpp, self._chosen)
        slides = {self._slide.identity}
        if which == "open":
            box = self._page.slide_box
            found = (box.slide_of(layer) or layer.metadata.get("slide") for layer in box.layers)
            slides |= {slide.identity for slide in found if slide is not None}
        return Scope(self.mpp, tuple(sorted(slides)))

    def _on_activated(self, index: int) -> None:
        if self._page.scope.itemData(index) != "chosen":
            self._before = index
            self.changed.emit()
            return
        self._tasks.run(self._names, done=self._ask, failed=self.failed.emit)

    def _names(self) -> dict[str, str]:
        """Find the slides that can be mapped; in a worker."""
        encoder, mpp, root = self._session.encoder, self.mpp, self._session.store
        identity = "" if encoder is None else encoder.identity
        return {
            one.slide: recall_slide(root, one.slide).name or one.slide
            for one in self._session.stored()
            if (one.encoder, one.mpp) == (identity, mpp)
        }

    def _ask(self, names: dict[str, str]) -> None:
        dialog = self.dialog = SlidesDialog(names, self._chosen, self._page)
        dialog.setWindowTitle("Map which slides?")
        dialog.accepted.connect(lambda: self._take(dialog.slides))
        dialog.rejected.connect(lambda: self._page.scope.setCurrentIndex(self._before))
        dialog.destroyed.connect(self._on_dialog_gone)
        dialog.open()

    def _on_dialog_gone(self) -> None:
        self.dialog = None

    def _take(self, slides: tuple[str, ...]) -> None:
        self._chosen = tuple(sorted(slides))
        at = self._page.scope.findData("chosen")
        self._before = at
        self._page.scope.setItemText(at, f"{len(slides)} chosen…")
        self.changed.emit()
