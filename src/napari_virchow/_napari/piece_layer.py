"""A Shapes or Points layer whose rows are pieces of objects, and what a user changed in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from napari.layers import Points, Shapes
from napari.layers.base import ActionType
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_virchow.qupath.drawing import Kind, Piece, drawn_piece, edited_piece

SLICE_S = 0.02  # how long rows are added at a time, so that napari stays fluid
REDRAWN = 400  # rows that can get another line width in one go
POINT = 4  # how many times wider than lines points are
Row = tuple[str, Piece, str]  # object, piece, colour
_SHAPE_TYPES = {"ring": "path", "line": "path", "ellipse": "ellipse"}
_KINDS: dict[str, Kind] = {
    "polygon": "ring",
    "rectangle": "ring",
    "ellipse": "ellipse",
    "path": "line",
    "line": "line",
}


@dataclass(frozen=True, slots=True)
class Edit:
    """What a user did.

    Attributes
    ----------
    ids : tuple of str
        Objects that were moved, reshaped or taken away.
    untidy : tuple of str
        Those of them that are not drawn as they should be now.
    made : tuple of Piece
        What is new.
    """

    ids: tuple[str, ...]
    untidy: tuple[str, ...]
    made: tuple[Piece, ...]


class PieceLayer(QObject):
    """Keeps the rows of a layer and the pieces that they are in step.

    Parameters
    ----------
    make : callable
        Makes the layer, and adds it to the viewer, from a line width in level-0 pixels.
    width : float
        That width.
    parent : QObject
        Ends with it.
    """

    edited = Signal()
    selected = Signal(tuple)
    fed = Signal()

    def __init__(self, make: Callable[[float], Any], width: float, parent: QObject) -> None:
        super().__init__(parent)
        self._make, self._width = make, width
        self.layer: Any = None
        self._rows: list[tuple[str, Piece]] = []
        self._queue: deque[Row] = deque()
        self._quiet = 0
        self._touched: dict[str, None] = {}
        self._untidy: dict[str, None] = {}
        self._at_once = 8
        # What a user does is told when napari is through with it, and as one step.
        self._tell = QTimer(self)
        self._tell.setSingleShot(True)
        self._tell.setInterval(0)
        self._tell.timeout.connect(self.edited)
        self._timer = QTimer(self)
        self._timer.setInterval(1)
        self._timer.timeout.connect(self._feed)

    # ---- what is drawn

    @property
    def ids(self) -> set[str]:
        """The objects that have rows."""
        return {uid for uid, _ in self._rows}

    @property
    def feeding(self) -> bool:
        """Whether rows are still being added."""
        return self._timer.isActive()

    @property
    def chosen(self) -> tuple[str, ...]:
        """The objects of the rows that are selected."""
        selected = () if self.layer is None else self.layer.selected_data
        rows = sorted(n for n in selected if n < len(self._rows))
        return tuple(dict.fromkeys(self._rows[n][0] for n in rows))

    def pieces(self, uid: str) -> list[Piece]:
        """Return the pieces of an object that are drawn."""
        return [piece for owner, piece in self._rows if owner == uid]

    def needed(self) -> Any:
        """Return the layer, made if it is not there."""
        if self.layer is None:
            self._rows = []
            self.layer = self._make(self._width)
            self.layer.events.data.connect(self._on_data)
            self.layer.selected_data.events.items_changed.connect(self._on_selection)
        return self.layer

    def feed(self, rows: Sequence[Row]) -> None:
        """Draw these rows and nothing else, a slice at a time; `fed` follows."""
        self._queue = deque(rows)
        if self.layer is not None and self._rows:
            with self.quiet():
                self._take_out(range(len(self._rows)))
        self._timer.start()

    def replace(self, ids: Sequence[str], rows: Sequence[Row]) -> None:
        """Draw some objects anew, at once; what was selected of them stays selected."""
        wanted = set(ids)
        self._queue = deque(row for row in self._queue if row[0] not in wanted)
        old = [n for n, (uid, _) in enumerate(self._rows) if uid in wanted]
        if not old and not rows:
            return
        with self.quiet():
            layer = self.needed()
            chosen = {self._rows[n][0] for n in layer.selected_data if n < len(self._rows)}
            self._take_out(old)
            self._put(rows)
            if chosen & wanted:
                layer.selected_data = {n for n, (uid, _) in enumerate(self._rows) if uid in chosen}

    def select(self, ids: Sequence[str]) -> bool:
        """Mark the rows of some objects; say whether there are any."""
        wanted = set(ids)
        rows = {n for n, (uid, _) in enumerate(self._rows) if uid in wanted}
        if self.layer is not None:
            with self.quiet():
                if rows and isinstance(self.layer, Shapes) and self.layer.mode == "pan_zoom":
                    self.layer.mode = "select"
                self.layer.selected_data = rows
        return bool(rows)

    def set_width(self, width: float) -> None:
        """Draw lines this wide, in level-0 pixels; only new ones where there are very many."""
        self._width = width
        if self.layer is None:
            return
        with self.quiet():
            if isinstance(self.layer, Points):
                self.layer.size = POINT * width
                return
            self.layer.current_edge_width = width
            if len(self._rows) <= REDRAWN:
                self.layer.edge_width = [width] * len(self.layer.data)

    def remove(self, viewer: Any) -> None:
        """Take the layer away."""
        self._timer.stop()
        layer, self.layer, self._rows = self.layer, None, []
        if layer is not None:
            layer.events.data.disconnect(self._on_data)
            layer.selected_data.events.items_changed.disconnect(self._on_selection)
            if layer in viewer.layers:
                viewer.layers.remove(layer)

    def forget_if_gone(self, viewer: Any) -> bool:
        """Notice that the user took the layer away; say whether that is so."""
        if self.layer is None or self.layer in viewer.layers:
            return False
        self.remove(viewer)
        return True

    # ---- what a user does

    @property
    def is_quiet(self) -> bool:
        """Whether changes come from us and not from a user."""
        return self._quiet > 0

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Take nothing in that happens inside."""
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1

    def take(self) -> Edit:
        """Return what the user did since the last call."""
        made = []
        vertices = self._vertices(range(len(self._rows), len(self.layer.data)))
        extra = list(range(len(self._rows), len(self.layer.data)))
        for n, points in zip(extra, vertices, strict=True):
            made.append(drawn_piece(self._kind(n), points))
        if extra:
            with self.quiet():
                self.layer.remove(extra) if isinstance(self.layer, Shapes) else self._cut(extra)
        edit = Edit(
            tuple(self._touched), tuple(self._untidy), tuple(piece for piece in made if piece)
        )
        self._touched, self._untidy = {}, {}
        return edit

    def _on_data(self, event: Any) -> None:
        if self._quiet:
            return
        action, indices = event.action, [int(n) for n in event.data_indices]
        n_rows = len(self.layer.data)
        if action == ActionType.CHANGED and n_rows < len(self._rows):
            action = ActionType.REMOVED  # napari tells so of the last corner that is taken out
        if action == ActionType.REMOVED:
            self._on_removed(indices)
        elif action == ActionType.CHANGED:
            self._on_moved([n for n in indices if 0 <= n < len(self._rows)])
        elif action != ActionType.ADDED or n_rows <= len(self._rows):
            return
        self._tell.start()

    def _on_removed(self, indices: list[int]) -> None:
        for n in sorted(indices, reverse=True):
            if 0 <= n < len(self._rows):
                uid, piece = self._rows.pop(n)
                self._touched[uid] = None
                if piece.ring == 0:
                    self._untidy[uid] = None  # its holes go, too

    def _on_moved(self, indices: list[int]) -> None:
        gone = []
        for n, vertices in zip(indices, self._vertices(indices), strict=True):
            uid, piece = self._rows[n]
            after = edited_piece(piece, vertices, self._as_drawn(piece))
            self._touched[uid] = None
            if after is None:
                gone.append(n)
                if piece.ring == 0:
                    self._untidy[uid] = None  # its holes go, too
                continue
            self._rows[n] = uid, after
            drawn = self._as_drawn(after)
            if (
                piece.kind == "ellipse"
                or drawn.shape != vertices.shape
                or (drawn != vertices).any()
            ):
                self._untidy[uid] = None
        with self.quiet():
            self._take_out(gone)

    def _on_selection(self, *_: object) -> None:
        if not self._quiet and self.layer is not None:
            self.selected.emit(self.chosen)

    # ---- rows

    def _feed(self) -> None:
        """Add rows for a while, and let Qt do other things before the next ones."""
        end = perf_counter() + SLICE_S
        while self._queue and perf_counter() < end:
            started = perf_counter()
            n = min(self._at_once, len(self._queue))
            with self.quiet():
                self.needed()
                self._put([self._queue.popleft() for _ in range(n)])
            took = (perf_counter() - started) / n
            self._at_once = int(np.clip(SLICE_S / 2 / max(took, 1e-6), 1, 200))
        if not self._queue:
            self._timer.stop()
            self.fed.emit()

    def _put(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        layer = self.needed()
        data = [piece.vertices[:, ::-1] - 0.5 for _, piece, _ in rows]
        if isinstance(layer, Points):
            before = len(layer.data)
            layer.add(np.concatenate(data))
            colors = layer.face_color.copy()
            colors[before:] = [_rgba(color) for _, _, color in rows]
            layer.face_color = colors
            layer.selected_data = set()
        else:
            with layer.block_thumbnail_update():
                layer.add(
                    data,
                    shape_type=[_SHAPE_TYPES[piece.kind] for _, piece, _ in rows],
                    edge_width=self._width,
                    edge_color=[_rgba(color) for _, _, color in rows],
                    face_color=[(0, 0, 0, 0)] * len(rows),
                )
        self._rows += [(uid, piece) for uid, piece, _ in rows]

    def _take_out(self, indices: Sequence[int]) -> None:
        gone = list(indices)
        if not gone:
            return
        self.layer.remove(gone) if isinstance(self.layer, Shapes) else self._cut(gone)
        left = set(gone)
        self._rows = [row for n, row in enumerate(self._rows) if n not in left]

    def _cut(self, indices: Sequence[int]) -> None:
        self.layer.selected_data = set(indices)
        self.layer.remove_selected()

    def _vertices(self, indices: Sequence[int]) -> list[NDArray[np.float64]]:
        """Return what is drawn in some rows, x and y in level-0 pixels."""
        data = self.layer.data
        return [np.atleast_2d(data[n])[:, -2:][:, ::-1].astype(float) + 0.5 for n in indices]

    def _as_drawn(self, piece: Piece) -> NDArray[np.float64]:
        """Return what `_vertices` does for a piece that was just drawn: napari rounds."""
        kind = np.float64 if isinstance(self.layer, Points) else np.float32
        return (piece.vertices - 0.5).astype(kind).astype(float) + 0.5

    def _kind(self, row: int) -> Kind:
        return "point" if isinstance(self.layer, Points) else _KINDS[self.layer.shape_type[row]]


def _rgba(color: str) -> tuple[float, float, float, float]:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue, 1.0
