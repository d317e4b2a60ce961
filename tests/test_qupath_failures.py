"""Whatever befalls the live link is told in a sentence, soon, and nothing half done is claimed."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading

import numpy as np
import pytest
import shapely
from tests.fakes import FakeSlide
from tests.qupath_stub import TOKEN, QuPathStub, be_patient, compile_stub, told_link

from napari_virchow.qupath import gate as gates
from napari_virchow.qupath import live, wire
from napari_virchow.qupath.cargo import CHUNK, TilesToPush
from napari_virchow.qupath.export import SlideTiles
from napari_virchow.qupath.gate import Gate
from napari_virchow.qupath.geojson import encode_objects
from napari_virchow.qupath.live import LiveLink
from napari_virchow.qupath.live_facts import LinkLost, LinkStatus
from napari_virchow.qupath.objects import PathObject
from napari_virchow.session import Session

ID = "11111111-2222-3333-4444-555555555555"
N = 3 * CHUNK


@pytest.fixture(scope="module")
def class_path(tmp_path_factory):
    return compile_stub(tmp_path_factory.mktemp("stub"))


@pytest.fixture
def stub(class_path):
    made = QuPathStub(class_path)
    yield made
    made.kill()


@pytest.fixture
def session(tmp_path):
    with Session(tmp_path / "store") as made:
        yield made


@pytest.fixture
def link(session):
    with told_link(session) as made:
        yield made


@pytest.fixture
def linked(link, stub, session):
    """A link to a stand-in that shows a slide of 100 x 100 tiles."""
    slide = FakeSlide(tiles=(100, 100))
    slide.bounds = None
    session.add_slide(slide)
    stub.show("file:" + slide.path, slide.width, slide.height)
    with pytest.MonkeyPatch.context() as patch:
        be_patient(patch)
        link.connect(port=stub.port, token=TOKEN)
        link.told.settled()
    assert link.state.ready, link.state
    return link


@pytest.fixture
def tiles(session, linked):
    slide = session.slides[linked.state.slide]
    places = np.column_stack(np.divmod(np.arange(N), 100))
    return TilesToPush(SlideTiles(slide.identity, slide.grid(), places))


@pytest.fixture
def silent_port():
    """A port where connections are accepted, by the system, and nobody ever says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def assert_nothing_is_claimed(link):
    state = link.state
    assert (state.status, state.task, state.done, state.wanted) == (LinkStatus.OFF, "", 0, 0)
    assert state.slide is None and state.image is None
    assert link.told.of("pushed") == link.told.of("pulled") == []


def test_what_is_waited_for_is_told_within_three_seconds():
    assert gates.GREET_S <= 3
    assert live._POLL_S + gates.ANSWER_S + gates.THERE_S <= 3
    assert wire.EVERY_S + wire.SILENT_S + gates.THERE_S <= 3
    assert gates.SILENT_S == wire.SILENT_S


# ---- connecting


@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_port_where_nobody_says_a_word_is_told(link, silent_port, token):
    link.connect(port=silent_port, token=token)
    error = link.told.settled().error
    assert f"127.0.0.1:{silent_port} does not answer" in error and link.state.error == error
    assert_nothing_is_claimed(link)


def test_a_name_that_nobody_finds_is_told_before_the_search_for_it_ends(link, monkeypatch):
    found = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found.wait(60) and [])
    link.connect(host="lost.example", port=5)
    assert "lost.example:5 cannot be reached (timed out)" in link.told.settled().error
    found.set()
    assert_nothing_is_claimed(link)


@pytest.mark.parametrize("leave", [LiveLink.disconnect, LiveLink.close])
def test_nobody_has_to_wait_for_a_silent_port_to_leave_it(link, silent_port, monkeypatch, leave):
    monkeypatch.setattr(gates, "GREET_S", 600)
    link.connect(port=silent_port, token=TOKEN)
    link.told.wait_for("state_changed")
    leave(link)
    assert link.told.settled().of("failed") == []
    assert_nothing_is_claimed(link)


def test_nobody_has_to_wait_for_a_name_to_be_found_to_leave(link, monkeypatch):
    found = threading.Event()
    monkeypatch.setattr(gates, "GREET_S", 600)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found.wait(60) and [])
    link.connect(host="lost.example", port=5)
    link.told.wait_for("state_changed")
    link.disconnect()
    assert link.told.settled().of("failed") == []
    found.set()


# ---- linked


def test_a_qupath_that_hangs_while_nothing_is_done_is_noticed(linked, stub):
    stub.hang()
    linked.told.wait_for("failed")
    assert "does not answer any more" in linked.told.settled().error
    assert_nothing_is_claimed(linked)


def test_a_qupath_that_hangs_between_two_pieces_is_noticed(linked, stub, tiles):
    linked.state_changed.connect(lambda state: state.done == CHUNK and stub.hang())
    linked.push(tiles)
    error = linked.told.settled().error
    assert "does not answer any more" in error
    assert f"At least {CHUNK} of {N} objects had arrived" in error
    assert_nothing_is_claimed(linked)


def test_a_qupath_that_hangs_over_a_piece_is_noticed(linked, stub, tiles, monkeypatch):
    monkeypatch.setattr(gates, "ANSWER_S", 600)  # nobody but the pulse can tell
    stub.control.stall(600_000)
    linked.push(tiles)
    stub.control.awaitParsing()
    stub.hang()
    error = linked.told.settled().error
    assert "does not answer any more" in error and f"At least 0 of {N}" in error
    assert_nothing_is_claimed(linked)


def test_a_hanging_qupath_can_be_left_at_once(linked, stub, tiles, monkeypatch):
    be_patient(monkeypatch)
    monkeypatch.setattr(gates, "SILENT_S", 600)
    monkeypatch.setattr(wire, "EVERY_S", 0.001)  # the pulse waits for its answer, too
    stub.control.stall(600_000)
    linked.push(tiles)
    stub.control.awaitParsing()
    stub.hang()
    linked.disconnect()
    assert linked.told.settled().of("failed") == []
    assert_nothing_is_claimed(linked)


def test_a_gateway_that_is_stopped_in_a_push_is_noticed(linked, stub, tiles):
    stub.control.stall(600_000)
    linked.push(tiles)
    stub.control.awaitParsing()
    stub.stop_gateway()
    error = linked.told.settled().error
    assert "is gone" in error and f"At least 0 of {N}" in error
    assert_nothing_is_claimed(linked)
    assert stub.process.poll() is None


def test_the_same_link_connects_again_after_a_hang(linked, stub, class_path):
    stub.hang()
    linked.told.wait_for("failed")
    another = QuPathStub(class_path)
    try:
        with pytest.MonkeyPatch.context() as patch:
            be_patient(patch)
            linked.connect(port=another.port, token=TOKEN)
            linked.told.settled()
        assert linked.state.status is LinkStatus.ON and linked.state.error == ""
    finally:
        linked.close()
        another.kill()


# ---- the gate itself


@pytest.fixture
def gate(stub, monkeypatch):
    be_patient(monkeypatch)
    stub.show("file:/a.svs", 100, 100)
    made = Gate("127.0.0.1", stub.port, TOKEN).open()
    yield made
    made.close()


def test_a_qupath_that_is_busy_with_a_piece_is_waited_for(gate, stub, monkeypatch):
    hierarchy = gate.hierarchy()
    one = PathObject(ID, "annotation", shapely.box(1, 2, 30, 40))
    monkeypatch.setattr(gates, "ANSWER_S", 0.1)
    monkeypatch.setattr(wire, "EVERY_S", 0.01)
    stub.control.stall(700)
    assert gate.merge(hierarchy, encode_objects([one])[0].decode()) == (1, 0)
    monkeypatch.setattr(gates, "ANSWER_S", 60.0)
    stub.control.stall(0)
    assert gate.merge(hierarchy, encode_objects([one])[0].decode()) == (0, 1)
    assert gate.key()
    assert not [t for t in threading.enumerate() if t.name == "virchow-qupath-pulse"]


def test_garbage_that_another_thread_finds_asks_qupath_nothing(gate, stub):
    assert gate.image().name == "slide.svs"
    stub.hang()
    gc.collect()
    unused = set(gate._unused)
    assert len(unused) > 3  # image data, server, its files…
    os.kill(stub.process.pid, signal.SIGCONT)
    assert gate.key()
    assert not unused & set(gate._unused)


def test_a_gate_that_was_left_stays_shut(gate):
    gate.abort()
    with pytest.raises(LinkLost):
        gate.key()
