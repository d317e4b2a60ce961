"""How fast tiles go to QuPath over the live link, and how long the caller's thread is held up.

    python -m benchmarks.qupath_live [n_tiles] [n_measurements]

QuPath is the stand-in of the tests, behind a real py4j gateway; set NAPARI_VIRCHOW_TEST_GROOVY to
the folder of groovy-all.jar to run the link's own script in it. Prints seconds, and the longest
time that a thread which only counts milliseconds, as a window's does, had to wait; first without
any work, which says how busy the machine is with other things.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from tests.fakes import FakeSlide
from tests.qupath_stub import TOKEN, QuPathStub, compile_stub

from napari_virchow.labels.edits import LabelClass
from napari_virchow.qupath.cargo import TilesToPush
from napari_virchow.qupath.export import SlideTiles
from napari_virchow.qupath.live import LiveLink
from napari_virchow.qupath.uris import uri_of_path
from napari_virchow.session import Session

CLASSES = (LabelClass(1, "Tumor", "#c80000"), LabelClass(2, "Stroma", "#96c896"))


def timed(what, n, link, run):
    """Run something of the link and wait for it, looking at the clock every millisecond."""
    longest, start = 0.0, time.perf_counter()
    run()
    last = time.perf_counter()
    while not link.wait(0):
        time.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    seconds = time.perf_counter() - start
    stall = f"longest wait {longest * 1e3:5.1f} ms"
    print(f"{what:<28}{n:>9,} {seconds:8.2f} s {n / seconds:9,.0f}/s   {stall}")


def idle(seconds=5.0):
    """Print how long the clock has to wait while nothing is done."""
    start = last = time.perf_counter()
    longest = 0.0
    while last - start < seconds:
        time.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    print(
        f"{'nothing':<28}{0:>9,} {seconds:8.2f} s {'':>11}   longest wait {longest * 1e3:5.1f} ms"
    )


def main(n: int = 100_000, n_measurements: int = 4) -> None:
    """Push, push again, pull."""
    side = int(np.ceil(np.sqrt(n)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "stub").mkdir()
        paths = [compile_stub(folder / "stub")]
        paths += map(
            str,
            sorted(
                Path(os.environ.get("NAPARI_VIRCHOW_TEST_GROOVY", "/-")).glob("groovy-all*.jar")
            ),
        )
        print("script in", "Java" if len(paths) == 1 else "Groovy")
        stub = QuPathStub(os.pathsep.join(paths))
        session = Session(folder / "store")
        slide = FakeSlide(tiles=(side, side))
        slide.bounds = None
        session.add_slide(slide)
        stub.show(uri_of_path(Path(slide.path)), slide.width, slide.height)
        tiles = np.column_stack(np.divmod(np.arange(n), side)).astype(np.int32)
        rng = np.random.default_rng(1)
        columns = {f"m{k}": rng.random(n, np.float32) for k in range(n_measurements)}
        where = SlideTiles(slide.identity, slide.grid(), tiles)
        cargo = TilesToPush(where, rng.integers(1, 3, n), CLASSES, columns)
        link = LiveLink(session)
        link.failed.connect(lambda error: print("failed:", error))
        try:
            idle()
            timed("connect", 1, link, lambda: link.connect(port=stub.port, token=TOKEN))
            timed("push", n, link, lambda: link.push(cargo))
            timed("push again (all replaced)", n, link, lambda: link.push(cargo))
            timed("pull", n, link, lambda: link.pull("all"))
            print("objects in QuPath:", stub.control.count(), "threads:", threading.active_count())
        finally:
            link.close()
            session.close()
            stub.kill()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
