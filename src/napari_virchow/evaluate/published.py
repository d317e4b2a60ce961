"""Read the tasks of the Virchow2 paper in the layouts that their publishers ship."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from napari_virchow.evaluate.folders import SPLITS, Record, from_records, read_folder, read_table
from napari_virchow.evaluate.hest import is_hest, read_hest
from napari_virchow.evaluate.tasks import TASKS
from napari_virchow.evaluate.tilesets import (
    TEST,
    TRAIN,
    VALID,
    TileSet,
    TileSetError,
    from_crops,
    from_h5,
    image_files,
    open_h5,
)

PCAM = "camelyonpatch_level_2_split_{}_{}"
CRC_TRAIN, CRC_TEST = "NCT-CRC-HE-100K", "CRC-VAL-HE-7K"
MIDOG_MPP, MIDOG_PX = 0.25, 224
MITOSIS = 1  # category id in MIDOG; 2 is a look-alike
WILDS_VALID_CENTER, WILDS_TEST_CENTER = "1", "2"
DLBCL_LABEL = "HANS"  # cell of origin; which label the paper used is not published
TCGA_PATIENT = re.compile(r"TCGA-\w\w-\w{4}")


def read_sets(
    path: Path, *, task: str = "", pattern: str | None = None, mpp: float | None = None
) -> list[TileSet]:
    """Read the tile sets at a path: a published task, a folder of tiles, or a CSV table.

    Parameters
    ----------
    path : Path
        A folder or a CSV file; what it is is told from what it holds.
    task : str
        Row of `TASKS` it must be; empty to take what it is.
    pattern, mpp
        For a folder of the user's own; see `read_folder`.

    Raises
    ------
    TileSetError
        If there is nothing usable; for a task the message says where to get it.
    """
    if task and not (path.exists() and _READERS[task][0](path)):
        raise TileSetError(f"{path} does not hold {TASKS[task].title}: {TASKS[task].advice}.")
    if not path.exists():
        raise TileSetError(f"there is no folder or CSV file {path}: check its name and place.")
    if path.is_file():
        if path.suffix.lower() != ".csv":
            raise TileSetError(f"{path} is neither a folder nor a .csv file: give one of these.")
        return [read_table(path, mpp=mpp)]
    found = [name for name, (is_here, _) in _READERS.items() if is_here(path)]
    if task:
        found = [task]
    try:
        sets = [each for name in found for each in _READERS[name][1](path)]
    except (KeyError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TileSetError(
            f"{path} looks like {TASKS[found[0]].title} but lacks something ({error!r}): "
            "download it again."
        ) from error
    return sets or [read_folder(path, pattern=pattern, mpp=mpp)]


def read_pcam(folder: Path) -> list[TileSet]:
    """Read PCam: HDF5 files of 96 px tiles; groups are slides where meta.csv files are there."""
    parts = [("train", TRAIN), ("valid", VALID), ("test", TEST)]
    present = [part for part in parts if (folder / (PCAM.format(part[0], "x") + ".h5")).is_file()]
    labels, split, groups = [], [], []
    for name, code in present:
        y = np.asarray(open_h5(folder / (PCAM.format(name, "y") + ".h5"))["y"]).reshape(-1)
        labels.append(y.astype(np.intp))
        split.append(np.full(len(y), code, np.int8))
        meta = folder / (PCAM.format(name, "meta") + ".csv")
        if meta.is_file():
            groups += [row["wsi"] for row in _rows(meta)]
    everything = np.concatenate(labels)
    return [
        TileSet(
            name="pcam",
            title=TASKS["pcam"].title,
            source=from_h5([folder / (PCAM.format(n, "x") + ".h5") for n, _ in present], "x"),
            classes=("normal", "metastasis"),
            labels=everything,
            groups=np.array(groups, np.str_) if len(groups) == len(everything) else None,
            split=np.concatenate(split),
            mpp=0.972 * 96 / 224,
            task="pcam",
        )
    ]


def _read_crc(folder: Path, suffix: str, task: str) -> list[TileSet]:
    records: list[Record] = []
    for part, split in ((CRC_TRAIN + suffix, "train"), (CRC_TEST, "test")):
        if not (folder / part).is_dir():
            raise TileSetError(f"{folder} has no folder {part}: {TASKS[task].advice}.")
        for each in sorted((folder / part).iterdir()):
            records += [(file, each.name, "", split) for file in image_files(each)]
    return [from_records(task, folder, records, title=TASKS[task].title, task=task, mpp=0.5)]


def read_crc(folder: Path) -> list[TileSet]:
    """Read NCT-CRC-HE-100K and CRC-VAL-HE-7K: class folders of 224 px at 0.5 µm/px."""
    return _read_crc(folder, "", "crc")


def read_crc_nonorm(folder: Path) -> list[TileSet]:
    """Read NCT-CRC-HE-100K-NONORM, tested on CRC-VAL-HE-7K."""
    return _read_crc(folder, "-NONORM", "crc-nonorm")


def read_wilds(folder: Path) -> list[TileSet]:
    """Read WILDS Camelyon17: validated on hospital 1, tested on hospital 2, trained on the rest."""
    records: list[Record] = []
    for row in _rows(folder / "metadata.csv"):
        patient, node = row["patient"].zfill(3), row["node"]
        name = f"patient_{patient}_node_{node}"
        file = f"patch_{name}_x_{row['x_coord']}_y_{row['y_coord']}.png"
        split = {WILDS_VALID_CENTER: "val", WILDS_TEST_CENTER: "test"}.get(row["center"], "train")
        label = "tumour" if row["tumor"] == "1" else "normal"
        records.append((folder / "patches" / name / file, label, patient, split))
    title = TASKS["wilds"].title
    return [from_records("wilds", folder, records, title=title, task="wilds", mpp=96 / 224)]


def read_tils(folder: Path) -> list[TileSet]:
    """Read TILS, all cancers together: folders train, val, test of two class folders."""
    images = folder / "images-tcga-tils"
    base = images if images.is_dir() else folder
    base = base / "pancancer" if (base / "pancancer").is_dir() else base
    records: list[Record] = []
    for split in sorted(each for each in base.iterdir() if each.name in SPLITS):
        for label in sorted(each for each in split.iterdir() if each.is_dir()):
            for file in image_files(label):
                patient = TCGA_PATIENT.match(file.name)
                records.append((file, label.name, patient[0] if patient else "", split.name))
    if not all(record[2] for record in records):
        records = [(file, label, "", split) for file, label, _, split in records]
    return [from_records("tils", folder, records, title="TILS", task="tils", mpp=0.5 * 100 / 224)]


def read_mhist(folder: Path) -> list[TileSet]:
    """Read MHIST: annotations.csv with the majority vote, 224 px at 8×."""
    images = folder / "images"
    records: list[Record] = [
        (
            (images if images.is_dir() else folder) / row["Image Name"],
            row["Majority Vote Label"],
            "",
            row["Partition"],
        )
        for row in _rows(folder / "annotations.csv")
    ]
    return [from_records("mhist", folder, records, title="MHIST", task="mhist", mpp=1.25)]


def read_dlbcl(folder: Path) -> list[TileSet]:
    """Read DLBCL-Morph: H&E tiles in one folder per patient, labelled with the cell of origin."""
    label = {
        row["patient_id"]: row[DLBCL_LABEL]
        for row in _rows(folder / "clinical_data_cleaned.csv")
        if row[DLBCL_LABEL] not in ("", "NA", "nan")
    }
    records: list[Record] = [
        (file, label[patient.name], patient.name, "")
        for patient in sorted((folder / "Patches" / "HE").iterdir())
        if patient.name in label
        for file in image_files(patient)
    ]
    if not records:
        raise TileSetError(f"{folder} has no H&E tiles: {TASKS['dlbcl'].advice}.")
    return [from_records("dlbcl", folder, records, title=TASKS["dlbcl"].title, task="dlbcl")]


def read_midog(folder: Path) -> list[TileSet]:
    """Read MIDOG: 224 px around each annotated cell, mitosis or look-alike; groups are cases."""
    table = _midog_table(folder)
    if table is None:
        raise TileSetError(f"{folder} has no MIDOG table: {TASKS['midog'].advice}.")
    content = json.loads(table.read_text("utf-8"))
    names = {image["id"]: image["file_name"] for image in content["images"]}
    found = {file.name: file for file in sorted(folder.rglob("*.tif*"))}
    cells = [cell for cell in content["annotations"] if names[cell["image_id"]] in found]
    cells.sort(key=lambda cell: names[cell["image_id"]])
    if not cells:
        raise TileSetError(f"{folder} has none of the images of {table.name}: download them too.")
    order = sorted({names[cell["image_id"]] for cell in cells})
    at = np.array([order.index(names[cell["image_id"]]) for cell in cells], np.intp)
    boxes = np.array([cell["bbox"] for cell in cells], np.float64)  # x1, y1, x2, y2
    centers = ((boxes[:, :2] + boxes[:, 2:]) / 2).round().astype(np.int64)
    return [
        TileSet(
            name="midog",
            title="MIDOG",
            source=from_crops([found[name] for name in order], at, centers, MIDOG_PX),
            classes=("look-alike", "mitosis"),
            labels=np.array([cell["category_id"] == MITOSIS for cell in cells], np.intp),
            groups=np.array([names[cell["image_id"]] for cell in cells], np.str_),
            mpp=MIDOG_MPP,
            task="midog",
        )
    ]


def _midog_table(folder: Path) -> Path | None:
    for name in ("MIDOG++.json", "MIDOG.json", "databases/MIDOG++.json"):
        if (folder / name).is_file():
            return folder / name
    return None


def _has_columns(table: Path, *columns: str) -> bool:
    if not table.is_file():
        return False
    with table.open(encoding="utf-8-sig", newline="") as file:
        return set(columns) <= set(next(csv.reader(file), ()))


def _rows(table: Path) -> list[dict[str, str]]:
    if not table.is_file():
        raise TileSetError(f"{table} is missing: download the set again.")
    with table.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _is_tils(folder: Path) -> bool:
    return (folder / "images-tcga-tils").is_dir() or folder.name == "images-tcga-tils"


_READERS: dict[str, tuple[Callable[[Path], bool], Callable[[Path], list[TileSet]]]] = {
    "pcam": (lambda f: any(f.glob(PCAM.format("*", "x") + ".h5")), read_pcam),
    "crc": (lambda f: (f / CRC_TRAIN).is_dir(), read_crc),
    "crc-nonorm": (lambda f: (f / f"{CRC_TRAIN}-NONORM").is_dir(), read_crc_nonorm),
    "wilds": (lambda f: _has_columns(f / "metadata.csv", "patient", "node", "tumor"), read_wilds),
    "tils": (_is_tils, read_tils),
    "mhist": (lambda f: _has_columns(f / "annotations.csv", "Majority Vote Label"), read_mhist),
    "dlbcl": (lambda f: (f / "clinical_data_cleaned.csv").is_file(), read_dlbcl),
    "midog": (lambda f: _midog_table(f) is not None, read_midog),
    "hest": (is_hest, read_hest),
}
