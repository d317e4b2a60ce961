"""The confusion matrix: what was said against what a classifier says that saw nothing near it."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QBrush, QColor, QPalette
from qtpy.QtWidgets import QHeaderView, QTableWidget, QTableWidgetItem

from napari_virchow.classify.metrics import Evaluation

_SHORT = 5  # letters over a column; all of them in its tooltip
_ROW_PX = 22
_RIGHT, _WRONG = QColor("#0072b2"), QColor("#d55e00")  # blue and vermilion: told apart by all


class ConfusionTable(QTableWidget):
    """A cell per pair of classes, the darker the larger its share of the row; a click tells it."""

    chosen = Signal(int, int)  # class ids: said, predicted

    def __init__(self) -> None:
        super().__init__()
        self._ids: list[int] = []
        self.setToolTip(
            "Rows: what you said. Columns: what a classifier says that saw nothing near the tile. "
            "Click a cell to see its tiles"
        )
        self.setAccessibleName("Confusion matrix")
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.horizontalHeader().setMinimumSectionSize(24)
        self.verticalHeader().setDefaultSectionSize(_ROW_PX)
        self.verticalHeader().setMaximumWidth(90)
        self.cellClicked.connect(self._on_cell)
        self.cellActivated.connect(self._on_cell)
        self.hide()

    def show_evaluation(self, one: Evaluation | None, names: Mapping[int, str]) -> None:
        """Show the matrix; None, or an evaluation without figures, hides the table."""
        if one is None or one.reason is not None:
            self.hide()
            return
        self._ids = [int(c) for c in one.classes]
        called = [names.get(c, str(c)) for c in self._ids]
        n = len(self._ids)
        self.setRowCount(n)
        self.setColumnCount(n)
        self.setHorizontalHeaderLabels([name[:_SHORT] for name in called])
        self.setVerticalHeaderLabels(called)
        for at, name in enumerate(called):
            self.horizontalHeaderItem(at).setToolTip(f"Predicted: {name}")
            self.verticalHeaderItem(at).setToolTip(f"You said: {name}")
        for row in range(n):
            total = max(1, int(one.confusion[row].sum()))
            for col in range(n):
                count = int(one.confusion[row, col])
                self.setItem(row, col, self._cell(count, count / total, right=row == col))
                text = f"{count} tiles you called {called[row]}; predicted: {called[col]}"
                self.item(row, col).setToolTip(text)
        head = self.horizontalHeader().sizeHint().height()
        self.setFixedHeight(_ROW_PX * n + head + 4)
        self.show()

    def _cell(self, count: int, share: float, *, right: bool) -> QTableWidgetItem:
        item = QTableWidgetItem(str(count) if count else "·")
        item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
        if count:
            color = QColor(_RIGHT if right else _WRONG)
            color.setAlphaF(0.15 + 0.55 * share)
            item.setBackground(QBrush(color))
            item.setForeground(self.palette().brush(QPalette.ColorRole.Text))
        font = item.font()
        font.setBold(right)
        item.setFont(font)
        return item

    def _on_cell(self, row: int, col: int) -> None:
        self.chosen.emit(self._ids[row], self._ids[col])
