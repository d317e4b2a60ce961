"""Every measurement that has a target, in one table, each beside its reference: `make bench`.

    python benchmarks/run_all.py [--out FOLDER] [--only reading store clicks embedding start]

Writes `table.md` and `table.json` to FOLDER (benchmarks/results) and prints the table. Each part
runs in a process of its own, one after another; a part that fails is named below the table. The
scripts print more when run by themselves. A busy machine spoils figures: the load is in the table.
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
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


def run(script: str, *words: str) -> Any:
    """Run a script of this folder and return what it prints as JSON."""
    command = [sys.executable, str(HERE / script), *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def reading() -> Iterator[Row]:
    for cores, found in run("reading.py", "--json").items():
        rates = {row["reader"]: row["rate"] for row in found}
        raw, tiffslide = rates["raw: imagecodecs.jpeg8_decode"], "tiffslide read_region"
        ours = [v for k, v in rates.items() if k.startswith("Slide.read_tiles, batches")]
        where = f"tiles read, 0.5 µm/px, {cores} core(s)"
        yield Row(where, max(ours), "tiles/s", "raw JPEG decoding", raw, 0.7)
        yield Row(where, max(ours), "tiles/s", tiffslide, rates[tiffslide])
        other = "openslide read_region"
        yield Row(where, max(ours), "tiles/s", other, rates[other])
        single = rates["Slide.read_tiles, one by one"]
        where = f"single tiles read, {cores} core(s)"
        yield Row(where, single, "tiles/s", tiffslide, rates[tiffslide], 2)
        halved, by = rates["Slide.read_tiles, 0.5 from 0.25 µm/px"], "tiffslide + PIL"
        where = f"0.5 from 0.25 µm/px, {cores} core(s)"
        yield Row(where, halved, "tiles/s", by, rates[f"{by}, 0.5 from 0.25 µm/px"], 4)


def store() -> Iterator[Row]:
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


def clicks() -> Iterator[Row]:
    for row in run("click.py", "--json")["rows"]:
        for_all = row["total"]["median_ms"]
        what = f"click → repainted map, {row['tiles']:,} × 2,560"
        yield Row(what, for_all, "ms", "budget", 100, 1, at_most=True)
        part = row["trained and predicted"]["median_ms"]
        yield Row("of it trained and predicted", part, "ms", "the whole", for_all)


def embedding() -> Iterator[Row]:
    found = run("embedding.py", "--json")
    peaks = found["limits"]
    kinds = "matmul_bfloat16_tflops", "matmul_float32_tflops"
    yield Row("matrix products in bfloat16", peaks[kinds[0]], "TFLOP/s", "float32", peaks[kinds[1]])
    for row in found["rows"]:
        name = f"{row['encoder']} on {row['device']}, {row['precision']}"
        plain = "plain loop: tiffslide, PIL, float32"
        rate = row["slide_tiles_per_s"]
        yield Row(f"{name}, slide → store", rate, "tiles/s", plain, row["plain_tiles_per_s"])
        if "of_matmul_peak" in row:
            peak = row["memory_tiles_per_s"] / row["of_matmul_peak"]
            rate = row["memory_tiles_per_s"]
            yield Row(f"{name}, from memory", rate, "tiles/s", "matrix products' peak", peak)
        cosine = row["cosine_to_float32"]
        yield Row(f"{name}: agreement", cosine, "cosine", "float32", 1, 0.999)


def start() -> Iterator[Row]:
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


PARTS: tuple[Callable[[], Iterator[Row]], ...] = (reading, store, clicks, embedding, start)


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


def markdown(rows: list[Row], facts: dict[str, Any], failures: dict[str, str]) -> str:
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
    lines += [f"\nNot measured: {part}: {why}." for part, why in failures.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print and write; returns 1 if a part failed."""
    names = [part.__name__ for part in PARTS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    given = parser.parse_args()
    facts, rows, failures = machine(), list[Row](), {}
    for part in PARTS:
        if part.__name__ not in given.only:
            continue
        print(f"{part.__name__} …", file=sys.stderr, flush=True)
        try:
            rows += part()
        except subprocess.CalledProcessError as error:
            failures[part.__name__] = f"{Path(error.cmd[1]).name} ended with {error.returncode}"
    text = markdown(rows, facts, failures)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "table.md").write_text(text, "utf-8")
    listed = [asdict(row) | {"ratio": row.ratio, "verdict": row.verdict} for row in rows]
    document = {"machine": facts, "rows": listed, "failures": failures}
    (given.out / "table.json").write_text(
        json.dumps(document, indent=1, ensure_ascii=False), "utf-8"
    )
    print(text)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
