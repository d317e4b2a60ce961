"""A file of QuPath or another tool, a drop or the clipboard is looked into, then taken over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QRadioButton,
    QSizePolicy,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_virchow._napari.embeddings_box import EmbeddingsBox
from napari_virchow._napari.grid_choice import GridChoice
from napari_virchow._napari.import_forms import ENDINGS, Theirs, looked_into
from napari_virchow._napari.import_words import class_colors, plan_words
from napari_virchow._napari.parts import Note, button, swatch
from napari_virchow._napari.tasks import Tasks
from napari_virchow.qupath.frame import Frame, FrameError, SlideBox, in_words
from napari_virchow.qupath.incoming import (
    CLIPBOARD,
    Incoming,
    look_into_text,
    put_into,
)
from napari_virchow.qupath.kept import KeptObjects
from napari_virchow.qupath.labelling import ImportPlan, apply_import, plan_import
from napari_virchow.qupath.objects import ObjectType
from napari_virchow.qupath.servers import frame_named
from napari_virchow.session import Session
from napari_virchow.slide import Slide, SlideError

if TYPE_CHECKING:
    from napari_virchow.qupath.regions import Rule

FILTER = f"All that can be imported ({' '.join('*' + end for end in ENDINGS)});;All files (*)"
MIME = "application/geo+json"
TURNS = ("whole", "bounds", "whole+90", "whole+180", "whole+270")
_SHOWN = 300  # malformed features that are listed


@dataclass(frozen=True, slots=True, eq=False)
class Here:
    """The slide that the dock is at, and what is kept of it."""

    session: Session
    slide: Slide
    kept: KeptObjects

    @property
    def box(self) -> SlideBox:
        """The slide as frames know it."""
        return SlideBox.of(self.slide)


class ImportBox(QWidget):
    """The part of the dock that takes objects in. `taken` follows with a sentence."""

    taken = Signal(str)
    told = Signal(str)
    failed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.here: Here | None = None
        self.incoming: Incoming | None = None
        self.plan: ImportPlan | None = None
        self._generation = 0
        self._tasks = Tasks(self)
        self._build()
        self.bind(None)

    def _build(self) -> None:
        self.open = button("Choose file…", "Objects of QuPath and other tools, or embeddings")
        self.paste = button("Paste", "Take what was copied in QuPath (Ctrl+C on a selection)")
        self.folder = button("Folder…", "Embeddings of LazySlide, or AnnData, in a folder .zarr")
        self.hint = Note(
            "Or drop a file here: GeoJSON, ASAP, WSInfer, or embeddings of TRIDENT, CLAM, AnnData "
            "or SpatialData. What it is, is told by its content."
        )
        self.embeddings = EmbeddingsBox()
        self.facts = Note()
        self.alert = Note(alert=True)
        self.tree = QTreeWidget()
        self.tree.setColumnCount(2)
        self.tree.setHeaderLabels(["In the file", "Objects"])
        self.tree.setRootIsDecorated(False)
        self.tree.setIconSize(QSize(10, 10))
        self.tree.setAccessibleName("Objects in the file by class")
        self.frame = QComboBox()
        self.frame.setToolTip("Which part of the slide QuPath showed when the objects were made")
        self.frame.setAccessibleName("Frame")
        self.frame.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.as_objects = QRadioButton("Annotations to see and edit")
        self.as_objects.setToolTip("Keep every object as it is, and go on editing it here")
        self.as_objects.setChecked(True)
        self.as_labels = QRadioButton("Labels of tiles")
        self.as_labels.setToolTip("Give the tiles in annotations of a class that class as a label")
        self.grid = GridChoice()
        self.rule = QComboBox()
        self.rule.addItem("Its centre lies in an annotation", "centre")
        self.rule.addItem("At least half of it does", "half")
        self.rule.setToolTip("When a tile gets the class of an annotation")
        self.rule.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.planned = Note()
        self.take = button("Import", "Take over what is shown above", wide=True)
        self._lay_out()
        self.open.clicked.connect(self._on_open)
        self.folder.clicked.connect(self._on_folder)
        self.embeddings.kept.connect(self._on_kept)
        self.paste.clicked.connect(self.paste_text)
        self.frame.activated.connect(self._on_frame)
        self.as_labels.toggled.connect(self._replan)
        self.grid.currentIndexChanged.connect(self._replan)
        self.rule.currentIndexChanged.connect(self._replan)
        self.take.clicked.connect(self._on_take)

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        for widget in (self.open, self.folder, self.paste):
            row.addWidget(widget)
        row.addStretch()
        self.found = QWidget()
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Frame", self.frame)
        self.options = QWidget()
        sub = QFormLayout(self.options)
        sub.setContentsMargins(16, 0, 0, 0)
        sub.addRow("Tiles", self.grid)
        sub.addRow("A tile if", self.rule)
        inner = QVBoxLayout(self.found)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(4)
        inner.addWidget(self.tree)
        inner.addLayout(form)
        for widget in (self.as_objects, self.as_labels, self.options, self.planned, self.take):
            inner.addWidget(widget)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 6, 4, 4)
        column.setSpacing(4)
        column.addLayout(row)
        for widget in (self.hint, self.facts, self.alert, self.found, self.embeddings):
            column.addWidget(widget)
        column.addStretch()

    # ---- what comes in

    def bind(self, here: Here | None) -> None:
        """Work on a slide from now on."""
        self.here = here
        for widget in (self.open, self.folder, self.paste):
            widget.setEnabled(here is not None)
        self._show(None)
        if here is not None:
            encoder = here.session.encoder
            self.grid.fill(here.slide, encoder, here.session.labels, (0.25, 0.5, 1.0, 2.0))

    def look_into(self, path: Path | str) -> None:
        """Read a file in a worker and show what is in it."""
        if self.here is not None:
            self._look(partial(looked_into, Path(path)), Path(path).name)

    def paste_text(self) -> None:
        """Show what is on the clipboard."""
        data = QApplication.clipboard().mimeData()
        text = data.text() if data is not None else ""
        if data is not None and data.hasFormat(MIME):
            text = bytes(data.data(MIME).data()).decode("utf-8", "replace")
        if not text.strip():
            self.alert.say("The clipboard is empty: copy objects in QuPath first.")
        elif self.here is not None:
            self._look(partial(look_into_text, text), CLIPBOARD)

    def _look(self, look: Callable[..., Incoming | Theirs], name: str) -> None:
        here = self.here
        if here is None:
            return
        self._show(None)
        self.facts.say(f"Reading {name}…")
        generation = self._generation
        self._tasks.run(
            look,
            here.box,
            here.slide.identity,
            done=lambda incoming: self._on_looked(generation, incoming),
            failed=lambda error: self._on_refused(generation, error),
        )

    def _on_looked(self, generation: int, incoming: Incoming | Theirs) -> None:
        if generation != self._generation:
            return
        if isinstance(incoming, Incoming):
            self._show(incoming)
        else:
            self._show(None)
            self.hint.hide()
            self.embeddings.show_file(self.here, *incoming)

    def _on_refused(self, generation: int, error: Exception) -> None:
        if generation == self._generation:
            self.facts.say("")
            self.alert.say(str(error))

    # ---- what is shown of it

    def _show(self, incoming: Incoming | None) -> None:
        self._generation += 1
        self.incoming, self.plan = incoming, None
        self.found.setVisible(incoming is not None)
        self.embeddings.show_file(None, "", Path())
        self.hint.setVisible(incoming is None)
        self.alert.say("")
        self.facts.say("")
        if incoming is None or self.here is None:
            return
        n = incoming.n
        self.facts.say(f"{incoming.name}: {n:,} {'object' if n == 1 else 'objects'}")
        self._fill_tree(incoming)
        self._fill_frames(incoming, self.here.box)
        self._show_verdict(incoming)
        self._replan()

    def _fill_tree(self, incoming: Incoming) -> None:
        self.tree.clear()
        colors = class_colors(incoming)
        for kind, classes in incoming.counts.items():
            for name, n in classes.items():
                item = QTreeWidgetItem([f"{name} · {kind}", f"{n:,}"])
                item.setIcon(0, swatch(colors.get(name, "#888888")))
                item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight)
                self.tree.addTopLevelItem(item)
        problems = incoming.found.problems
        for problem in problems[:_SHOWN]:
            item = QTreeWidgetItem([f"Number {problem.index}: {problem.reason}", "left out"])
            item.setToolTip(0, item.text(0))
            item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight)
            self.tree.addTopLevelItem(item)
        if len(problems) > _SHOWN:
            self.tree.addTopLevelItem(QTreeWidgetItem([f"and {len(problems) - _SHOWN:,} more", ""]))
        self.tree.setColumnWidth(0, 200)
        rows = min(9, self.tree.topLevelItemCount()) + 1
        self.tree.setFixedHeight(rows * 21 + 8)

    def _fill_frames(self, incoming: Incoming, box: SlideBox) -> None:
        self.frame.clear()
        known = incoming.frame
        if known is None:
            self.frame.addItem("Choose…", None)
        names = [name for name in TURNS if box.bounds is not None or not name.startswith("bounds")]
        frames = [frame_named(name, box) for name in names]
        if known is not None and known not in frames:
            frames.insert(0, known)
        for frame in frames:
            size = in_words((frame.width, frame.height))
            self.frame.addItem(f"{frame.name} ({size})", frame)
            if frame == known:
                self.frame.setCurrentIndex(self.frame.count() - 1)

    def _show_verdict(self, incoming: Incoming) -> None:
        said = [incoming.refusal]
        n_bad = len(incoming.found.problems)
        if n_bad:
            said.append(f"{n_bad:,} cannot be read and {'is' if n_bad == 1 else 'are'} left out.")
        if incoming.outside:
            said.append(f"{incoming.outside:,} lie beside the slide.")
        self.alert.say(" ".join(part for part in said if part))

    def _on_frame(self) -> None:
        frame = self.frame.currentData()
        incoming, here = self.incoming, self.here
        if not isinstance(frame, Frame) or incoming is None or here is None:
            return
        generation = self._generation
        self._tasks.run(
            put_into,
            incoming,
            frame,
            here.box,
            done=lambda placed: self._on_looked(generation, placed),
            failed=lambda error: self._on_refused(generation, error),
        )

    def _replan(self, *_: object) -> None:
        """Work out what labels would come of it."""
        incoming, here = self.incoming, self.here
        self.plan = None
        ready = incoming is not None and incoming.frame is not None and incoming.n > 0
        self.options.setVisible(self.as_labels.isChecked())
        self.take.setEnabled(ready and self.as_objects.isChecked())
        self.planned.say("")
        if incoming is None or here is None or not ready:
            return
        if self.as_objects.isChecked():
            self._show_objects_plan(incoming, here)
            return
        mpp, rule = self.grid.currentData(), self.rule.currentData()
        if mpp is None:
            self.planned.say("Tiles need the size of a pixel of this slide: set it above.")
            return
        self.planned.say("Looking which tiles lie in annotations…")
        self._tasks.run(
            _plan,
            here,
            incoming,
            float(mpp),
            rule,
            done=lambda plan: self._on_planned(incoming, rule, plan),
            failed=self._on_unplanned,
        )

    def _show_objects_plan(self, incoming: Incoming, here: Here) -> None:
        again = sum(here.kept.get(one.id) is not None for one in incoming.objects[:5000])
        if again:
            self.planned.say(f"{again:,} of them are here already and are replaced.")

    def _on_planned(self, incoming: Incoming, rule: str, plan: ImportPlan) -> None:
        if incoming is not self.incoming or rule != self.rule.currentData():
            return
        self.plan = plan
        self.take.setEnabled(self.as_labels.isChecked() and plan.n_tiles > 0)
        self.planned.say(plan_words(plan))

    def _on_unplanned(self, error: Exception) -> None:
        self.planned.say(str(error))

    # ---- taking over

    def _on_take(self) -> None:
        incoming, here, plan = self.incoming, self.here, self.plan
        if incoming is None or here is None:
            return
        self.take.setEnabled(False)
        if self.as_objects.isChecked():
            text = f"import {incoming.n:,} objects"
            work = partial(here.kept.add, incoming.objects, text)
            self._tasks.run(work, done=self._on_added, failed=self.failed.emit)
        elif plan is not None:
            labels = here.session.labels
            self._tasks.run(
                apply_import, labels, plan, done=self._on_labelled, failed=self.failed.emit
            )

    def _on_added(self, counts: tuple[int, int]) -> None:
        new, replaced = counts
        self._show(None)
        also = f", {replaced:,} replaced" if replaced else ""
        self.taken.emit(f"{new:,} imported{also}. Undo takes it back.")

    def _on_labelled(self, n: int) -> None:
        self._show(None)
        self.taken.emit(f"{n:,} tiles labelled. Undo in Tile classification takes it back.")

    def _on_kept(self, sentence: str, warning: str) -> None:
        self._show(None)
        self.told.emit(sentence)
        self.alert.say(warning)

    def _on_open(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Import", "", FILTER)
        if name:
            self.look_into(name)

    def _on_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Import a folder of embeddings")
        if name:
            self.look_into(name)


def _plan(here: Here, incoming: Incoming, mpp: float, rule: Rule) -> ImportPlan:
    try:
        grid = here.slide.grid(mpp)
    except SlideError as error:
        raise FrameError(str(error)) from error
    kinds: tuple[ObjectType, ...] = ("annotation",)
    if "annotation" not in incoming.counts:
        kinds = ("tile", "detection", "cell")
    objects = list(incoming.objects)
    return plan_import(here.session.labels, objects, here.slide.identity, grid, rule, kinds=kinds)
