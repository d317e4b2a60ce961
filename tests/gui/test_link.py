"""Signals of the core reach Qt on its thread, and only while there is somebody to reach."""

from __future__ import annotations

import gc
import threading
import weakref

import psygnal
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QWidget

from napari_virchow._napari import link
from napari_virchow._napari.link import Links, call_on_gui


class Source:
    said = psygnal.Signal(int)


class Panel(QWidget):
    def __init__(self, source):
        super().__init__()
        self.heard = []
        self.links = Links(self, (source.said, self._on_said))

    def _on_said(self, value):
        self.heard.append((value, threading.current_thread() is threading.main_thread()))


def say_elsewhere(source, *values):
    thread = threading.Thread(target=lambda: [source.said.emit(value) for value in values])
    thread.start()
    thread.join()


def test_what_is_said_in_a_worker_is_heard_on_the_gui_thread_in_order(qtbot, until):
    source = Source()
    panel = Panel(source)
    qtbot.addWidget(panel)

    say_elsewhere(source, 1, 2, 3)

    assert panel.heard == []  # not before Qt gets to it
    until(lambda: len(panel.heard) == 3)
    assert panel.heard == [(1, True), (2, True), (3, True)]


def test_a_deleted_panel_hears_nothing_and_is_forgotten(qtbot):
    source = Source()
    panel = Panel(source)
    heard = panel.heard
    say_elsewhere(source, 1)  # queued, not yet delivered

    panel.deleteLater()
    QCoreApplication.sendPostedEvents(panel, QEvent.Type.DeferredDelete.value)
    assert len(source.said) == 0

    qtbot.wait(20)
    assert heard == []


def test_links_do_not_keep_a_panel_alive(qtbot):
    source = Source()
    panel = Panel(source)
    gone = weakref.ref(panel)

    del panel
    gc.collect()

    assert gone() is None
    say_elsewhere(source, 1)
    qtbot.wait(20)


def test_closing_links_twice_is_fine(qtbot):
    source = Source()
    panel = Panel(source)
    qtbot.addWidget(panel)

    panel.links.close()
    panel.links.close()

    source.said.emit(1)
    assert panel.heard == []


def test_a_worker_may_be_the_first_to_call(until, monkeypatch):
    monkeypatch.setattr(link, "_bridges", [])
    on_gui_thread = []

    def note():
        on_gui_thread.append(threading.current_thread() is threading.main_thread())

    thread = threading.Thread(target=call_on_gui, args=(note,))
    thread.start()
    thread.join()

    until(lambda: bool(on_gui_thread))
    assert on_gui_thread == [True]


def test_on_the_gui_thread_a_call_is_made_at_once(qapp):
    called = []
    call_on_gui(called.append, 1)
    assert called == [1]
