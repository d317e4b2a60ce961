"""Tile sets are read in the layouts that their publishers ship, here in miniature."""

from __future__ import annotations

import csv
import json

import h5py
import numpy as np
import pytest
from PIL import Image

from napari_virchow.evaluate.published import read_sets
from napari_virchow.evaluate.tasks import TASKS
from napari_virchow.evaluate.tilesets import TEST, TRAIN, VALID, TileSetError, fit


def paint(file, value, size=(24, 24)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(file)


def write_csv(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def values(tiles):
    """The grey value in the middle of every tile."""
    pixels = tiles.source.read(np.arange(len(tiles)))
    assert pixels.shape == (len(tiles), 224, 224, 3)
    return pixels[:, 112, 112, 0].tolist()


def one(path, **options):
    (tiles,) = read_sets(path, **options)
    return tiles


def test_pcam_is_read_from_hdf5_with_its_split_and_slides(tmp_path):
    for number, (part, n) in enumerate((("train", 3), ("valid", 1), ("test", 2))):
        stem = f"camelyonpatch_level_2_split_{part}"
        x = np.full((n, 96, 96, 3), 50 * number, np.uint8) + np.arange(n, dtype=np.uint8).reshape(
            -1, 1, 1, 1
        )
        with h5py.File(tmp_path / f"{stem}_x.h5", "w") as file:
            file["x"] = x
        with h5py.File(tmp_path / f"{stem}_y.h5", "w") as file:
            file["y"] = (np.arange(n) % 2).reshape(-1, 1, 1, 1)
        write_csv(tmp_path / f"{stem}_meta.csv", [{"": i, "wsi": f"{part}{i}"} for i in range(n)])

    tiles = one(tmp_path)

    assert tiles.task == "pcam"
    assert values(tiles) == [0, 1, 2, 50, 100, 101]
    assert tiles.labels.tolist() == [0, 1, 0, 0, 0, 1]
    assert tiles.split.tolist() == [TRAIN] * 3 + [VALID] + [TEST] * 2
    assert tiles.groups.tolist() == ["train0", "train1", "train2", "valid0", "test0", "test1"]


@pytest.mark.parametrize(("folder", "task"), [("", "crc"), ("-NONORM", "crc-nonorm")])
def test_crc_trains_on_the_100k_and_tests_on_the_7k(tmp_path, folder, task):
    for part, offset in ((f"NCT-CRC-HE-100K{folder}", 0), ("CRC-VAL-HE-7K", 100)):
        for number, name in enumerate(("ADI", "TUM")):
            paint(tmp_path / part / name / f"{name}-AAA.tif", offset + number)

    tiles = one(tmp_path)

    assert (tiles.task, tiles.classes, tiles.mpp) == (task, ("ADI", "TUM"), 0.5)
    assert values(tiles) == [0, 1, 100, 101]
    assert tiles.split.tolist() == [TRAIN, TRAIN, TEST, TEST]


def test_wilds_is_split_by_hospital_and_grouped_by_patient(tmp_path):
    rows = []
    for number, center in enumerate("01234"):
        x, y = 10 * number, 7
        name = f"patient_0{number}4_node_2"
        paint(tmp_path / "patches" / name / f"patch_{name}_x_{x}_y_{y}.png", number)
        rows.append(
            {"": number, "patient": f"{number}4", "node": 2, "x_coord": x, "y_coord": y}
            | {"tumor": number % 2, "slide": number, "center": center, "split": 0}
        )
    write_csv(tmp_path / "metadata.csv", rows)

    tiles = one(tmp_path)

    assert values(tiles) == [0, 1, 2, 3, 4]
    assert tiles.split.tolist() == [TRAIN, VALID, TEST, TRAIN, TRAIN]
    assert [tiles.classes[label] for label in tiles.labels] == ["normal", "tumour"] * 2 + ["normal"]
    assert tiles.groups.tolist() == ["004", "014", "024", "034", "044"]


def test_tils_takes_all_cancers_together_and_knows_the_patient(tmp_path):
    folder = tmp_path / "images-tcga-tils"
    for number, part in enumerate(("train", "val", "test")):
        for label in ("til-negative", "til-positive"):
            paint(folder / "pancancer" / part / label / f"TCGA-AB-123{number}_{label}.png", number)
    paint(folder / "brca" / "train" / "til-positive" / "TCGA-AB-9999_x.png", 200)

    tiles = one(tmp_path)

    assert len(tiles) == 6
    assert set(tiles.groups) == {"TCGA-AB-1230", "TCGA-AB-1231", "TCGA-AB-1232"}
    assert sorted(tiles.split.tolist()) == [TRAIN, TRAIN, VALID, VALID, TEST, TEST]


def test_mhist_takes_the_majority_vote_and_the_partition(tmp_path):
    rows = []
    for number, (label, part) in enumerate((("SSA", "train"), ("HP", "train"), ("SSA", "test"))):
        paint(tmp_path / "images" / f"MHIST_{number}.png", number)
        rows.append(
            {"Image Name": f"MHIST_{number}.png", "Majority Vote Label": label}
            | {"Number of Annotators who Selected SSA (Out of 7)": 4, "Partition": part}
        )
    write_csv(tmp_path / "annotations.csv", rows)

    tiles = one(tmp_path)

    assert tiles.classes == ("HP", "SSA")
    assert tiles.labels.tolist() == [1, 0, 1]
    assert tiles.split.tolist() == [TRAIN, TRAIN, TEST]
    assert values(tiles) == [0, 1, 2]


def test_dlbcl_labels_tiles_by_patient_and_leaves_out_who_has_no_label(tmp_path):
    for patient in ("13901", "13902", "13903"):
        paint(tmp_path / "Patches" / "HE" / patient / "0_0.png", int(patient[-1]))
    paint(tmp_path / "Patches" / "MYC" / "13901" / "0_0.png", 99)
    write_csv(
        tmp_path / "clinical_data_cleaned.csv",
        [
            {"patient_id": "13901", "HANS": "0"},
            {"patient_id": "13902", "HANS": "1"},
            {"patient_id": "13903", "HANS": ""},
        ],
    )

    tiles = one(tmp_path)

    assert values(tiles) == [1, 2]
    assert tiles.groups.tolist() == ["13901", "13902"]
    assert tiles.split is None


def test_midog_cuts_tiles_around_cells_also_at_the_edge_of_an_image(tmp_path):
    image = np.zeros((400, 300, 3), np.uint8)
    image[200, 150], image[10, 20] = 255, 200
    (tmp_path / "images").mkdir()
    Image.fromarray(image).save(tmp_path / "images" / "001.tiff")
    Image.fromarray(image[:, :, ::-1]).save(tmp_path / "images" / "002.tiff")
    boxes = [[125, 175, 175, 225], [-5, -15, 45, 35], [125, 175, 175, 225]]
    content = {
        "images": [{"id": 7, "file_name": "001.tiff"}, {"id": 8, "file_name": "002.tiff"}]
        + [{"id": 9, "file_name": "not_downloaded.tiff"}],
        "annotations": [
            {"image_id": 8, "bbox": boxes[0], "category_id": 1},
            {"image_id": 7, "bbox": boxes[1], "category_id": 2},
            {"image_id": 7, "bbox": boxes[2], "category_id": 1},
            {"image_id": 9, "bbox": boxes[2], "category_id": 1},
        ],
    }
    (tmp_path / "MIDOG++.json").write_text(json.dumps(content))

    tiles = one(tmp_path)

    assert values(tiles) == [200, 255, 255]
    assert tiles.labels.tolist() == [0, 1, 1]
    assert tiles.groups.tolist() == ["001.tiff", "001.tiff", "002.tiff"]
    assert tiles.source.read(np.array([0]))[0, 0, 0].tolist() == [255, 255, 255]  # off the image


@pytest.mark.parametrize("sparse", [False, True])
def test_hest_matches_spots_to_genes_by_name(tmp_path, sparse):
    task = tmp_path / "IDC"
    for folder in ("patches", "adata", "splits"):
        (task / folder).mkdir(parents=True)
    (task / "var_50genes.json").write_text(json.dumps({"genes": ["B", "A"]}))
    counts = np.array([[0, 10, 5], [3, 0, 5], [7, 1, 5]], np.float32)  # spots s0..s2; A, B, C
    for number, sample in enumerate(("S1", "S2")):
        with h5py.File(task / "patches" / f"{sample}.h5", "w") as file:
            file["img"] = np.full((2, 224, 224, 3), number, np.uint8)
            file["barcode"] = np.array([[b"s2"], [b"s0"]])
        with h5py.File(task / "adata" / f"{sample}.h5ad", "w") as file:
            file.create_group("obs")["_index"] = [b"s0", b"s1", b"s2"]
            file.create_group("var")["gene"] = [b"A", b"B", b"C"]
            file["var"].attrs["_index"] = "gene"
            if sparse:
                group = file.create_group("X")
                group.attrs["encoding-type"] = "csr_matrix"
                group["data"] = counts[counts > 0]
                group["indices"] = np.nonzero(counts)[1]
                group["indptr"] = np.concatenate([[0], (counts > 0).sum(1).cumsum()])
            else:
                file["X"] = counts
    for number, (train, test) in enumerate((("S1", "S2"), ("S2", "S1"))):
        write_csv(task / "splits" / f"train_{number}.csv", [{"sample_id": train}])
        write_csv(task / "splits" / f"test_{number}.csv", [{"sample_id": test}])

    tiles = one(tmp_path)

    assert np.allclose(tiles.targets[:2], np.log1p([[1, 7], [10, 0]]))
    assert [(a.tolist(), b.tolist()) for a, b in tiles.folds] == [
        ([0, 1], [2, 3]),
        ([2, 3], [0, 1]),
    ]
    assert values(tiles) == [0, 0, 1, 1]


def test_class_folders_are_a_tile_set(tmp_path):
    for number, name in enumerate(("10", "2", "tumour")):
        paint(tmp_path / name / "a.jpg", number)

    tiles = one(tmp_path)

    assert tiles.classes == ("2", "10", "tumour")
    assert tiles.groups is None
    assert tiles.split is None


def test_folders_that_repeat_are_classes_and_those_around_them_patients(tmp_path):
    for patient in ("p1", "p2"):
        for label in ("0", "1"):
            paint(tmp_path / patient / label / "a.png", 1)

    tiles = one(tmp_path)

    assert tiles.classes == ("0", "1")
    assert sorted(set(tiles.groups)) == ["p1", "p2"]


def test_folders_of_patients_inside_classes_are_told_from_the_reverse(tmp_path):
    for patient, label in (("p1", "benign"), ("p2", "benign"), ("p3", "cancer")):
        paint(tmp_path / label / patient / "a.png", 1)

    tiles = one(tmp_path)

    assert tiles.classes == ("benign", "cancer")
    assert sorted(set(tiles.groups)) == ["p1", "p2", "p3"]


def test_train_and_test_folders_are_a_split(tmp_path):
    for part in ("train", "test"):
        for label in ("a", "b"):
            paint(tmp_path / part / label / "x.png", 1)

    tiles = one(tmp_path)

    assert tiles.classes == ("a", "b")
    assert sorted(tiles.split.tolist()) == [TRAIN, TRAIN, TEST, TEST]


def test_a_flat_folder_needs_a_pattern_for_its_classes(tmp_path):
    paint(tmp_path / "image_0_label_3.png", 1)
    paint(tmp_path / "image_1_label_11.png", 1)

    assert one(tmp_path, pattern=r"label_(?P<class>\d+)").classes == ("3", "11")
    with pytest.raises(TileSetError, match="--pattern"):
        read_sets(tmp_path)
    with pytest.raises(TileSetError, match=r"no group \(\?P<class>"):
        read_sets(tmp_path, pattern=r"label_\d+")
    with pytest.raises(TileSetError, match="does not fit image_0"):
        read_sets(tmp_path, pattern=r"class_(?P<class>\d+)")


def test_a_csv_names_files_classes_patients_and_splits(tmp_path):
    for number in range(3):
        paint(tmp_path / "tiles" / f"{number}.png", number)
    table = tmp_path / "mine.csv"
    rows = [
        {"Path": f"tiles/{i}.png", "Label": "ab"[i % 2], "patient": f"p{i}"}
        | {"split": ("train", "train", "test")[i]}
        for i in range(3)
    ]
    write_csv(table, rows)

    tiles = one(table)

    assert values(tiles) == [0, 1, 2]
    assert tiles.labels.tolist() == [0, 1, 0]
    assert tiles.groups.tolist() == ["p0", "p1", "p2"]
    assert tiles.split.tolist() == [TRAIN, TRAIN, TEST]


@pytest.mark.parametrize("task", TASKS)
def test_a_missing_task_says_in_one_sentence_where_to_get_it_and_its_licence(tmp_path, task):
    with pytest.raises(TileSetError) as caught:
        read_sets(tmp_path / "nowhere", task=task)

    assert TASKS[task].where in str(caught.value)
    assert TASKS[task].licence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_csv_without_a_class_column_is_refused(tmp_path):
    write_csv(tmp_path / "t.csv", [{"file": "a.png", "colour": "red"}])

    with pytest.raises(TileSetError, match="column 'class'"):
        read_sets(tmp_path / "t.csv")


def test_a_missing_tile_is_named(tmp_path):
    write_csv(tmp_path / "t.csv", [{"file": n, "class": n} for n in ("a.png", "b.png")])

    with pytest.raises(TileSetError, match=r"a\.png is missing"):
        read_sets(tmp_path / "t.csv")


def test_one_class_is_not_enough(tmp_path):
    paint(tmp_path / "only" / "a.png", 1)

    with pytest.raises(TileSetError, match="at least two"):
        read_sets(tmp_path)


def test_a_moved_set_keeps_its_identity_and_a_changed_one_does_not(tmp_path):
    for name in ("one", "two"):
        for label in ("a", "b"):
            paint(tmp_path / name / label / "x.png", 5)
    first, second = one(tmp_path / "one"), one(tmp_path / "two")
    assert first.source.identity == second.source.identity

    paint(tmp_path / "two" / "a" / "x.png", 6)

    assert one(tmp_path / "two").source.identity != first.source.identity


def test_a_tile_that_is_not_square_is_cut_around_its_middle():
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 255

    assert (fit(wide) == 255).all()
