"""The tile-level tasks of the Virchow2 paper, where to get their data, and the paper's figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Task:
    """A public task of the paper.

    Parameters
    ----------
    name, title : str
        What it is called on the command line and in tables.
    where, licence : str
        Where its data is published, and on what terms.
    layout : str
        What is in its folder, by which it is recognised.
    """

    name: str
    title: str
    where: str
    licence: str
    layout: str

    @property
    def advice(self) -> str:
        """One sentence for somebody who does not have the data."""
        return (
            f"get {self.title} from {self.where} ({self.licence}), unpack it, and give the folder "
            f"that holds {self.layout}"
        )


_ROWS = (
    Task(
        "pcam",
        "PCam",
        "https://github.com/basveeling/pcam",
        "CC0",
        "camelyonpatch_level_2_split_train_x.h5",
    ),
    Task(
        "crc",
        "CRC",
        "https://zenodo.org/records/1214456",
        "CC-BY-4.0",
        "NCT-CRC-HE-100K and CRC-VAL-HE-7K",
    ),
    Task(
        "crc-nonorm",
        "CRC-NoNorm",
        "https://zenodo.org/records/1214456",
        "CC-BY-4.0",
        "NCT-CRC-HE-100K-NONORM and CRC-VAL-HE-7K",
    ),
    Task(
        "wilds",
        "WILDS (Camelyon17)",
        "https://wilds.stanford.edu/datasets/#camelyon17",
        "CC0",
        "metadata.csv and patches",
    ),
    Task(
        "tils",
        "TILS",
        "https://zenodo.org/records/6604094",
        "CC-BY-4.0",
        "images-tcga-tils",
    ),
    Task(
        "mhist",
        "MHIST",
        "https://bmirds.github.io/MHIST",
        "research use, after filling in a form",
        "annotations.csv and images",
    ),
    Task(
        "dlbcl",
        "DLBCL-Morph",
        "https://www.cancerimagingarchive.net/collection/dlbcl-morphology",
        "the terms are on that page",
        "clinical_data_cleaned.csv and Patches",
    ),
    Task(
        "midog",
        "MIDOG",
        "https://doi.org/10.6084/m9.figshare.c.6615571",
        "CC-BY-4.0",
        "MIDOG++.json (or MIDOG.json) and images",
    ),
    Task(
        "hest",
        "HEST",
        "https://huggingface.co/datasets/MahmoodLab/hest-bench",
        "CC-BY-NC-SA-4.0, after asking for access",
        "one folder per task, each with patches, adata, splits and var_50genes.json",
    ),
)
TASKS: Mapping[str, Task] = MappingProxyType({row.name: row for row in _ROWS})

# In the paper's order; PanMSK (in-domain) is private.
COLUMNS: tuple[str, ...] = (
    "pcam",
    "crc",
    "crc-nonorm",
    "wilds",
    "tils",
    "mhist",
    "dlbcl",
    "midog",
    "hest",
)


def _row(*figures: float) -> Mapping[str, float]:
    return MappingProxyType(dict(zip(COLUMNS, figures, strict=True)))


# arXiv 2408.00738: weighted F1 × 100 of a linear probe, HEST: mean Pearson r.
PAPER: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "Virchow2G": _row(94.7, 97.3, 97.0, 98.8, 94.8, 86.4, 62.9, 83.6, 0.349),
        "Virchow2": _row(93.5, 97.4, 96.9, 98.7, 94.8, 85.9, 60.6, 80.4, 0.340),
        "Virchow": _row(93.3, 97.3, 96.8, 97.1, 94.9, 83.6, 60.2, 78.7, 0.344),
        "H-optimus-0": _row(93.7, 96.9, 92.6, 98.6, 94.9, 84.6, 59.1, 79.6, 0.354),
        "UNI": _row(93.5, 96.7, 95.4, 98.3, 94.6, 84.8, 58.4, 75.9, 0.334),
    }
)
# Of the class token alone the figures of single tasks are known for Virchow2 only.
PAPER_CLASS_ONLY: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "Virchow2": {"pcam": 93.5, "crc": 97.6, "mhist": 86.0, "hest": 0.344},
        "Virchow2G": {"hest": 0.339},
    }
)
