"""What the command line says about slides and encoders, as facts and as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_virchow.encoders.specs import EncoderSpec

GATES = {
    "none": "none",
    "click-through": "accept the terms on the hub",
    "approval": "ask for access on the hub",
    "not downloadable": "weights file or Azure endpoint",
}


def slide_facts(path: str, store: Path) -> dict[str, Any]:
    """Return what is known of a slide, ready for JSON. Reads only.

    Parameters
    ----------
    path : str
        A file, a folder or a URL.
    store : Path
        Folder of embeddings; it need not exist.

    Raises
    ------
    SlideError
        If it cannot be opened.
    """
    from napari_virchow.memory import recall_slide
    from napari_virchow.shelf import list_stored
    from napari_virchow.slide import open_slide

    with open_slide(path) as slide:
        note = slide.mpp_note
        if slide.mpp is None:
            remembered = recall_slide(store, slide.identity).mpp
            if remembered is not None:
                slide.set_mpp(remembered)
                note = "given by the user earlier"
        return {
            "slide": path,
            "name": slide.name,
            "identity": slide.identity,
            "reader": slide.reader,
            "reader_reason": slide.reader_reason,
            "vendor": slide.vendor,
            "width": slide.width,
            "height": slide.height,
            "levels": [
                {"width": level.width, "height": level.height, "downsample": level.downsample}
                for level in slide.levels
            ],
            "mpp": None if slide.mpp is None else list(slide.mpp),
            "mpp_note": note,
            "magnification": slide.magnification,
            "brightfield": slide.brightfield,
            "associated": list(slide.associated),
            "warnings": list(slide.warnings),
            "stored": [
                {
                    "encoder": info.encoder,
                    "grid": info.grid,
                    "tiles": info.n_tiles,
                    "of": info.n_total,
                    "bytes": info.nbytes,
                    "path": str(info.path),
                }
                for info in list_stored(store, slide.identity)
            ],
        }


def describe_slide(facts: dict[str, Any]) -> str:
    """Return the facts of `slide_facts` as a few lines of text."""
    levels = ", ".join(f"{level['width']} × {level['height']}" for level in facts["levels"])
    rows = [
        ("size", f"{facts['width']} × {facts['height']} px"),
        ("levels", f"{len(facts['levels'])}: {levels}"),
        ("pixel size", _pixel_size(facts)),
        ("magnification", f"{facts['magnification']:g}×" if facts["magnification"] else "not said"),
        ("vendor", facts["vendor"] or "not said"),
        ("reader", f"{facts['reader']}: {facts['reader_reason']}"),
        ("pictures", ", ".join(facts["associated"]) or "none"),
        ("identity", facts["identity"]),
    ]
    rows += [("warning", warning) for warning in facts["warnings"]]
    rows += [
        (
            "stored",
            f"{kept['encoder']}, {kept['grid']}: {kept['tiles']} of {kept['of']} tiles, "
            f"{megabytes(kept['bytes'])}",
        )
        for kept in facts["stored"]
    ]
    return "\n".join([facts["slide"], *(f"  {topic:<15}{text}" for topic, text in rows)])


def _pixel_size(facts: dict[str, Any]) -> str:
    note = f" ({facts['mpp_note'].rstrip('.')})" if facts["mpp_note"] else ""
    if facts["mpp"] is None:
        return f"not known{note}; pass it as --slide-mpp to embed"
    x, y = facts["mpp"]
    return (f"{x:.4g} µm" if f"{x:.4g}" == f"{y:.4g}" else f"{x:.4g} × {y:.4g} µm") + note


def encoder_facts(spec: EncoderSpec) -> dict[str, Any]:
    """Return what is known of an encoder before it is loaded, ready for JSON."""
    return {
        "name": spec.name,
        "title": spec.title,
        "hub_id": spec.hub_id,
        "revision": spec.revision,
        "dim": spec.dim,
        "pooling": spec.pooling,
        "allowed_mpp": list(spec.allowed_mpp),
        "licence": spec.licence,
        "gate": spec.gate,
        "notes": spec.notes,
    }


def encoder_table(specs: Iterable[EncoderSpec]) -> str:
    """Return the encoders as a table for a terminal."""
    rows = [_encoder_row(spec) for spec in specs]
    header = ("encoder", "numbers", "µm/px", "licence of the weights", "gate")
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    )
    return "\n".join(lines)


def markdown_table(specs: Iterable[EncoderSpec]) -> str:
    """Return the encoders as the table that stands in the README."""
    lines = ["| encoder | name for `--encoder` | numbers per tile | µm/px | licence | gate |"]
    lines.append("|---|---|---|---|---|---|")
    for spec in specs:
        name, *rest = _encoder_row(spec)
        lines.append(f"| {' | '.join((spec.title, f'`{name}`', *rest))} |")
    return "\n".join(lines)


def _encoder_row(spec: EncoderSpec) -> Sequence[str]:
    mpp = ", ".join(f"{value:g}" for value in spec.allowed_mpp)
    return (spec.name, str(spec.dim), mpp, spec.licence, GATES[spec.gate])


def megabytes(n_bytes: int) -> str:
    """Return a size in the unit that suits it, for people."""
    size = float(n_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
