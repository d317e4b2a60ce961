"""The sample slide in napari's File > Open Sample menu."""

from __future__ import annotations

from napari_virchow._napari.layers import LayerData, slide_layers
from napari_virchow.sample import sample_slide
from napari_virchow.slide import open_slide

NAME = "Synthetic H&E"


def synthetic_slide() -> list[LayerData]:
    """Return the layers of the synthetic H&E slide, which is written on first use."""
    return slide_layers(open_slide(sample_slide()), name=NAME)
