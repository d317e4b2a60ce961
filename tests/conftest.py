"""Fixtures shared by all tests."""

import os
import signal
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real slides and tiles, named by ``NAPARI_VIRCHOW_TEST_DATA``.

    Without it the tests that need real data are skipped, except on a CI machine, where they fail:
    a green run there must mean that the real slides were read.
    """
    folder = os.environ.get("NAPARI_VIRCHOW_TEST_DATA")
    if folder and (Path(folder) / "slides").is_dir():
        return Path(folder)
    why = (
        f"NAPARI_VIRCHOW_TEST_DATA={folder!r} has no folder 'slides'"
        if folder
        else "set NAPARI_VIRCHOW_TEST_DATA to the folder of real slides to run this test"
    )
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture
def hears_ctrl_c():
    """Let this process and those it starts hear SIGINT, which a background job ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
