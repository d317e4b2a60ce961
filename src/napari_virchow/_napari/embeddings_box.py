"""Embeddings of another tool: what the file does not say is asked, then they are kept."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QLineEdit,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.embeddings_words import asked_here, coming_words, kept_words
from napari_virchow._napari.parts import Bar, Note, button
from napari_virchow._napari.tasks import Tasks
from napari_virchow.interop.checking import Check
from napari_virchow.interop.coming import Answers, Coming, look_at, verify
from napari_virchow.interop.stored import imported_identity, store_embeddings
from napari_virchow.interop.table import InteropError

if TYPE_CHECKING:
    from napari_virchow._napari.import_box import Here

Kept = tuple[Coming, Check | None, str]


class EmbeddingsBox(QWidget):
    """The form for a file of embeddings. `kept` follows with a sentence, and a warning or ""."""

    kept = Signal(str, str)

    def __init__(self) -> None:
        super().__init__()
        self.here: Here | None = None
        self.path = Path()
        self.form = ""
        self.places: Path | None = None
        self.coming: Coming | None = None
        self._generation = 0
        self._tasks = Tasks(self)
        self._build()
        self.hide()

    def _build(self) -> None:
        self.facts = Note()
        self.alert = Note(alert=True)
        self.encoder = QLineEdit()
        self.encoder.setPlaceholderText("as the file says")
        self.encoder.setToolTip("Which encoder made the embeddings, if the file does not say it")
        self.side = QDoubleSpinBox()
        self.side.setRange(0, 100_000)
        self.side.setSpecialValueText("as the file says")
        self.side.setSuffix(" px")
        self.side.setKeyboardTracking(False)
        self.side.setToolTip("Side of a tile in pixels of the slide's finest level")
        self.choose = button("Choose…", "CLAM's file of where the tiles are: patches/<slide>.h5")
        self.key = QLineEdit()
        self.key.setPlaceholderText("the only one")
        self.key.setToolTip("Name of the matrix or table, where the file has several")
        self.spatial = QComboBox()
        for title, value in (("As the file says", None), ("Corners", "corner")):
            self.spatial.addItem(title, value)
        self.spatial.addItem("Centres", "centre")
        self.spatial.setToolTip("What obsm['spatial'] is of a tile: LazySlide and squidpy differ")
        for widget in (self.side, self.spatial):
            widget.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.snap = QCheckBox("Take each tile as the nearest of the grid")
        self.snap.setToolTip("For tiles that lie between those of a grid: at most half a tile off")
        self.check = QCheckBox("Verify with the encoder, if it is here")
        self.check.setToolTip("Embed 16 of the tiles again and compare; nothing is downloaded")
        self.check.setChecked(True)
        self.take = button("Import", "Keep these embeddings for this slide", wide=True)
        self.bar = Bar()
        self.bar.setRange(0, 0)
        self.bar.setTextVisible(False)
        self.bar.hide()
        self._lay_out()
        for line in (self.encoder, self.key):
            line.editingFinished.connect(self.refresh)
        self.side.valueChanged.connect(self.refresh)
        self.spatial.currentIndexChanged.connect(self.refresh)
        self.snap.toggled.connect(self.refresh)
        self.choose.clicked.connect(self._on_choose)
        self.take.clicked.connect(self._on_take)

    def _lay_out(self) -> None:
        self.rows = QFormLayout()
        self.rows.setContentsMargins(0, 0, 0, 0)
        self.rows.addRow("Encoder", self.encoder)
        self.rows.addRow("Tile side", self.side)
        self.rows.addRow("Tile places", self.choose)
        self.rows.addRow("Matrix", self.key)
        self.rows.addRow("Places are", self.spatial)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(self.rows)
        for widget in (self.snap, self.check, self.facts, self.alert, self.take, self.bar):
            column.addWidget(widget)

    def show_file(self, here: Here | None, form: str, path: Path) -> None:
        """Ask about a file of embeddings of a slide; None hides the form."""
        self.here, self.form, self.path = here, form, path
        self.places = None
        self._generation += 1
        self.setVisible(here is not None)
        if here is None:
            return
        for widget in (self.encoder, self.side, self.key, self.spatial, self.snap):
            widget.blockSignals(True)
        self.encoder.clear()
        self.key.clear()
        self.side.setValue(0)
        self.spatial.setCurrentIndex(0)
        self.snap.setChecked(False)
        for widget in (self.encoder, self.side, self.key, self.spatial, self.snap):
            widget.blockSignals(False)
        self.choose.setText("Choose…")
        self.rows.setRowVisible(self.choose, form == "clam")
        self.rows.setRowVisible(self.key, form in ("anndata", "spatialdata"))
        self.rows.setRowVisible(self.spatial, form == "anndata")
        self.refresh()

    @property
    def answers(self) -> Answers:
        """What the form says."""
        return Answers(
            encoder=self.encoder.text().strip() or None,
            side=self.side.value() or None,
            places=self.places,
            key=self.key.text().strip() or None,
            spatial=self.spatial.currentData(),
            snap=self.snap.isChecked(),
        )

    def take_places(self, path: Path | str) -> None:
        """Take CLAM's places of the tiles from a file of their own."""
        self.places = Path(path)
        self.choose.setText(self.places.name)
        self.refresh()

    def refresh(self, *_: object) -> None:
        """Read the file with the answers so far, in a worker, and say what would be kept."""
        here = self.here
        if here is None:
            return
        self._generation += 1
        generation = self._generation
        self.coming = None
        self.take.setEnabled(False)
        self.alert.say("")
        self.facts.say(f"Reading {self.path.name}…")
        look = partial(look_at, self.form, self.path, here.slide, self.answers)

        def work() -> tuple[Coming, str]:
            coming = look()
            return coming, coming_words(coming)

        self._tasks.run(
            work,
            done=lambda found: self._on_looked(generation, *found),
            failed=lambda error: self._on_refused(generation, error),
        )

    def _on_looked(self, generation: int, coming: Coming, words: str) -> None:
        if generation == self._generation:
            self.coming = coming
            self.facts.say(words)
            self.take.setEnabled(True)

    def _on_refused(self, generation: int, error: Exception) -> None:
        if generation == self._generation:
            self.facts.say(f"{self.path.name} ({self.form}) holds embeddings.")
            self.alert.say(asked_here(str(error)))

    # ---- taking over

    def _on_take(self) -> None:
        here, coming = self.here, self.coming
        if here is None or coming is None:
            return
        self.setEnabled(False)
        self.bar.show()
        self.alert.say("")
        generation = self._generation
        teller = self._tasks.teller(self.facts.say)
        asked = None if self.check.isChecked() else "no"

        def work() -> Kept:
            teller("Embedding some tiles again…" if asked is None else "Storing…")
            check, unchecked = verify(coming, here.slide, asked=asked)
            teller("Storing…")
            _store(here, coming, check)
            return coming, check, unchecked

        self._tasks.run(
            work,
            done=self._on_kept,
            failed=lambda error: self._on_failed(generation, error),
        )

    def _on_kept(self, found: Kept) -> None:
        coming, check, unchecked = found
        self._ready()
        warning = "" if check is None else check.problem
        self.kept.emit(kept_words(coming, check, unchecked), warning)

    def _on_failed(self, generation: int, error: Exception) -> None:
        self._ready()
        self._on_refused(generation, error)

    def _ready(self) -> None:
        self.bar.hide()
        self.setEnabled(True)

    def _on_choose(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Places of the tiles", "", "HDF5 (*.h5)")
        if name:
            self.take_places(name)


def _store(here: Here, coming: Coming, check: Check | None) -> None:
    """Keep embeddings; the session lets go of those that they replace first."""
    session, slide = here.session, here.slide
    rows = coming.table.embeddings
    if rows is None:
        raise InteropError(f"{coming.table.path} has places of tiles but no embeddings.")
    identity = imported_identity(coming.encoder, rows.shape[1], coming.table.form)
    for old in session.stored(slide):
        if (old.encoder, old.grid) == (identity, coming.placed.grid.name):
            session.delete_stored(old)
    keep = partial(store_embeddings, coming.table, coming.placed, session.store, slide.identity)
    keep(encoder=coming.encoder, check=check)
