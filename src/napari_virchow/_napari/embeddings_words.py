"""Embeddings that come in, in words."""

from __future__ import annotations

from napari_virchow._napari.words import magnification_words
from napari_virchow.interop.checking import Check
from napari_virchow.interop.coming import Coming

# What sentences of the core call by its option on the command line, by its place in the dock.
_HERE = {
    "--encoder": "“Encoder” above",
    "--tile-size": "“Tile side” above",
    "--coords": "“Tile places” above",
    "say --snap to take each as the nearest tile": "tick above to take each as the nearest tile",
    "say it as --slide-mpp": "give it in the dock Embeddings",
    "say --spatial corner or --spatial centre": "choose it at “Places are” above",
    "say --key with": "name as “Matrix” above",
}


def asked_here(sentence: str) -> str:
    """Return a sentence that names an option so that it names the field of the form."""
    for option, words in _HERE.items():
        sentence = sentence.replace(option, words)
    return sentence


def coming_words(coming: Coming) -> str:
    """Return what would be kept: the format, how many tiles of which size, and how exact."""
    table, placed = coming.table, coming.placed
    n = len(placed.tiles)
    dim = 0 if table.embeddings is None else table.embeddings.shape[1]
    lines = [
        f"{table.path.name} ({table.form}): {n:,} {'tile' if n == 1 else 'tiles'} with "
        f"{dim:,} numbers each by {coming.encoder},",
        f"of {placed.grid.step[0]:.4g} px ({magnification_words(round(placed.grid.mpp, 4))}), up "
        f"to {placed.shifts.max(initial=0):.1f} px from where the file has them.",
    ]
    if placed.left_out:
        lines.append(f"{placed.left_out:,} are left out: others are nearer to their place.")
    return "\n".join(lines)


def kept_words(coming: Coming, check: Check | None, unchecked: str) -> str:
    """Return what was kept, whether it was verified, and where it is used."""
    if check is None:
        verdict = f"Not verified: {unchecked.split(';')[0]}."
    elif check.agrees:
        verdict = f"Verified: cosine {check.median:.4f} (median of {check.n} tiles)."
    else:
        verdict = "Verified, and they do not agree."
    return (
        f"{len(coming.placed.tiles):,} embeddings by {coming.encoder} are kept. {verdict} Use "
        "them: dock Embeddings, Stored for this slide, Use."
    )
