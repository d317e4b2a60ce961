"""QuPath's projects, read without Java: a real one, and some written by hand."""

import hashlib
import json

import pytest

from napari_virchow.cli import main
from napari_virchow.qupath.classes import packed_of_rgb
from napari_virchow.qupath.frame import FrameError, SlideBox
from napari_virchow.qupath.groovy import find_image, project_script, script_command
from napari_virchow.qupath.project import (
    ProjectError,
    describe_project,
    read_project,
)
from napari_virchow.qupath.qpdata import read_qpdata_server
from napari_virchow.qupath.uris import moved, path_of_uri, same_file, uri_of_path

OPENSLIDE = "qupath.lib.images.servers.openslide.OpenslideServerBuilder"


def builder(uri, size=(700, 500), mpp=0.25):
    side = {"value": mpp, "unit": "µm"}
    metadata = {"width": size[0], "height": size[1]}
    metadata["pixelCalibration"] = {"pixelWidth": side, "pixelHeight": side}
    said = {"builderType": "uri", "providerClassName": OPENSLIDE, "uri": uri, "args": []}
    return {**said, "metadata": metadata}


def entry(number, name, server):
    return {"serverBuilder": server, "entryID": number, "imageName": name, "metadata": {}}


def write_project(folder, images, *, before=None, classes=(), version="0.5.1", name="project"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.qpproj"
    document = {"version": version, "uri": before or uri_of_path(path), "images": images}
    path.write_text(json.dumps(document), "utf-8")
    if classes:
        (folder / "classifiers").mkdir(exist_ok=True)
        (folder / "classifiers" / "classes.json").write_text(json.dumps({"pathClasses": classes}))
    return path


def fingerprint(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return [(p, p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).digest()) for p in files]


@pytest.fixture
def demo(data_dir):
    return data_dir / "geojson" / "qpproj_demo"


def test_a_real_project_says_images_sizes_thumbnails_classes_and_counts(demo):
    before = fingerprint(demo)
    project = read_project(demo)
    [image] = project.images
    assert (project.name, project.version, project.problems) == ("qpproj_demo", "0.6.0", ())
    assert (image.name, image.entry) == ("TD_01_verysmall_mIF.ome.tif", "1")
    assert (image.width, image.height) == (1000, 1000)
    assert image.mpp == pytest.approx((0.3457, 0.3457), abs=1e-4)
    assert image.thumbnail.read_bytes()[:2] == b"\xff\xd8"
    assert image.counts == {"Root objects": 1, "Annotations": 10, "Cells": 121}
    assert image.annotation_classes["circles"] == 4
    assert image.detection_classes == {"single_cells_demo": 121}
    assert image.image_type == "FLUORESCENCE"
    colors = {one.name: one.hex_color for one in project.classes}
    assert colors["circles"] == "#00ff00"
    assert fingerprint(demo) == before


def test_a_missing_file_is_named_with_the_places_that_were_tried(demo):
    [image] = read_project(demo).images
    assert image.path is None and image.location is None
    assert "TD_01_verysmall_mIF.ome.tif is missing" in image.problem
    assert "/Volumes/RD_Coscia/Jose/" in image.problem


def test_the_head_of_a_qpdata_file_says_the_image(demo):
    server = read_qpdata_server(demo / "data" / "1" / "data.qpdata")
    assert server["uri"].endswith("TD_01_verysmall_mIF.ome.tif")
    assert server["metadata"]["width"] == 1000


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\xac\xed\x00\x05t\x00\x03abc", b"\xac\xed"])
def test_other_files_than_qpdata_are_refused_in_a_sentence(tmp_path, data):
    path = tmp_path / "data.qpdata"
    path.write_bytes(data)
    with pytest.raises(ProjectError, match=r"data\.qpdata does not say which image"):
        read_qpdata_server(path)


def test_an_image_beside_a_moved_project_is_found(tmp_path):
    slide = tmp_path / "new" / "slides" / "a slide.svs"
    slide.parent.mkdir(parents=True)
    slide.touch()
    write_project(
        tmp_path / "new" / "project",
        [entry(3, "a slide.svs", builder("file:/old/place/slides/a%20slide.svs"))],
        before="file:/old/place/project/project.qpproj",
    )
    [image] = read_project(tmp_path / "new" / "project").images
    assert image.path == slide
    assert image.location == str(slide) and image.problem == ""


def test_a_file_that_is_where_the_project_says_is_taken_before_one_that_moved_along(tmp_path):
    here, along = tmp_path / "slides" / "a.svs", tmp_path / "copy" / "slides" / "a.svs"
    for path in (here, along):
        path.parent.mkdir(parents=True)
        path.touch()
    before = uri_of_path(tmp_path / "project" / "project.qpproj")
    images = [entry(1, "a", builder(uri_of_path(here)))]
    write_project(tmp_path / "copy" / "project", images, before=before)
    assert read_project(tmp_path / "copy" / "project").images[0].path == here


def test_images_on_the_web_are_opened_there_and_servers_of_others_are_not(tmp_path):
    web, omero = "https://example.org/a.svs", "omero:iid=5"
    write_project(tmp_path, [entry(1, "web", builder(web)), entry(2, "omero", builder(omero))])
    first, second = read_project(tmp_path).images
    assert first.location == web and first.path is None
    assert second.location is None and omero in second.problem


def test_an_image_turned_in_qupath_has_its_size_and_frame(tmp_path):
    turned = {"builderType": "rotated", "rotation": "ROTATE_90", "builder": builder("file:/a.svs")}
    write_project(tmp_path, [entry(1, "turned", turned)])
    [image] = read_project(tmp_path).images
    assert (image.width, image.height, image.mpp) == (500, 700, (0.25, 0.25))
    frame = image.frame_on(SlideBox(700, 500))
    assert frame.name == "whole slide, rotated 90"
    with pytest.raises(FrameError, match="300 × 200"):
        image.frame_on(SlideBox(300, 200))


def test_an_image_put_together_of_several_files_names_them_and_is_not_opened(tmp_path):
    parts = [builder("file:/a.svs"), builder("file:/b.svs"), builder("file:/a.svs")]
    write_project(tmp_path, [entry(1, "both", {"builderType": "sparse", "regions": parts})])
    [image] = read_project(tmp_path).images
    assert image.uris == ("file:/a.svs", "file:/b.svs")
    assert image.location is None and "2 files" in image.problem


def test_a_project_of_qupath_0_1_is_read(tmp_path):
    (tmp_path / "thumbnails").mkdir()
    (tmp_path / "thumbnails" / "a.jpg").touch()
    (tmp_path / "a.svs").touch()
    document = {
        "createTimestamp": 5,
        "modifyTimestamp": 7,
        "pathClasses": [{"name": "Tumor", "color": packed_of_rgb((200, 0, 0))}],
        "images": [
            {"path": "{$PROJECT_DIR}/a.svs", "name": "a", "metadata": {"stain": "H&E"}},
            {"path": "/nowhere/b.svs", "description": "lost"},
        ],
    }
    (tmp_path / "project.qpproj").write_text(json.dumps(document))
    project = read_project(tmp_path)
    a, b = project.images
    assert project.version == "0.1"
    assert [(c.name, c.hex_color) for c in project.classes] == [("Tumor", "#c80000")]
    assert (a.path, a.metadata, a.thumbnail.name) == (tmp_path / "a.svs", {"stain": "H&E"}, "a.jpg")
    assert (b.name, b.description) == ("b.svs", "lost") and "missing" in b.problem


def test_damaged_parts_are_named_while_the_rest_is_read(tmp_path):
    (tmp_path / "a.svs").touch()
    good = entry(1, "a", builder(uri_of_path(tmp_path / "a.svs")))
    classes = [{"name": "Tumor: Positive", "color": -65536}, {"color": 5}, {"name": " : "}]
    write_project(tmp_path, [{"imageName": "b"}, good, "c"], classes=classes)
    (tmp_path / "data" / "1").mkdir(parents=True)
    (tmp_path / "data" / "1" / "summary.json").write_text("{")
    project = read_project(tmp_path)
    assert [image.name for image in project.images] == ["a"]
    assert [(one.names, one.color) for one in project.classes] == [
        (("Tumor", "Positive"), (255, 0, 0))
    ]
    text = " ".join(project.problems)
    assert "Image 1" in text and "Image 3" in text and "summary.json is damaged" in text
    assert len(project.problems) == 5


@pytest.mark.parametrize(
    ("content", "what"),
    [("{", "is damaged"), ("[]", "no object"), ('{"version": "1"}', "no list of images")],
)
def test_what_is_no_project_is_refused_in_a_sentence(tmp_path, content, what):
    (tmp_path / "project.qpproj").write_text(content)
    with pytest.raises(ProjectError, match=what):
        read_project(tmp_path)


def test_a_folder_without_a_project_or_with_several_is_refused(tmp_path):
    with pytest.raises(ProjectError, match="has no project"):
        read_project(tmp_path)
    with pytest.raises(ProjectError, match="is not there"):
        read_project(tmp_path / "missing")
    for name in ("one", "two"):
        write_project(tmp_path, [], name=name)
    with pytest.raises(ProjectError, match=r"one\.qpproj, two\.qpproj"):
        read_project(tmp_path)
    assert read_project(tmp_path / "two.qpproj").images == ()
    (tmp_path / "a.txt").touch()
    with pytest.raises(ProjectError, match=r"end in \.qpproj"):
        read_project(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:/home/a%20b/x%23.svs", "/home/a b/x#.svs"),
        ("file:///C:/Users/x.svs", "C:/Users/x.svs"),
        ("file:/C:/Users/x.svs", "C:/Users/x.svs"),
        ("file://server/share/x.svs", "//server/share/x.svs"),
        ("file://localhost/x.svs", "/x.svs"),
    ],
)
def test_a_file_uri_of_any_system_becomes_a_path(uri, path):
    assert path_of_uri(uri).as_posix() == path


def test_a_path_becomes_the_uri_that_java_would_write(tmp_path):
    path = tmp_path / "a b#ü.svs"
    path.touch()
    assert "%20" in uri_of_path(path) and "%23" in uri_of_path(path)
    assert path_of_uri(uri_of_path(path)) == path
    assert same_file(uri_of_path(path), path)
    assert not same_file(uri_of_path(path), tmp_path / "other.svs")


def test_a_file_on_another_drive_did_not_move_along(tmp_path):
    home = "file:/C:/projects/one/project.qpproj"
    assert moved("file:/D:/slides/x.svs", home, tmp_path) is None
    assert moved("file:/C:/projects/one/x.svs", home, tmp_path) == tmp_path / "x.svs"
    assert moved("file:/C:/projects/one/x.svs", None, tmp_path) is None


def test_a_script_names_the_file_of_each_image_and_quotes_odd_names(tmp_path):
    path = write_project(
        tmp_path, [entry(n, name, builder(f"file:/{name}")) for n, name in ((1, "a"), (7, "b$'s"))]
    )
    project = read_project(path)
    odd = tmp_path / "it's a $file.geojson"
    script = project_script(project, {"7": odd, "a": "a.geojson"})
    assert f"'7': '{tmp_path.as_posix()}/it\\'s a $file.geojson'" in script
    assert "'1': '" in script and script.count("'7'") == 1
    assert find_image(project, "b$'s").entry == "7"


def test_a_script_for_an_image_that_is_not_there_or_not_clear_is_refused(tmp_path):
    images = [entry(n, "same", builder("file:/a.svs")) for n in (1, 2)]
    project = read_project(write_project(tmp_path, images))
    with pytest.raises(ProjectError, match="has no image 'x'"):
        project_script(project, {"x": "a.geojson"})
    with pytest.raises(ProjectError, match="name one by 1, 2"):
        project_script(project, {"same": "a.geojson"})
    with pytest.raises(ProjectError, match="No file was named"):
        project_script(project, {})


def test_the_command_for_qupaths_own_command_line_is_quoted(tmp_path):
    project = read_project(write_project(tmp_path / "my project", []))
    command = script_command("/opt/QuPath/bin/QuPath", project, "take.groovy", ["a slide.svs"])
    assert command.startswith("/opt/QuPath/bin/QuPath script -p '")
    assert command.endswith("-i 'a slide.svs' -s take.groovy")


def test_the_command_line_lists_a_project_in_words_and_in_json(demo, capsys):
    assert main(["qupath", "project", str(demo)]) == 0
    text = capsys.readouterr().out
    assert "1000 × 1000 px, 0.3457 µm/px, 10 annotations, 121 cells" in text
    assert text.strip() == describe_project(read_project(demo))
    assert main(["qupath", "project", str(demo), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["images"][0]["counts"]["Cells"] == 121
    assert main(["qupath", "project", str(demo / "data")]) == 2
    assert "has no project of QuPath" in capsys.readouterr().err


def test_the_command_line_writes_a_script_and_leaves_the_project_alone(demo, tmp_path, capsys):
    before, out = fingerprint(demo), tmp_path / "take.groovy"
    words = ["qupath", "project", str(demo), "--script", str(out), "--take", "1=tiles.geojson"]
    assert main(words) == 0
    assert "tiles.geojson" in out.read_text()
    assert main([*words[:-1], "1"]) == 2
    assert "IMAGE=FILE" in capsys.readouterr().err
    assert main([*words[:3], "--take", "1=a.geojson"]) == 2
    assert fingerprint(demo) == before
