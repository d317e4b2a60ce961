"""Evaluate the built-in encoder, a colour histogram and a random ViT-S on every tile set at hand.

    python benchmarks/evaluate.py [--data DIR] [--encoder NAME]... [--robust-tiles N] [--out DIR]

Without data only the sample slide is used. Embeddings are kept in the store, so that a second run
is quick. `benchmarks/results/evaluate.md` keeps a run.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from napari_virchow.cli import main as run

SETS = ("kather2016_100", "idc_50px_2patients", "crc_polito")
ENCODERS = ("texture", "virchow2g-mini@random")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("NAPARI_VIRCHOW_TEST_DATA"))
    parser.add_argument("--encoder", action="append")
    parser.add_argument("--robust-tiles", default="200")
    parser.add_argument("--out")
    options = parser.parse_args()
    words = ["evaluate", "sample"]
    if options.data:
        tiles = [Path(options.data) / "tiles" / name for name in SETS]
        words += [str(each) for each in tiles if each.is_dir()]
    words += ["--pattern", r"label_(?P<class>\d+)", "--robust-tiles", options.robust_tiles]
    for name in options.encoder or ENCODERS:
        words += ["--encoder", name]
    return run(words + (["--out", options.out] if options.out else []))


if __name__ == "__main__":
    sys.exit(main())
