"""From what an assessment says to tiles that are shown in a strip."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from napari_virchow._napari.film_strip import Frame
from napari_virchow.classification import Assessment
from napari_virchow.classification.facts import Place
from napari_virchow.labels.edits import LabelClass, name_key


def queue_frames(
    found: Assessment, classes: Sequence[LabelClass], passed: Collection[Place] = ()
) -> list[Frame]:
    """Return the tiles worth labelling next, best first, without those passed over."""
    known = {c.id: c for c in classes}
    frames = []
    for one in found.queue:
        if (one.slide, found.grid.name, one.tile) in passed:
            continue
        predicted = known.get(one.predicted)
        frames.append(
            Frame(
                one.slide,
                one.tile,
                found.grid.rect(one.tile),
                said=0,
                predicted=0 if predicted is None else predicted.id,
                title="new?" if predicted is None else predicted.name,
                note="" if predicted is None else f"{one.probability:.2f}",
                color="" if predicted is None else predicted.color,
                reason=one.reason,
            )
        )
    return frames


def suspect_frames(
    found: Assessment, classes: Sequence[LabelClass], passed: Collection[Place] = ()
) -> list[Frame]:
    """Return the labels that are likely mistakes, the most likely first, without those kept."""
    frames = _label_frames(found, classes, [s.row for s in found.suspects])
    told = [
        frame._replace(reason=s.reason) for frame, s in zip(frames, found.suspects, strict=True)
    ]
    return [f for f in told if (f.slide, found.grid.name, f.tile) not in passed]


def cell_frames(
    found: Assessment, classes: Sequence[LabelClass], true: int, predicted: int
) -> list[Frame]:
    """Return the labels in one cell of the confusion matrix, by class ids."""
    return _label_frames(found, classes, found.evaluation.cell(true, predicted))


def _label_frames(
    found: Assessment, classes: Sequence[LabelClass], rows: Iterable[int]
) -> list[Frame]:
    by_name, by_id = {name_key(c.name): c for c in classes}, {c.id: c for c in classes}
    one = found.evaluation
    frames = []
    for number in rows:
        row = found.rows[int(number)]
        said = by_name.get(name_key(row.class_name))
        best = by_id.get(int(one.y_pred[number]))
        chance = float(np.max(one.probability[number], initial=0))
        told = "nothing" if best is None else f"“{best.name}” ({chance:.2f})"
        frames.append(
            Frame(
                row.slide,
                row.tile,
                found.grids[row.slide].rect(row.tile),
                said=0 if said is None else said.id,
                predicted=0 if best is None else best.id,
                title=row.class_name,
                note="" if best is None or best == said else f"→ {best.name}",
                color="" if said is None else said.color,
                reason=f"You said “{row.class_name}”; trained without its neighbourhood the "
                f"classifier says {told}.",
            )
        )
    return frames
