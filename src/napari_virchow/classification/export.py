"""Everything that is known of a slide's classification, as tables in one folder."""

from __future__ import annotations

from pathlib import Path

from napari_virchow.classification import Classification
from napari_virchow.classification.table import write_figures
from napari_virchow.labels.agreement import export_csv


def export_figures(live: Classification, path: Path) -> int:
    """Write the figures of the last assessment (CSV); returns the number of lines.

    Raises
    ------
    ValueError
        If there is no assessment yet.
    OSError
        If the file cannot be written.
    """
    if live.assessment is None:
        raise ValueError("There are no figures yet: label tiles of two classes first.")
    return write_figures(path, live.assessment, {c.id: c.name for c in live.labels.classes})


def export_all(live: Classification, folder: Path) -> list[Path]:
    """Write labels, predictions and figures into a folder; returns the files.

    Labels are those of all slides, predictions those of the grid that is painted; what does not
    exist yet is left out.

    Raises
    ------
    ValueError
        If there are no labels.
    OSError
        If a file cannot be written.
    """
    if not live.labels.slides():
        raise ValueError("There is nothing to export yet: label a tile first.")
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in ("labels.csv", "predictions.csv", "figures.csv")]
    export_csv(live.labels, files[0])
    written = files[:1]
    if live.painted is not None:
        live.export_predictions(files[1])
        written.append(files[1])
    if live.assessment is not None:
        export_figures(live, files[2])
        written.append(files[2])
    return written
