"""The live link, against a stand-in for QuPath behind a real py4j gateway."""

import json
import socket
import threading
from dataclasses import replace

import numpy as np
import pytest
import shapely
from tests.qupath_stub import (
    TOKEN,
    QuPathStub,
    be_patient,
    compile_stub,
    groovy_jars,
    told_link,
)
from tests.slides import picture, write_svs

from napari_virchow.labels.edits import LabelClass
from napari_virchow.qupath.cargo import CHUNK, TilesToPush
from napari_virchow.qupath.classes import PathClass, packed_of_rgb
from napari_virchow.qupath.export import SlideTiles, tile_ids
from napari_virchow.qupath.follow import Follower, is_same
from napari_virchow.qupath.gate import Gate
from napari_virchow.qupath.groovy import project_script
from napari_virchow.qupath.live_facts import Follow, LinkStatus, LinkView, LiveError
from napari_virchow.qupath.objects import PathObject
from napari_virchow.qupath.project import Project, ProjectImage
from napari_virchow.qupath.uris import uri_of_path
from napari_virchow.session import Session
from napari_virchow.tiles import Tile

TUMOR = LabelClass(1, "Tumor", "#123456")
WIDTH, HEIGHT = 1700, 1300
UNKNOWN_ID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    be_patient(monkeypatch)


@pytest.fixture(scope="session")
def class_path(tmp_path_factory):
    return compile_stub(tmp_path_factory.mktemp("stub"))


@pytest.fixture(scope="module")
def stubs(class_path):
    """Running stand-ins by the language of the link's script."""
    running = {}
    yield running
    for one in running.values():
        one.kill()


@pytest.fixture(params=["java", "groovy"])
def stub(request, class_path, stubs):
    """A stand-in that runs the link's script in Groovy, where there is one, and one in Java."""
    how = request.param
    if how not in stubs or stubs[how].process.poll() is not None:
        stubs[how] = QuPathStub(
            ":".join([class_path, groovy_jars()] if how == "groovy" else [class_path])
        )
    stubs[how].control.reset()
    return stubs[how]


@pytest.fixture(scope="session")
def svs(tmp_path_factory):
    return write_svs(tmp_path_factory.mktemp("live") / "a slide.svs", picture(HEIGHT, WIDTH))


@pytest.fixture
def session(tmp_path):
    with Session(tmp_path / "store") as made:
        yield made


@pytest.fixture
def link(session):
    with told_link(session) as made:
        yield made


@pytest.fixture
def linked(link, stub, svs, session):
    """A link to a stand-in that shows the slide that is open here."""
    session.open_slide(svs)
    stub.show(uri_of_path(svs), WIDTH, HEIGHT)
    link.connect(port=stub.port, token=TOKEN)
    link.told.settled()
    assert link.state.ready, link.state
    return link


def here(link, session):
    return session.slides[link.state.slide]


def tiles_of(slide, n, *, probability=0.5):
    tiles = np.column_stack(np.divmod(np.arange(n), 100))
    where = SlideTiles(slide.identity, slide.grid(0.5, 16), tiles)
    columns = {"p(Tumor)": np.full(n, probability, np.float32)}
    return TilesToPush(where, np.ones(n, int), (TUMOR,), columns)


def annotation(uid=UNKNOWN_ID, *, at=(100, 200), size=(30, 40), **fields):
    x, y = at
    shape = shapely.box(x, y, x + size[0], y + size[1])
    return PathObject(uid, "annotation", shape, path_class=PathClass.of("Tumor"), **fields)


# ---- connecting


def test_a_link_finds_the_open_slide_that_qupath_shows(linked, session):
    state = linked.state
    assert state.status is LinkStatus.ON and state.address.startswith("127.0.0.1:")
    assert state.slide == next(iter(session.slides))
    assert state.frame.is_identity and state.problem == "" and state.error == ""
    assert [s.status for s in linked.told.of("state_changed")][:1] == [LinkStatus.CONNECTING]


def test_nothing_listening_is_told_with_what_to_do(link):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    link.connect(port=port)
    assert f"Nothing answers at 127.0.0.1:{port}" in link.told.settled().error
    assert "extension" in link.told.error
    assert link.state.status is LinkStatus.OFF and link.state.error == link.told.error


@pytest.mark.parametrize(("token", "what"), [("wrong", "refuses this token"), ("", "a token")])
def test_a_wrong_or_missing_token_is_told(link, stub, token, what):
    link.connect(port=stub.port, token=token)
    assert what in link.told.settled().error
    assert link.state.status is LinkStatus.OFF and not link.told.of("pulled")


def test_another_program_at_the_port_is_told(link):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            for _ in range(2):
                connection, _ = server.accept()
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        link.connect(port=server.getsockname()[1])
        assert "another program" in link.told.settled().error
    assert link.state.status is LinkStatus.OFF


def test_a_host_that_does_not_exist_is_told(link):
    link.connect(host="no.such.host.invalid", port=5)
    assert "cannot be reached" in link.told.settled().error


def test_without_py4j_the_extra_is_named(link, stub, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "py4j.java_gateway", None)
    link.connect(port=stub.port, token=TOKEN)
    assert "pip install 'napari-virchow[qupath]'" in link.told.settled().error


def test_after_a_failure_the_same_link_connects(link, stub):
    link.connect(port=stub.port, token="wrong")
    link.told.settled()
    link.connect(port=stub.port, token=TOKEN)
    link.told.settled()
    assert link.state.status is LinkStatus.ON and link.state.error == ""


def test_disconnecting_leaves_nothing_claimed_and_is_no_failure(linked):
    linked.disconnect()
    linked.told.settled()
    state = linked.state
    assert (state.status, state.slide, state.image, state.error) == (LinkStatus.OFF, None, None, "")
    assert linked.told.of("failed") == []


# ---- which image


def test_an_image_that_is_not_open_here_is_opened_on_request(link, stub, svs, session):
    stub.show(uri_of_path(svs), WIDTH, HEIGHT)
    link.connect(port=stub.port, token=TOKEN)
    link.told.settled()
    assert "not open here" in link.state.problem and link.state.slide is None
    link.open_image()
    link.told.settled()
    [slide] = session.slides.values()
    assert link.state.slide == slide.identity and link.state.problem == ""
    session.close_slide(slide)
    link.told.settled()
    assert link.state.slide is None and "not open here" in link.state.problem


def test_an_image_that_is_missing_here_is_told_when_it_shall_be_opened(link, stub):
    stub.show("file:/nowhere/b.svs", 5, 7)
    link.connect(port=stub.port, token=TOKEN)
    link.open_image()
    assert "b.svs is not on this machine" in link.told.settled().error
    assert link.state.status is LinkStatus.ON


def test_an_image_of_another_size_is_refused_with_both_sizes(link, stub, svs, session):
    session.open_slide(svs)
    stub.show(uri_of_path(svs), 300, 200)
    link.connect(port=stub.port, token=TOKEN)
    link.told.settled()
    assert "300 × 200" in link.state.problem and "1700 × 1300" in link.state.problem
    link.pull()
    assert link.told.settled().error == link.state.problem
    assert link.told.of("pulled") == []


def test_no_image_in_qupath_is_told(link, stub):
    link.connect(port=stub.port, token=TOKEN)
    link.told.settled()
    assert link.state.status is LinkStatus.ON and "shows no image" in link.state.problem


def test_another_image_in_qupath_is_noticed(linked, stub):
    stub.show("file:/other.svs", 5, 7, name="other.svs")
    with linked.told.seen:
        seen = linked.told.seen.wait_for(lambda: "other.svs" in linked.state.problem, 60)
    assert seen and linked.state.slide is None


def test_a_turned_image_is_followed_by_its_description(link, stub, svs, session):
    session.open_slide(svs)
    file = {"builderType": "uri", "uri": uri_of_path(svs), "args": []}
    turned = {"builderType": "rotated", "rotation": "ROTATE_90", "builder": file}
    stub.show(uri_of_path(svs), HEIGHT, WIDTH, json.dumps(turned))
    link.connect(port=stub.port, token=TOKEN)
    link.told.settled()
    assert link.state.frame.name == "whole slide, rotated 90", link.state.problem
    link.push([annotation()])
    link.told.settled()
    sent = json.loads(stub.control.describe(UNKNOWN_ID))
    xs, ys = np.array(sent["geometry"]["coordinates"][0]).T
    # Clockwise: x of the turned image counts from the slide's lower edge, y is the slide's x.
    assert (xs.min(), xs.max()) == (HEIGHT - 240, HEIGHT - 200)
    assert (ys.min(), ys.max()) == (100, 130)


# ---- pulling


def test_annotations_come_with_ids_classes_and_selection(linked, stub):
    features = [
        {
            "type": "Feature",
            "id": f"{n}1111111-2222-3333-4444-555555555555",
            "geometry": {"type": "Polygon", "coordinates": [[[n, 2], [9, 2], [9, 7], [n, 2]]]},
            "properties": {
                "objectType": kind,
                "classification": {"name": "Tumor: Positive", "color": [1, 2, 3]},
                "measurements": {"area": 5.25},
            },
        }
        for n, kind in enumerate(("annotation", "tile", "annotation"))
    ]
    stub.control.addObjects(json.dumps({"type": "FeatureCollection", "features": features}))
    stub.control.select(2)
    linked.pull()
    [pulled] = linked.told.settled().of("pulled")
    assert [one.id for one in pulled.objects] == [features[0]["id"], features[2]["id"]]
    assert pulled.selected == {features[2]["id"]}
    assert pulled.objects[0].path_class == PathClass(("Tumor", "Positive"), (1, 2, 3))
    assert pulled.objects[0].measurements == {"area": 5.25}
    assert pulled.slide == linked.state.slide and pulled.problems == ()
    linked.pull("selected")
    assert [one.id for one in linked.told.settled().of("pulled")[1].objects] == [features[2]["id"]]
    linked.pull("all")
    assert len(linked.told.settled().of("pulled")[2].objects) == 3


def test_pulled_ids_are_those_that_were_pushed(linked, session):
    cargo = tiles_of(here(linked, session), 2 * CHUNK + 3)
    linked.push(cargo)
    linked.pull("all")
    [pulled] = linked.told.settled().of("pulled")
    assert [one.id for one in pulled.objects] == tile_ids(cargo.where)
    assert {one.object_type for one in pulled.objects} == {"tile"}


def test_what_cannot_be_pulled_is_told(linked):
    linked.pull("everything")
    assert "'everything'" in linked.told.settled().error
    assert linked.state.ready


# ---- pushing


def test_pushing_twice_replaces_and_updates_class_and_measurements(linked, stub, session):
    n, slide = CHUNK + 7, here(linked, session)
    linked.push(tiles_of(slide, n))
    linked.push(tiles_of(slide, n, probability=0.25))
    first, second = linked.told.settled().of("pushed")
    assert (first.sent, first.added, first.replaced) == (n, n, 0)
    assert (second.sent, second.added, second.replaced) == (n, 0, n)
    assert stub.control.count() == n and not second.cancelled
    one = json.loads(stub.control.describe(tile_ids(tiles_of(slide, 1).where)[0]))
    assert one["properties"]["objectType"] == "tile"
    assert one["properties"]["measurements"] == {"p(Tumor)": 0.25}
    assert one["properties"]["classification"]["name"] == "Tumor"


def test_an_annotation_that_was_moved_takes_the_place_of_the_old_one(linked, stub):
    linked.push([annotation()])
    linked.push([annotation(at=(300, 200)), annotation(uid=UNKNOWN_ID.replace("5", "6"))])
    pushed = linked.told.settled().of("pushed")[1]
    assert (pushed.added, pushed.replaced) == (1, 1) and stub.control.count() == 2
    [ring] = json.loads(stub.control.describe(UNKNOWN_ID))["geometry"]["coordinates"]
    assert min(x for x, _ in ring) == 300


def test_labels_of_the_slide_are_pushed(linked, stub, session):
    slide = here(linked, session)
    tumor = session.labels.add_class("Tumor", "#102030").id
    session.labels.label(slide.identity, slide.grid(0.5).name, [Tile(1, 2), Tile(0, 3)], tumor)
    session.labels.label(slide.identity, slide.grid(1.0).name, [Tile(0, 0)], tumor)
    linked.push("labels")
    [pushed] = linked.told.settled().of("pushed")
    assert pushed.sent == 3 == stub.control.count()


@pytest.mark.parametrize("what", ["labels", "predictions", "regions", "nonsense"])
def test_having_nothing_to_push_is_told(linked, stub, what):
    linked.push(what)
    assert linked.told.settled().error
    assert stub.control.count() == 0 and linked.state.ready and not linked.told.of("pushed")


def test_a_push_can_be_cancelled_between_pieces(linked, stub, session):
    linked.state_changed.connect(lambda state: state.done and linked.cancel())
    linked.push(tiles_of(here(linked, session), 2 * CHUNK + 3))
    [pushed] = linked.told.settled().of("pushed")
    assert pushed.cancelled and (pushed.sent, pushed.wanted) == (CHUNK, 2 * CHUNK + 3)
    assert stub.control.count() == CHUNK and linked.state.ready


def test_qupath_dying_in_a_push_claims_nothing(linked, stub, session):
    linked.state_changed.connect(lambda state: state.done == CHUNK and stub.kill())
    linked.push(tiles_of(here(linked, session), 3 * CHUNK))
    error = linked.told.settled().error
    assert f"{CHUNK} of {3 * CHUNK} objects had arrived" in error and "QuPath at" in error
    assert linked.told.of("pushed") == []
    state = linked.state
    assert (state.status, state.task, state.done) == (LinkStatus.OFF, "", 0)


def test_an_image_switched_in_a_push_stops_it(linked, stub, session):
    def switch(state):
        if state.done == CHUNK:
            stub.show("file:/other.svs", 5, 7, name="other.svs")

    linked.state_changed.connect(switch)
    linked.push(tiles_of(here(linked, session), 3 * CHUNK))
    error = linked.told.settled().error
    assert "another image now" in error and f"{CHUNK} of {3 * CHUNK}" in error
    assert stub.control.count() == 0  # nothing went to the other image
    assert linked.told.of("pushed") == [] and linked.state.slide is None
    assert linked.state.status is LinkStatus.ON and "other.svs" in linked.state.problem


def test_disconnecting_in_a_push_stops_it_without_a_failure(linked, session):
    linked.state_changed.connect(lambda state: state.done and linked.disconnect())
    linked.push(tiles_of(here(linked, session), 3 * CHUNK))
    linked.told.settled()
    assert linked.told.of("pushed") == linked.told.of("failed") == []
    assert linked.state.status is LinkStatus.OFF


def test_a_qupath_that_died_while_idle_is_noticed(linked, stub):
    stub.kill()
    linked.told.wait_for("failed")
    assert "QuPath at" in linked.told.settled().error
    assert linked.state.status is LinkStatus.OFF


def test_closing_while_qupath_does_not_answer_ends_the_thread(linked, stub, session):
    stub.control.stall(600_000)
    started = threading.Event()
    linked.state_changed.connect(lambda state: started.set() if state.wanted else None)
    linked.push(tiles_of(here(linked, session), 5))
    assert started.wait(60)
    linked.close()
    assert linked.state.status is LinkStatus.OFF and not linked.told.of("failed")


# ---- classes


def test_our_classes_take_qupaths_colours_as_one_step(link, stub, svs, session):
    session.open_slide(svs)
    for name, color in (("tumor", "#102030"), ("Fat", "#405060")):
        session.labels.add_class(name, color)
    stub.show(uri_of_path(svs), WIDTH, HEIGHT)
    stub.control.addClass("Tumor", packed_of_rgb((200, 0, 0)))
    link.connect(port=stub.port, token=TOKEN)
    assert link.told.settled().of("recolored") == [{"tumor": ("#102030", "#c80000")}]
    assert {c.name: c.color for c in session.labels.classes} == {
        "tumor": "#c80000",
        "Fat": "#405060",
    }
    session.labels.undo()
    assert session.labels.classes[0].color == "#102030"


def test_classes_that_qupath_lacks_are_added_and_those_it_has_keep_their_colour(
    linked, stub, session
):
    stub.control.addClass("Tumor", packed_of_rgb((200, 0, 0)))
    cargo = tiles_of(here(linked, session), 3)
    cargo = replace(cargo, classes=(TUMOR, LabelClass(2, "Fat: Big", "#0000ff")))
    linked.push(cargo)
    linked.told.settled()
    found = Gate("127.0.0.1", stub.port, TOKEN).open()
    assert [(c.name, c.hex_color) for c in found.classes()] == [
        ("Tumor", "#c80000"),
        ("Fat: Big", "#0000ff"),
    ]
    found.close()


# ---- views


def test_our_view_follows_qupaths(linked, stub):
    linked.follow("qupath")
    viewer = stub.control.getCurrentViewer()
    viewer.setDownsampleFactor(4.0)
    viewer.setCenterPixelLocation(400.0, 500.0)
    with linked.told.seen:
        assert linked.told.seen.wait_for(
            lambda: [v for v in linked.told.of("view_moved") if (v.x, v.y) == (400, 500)], 60
        )
    view = linked.told.of("view_moved")[-1]
    assert (view.slide, view.downsample) == (linked.state.slide, 4)
    linked.look(replace(view, x=view.x + 1))  # our screen is there now, to the pixel
    linked.told.settled()
    assert viewer.getCenterPixelX() == 400


def test_qupaths_view_follows_ours_and_does_not_echo(linked, stub):
    linked.follow(Follow.BOTH)
    linked.told.wait_for("view_moved")
    view = LinkView(linked.state.slide, 333, 444, 2.5)
    linked.look(view)
    linked.told.settled()
    viewer = stub.control.getCurrentViewer()
    assert (viewer.getCenterPixelX(), viewer.getCenterPixelY()) == (333, 444)
    assert viewer.getDownsampleFactor() == 2.5
    linked._poll()  # what the thread does when it is idle
    assert len(linked.told.of("view_moved")) == 1


def test_views_are_left_alone_unless_they_shall_follow(linked, stub):
    linked.look(LinkView(linked.state.slide, 333, 444, 2.5))
    linked.told.settled()
    linked._poll()
    assert stub.control.getCurrentViewer().getCenterPixelX() == 0
    assert linked.told.of("view_moved") == []
    linked.follow("napari")
    linked.look(LinkView("another slide", 333, 444, 2.5))
    linked.told.settled()
    assert stub.control.getCurrentViewer().getCenterPixelX() == 0
    with pytest.raises(ValueError, match="sideways"):
        linked.follow("sideways")


def test_a_view_that_qupath_bounds_differently_does_not_start_a_loop():
    follower = Follower(Follow.BOTH)
    asked, got = LinkView("a", 5, 7, 0.01), LinkView("a", 5, 7, 0.05)
    assert follower.ours(asked)
    follower.sent(got)
    assert not follower.theirs(got) and not follower.ours(asked)
    moved = replace(got, x=100)
    assert follower.theirs(moved) and not follower.theirs(moved)
    assert not follower.ours(replace(moved, x=100.02))
    assert not is_same(moved, None) and not is_same(moved, replace(moved, z=1))


# ---- the script for projects


def test_the_script_for_a_project_takes_files_over_and_replaces(class_path, tmp_path):
    stub = QuPathStub(":".join([class_path, groovy_jars()]))
    try:
        stub.show("file:/a.svs", WIDTH, HEIGHT)
        images = tuple(ProjectImage(str(n), "image", ("file:/a.svs",)) for n in (1, 2))
        project = Project(tmp_path / "project.qpproj", "0.5.1", images)
        file = tmp_path / "it's $odd.geojson"
        ring = [[1, 2], [9, 2], [9, 7], [1, 2]]
        feature = {"type": "Feature", "id": UNKNOWN_ID, "properties": {}}
        feature["geometry"] = {"type": "Polygon", "coordinates": [ring]}
        file.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
        script = project_script(project, {"1": file})
        assert stub.control.runForProject(script, "1").strip() == "image: 1 new, 0 replaced"
        assert stub.control.runForProject(script, "1").strip() == "image: 0 new, 1 replaced"
        assert "Nothing to take over" in stub.control.runForProject(script, "2")
        assert stub.control.count() == 1
        file.unlink()
        assert "Missing" in stub.control.runForProject(script, "1")
    finally:
        stub.kill()


def test_the_gate_says_what_qupath_complains_of(class_path):
    stub = QuPathStub(class_path)
    try:
        stub.show("file:/a.svs", WIDTH, HEIGHT)
        gate = Gate("127.0.0.1", stub.port, TOKEN).open()
        with pytest.raises(LiveError, match="QuPath could not do this: java.lang"):
            gate.merge(gate.hierarchy(), '{"features": [{"type": "Feature"}]}')
        assert gate.key()
        gate.close()
    finally:
        stub.kill()
