"""What the colours of the map mean, in a few lines that can be clicked."""

from __future__ import annotations

import numpy as np
from napari.utils.colormaps import AVAILABLE_COLORMAPS
from numpy.typing import NDArray
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QSizePolicy

from napari_virchow.mapping.coloring import RAMP, Coloring

_RAMP_NAME = "viridis"  # even steps, with any kind of colour vision
_GREY = {"dark": (112, 112, 112), "light": (160, 160, 160)}


class Legend(QLabel):
    """Lists colours with their meaning and number of tiles; a click on one says its value."""

    chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setToolTip("Click one to select its tiles")
        self.linkActivated.connect(lambda link: self.chosen.emit(int(link)))

    def show_coloring(self, coloring: Coloring | None, theme: str, ink: str) -> None:
        """List what this colouring means, in text of the colour `ink`; None empties the legend."""
        if coloring is None:
            self.setText("")
        elif coloring.ramp is not None:
            low, high = coloring.ramp
            steps = _ramp()[:: RAMP // 16]
            bar = "".join(f"<span style='color:{_hex(c)}'>█</span>" for c in steps)
            self.setText(f"{low:.2f} {bar} {high:.2f}")
        else:
            note = coloring.note
            entries = [
                f"<a href='{e.value}' style='color:{ink}; text-decoration:none'>"
                f"<span style='color:{e.color or _hex(_GREY[theme])}'>■</span>&nbsp;"
                f"{_kept_together(e.text)}&nbsp;<small>{e.n_tiles:,}</small></a>&nbsp;&nbsp;"
                for e in coloring.entries
            ]
            self.setText(" ".join(entries) + (f"<br><small>{note}</small>" if note else ""))


def palette_of(coloring: Coloring, theme: str) -> NDArray[np.uint8]:
    """Return the colours of a colouring's values, (k, 3); the first is grey.

    Parameters
    ----------
    theme : str
        "dark" or "light": what the grey is seen on.
    """
    grey = np.array(_GREY[theme], np.uint8)
    if coloring.ramp is not None:
        return np.concatenate([grey[None], _ramp()])
    palette = np.tile(grey, (max((e.value for e in coloring.entries), default=0) + 1, 1))
    for entry in coloring.entries:
        if entry.color:
            palette[entry.value] = [int(entry.color[i : i + 2], 16) for i in (1, 3, 5)]
    return palette


def _ramp() -> NDArray[np.uint8]:
    colors = AVAILABLE_COLORMAPS[_RAMP_NAME].map(np.linspace(0, 1, RAMP))
    return np.asarray(np.rint(colors[:, :3] * 255), np.uint8)


def _hex(color: NDArray[np.uint8] | tuple[int, int, int]) -> str:
    red, green, blue = (int(part) for part in color)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _kept_together(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return escaped.replace(" ", "&nbsp;")
