"""Where an image in QuPath lies on the slide: every way QuPath can show it, checked by its size."""

import json
from dataclasses import replace

import numpy as np
import pytest
import shapely

from napari_virchow.qupath.frame import (
    BLOCK_KEY,
    AmbiguousFrame,
    Frame,
    FrameError,
    SlideBox,
    bounds_frame,
    cropped,
    flipped,
    frame_block,
    frame_of_block,
    rotated,
    transformed,
    whole_slide,
)
from napari_virchow.qupath.geojson import encode_objects, parse_geojson, read_geojson, write_geojson
from napari_virchow.qupath.objects import PathObject
from napari_virchow.qupath.placing import to_qupath, to_slide
from napari_virchow.qupath.servers import (
    candidate_frames,
    frame_named,
    frame_of_objects,
    frame_of_server,
    frame_of_size,
)
from napari_virchow.tiles import Rect

BOX = SlideBox(1000, 700, Rect(100, 50, 600, 400), "the slide")
PLAIN = SlideBox(1000, 700)
ID = "f2bc55b0-1869-4f4a-99e4-0ba074a9fcca"


def server(*, provider="OpenslideServerBuilder", args=(), size=None):
    made = {
        "builderType": "uri",
        "providerClassName": f"qupath.lib.images.servers.openslide.{provider}",
        "uri": "file:/slide.mrxs",
        "args": list(args),
    }
    if size is not None:
        made["metadata"] = {"width": size[0], "height": size[1]}
    return made


def around(inner, kind, size=None, **said):
    made = {"builderType": kind, "builder": inner, **said}
    if size is not None:
        made["metadata"] = {"width": size[0], "height": size[1]}
    return made


def at(frame, x, y):
    return tuple(frame.to_slide(np.array([(x, y)], float))[0])


def square(x, y, side=10):
    return PathObject(
        id=ID, object_type="annotation", geometry=shapely.box(x, y, x + side, y + side)
    )


FRAMES = {
    "whole": whole_slide(BOX),
    "bounds": bounds_frame(BOX),
    "bounds, 90": rotated(bounds_frame(BOX), 90),
    "bounds, 180": rotated(bounds_frame(BOX), 180),
    "bounds, 270": rotated(bounds_frame(BOX), 270),
    "flipped": flipped(bounds_frame(BOX), horizontally=True, vertically=False),
    "flipped both": flipped(whole_slide(BOX), horizontally=True, vertically=True),
    "cropped": cropped(bounds_frame(BOX), Rect(10, 20, 100, 80)),
    "turned crop": cropped(rotated(bounds_frame(BOX), 90), Rect(10, 20, 100, 80)),
    "affine": transformed(whole_slide(BOX), (0.5, 0, 3, 0, 0.25, -2)),
}


# What QuPath says of an image


def test_qupath_crops_a_slide_to_its_bounds():
    frame = frame_of_server(server(size=(600, 400)), BOX)
    assert (frame.width, frame.height) == (600, 400)
    assert at(frame, 0, 0) == (100, 50)
    assert frame == bounds_frame(BOX)


def test_without_crop_it_is_the_whole_slide():
    frame = frame_of_server(server(args=["--no-crop"], size=(1000, 700)), BOX)
    assert frame.is_identity


def test_a_slide_without_bounds_is_shown_whole():
    assert frame_of_server(server(), PLAIN).is_identity


def test_bio_formats_does_not_crop():
    builder = server(provider="BioFormatsServerBuilder", args=["--series", "0"], size=(1000, 700))
    assert frame_of_server(builder, BOX).is_identity


def test_another_series_is_refused_with_both_sizes():
    builder = server(provider="BioFormatsServerBuilder", args=["--series", "1"], size=(250, 175))
    with pytest.raises(FrameError, match=r"250 × 175 px.*1000 × 700 px"):
        frame_of_server(builder, BOX)


def test_the_offset_counts_even_where_one_side_is_as_long_as_the_slide():
    box = SlideBox(1000, 700, Rect(0, 50, 1000, 400))
    frame = frame_of_server(server(size=(1000, 400)), box)
    assert at(frame, 7, 0) == (7, 50)


def test_negative_bounds_shift_the_other_way():
    box = SlideBox(1000, 700, Rect(-20, -10, 600, 400))
    assert at(frame_of_server(server(size=(600, 400)), box), 20, 10) == (0, 0)


def test_the_size_overrules_what_the_reader_should_have_done():
    assert frame_of_server(server(size=(1000, 700)), BOX).is_identity
    other = server(provider="BioFormatsServerBuilder", size=(600, 400))
    assert frame_of_server(other, BOX) == bounds_frame(BOX)


@pytest.mark.parametrize(
    ("turn", "size", "corner"),
    [
        # The image's own corner (0, 0) is the slide's (100, 50); where is it after a turn?
        ("ROTATE_NONE", (600, 400), (0, 0)),
        ("ROTATE_90", (400, 600), (400, 0)),
        ("ROTATE_180", (600, 400), (600, 400)),
        ("ROTATE_270", (400, 600), (0, 600)),
    ],
)
def test_turns_are_clockwise(turn, size, corner):
    frame = frame_of_server(around(server(), "rotated", size, rotation=turn), BOX)
    assert (frame.width, frame.height) == size
    assert at(frame, *corner) == (100, 50)


@pytest.mark.parametrize(
    ("flip", "corner"),
    [("NONE", (0, 0)), ("HORIZONTAL", (600, 0)), ("VERTICAL", (0, 400)), ("BOTH", (600, 400))],
)
def test_flips(flip, corner):
    frame = frame_of_server(around(server(), "flipped", flip=flip), BOX)
    assert at(frame, *corner) == (100, 50)


def test_a_crop_of_a_turned_image():
    turned = around(server(), "rotated", rotation="ROTATE_90")
    region = {"x": 30, "y": 40, "width": 100, "height": 200, "z": 0, "t": 0}
    frame = frame_of_server(around(turned, "cropped", (100, 200), region=region), BOX)
    # (30, 40) of the turned image is x = 40, y = 400 - 30 of the image before.
    assert at(frame, 0, 0) == (100 + 40, 50 + 370)


def test_an_affine_transform_and_what_changes_nothing():
    matrix = {"m00": 0, "m10": 2, "m01": -2, "m11": 0, "m02": 800, "m12": 0}
    inner = around(server(), "affine", (800, 1200), transform=matrix)
    for kind in ("pyramidize", "color_deconvolved", "channels", "z_projected"):
        inner = around(inner, kind)
    frame = frame_of_server(inner, BOX)
    assert (frame.width, frame.height) == (800, 1200)
    # x' = 800 - 2y, y' = 2x in the image: (10, 20) is shown at (760, 20).
    assert at(frame, 760, 20) == (110, 70)


def test_an_image_put_together_from_parts_is_refused():
    with pytest.raises(FrameError, match="sparse"):
        frame_of_server({"builderType": "sparse", "regions": []}, BOX)


def test_a_wrong_size_is_refused_with_both_sizes():
    with pytest.raises(FrameError, match=r"640 × 480 px.*1000 × 700 px.*600 × 400 px"):
        frame_of_server(server(size=(640, 480)), BOX)
    wrong = around(server(), "rotated", (600, 400), rotation="ROTATE_90")
    with pytest.raises(FrameError, match="600 × 400 px"):
        frame_of_server(wrong, BOX)


@pytest.mark.parametrize("bad", [{}, {"builderType": "rotated"}, around(server(), "rotated")])
def test_a_damaged_description_is_refused_in_a_sentence(bad):
    with pytest.raises(FrameError, match="damaged"):
        frame_of_server(bad, BOX)


def test_a_project_of_qupath_itself_is_understood(data_dir):
    path = data_dir / "geojson" / "qpproj_demo" / "data" / "1" / "server.json"
    builder = json.loads(path.read_text("utf-8"))
    assert frame_of_server(builder, SlideBox(1000, 1000)).is_identity
    with pytest.raises(FrameError, match=r"1000 × 1000 px.*999 × 1000 px"):
        frame_of_server(builder, SlideBox(999, 1000))


# What the size says, and what the objects say


def test_the_size_alone_tells_the_whole_slide_from_its_bounds():
    assert frame_of_size((1000, 700), BOX) == whole_slide(BOX)
    assert frame_of_size((600, 400), BOX) == bounds_frame(BOX)
    with pytest.raises(FrameError, match="601 × 400"):
        frame_of_size((601, 400), BOX)


def test_a_swapped_size_is_a_quarter_turn_one_way_or_the_other():
    assert [f.name for f in candidate_frames((400, 600), BOX)] == [
        "bounds, rotated 90",
        "bounds, rotated 270",
    ]
    with pytest.raises(AmbiguousFrame, match="choose") as caught:
        frame_of_size((700, 1000), BOX)
    assert len(caught.value.candidates) == 2


def test_objects_tell_the_frame_where_only_one_holds_them():
    assert frame_of_objects([square(900, 600)], BOX) == whole_slide(BOX)
    assert frame_of_objects([square(900, 600)], PLAIN) == whole_slide(PLAIN)
    with pytest.raises(AmbiguousFrame):
        frame_of_objects([square(10, 10)], BOX)
    with pytest.raises(FrameError, match="another image"):
        frame_of_objects([square(2000, 10)], PLAIN)


def test_frames_have_names_to_ask_for_them():
    assert frame_named("whole", BOX).is_identity
    assert frame_named("bounds+90", BOX) == rotated(bounds_frame(BOX), 90)
    for bad in ("", "bounds+45", "left"):
        with pytest.raises(FrameError):
            frame_named(bad, BOX)


# There and back


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_points_come_back_without_an_error(frame):
    points = np.random.default_rng(3).uniform(0, 500, (50, 2)).round(2)
    np.testing.assert_allclose(frame.to_qupath(frame.to_slide(points)), points, atol=1e-9)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_what_was_not_touched_comes_back_as_it_was_read(frame, data_dir):
    for name in ("16_multipolygon_hole", "22_ellipse", "23_plane", "32_children"):
        path = data_dir / "geojson" / "cases" / f"{name}.geojson"
        there = to_slide(read_geojson(path).objects, frame)
        data, report = encode_objects(there, frame=frame)
        assert json.loads(data)["features"] == json.loads(path.read_text())["features"]
        assert report.repaired == 0


def test_importing_adds_the_offset_and_exporting_takes_it_off():
    frame = bounds_frame(BOX)
    text = encode_objects([square(0, 0)])[0]
    [there] = to_slide(parse_geojson(text).objects, frame)
    assert there.geometry.bounds == (100, 50, 110, 60)
    [out] = json.loads(encode_objects([replace(there, name="x")], frame=frame)[0])["features"]
    assert out["geometry"] == json.loads(text)["features"][0]["geometry"]
    [whole] = json.loads(encode_objects([there], frame=whole_slide(BOX))[0])["features"]
    assert shapely.geometry.shape(whole["geometry"]).bounds == (100, 50, 110, 60)


def test_what_was_moved_on_the_slide_is_moved_in_qupath():
    frame = FRAMES["bounds, 90"]
    [there] = to_slide(parse_geojson(encode_objects([square(20, 30)])[0]).objects, frame)
    moved = replace(there, geometry=shapely.affinity.translate(there.geometry, 5, 7))
    [back] = to_qupath([moved], frame)
    # 5 to the right and 7 down on the slide are 7 to the left and 5 down after a clockwise turn.
    assert back.geometry.bounds == (20 - 7, 30 + 5, 30 - 7, 40 + 5)


def test_an_ellipse_turned_askew_becomes_its_outline():
    askew = transformed(whole_slide(PLAIN), (0.8, -0.6, 0, 0.6, 0.8, 0))
    [there] = to_slide([replace(square(100, 100), is_ellipse=True)], askew)
    assert not there.is_ellipse and there.geometry.area == pytest.approx(25 * np.pi, rel=0.01)
    [same] = to_slide([replace(square(100, 100), is_ellipse=True)], FRAMES["bounds, 90"])
    assert same.is_ellipse


def test_our_own_files_say_their_frame(tmp_path):
    frame, path = FRAMES["bounds, 270"], tmp_path / "a.geojson"
    foreign = {BLOCK_KEY: frame_block(frame, "abc", BOX)}
    write_geojson(path, [square(150, 100)], frame=frame, foreign=foreign)
    found = read_geojson(path)
    said = frame_of_block(found.block, BOX, "abc")
    assert said == frame
    [there] = to_slide(found.objects, said)
    assert there.geometry.equals(shapely.box(150, 100, 160, 110))


def test_a_file_of_a_slide_of_another_size_is_refused_with_both():
    block = frame_block(whole_slide(BOX), "abc", BOX)
    assert frame_of_block(block, BOX, "another copy") == whole_slide(BOX)
    with pytest.raises(FrameError, match=r"1000 × 700 px.*500 × 700 px"):
        frame_of_block(block, SlideBox(500, 700), "def")
    assert frame_of_block(None, BOX) is None
    with pytest.raises(FrameError, match="damaged"):
        frame_of_block({"frame": {"name": "x"}}, BOX)


def test_a_transform_that_cannot_be_undone_is_refused():
    with pytest.raises(FrameError, match="undone"):
        Frame("flat", 1, 1, (1, 1, 0, 1, 1, 0))
