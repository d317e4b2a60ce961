"""napari-virchow: see, label and search whole-slide images through pathology foundation models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Session", "__version__", "load_encoder", "open_slide"]

if TYPE_CHECKING:
    from napari_virchow.encoders import load_encoder
    from napari_virchow.session import Session
    from napari_virchow.slide import open_slide

_HOMES = {"Session": "session", "load_encoder": "encoders", "open_slide": "slide"}


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that importing the package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
