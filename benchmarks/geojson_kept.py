"""What is kept of files of QuPath: read, written again, and through the frame of a bounded slide.

    python benchmarks/geojson_kept.py FOLDER

Prints a Markdown table; `docs/qupath.md` keeps a run over the test data. A field counts as kept
where it is the same to the letter, key for key, as in the file that was read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from napari_virchow.qupath.frame import SlideBox, bounds_frame, rotated
from napari_virchow.qupath.geojson import encode_objects, read_geojson
from napari_virchow.qupath.placing import to_slide
from napari_virchow.tiles import Rect

FIELDS = {
    "id": lambda f: f.get("id"),
    "geometry": lambda f: f.get("geometry"),
    "type": lambda f: _properties(f).get("objectType", _properties(f).get("object_type")),
    "class": lambda f: _properties(f).get("classification"),
    "measurements": lambda f: _properties(f).get("measurements"),
    "all the rest": lambda f: _rest(f),
}
OFF = rotated(bounds_frame(SlideBox(90_000, 70_000, Rect(1234, 567, 60_000, 40_000))), 90)


def _properties(feature: dict[str, Any]) -> dict[str, Any]:
    return feature.get("properties") or {}


def _rest(feature: dict[str, Any]) -> Any:
    named = {"objectType", "object_type", "classification", "measurements"}
    outer = {k: v for k, v in feature.items() if k not in ("id", "geometry", "properties")}
    return outer, {k: v for k, v in _properties(feature).items() if k not in named}


def row(name: str, paths: list[Path]) -> list[str]:
    """Return the cells of a row: how many features, how many of them kept, and why not."""
    total = read = same = 0
    kept = dict.fromkeys(FIELDS, 0)
    reasons: dict[str, int] = {}
    for path in paths:
        document = json.loads(path.read_text())
        features = document if isinstance(document, list) else document["features"]
        found = read_geojson(path)
        total, read = total + len(features), read + len(found.objects)
        for problem in found.problems:
            reasons[problem.reason] = reasons.get(problem.reason, 0) + 1
        bad = {problem.index for problem in found.problems}
        before = [f for n, f in enumerate(features) if n not in bad]
        data, report = encode_objects(found.objects)
        through, _ = encode_objects(to_slide(found.objects, OFF), frame=OFF)
        for what, n in report.repairs.items():
            reasons[what] = reasons.get(what, 0) + n
        for problem in report.dropped:
            reasons[problem.reason] = reasons.get(problem.reason, 0) + 1
        after = json.loads(data)["features"]
        if len(after) != len(before):  # lines that became objects of their own
            after = after[: len(before)]
        again = json.loads(through)["features"]
        for old, new, moved in zip(before, after, again, strict=False):
            same += old == new == moved
            for field, pick in FIELDS.items():
                kept[field] += pick(old) == pick(new) == pick(moved)
    counts = [f"{n} of {total}" if n < total else "all" for n in (read, same, *kept.values())]
    why = "; ".join(f"{n} × {what}" if n > 1 else what for what, n in sorted(reasons.items()))
    return [name, str(total), *counts, why]


def main(folder: Path) -> None:
    header = ["file", "features", "read", "same to the letter", *FIELDS, "what was not, and why"]
    print(f"| {' | '.join(header)} |")
    print("|" + "---|" * len(header))
    for path in sorted(folder.glob("*.geojson")):
        print(f"| {' | '.join(row(path.stem, [path]))} |")
    groups = [folder / "cases", *sorted((folder / "golden").iterdir())]
    for group in groups:
        paths = sorted(group.rglob("*.geojson"))
        if group.name != "cases":
            print(f"| {' | '.join(row(f'written by QuPath {group.name}', paths))} |")
    for path in sorted((folder / "cases").glob("*.geojson")):
        cells = row(f"case {path.stem}", [path])
        if cells[3] != "all":
            print(f"| {' | '.join(cells)} |")
    good = [p for p in sorted((folder / "cases").glob("*.geojson")) if row("", [p])[3] == "all"]
    print(f"| {' | '.join(row(f'the other {len(good)} cases', good))} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
