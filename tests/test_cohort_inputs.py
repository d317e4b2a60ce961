"""Which slides are meant by folders, lists, patterns and URLs."""

from __future__ import annotations

import pytest

from napari_virchow.cohort import CohortError, find_slides


@pytest.fixture
def folder(tmp_path):
    for name in ("b.svs", "a.TIFF", "notes.txt", "deep/er/c.ndpi", ".hidden/d.svs"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "1.dcm").write_text("")
    (tmp_path / "dicom" / "2.dcm").write_text("")
    (tmp_path / "image.zarr").mkdir()
    return tmp_path


def names(folder, slides):
    return [slide.removeprefix(f"{folder}/") for slide in slides]


def test_a_folder_is_searched_through_and_through(folder):
    found = names(folder, find_slides([str(folder)]))
    assert found == ["a.TIFF", "b.svs", "deep/er/c.ndpi", "dicom", "image.zarr"]


def test_a_folder_of_dicom_files_is_one_slide(folder):
    assert names(folder, find_slides([str(folder / "dicom")])) == ["dicom"]


def test_lists_name_paths_beside_them_and_urls(folder):
    (folder / "list.txt").write_text("# mine\nb.svs\n\nhttps://x.org/e.svs\ndeep\n")
    found = names(folder, find_slides([str(folder / "list.txt")]))
    assert found == ["b.svs", "https://x.org/e.svs", "deep/er/c.ndpi"]


def test_a_csv_file_has_a_column_of_slides(folder):
    (folder / "list.csv").write_text("patient,Slide\n1,b.svs\n2,a.TIFF\n")
    assert names(folder, find_slides([str(folder / "list.csv")])) == ["b.svs", "a.TIFF"]
    (folder / "bad.csv").write_text("patient,age\n1,60\n")
    with pytest.raises(CohortError, match=r"bad\.csv has no column slide or path"):
        find_slides([str(folder / "bad.csv")])


def test_patterns_are_understood_where_the_shell_left_them(folder):
    assert names(folder, find_slides([f"{folder}/**/*.ndpi"])) == ["deep/er/c.ndpi"]
    with pytest.raises(CohortError, match="No file fits the pattern"):
        find_slides([f"{folder}/*.bif"])


def test_each_slide_is_taken_once(folder):
    both = find_slides([str(folder / "b.svs"), str(folder)])
    assert len(both) == len(set(both)) == 5
    assert both[0] == str(folder / "b.svs")


def test_what_is_not_there_is_kept_to_be_told_in_its_turn(folder):
    assert find_slides(["/nowhere/x.svs"]) == ["/nowhere/x.svs"]


def test_a_folder_without_slides_is_refused(tmp_path):
    with pytest.raises(CohortError, match="holds no slide file"):
        find_slides([str(tmp_path)])
