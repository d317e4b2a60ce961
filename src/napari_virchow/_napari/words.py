"""Numbers and states in the words of the dock."""

from __future__ import annotations

from collections.abc import Iterable

from napari_virchow.encoders import Encoder, EncoderSpec, all_specs
from napari_virchow.encoders.specs import RANDOM_SUFFIX
from napari_virchow.interop.stored import PREFIX
from napari_virchow.slide import Slide
from napari_virchow.training import encoder_name

GATE_WORDS = {
    "none": "free to download",
    "click-through": "accept its terms on the hub",
    "approval": "needs approval on the hub",
    "not downloadable": "needs a weights file",
}


def size_words(nbytes: float) -> str:
    """Return a size on disk, such as "12.3 MB"."""
    if nbytes < 1000:
        return f"{nbytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        nbytes /= 1000
        if nbytes < 999.5:
            return f"{nbytes:.3g} {unit}"
    return f"{nbytes / 1000:.3g} TB"


def few_words(items: Iterable[str], limit: int = 6) -> str:
    """Return a list in words: its first entries, and how many more there are."""
    listed = list(items)
    more = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {more:,} more" if more > 0 else "")


def rate_words(tiles_per_s: float) -> str:
    """Return a rate, such as "154/s"."""
    return f"{tiles_per_s:.0f}/s" if tiles_per_s >= 9.95 else f"{tiles_per_s:.1f}/s"


def time_words(seconds: float) -> str:
    """Return a time left, such as "40 s", "3 min" or "2 h 05 min"."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def magnification_words(mpp: float) -> str:
    """Return a magnification, such as "20× · 0.5 µm/px"."""
    return f"{10 / mpp:g}× · {mpp:g} µm/px"


def slide_words(slide: Slide) -> str:
    """Return a slide's size and resolution in one short line."""
    size = f"{slide.width:,} × {slide.height:,} px".replace(",", "\u202f")
    return (
        f"{size} · {_mpp_words(slide.mpp)} µm/px" if slide.mpp else f"{size} · pixel size unknown"
    )


def _mpp_words(mpp: tuple[float, float]) -> str:
    x, y = (f"{value:.4g}" for value in mpp)
    return x if x == y else f"{x} × {y}"


def spec_words(spec: EncoderSpec) -> str:
    """Return an encoder's licence and gate in one short line."""
    if spec.architecture is None:
        return f"{spec.licence.split(' (')[0]} · needs no weights"
    if spec.hub_id is None and spec.gate == "none":  # one of the user's own
        return f"{spec.licence} · on this machine"
    return f"{spec.licence} · {GATE_WORDS[spec.gate]}"


def encoder_words(encoder: Encoder) -> str:
    """Return where a loaded encoder runs, and what it gives."""
    if not encoder.embeds:
        return f"From a file · {encoder.dim} numbers per tile; other tiles stay empty"
    marks = "random weights · " if encoder.random else ""
    names = {
        "cpu": "the CPU",
        "cuda": "the GPU",
        "mps": "the Mac's GPU",
        "openvino": "the CPU, through OpenVINO",
    }
    device = names.get(encoder.device.split(":")[0], encoder.device)
    return f"{marks}Ready on {device} · {encoder.dim} numbers per tile"


def encoder_title(identity: str) -> str:
    """Return the title of the encoder that has this identity, as stores carry it."""
    if identity.startswith(PREFIX):
        return f"{identity.removeprefix(PREFIX).rsplit('-', 2)[0]} (imported)"
    name = encoder_name(identity)
    spec = all_specs().get(name.removesuffix(RANDOM_SUFFIX))
    if spec is None:
        return identity
    random = " (random)" if name.endswith(RANDOM_SUFFIX) else ""
    return spec.title.removesuffix(" (built in)") + random
