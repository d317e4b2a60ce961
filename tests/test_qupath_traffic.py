"""What comes in and goes out is known before anything happens, and a stop leaves nothing behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import shapely

from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.export import SlideTiles
from napari_virchow.qupath.frame import SlideBox, bounds_frame, whole_slide
from napari_virchow.qupath.geojson import GeoJsonError, encode_objects, parse_geojson
from napari_virchow.qupath.incoming import look_into_file, look_into_text, put_into
from napari_virchow.qupath.kept_file import KeptBusy
from napari_virchow.qupath.objects import PathObject
from napari_virchow.qupath.outgoing import Cancelled, encode, objects_out, tiles_out
from napari_virchow.session import Session
from napari_virchow.tiles import Rect, TileGrid

BOX = SlideBox(1000, 700, Rect(100, 50, 600, 400), "s.svs")
DATA = Path(os.environ.get("NAPARI_VIRCHOW_TEST_DATA", "/nowhere")) / "geojson"


def uid(n):
    return f"00000000-0000-4000-8000-{n:012d}"


def squares(*places):
    kinds = [PathClass.of("Tumor"), None]
    return [
        PathObject(uid(n), "annotation", shapely.box(x, y, x + 9, y + 9), path_class=kinds[n % 2])
        for n, (x, y) in enumerate(places)
    ]


def text_of(objects, **options):
    return encode_objects(objects, **options)[0].decode()


def test_a_file_that_fits_one_frame_lies_in_it_and_is_counted():
    coming = look_into_text(text_of(squares((700, 500), (3, 4))), BOX, "id")
    assert (coming.frame.name, coming.refusal, coming.outside) == ("whole slide", "", 0)
    assert coming.counts == {"annotation": {"Tumor": 1, "unclassified": 1}}
    assert coming.n == 2
    assert coming.objects[0].geometry.bounds == (700, 500, 709, 509)


def test_where_several_frames_fit_somebody_has_to_choose():
    coming = look_into_text(text_of(squares((30, 40))), BOX, "id")
    assert [frame.name for frame in coming.choices] == ["whole slide", "bounds"]
    assert coming.objects == ()
    assert "choose one" in coming.refusal
    placed = put_into(coming, coming.choices[1], BOX)
    assert placed.objects[0].geometry.bounds == (130, 90, 139, 99)
    assert placed.refusal == ""


def test_a_file_for_a_slide_of_another_size_is_refused_with_both_sizes():
    ours = objects_out(
        squares((3, 4)), whole_slide(SlideBox(2220, 2967)), "x", SlideBox(2220, 2967)
    )
    coming = look_into_text(encode(ours)[0].decode(), BOX, "id")
    assert coming.frame is None
    assert "2220 × 2967 px" in coming.refusal
    assert "1000 × 700 px" in coming.refusal
    far = look_into_text(text_of(squares((5000, 40))), BOX, "id")
    assert "1000 × 700 px" in far.refusal
    still = put_into(far, whole_slide(BOX), BOX)
    assert "not one object" in still.refusal
    assert still.objects == ()


def test_what_lies_beside_the_slide_is_counted():
    coming = look_into_text(text_of(squares((3, 4), (5000, 40))), BOX, "id")
    assert put_into(coming, whole_slide(BOX), BOX).outside == 1


def test_malformed_features_are_listed_and_the_others_come():
    features = [json.loads(text_of(squares((30, 500))))["features"][0], {"type": "Feature"}]
    coming = look_into_text(json.dumps(features), BOX, "id")
    assert coming.n == 1
    assert [(p.index, p.reason) for p in coming.found.problems] == [
        (1, "geometry is null or missing")
    ]


@pytest.mark.parametrize("text", ["", "hello", "[1, 2", '{"a": 1}'])
def test_other_text_on_the_clipboard_is_refused_in_a_sentence(text):
    with pytest.raises(GeoJsonError, match="the clipboard"):
        look_into_text(text, BOX, "id")


def test_objects_go_out_in_the_frame_of_qupath_and_come_back_by_it():
    going = objects_out(squares((130, 90), (3, 4)), bounds_frame(BOX), "id", BOX)
    assert (going.n, dict(going.by_class)) == (2, {"Tumor": 1, "unclassified": 1})
    data, report = encode(going)
    assert report.written == 2
    assert parse_geojson(data).objects[0].geometry.bounds == (30, 40, 39, 49)
    back = look_into_text(data.decode(), BOX, "id")
    assert back.frame.name == "bounds"
    assert back.objects[0].geometry.equals(shapely.box(130, 90, 139, 99))


def test_tiles_go_out_in_steps_and_progress_is_told():
    grid = TileGrid(100_000, 80_000, (0.25, 0.25))
    tiles = np.column_stack(np.divmod(np.arange(4500), 150))
    kinds = [type("C", (), {"id": 1, "name": "Tumor", "color": "#c80000"})()]
    box = SlideBox(100_000, 80_000)
    where = SlideTiles("id", grid, tiles, whole_slide(box))
    going = tiles_out(where, np.arange(4500) % 2, kinds, {"p(Tumor)": np.linspace(0, 1, 4500)})
    told = []
    data, report = encode(going, told=lambda done, of: told.append((done, of)))
    assert told == [(2000, 4500), (4000, 4500), (4500, 4500)]
    found = parse_geojson(data)
    assert (len(found.objects), report.written) == (4500, 4500)
    assert dict(going.by_class) == {"Tumor": 2250, "unclassified": 2250}
    assert going.about_bytes() == pytest.approx(len(data), rel=0.1)
    assert found.block["grid"]["name"] == grid.name


def test_a_stop_between_steps_writes_nothing():
    going = objects_out(
        squares(*[(n % 900, n % 600) for n in range(4100)]), whole_slide(BOX), "i", BOX
    )
    seen = []

    def stop():
        return len(seen) > 0

    with pytest.raises(Cancelled):
        encode(going, told=lambda *done: seen.append(done), stop=stop)
    assert seen == [(2000, 4100)]


def test_nothing_goes_out_as_an_empty_file():
    going = objects_out([], whole_slide(BOX), "i", BOX)
    assert json.loads(encode(going)[0])["features"] == []
    assert going.about_bytes() == 0


def test_a_session_keeps_the_objects_of_its_slides(tmp_path):
    path = tmp_path / "s.tif"
    from napari_virchow.sample import write_sample

    write_sample(path, width=700, height=500)
    with Session(tmp_path / "store") as session:
        slide = session.open_slide(path)
        kept = session.objects(slide)
        assert session.objects(slide) is kept
        kept.add(squares((3, 4)), "import")
        with Session(tmp_path / "store") as other, pytest.raises(KeptBusy):
            other.objects(other.open_slide(path))
    with Session(tmp_path / "store") as session:
        slide = session.open_slide(path)
        assert [one.id for one in session.objects(slide).objects] == [uid(0)]
        session.close_slide(slide)
        again = session.open_slide(path)
        assert len(session.objects(again)) == 1


@pytest.mark.skipif(not DATA.exists(), reason="needs NAPARI_VIRCHOW_TEST_DATA")
def test_a_file_of_qupath_comes_onto_a_slide_of_its_size():
    box = SlideBox(40_000, 60_000)
    coming = look_into_file(DATA / "qupath_to_lmd_TD_01_verysmall_mIF.geojson", box, "id")
    assert coming.refusal == ""
    assert coming.n == len(coming.objects) > 3
