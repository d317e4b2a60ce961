"""The learning curve as a small plot, drawn in a worker so that napari never waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from qtpy.QtCore import QSize
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QLabel, QSizePolicy

from napari_virchow._napari.tasks import Tasks
from napari_virchow.classify.metrics import CurvePoint

SIZE = QSize(290, 116)
_LINE = "#0072b2"


class _Look(NamedTuple):
    """Colours of text and lines, and device pixels per pixel."""

    text: str
    line: str
    ratio: float


class CurvePlot(QLabel):
    """Shows how the balanced accuracy grew with the number of labels."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks = Tasks(self)
        self._points: tuple[CurvePoint, ...] = ()
        self._generation = 0
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Learning curve")
        self.hide()

    def show_points(self, points: Sequence[CurvePoint]) -> None:
        """Draw these points; fewer than two draw nothing."""
        self._points = tuple(points)
        self.redraw()

    def redraw(self) -> None:
        """Draw again, in the colours of now."""
        self._generation += 1
        if len(self._points) < 2:
            self.hide()
            return
        generation, points = self._generation, self._points
        palette = self.palette()
        dark = palette.window().color().lightness() < 128
        look = _Look(
            palette.windowText().color().name(),
            "#56b4e9" if dark else _LINE,  # each with contrast enough on its ground
            self.devicePixelRatioF(),
        )
        self.setToolTip(
            "Balanced accuracy on parts it was not trained on, by labels per class; the band is "
            "the range over draws: "
            + ", ".join(f"{p.per_class}: {p.balanced_accuracy:.2f}" for p in points)
        )
        self._tasks.run(
            draw_curve,
            points,
            look,
            done=lambda image: self._on_drawn(generation, image),
            failed=self._on_failed,
        )

    def _on_drawn(self, generation: int, image: QImage) -> None:
        if generation == self._generation:
            self.setPixmap(QPixmap.fromImage(image))
            self.show()

    def _on_failed(self, error: Exception) -> None:
        self.setText(f"The learning curve cannot be drawn: {error}")
        self.show()


def draw_curve(points: Sequence[CurvePoint], look: _Look) -> QImage:
    """Draw a learning curve without touching Qt's widgets: for a worker.

    Parameters
    ----------
    points : sequence of CurvePoint
    look : tuple of text colour, line colour, device pixels per pixel
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dpi = 100 * look.ratio
    figure = Figure(figsize=(SIZE.width() / 100, SIZE.height() / 100), dpi=dpi, layout="tight")
    canvas = FigureCanvasAgg(figure)
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    x = [p.per_class for p in points]
    low, high = [p.low for p in points], [p.high for p in points]
    axes.fill_between(x, low, high, color=look.line, alpha=0.25, linewidth=0)
    axes.plot(x, [p.balanced_accuracy for p in points], "o-", color=look.line, ms=4)
    axes.set_xscale("log")
    axes.set_xticks(x, labels=[str(n) for n in x])
    axes.minorticks_off()
    axes.set_ylim(max(0.0, min(low) - 0.05), 1.02)
    axes.set_title("Balanced accuracy by labels per class", fontsize=8, color=look.text)
    axes.tick_params(labelsize=8, colors=look.text)
    axes.grid(alpha=0.25)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(look.text)
    canvas.draw()
    width, height = canvas.get_width_height()
    data = bytes(canvas.buffer_rgba())
    image = QImage(data, width, height, 4 * width, QImage.Format.Format_RGBA8888).copy()
    image.setDevicePixelRatio(look.ratio)
    return image
