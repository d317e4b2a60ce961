"""The objects of a slide are kept, step by step, and found again as they were, to the letter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import shapely

from napari_virchow.qupath.classes import PathClass
from napari_virchow.qupath.drawing import drawn_piece, new_annotation
from napari_virchow.qupath.frame import Frame
from napari_virchow.qupath.geojson import encode_objects, parse_geojson, read_geojson
from napari_virchow.qupath.kept import KeptObjects
from napari_virchow.qupath.kept_file import KeptBusy, KeptError
from napari_virchow.qupath.objects import PathObject, flatten
from napari_virchow.qupath.placing import to_slide

DATA = Path(os.environ.get("NAPARI_VIRCHOW_TEST_DATA", "/nowhere")) / "geojson"
BOUNDS = Frame("bounds", 600, 400, (1, 0, 100, 0, 1, 50))


def uid(n):
    return f"00000000-0000-4000-8000-{n:012d}"


def a_square(n, **options):
    return PathObject(uid(n), "annotation", shapely.box(n, n, n + 5, n + 7), **options)


def a_file(*features):
    return json.dumps({"type": "FeatureCollection", "features": list(features)})


def a_feature(n, children=(), **properties):
    ring = [[n, n], [n + 5.25, n], [n + 5.25, n + 7], [n, n]]
    if children:
        properties["childObjects"] = list(children)
    return {
        "type": "Feature",
        "id": uid(n),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", **properties, "odd key": [1, {"x": None}]},
    }


def test_what_is_added_changed_and_removed_comes_back_by_undo():
    kept = KeptObjects()
    told = []
    kept.changed.connect(told.append)
    assert kept.add([a_square(1), a_square(2)], "import 2 objects") == (2, 0)
    kept.update({uid(1): a_square(1, name="one")}, "name annotation")
    kept.update({uid(2): None}, "remove annotation")
    assert [(one.id, one.name) for one in kept.objects] == [(uid(1), "one")]
    assert kept.undo_text == "remove annotation"
    assert kept.undo()
    assert kept.undo()
    assert [(one.id, one.name) for one in kept.objects] == [(uid(1), None), (uid(2), None)]
    assert kept.redo_text == "name annotation"
    assert kept.undo()
    assert kept.objects == []
    assert not kept.undo()
    while kept.redo():
        pass
    assert [(one.id, one.name) for one in kept.objects] == [(uid(1), "one")]
    assert [change.ids for change in told[:3]] == [(uid(1), uid(2)), (uid(1),), (uid(2),)]


def test_objects_of_a_known_id_take_its_place_instead_of_becoming_more():
    kept = KeptObjects()
    kept.add([a_square(1), a_square(2), a_square(3)], "import")
    assert kept.add([a_square(2, name="again"), a_square(4)], "import") == (1, 1)
    assert [(one.id, one.name) for one in kept.objects] == [
        (uid(1), None),
        (uid(2), "again"),
        (uid(3), None),
        (uid(4), None),
    ]
    assert kept.add([a_square(2), a_square(4)], "import") == (0, 2)
    assert len(kept) == 4


def test_the_second_of_two_objects_with_one_id_gets_an_id_of_its_own():
    kept = KeptObjects()
    kept.add([a_square(1, name="a"), a_square(1, name="b")], "import")
    first, second = kept.objects
    assert (first.id, first.name, second.name) == (uid(1), "a", "b")
    assert second.id != first.id


def test_a_nested_object_is_edited_where_it_is_and_its_parent_stays():
    kept = KeptObjects()
    text = a_file(a_feature(1, children=[a_feature(2), a_feature(3)]))
    kept.add(parse_geojson(text).objects, "import")
    assert len(kept) == 3
    inner = kept.get(uid(2))
    kept.update({uid(2): replace(inner, path_class=PathClass.of("Tumor")), uid(3): None}, "edit")
    [top] = kept.objects
    assert [child.path_class.name for child in top.children] == ["Tumor"]
    [written] = json.loads(encode_objects(kept.objects)[0])["features"]
    [child] = written["properties"]["childObjects"]
    assert child["properties"]["classification"]["name"] == "Tumor"
    assert child["geometry"] == a_feature(2)["geometry"]
    kept.undo()
    assert len(kept) == 3


def test_nothing_changes_when_one_of_several_ids_is_unknown():
    kept = KeptObjects()
    kept.add([a_square(1)], "import")
    with pytest.raises(KeyError, match=uid(7)):
        kept.update({uid(1): None, uid(7): None}, "remove")
    assert len(kept) == 1
    assert kept.update({uid(1): kept.get(uid(1))}, "nothing") == 0
    assert kept.undo_text == "import"


@pytest.mark.parametrize("frame", [None, BOUNDS], ids=["as it is", "through a frame"])
def test_an_untouched_object_is_the_same_to_the_letter_after_years_on_disk(tmp_path, frame):
    text = a_file(a_feature(1, children=[a_feature(2)]), a_feature(3, name="x"))
    found = parse_geojson(text).objects
    placed = found if frame is None else to_slide(found, frame)
    with KeptObjects(tmp_path / "a" / "kept.sqlite") as kept:
        kept.add(placed, "import")
        kept.update({uid(3): replace(kept.get(uid(3)), name="y")}, "name")
    with KeptObjects(tmp_path / "a" / "kept.sqlite") as again:
        objects = again.objects
        assert again.undo_text == ""
    assert shapely.equals_exact(objects[0].geometry, placed[0].geometry, 1e-9)
    written = encode_objects(objects, frame=frame)[0].decode()
    expected = a_file(a_feature(1, children=[a_feature(2)]), a_feature(3, name="y"))
    assert (
        json.loads(written)["features"][0]
        == json.loads(encode_objects(parse_geojson(expected).objects)[0])["features"][0]
    )
    second = json.loads(written)["features"][1]
    assert second["properties"]["name"] == "y"
    assert second["geometry"] == a_feature(3)["geometry"]


def test_what_was_drawn_here_is_found_again(tmp_path):
    piece = drawn_piece("ring", shapely.get_coordinates(shapely.box(1, 2, 33, 44))[:-1])
    drawn = new_annotation(piece, PathClass.of("Stroma"))
    with KeptObjects(tmp_path / "kept.sqlite") as kept:
        kept.add([drawn], "draw")
        assert kept.flush(30)
    with KeptObjects(tmp_path / "kept.sqlite") as again:
        [one] = again.objects
    assert (one.id, one.path_class) == (drawn.id, replace(drawn.path_class, color=(150, 200, 150)))
    assert one.geometry.equals(drawn.geometry)


def test_undo_reaches_the_disk_too(tmp_path):
    with KeptObjects(tmp_path / "kept.sqlite") as kept:
        kept.add([a_square(1)], "import")
        kept.flush(30)
        kept.add([a_square(2)], "import")
        kept.undo()
    with KeptObjects(tmp_path / "kept.sqlite") as again:
        assert [one.id for one in again.objects] == [uid(1)]


def test_two_windows_do_not_write_over_each_other(tmp_path):
    path = tmp_path / "kept.sqlite"
    with KeptObjects(path), pytest.raises(KeptBusy, match="open in another window"):
        KeptObjects(path)
    with KeptObjects(path):
        pass


@pytest.mark.parametrize("content", [b"no database at all " * 99, b""], ids=["other", "empty"])
def test_a_file_that_is_none_of_ours_is_left_as_it_is(tmp_path, content):
    path = tmp_path / "kept.sqlite"
    path.write_bytes(content)
    if not content:
        KeptObjects(path).close()
        return
    with pytest.raises(KeptError, match=r"kept\.sqlite"):
        KeptObjects(path)
    assert path.read_bytes() == content
    path.unlink()
    KeptObjects(path).close()  # the lock was let go


def test_many_threads_may_change_objects_at_once(tmp_path):
    with KeptObjects(tmp_path / "kept.sqlite") as kept:

        def add(first):
            for n in range(first, first + 23):
                kept.add([a_square(n)], "add")

        threads = [threading.Thread(target=add, args=(k * 100,)) for k in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(kept) == 69
    with KeptObjects(tmp_path / "kept.sqlite") as again:
        assert [one.id for one in again.objects] == [one.id for one in kept.objects]


KILLED = """
    import sys, time
    from pathlib import Path
    import shapely
    from napari_virchow.qupath.kept import KeptObjects
    from napari_virchow.qupath.objects import PathObject

    kept = KeptObjects(Path(sys.argv[1]))
    kept.add([PathObject(sys.argv[2], "annotation", shapely.box(1, 2, 3, 4))], "draw")
    kept.flush(30)
    print("drawn", flush=True)
    time.sleep(60)
"""


def test_objects_are_found_again_after_the_process_was_killed(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "k.sqlite"), uid(5)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline().strip() == "drawn"
        finally:
            os.kill(process.pid, signal.SIGKILL)
    with KeptObjects(tmp_path / "k.sqlite") as again:
        assert [one.id for one in again.objects] == [uid(5)]


@pytest.mark.skipif(not DATA.exists(), reason="needs NAPARI_VIRCHOW_TEST_DATA")
@pytest.mark.parametrize("path", sorted(DATA.glob("*.geojson")), ids=lambda path: path.name)
def test_real_files_come_back_from_the_disk_as_they_were(tmp_path, path):
    found = read_geojson(path).objects
    with KeptObjects(tmp_path / "kept.sqlite") as kept:
        kept.add(to_slide(found, BOUNDS), "import")
    with KeptObjects(tmp_path / "kept.sqlite") as again:
        assert len(again) == sum(1 for _ in flatten(found))
        assert encode_objects(again.objects, frame=BOUNDS)[0] == encode_objects(found)[0]
