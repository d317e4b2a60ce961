"""What comes in from QuPath, in words and colours."""

from __future__ import annotations

from collections.abc import Mapping

from napari_virchow._napari.words import few_words
from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.drawing import UNCLASSIFIED
from napari_virchow.qupath.incoming import Incoming
from napari_virchow.qupath.labelling import ImportPlan
from napari_virchow.qupath.objects import flatten


def plan_words(plan: ImportPlan) -> str:
    """Return what labels would come of annotations."""
    if not plan.n_tiles:
        lines = ["No tile lies in an annotation of a class."]
    else:
        each = few_words(f"{name} {len(tiles):,}" for name, tiles in plan.tiles.items())
        lines = [f"{plan.n_tiles:,} tiles: {each}."]
    if plan.new_classes:
        lines.append(f"New classes: {few_words(plan.new_classes)}.")
    return "\n".join(lines + plan.notes())


def class_colors(incoming: Incoming) -> Mapping[str, str]:
    """Return the colour of each class that comes in."""
    found = {"unclassified": UNCLASSIFIED}
    wanted = len({name for classes in incoming.counts.values() for name in classes})
    for one in flatten(incoming.found.objects):
        if isinstance(one.path_class, PathClass):
            found.setdefault(one.path_class.name, one.path_class.hex_color)
            if len(found) > wanted:
                break
    return found
