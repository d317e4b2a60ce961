"""Every measurement that has a target, in one table, each beside its reference: `make bench`.

    python benchmarks/run_all.py [--out FOLDER] [--only reading store …]

Writes `table.md` and `table.json` to FOLDER (benchmarks/results) and prints the table. Each part
runs in a process of its own, one after another; what was not measured is named below the table. The
scripts print more when run by themselves. PEERS_PYTHON (`make bench PEERS_PYTHON=…`) may name a Python
that has other packages, see peers.py. A busy machine spoils figures: the load is in the table.
Where there is no display, windows are opened with xvfb-run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LONGEST_S = 600  # that a script may take
PACKAGES = ("napari-virchow", "numpy", "torch", "scikit-learn", "tiffslide", "zarr", "napari")


@dataclass(frozen=True)
class Row:
    """One measurement: `value` beside `reference`, and what their ratio should be (≥, or ≤)."""

    what: str
    value: float
    unit: str
    against: str
    reference: float
    target: float | None = None
    at_most: bool = False

    @property
    def ratio(self) -> float:
        """`value` in units of `reference`."""
        return self.value / self.reference

    @property
    def verdict(self) -> str:
        """Whether the target is met; empty without one."""
        if self.target is None:
            return ""
        met = self.ratio <= self.target if self.at_most else self.ratio >= self.target
        return "met" if met else "**missed**"


Rows = Iterator[Row | str]  # a string is a word on what was not measured


def run(script: str, *words: str, window: bool = False) -> Any:
    """Run a script of this folder, in a window or without, and return what it prints as JSON."""
    command = [sys.executable, str(HERE / script), *words]
    if window and sys.platform == "linux" and not os.environ.get("DISPLAY"):
        command = ["xvfb-run", "-a", "-s", "-screen 0 2560x1600x24 +extension GLX", *command]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=LONGEST_S)
    return json.loads(done.stdout)


def script_of(command: list[str]) -> str:
    """Return which script a command runs."""
    return next(Path(word).name for word in command if word.endswith(".py"))


def reading(slide: str) -> Rows:
    for cores, found in run("reading.py", "--json", "--slides", slide).items():
        yield from _reading(slide, f"{cores} core(s)", found)


def _reading(slide: str, cores: str, found: list[dict[str, Any]]) -> Rows:
    def best(way: str, start: str) -> float:
        rates = [one["rate"] for one in found if one["way"] == way]
        names = [one["reader"] for one in found if one["way"] == way]
        return max(rate for rate, name in zip(rates, names, strict=True) if name.startswith(start))

    ours, codec = "Slide.read_tiles", "codec alone"
    # A codec can be called in two ways; the way it was measured by when the target was set counts.
    exact = codec if slide == "jpeg2000" else f"{codec}: imagecodecs"
    where = f"{slide}: tiles in batches, {cores}"
    target = 0.8 if slide == "jpeg2000" else 0.7
    rate = best("in batches", ours)
    yield Row(where, rate, "tiles/s", codec, best("in batches", exact), target)
    for way in ("one by one, row by row", "one by one, at random"):
        for peer in ("tiffslide", "openslide"):
            where = f"{slide}: {way}, {cores}"
            aim = 2 if (peer, way[-6:]) == ("tiffslide", "random") and slide != "jpeg2000" else None
            yield Row(where, best(way, ours), "tiles/s", peer, best(way, peer), aim)
    if slide == "sections":
        way = "0.5 from 0.25 µm/px"
        where, rate = f"{slide}: {way}, {cores}", best(way, ours)
        yield Row(where, rate, "tiles/s", "tiffslide + PIL", best(way, "tiffslide"), 4)
        yield Row(where, rate, "tiles/s", "openslide + PIL", best(way, "openslide"))
        yield Row(where, rate, "tiles/s", codec, best(way, exact))


def store() -> Rows:
    found = run("store.py", "--json")
    plain = found["plain_append_rows_per_s"]
    size = f"{found['tiles']:,} × {found['dim']:,}"
    rate = found["append_rows_per_s"]
    yield Row("embeddings appended", rate, "rows/s", "plain file", plain)
    read = found["fromfile_gb_per_s"]
    yield Row(f"store of {size} loaded", found["matrix_gb_per_s"], "GB/s", "np.fromfile", read)
    load_s = (
        found["open_ms"] / 1e3 + found["tiles"] * found["dim"] * 2e-9 / found["matrix_gb_per_s"]
    )
    yield Row(f"store of {size} opened, loaded", load_s, "s", "budget", 0.3, 1, at_most=True)


def clicks() -> Rows:
    for row in run("click.py", "--json")["rows"]:
        for_all = row["total"]["median_ms"]
        what = f"click → repainted map, {row['tiles']:,} × 2,560"
        yield Row(what, for_all, "ms", "budget", 100, 1, at_most=True)
        part = row["trained and predicted"]["median_ms"]
        yield Row("of it trained and predicted", part, "ms", "the whole", for_all)


def large() -> Rows:
    first: dict[str, Any] = {}
    for n in (10_000, 100_000, 1_000_000):
        found = run("large.py", "--rows", str(n), "--json")
        first = first or found
        size, few = f"{found['rows']:,} × {found['dim']:,}", f"with {first['rows']:,}"
        stored = found["rows"] * found["dim"] * 2e-6
        for what, name in (("stores", "opened_s"), ("search", "search_read_s")):
            yield Row(f"{what} of {size} opened", found[name], "s", few, first[name])
        yield Row(f"search of {size} holds", found["search_mb"], "MB", "stored", stored)
        budget, query = 100 if n > 100_000 else 50, found["query_ms"]
        yield Row(f"query of {size}", query, "ms", "budget", budget, 1, at_most=True)
        if n == 100_000:  # all of it is read, which for more is only done in part
            read, memory = stored / query, found["memory_gb_per_s"]
            yield Row(
                f"query of {size} reads", read, "GB/s", "memory, read by all cores", memory, 0.5
            )
        what = f"journal of {found['labels']:,} labels"
        yield Row(f"{what} opened", found["labels_s"], "s", few, first["labels_s"])
        yield Row(f"{what} holds", found["labels_mb"], "MB", few, first["labels_mb"])


def dock() -> Rows:
    for words, when in (((), ""), (("--while-embedding",), " while embedding")):
        found = run("search_dock.py", "--json", *words, window=True)["ms"]
        whole = found["on the screen"]["median"]
        for row, which in (
            ("taken in", "median"),
            ("taken in", "worst"),
            ("on the screen", "median"),
        ):
            what = f"click → gallery and heat map{when}, {row}, {which}"
            yield Row(what, found[row][which], "ms", "budget", 150, 1, at_most=True)
        answer = found["answer"]["median"]
        yield Row("of it the answer, median", answer, "ms", "the whole", whole)


def view() -> Rows:
    found = run("view.py", "--json", window=True)
    views, moves = found["views"], found["moves"]
    where = f"canvas of {found['canvas']} px on {found['slide']} px"
    first = views["first_after_settled_ms"]["median"]
    whole = views["whole_after_settled_ms"]["median"]
    yield Row(f"settled → first result drawn, {where}", first, "ms", "budget", 300, 1, at_most=True)
    what = f"settled → whole view drawn, {views['tiles']:.0f} tiles"
    yield Row(what, whole, "ms", "budget", 1500, 1, at_most=True)
    move, alone = moves["with_dock_ms"]["median"], moves["napari_alone_ms"]["median"]
    yield Row("Qt thread per camera event", move, "ms", "budget", 5, 1, at_most=True)
    yield Row("Qt thread per camera event", move, "ms", "napari without us", alone)
    settled = moves["settled_ms"]["median"]
    yield Row("Qt thread when the camera settled", settled, "ms", "budget", 5, 1, at_most=True)
    ours, theirs = found["panning"], found["panning, napari alone"]
    what = f"longest stall in {ours['seconds']:.0f} s of panning"
    yield Row(what, ours["longest_ms"], "ms", "budget", 50, 1, at_most=True)
    blank = "napari alone, blank levels"
    yield Row(what, ours["longest_ms"], "ms", blank, theirs["longest_ms"])
    work = ours["longest_work_ms"]
    yield Row("of it, work of the Qt thread", work, "ms", "budget", 50, 1, at_most=True)
    _, middle, end = ours["memory_mb"]
    what, against = "memory at the end of panning", "in the middle"
    yield Row(what, end, "MB", against, middle, 1.02, at_most=True)


def embedding() -> Rows:
    found = run("embedding.py", "--json")
    peaks = found["limits"]
    kinds = "matmul_bfloat16_tflops", "matmul_float32_tflops"
    yield Row("matrix products in bfloat16", peaks[kinds[0]], "TFLOP/s", "float32", peaks[kinds[1]])
    for row in found["rows"]:
        name = f"{row['encoder']} on {row['device']}, {row['precision']}"
        rate, start = row["slide_tiles_per_s"], f"{name}, slide → store"
        for reader, key in (("tiffslide", "plain_"), ("openslide", "plain_openslide_")):
            plain = f"plain loop: {reader}, PIL, float32"
            yield Row(start, rate, "tiles/s", plain, row[f"{key}tiles_per_s"])
        if "of_matmul_peak" in row:
            peak = row["memory_tiles_per_s"] / row["of_matmul_peak"]
            memory = row["memory_tiles_per_s"]
            yield Row(f"{name}, from memory", memory, "tiles/s", "matrix products' peak", peak)
            for package, one in found["peers"].items():
                if "tiles_per_s" in one:
                    yield Row(start, rate, "tiles/s", f"{package}, float32", one["tiles_per_s"])
        cosine = row["cosine_to_float32"]
        yield Row(f"{name}: agreement", cosine, "cosine", "float32", 1, 0.999)
    fastest = max(row["slide_tiles_per_s"] for row in found["rows"])
    rate = run("store.py", "--json", "--tiles", "32000")["append_rows_per_s"]
    yield Row("embeddings appended", rate, "rows/s", "the fastest encoder here", fastest, 5)
    if not found["peers"]:
        yield "other packages: PEERS_PYTHON names no Python that has them"
    for package, one in found["peers"].items():
        if "missing" in one:
            yield f"{package}: {one['missing']}"


def backends() -> Rows:
    found = run("backends.py", "--json")
    usual = {}
    for row in found["rows"]:
        name = f"{row['encoder']}, {row['way']}"
        if "missing" in row:
            yield f"{name}: {row['missing']}"
            continue
        rate, peak = row["tiles_per_s"], row["tiles_per_s"] / row["of_matmul_peak"]
        name = f"{row['encoder']} ({row['blocks']} blocks), {row['way']}"
        yield Row(f"{name}, from memory", rate, "tiles/s", "matrix products' peak", peak)
        if row["way"] == "torch, bfloat16":
            usual[row["encoder"]] = rate
        elif row["encoder"] in usual:
            yield Row(name, rate, "tiles/s", "torch, bfloat16", usual[row["encoder"]])
        yield Row(f"{name}: agreement", row["cosine_to_float32"], "cosine", "float32", 1, 0.999)


def start() -> Rows:
    def seconds(*words: str) -> float:
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - begin)
        return statistics.median(times)

    shown = seconds("-c", "from napari_virchow.cli import main; main(['--help'])")
    yield Row("napari-virchow --help", shown, "s", "budget", 0.3, 1, at_most=True)
    yield Row("napari-virchow --help", shown, "s", "python that does nothing", seconds("-c", ""))
    found = run("startup.py", "--json", window=True)
    added, alone = found["added_s"], found["without_s"]
    yield Row("napari's start, longer by", added, "s", "budget", 0.1, 1, at_most=True)
    yield Row("napari's start", alone + added, "s", "without the plugin", alone)
    torch, what = found["torch_on_the_qt_thread"], "torch imported on the Qt thread"
    yield Row(what, int(torch), "times", "first dock opened", 1, 0, at_most=True)


PARTS: dict[str, Callable[[], Rows]] = {
    "reading": partial(reading, "sections"),
    "reading-jpeg2000": partial(reading, "jpeg2000"),
    "reading-big": partial(reading, "big"),
    "store": store,
    "clicks": clicks,
    "large": large,
    "dock": dock,
    "view": view,
    "embedding": embedding,
    "backends": backends,
    "start": start,
}


def machine() -> dict[str, Any]:
    """Say what ran, where and when."""
    name = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        name = next((ln.split(": ")[1] for ln in lines if ln.startswith("model name")), name)
    return {
        "processor": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
        "date": datetime.now(UTC).date().isoformat(),
        "load_at_start": round(os.getloadavg()[0], 1),
    }


def markdown(rows: list[Row], facts: dict[str, Any], missing: list[str]) -> str:
    """Return the table with what ran below it."""
    lines = ["| what | measured | reference | measured | ratio | target | |"]
    lines.append("|---|---:|---|---:|---:|---:|---|")
    for row in rows:
        sign = "≤" if row.at_most else "≥"
        target = "" if row.target is None else f"{sign} {row.target:g}"
        value, reference = (
            f"{v:,.0f}" if v >= 100 else f"{v:.3g}" for v in (row.value, row.reference)
        )
        lines.append(
            f"| {row.what} | {value} {row.unit} | {row.against} | {reference} {row.unit} "
            f"| {row.ratio:.3g} | {target} | {row.verdict} |"
        )
    packages = ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
    lines.append(
        f"\n{facts['processor']}, {facts['cores']} cores, {facts['system']}, Python "
        f"{facts['python']}, {packages}; {facts['date']}, load {facts['load_at_start']} at the start."
    )
    lines += [f"\nNot measured: {why}." for why in missing]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print and write; returns 1 if a part failed."""
    names = list(PARTS)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    given = parser.parse_args()
    facts, rows, missing, failed = machine(), list[Row](), list[str](), False
    for name in given.only:
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            for one in PARTS[name]():  # what came before a failure is kept
                rows.append(one) if isinstance(one, Row) else missing.append(one)
        except subprocess.CalledProcessError as error:
            missing.append(f"{name}: {script_of(error.cmd)} ended with {error.returncode}")
            failed = True
        except subprocess.TimeoutExpired as error:
            missing.append(f"{name}: {script_of(error.cmd)} took over {error.timeout:.0f} s")
            failed = True
        except FileNotFoundError as error:
            missing.append(f"{name}: {error.filename} is not installed")
            failed = True
        except (LookupError, ValueError, ZeroDivisionError) as error:
            missing.append(f"{name}: its figures are not as expected ({error!r})")
            failed = True
        write(given.out, rows, facts, missing)
    print(markdown(rows, facts, missing))
    return 1 if failed else 0


def write(folder: Path, rows: list[Row], facts: dict[str, Any], missing: list[str]) -> None:
    """Write what is there so far, so that a run cut short leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(markdown(rows, facts, missing), "utf-8")
    listed = [asdict(row) | {"ratio": row.ratio, "verdict": row.verdict} for row in rows]
    document = {"machine": facts, "rows": listed, "not_measured": missing}
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / "table.json").write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
