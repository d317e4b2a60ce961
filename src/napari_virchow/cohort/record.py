"""The record of a run: what was asked, how far every slide is, and a summary to read."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_virchow.cohort.facts import CohortError, CohortOptions, SlideState

FOLDER = "runs"
_RECORD, _SUMMARY = "run.json", "summary.md"
_SAVE_S = 1.0


class Record:
    """A folder in the store with ``run.json``, written anew at most once a second.

    Parameters
    ----------
    folder : Path
        ``<store>/runs/<time>``.
    options : CohortOptions
        How the slides are embedded.
    slides : list of SlideState
        In the order they were named; changed in place by the run.
    """

    def __init__(self, folder: Path, options: CohortOptions, slides: list[SlideState]) -> None:
        self.folder, self.options, self.slides = folder, options, slides
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self._saved = 0.0

    @classmethod
    def new(cls, options: CohortOptions, paths: list[str]) -> Record:
        """Begin a record. Raises CohortError if the store cannot be written."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        folder = Path(options.store) / FOLDER / f"{stamp}-{uuid.uuid4().hex[:4]}"
        record = cls(folder, options, [SlideState(path) for path in paths])
        record.save(now=True)
        return record

    @classmethod
    def last(cls, store: Path) -> Record:
        """Take up the newest run that was not finished.

        Raises
        ------
        CohortError
            If there is none.
        """
        for folder in sorted((store / FOLDER).glob("*"), reverse=True):
            try:
                data = json.loads((folder / _RECORD).read_text("utf-8"))
                options = CohortOptions(**data["options"])
                slides = [SlideState(**slide) for slide in data["slides"]]
            except (OSError, ValueError, KeyError, TypeError):
                continue  # a folder of something else
            if data.get("finished") and all(slide.state == "done" for slide in slides):
                continue
            return cls(folder, options, slides)
        raise CohortError(
            f"{store} has no run that was cut short or had failures; name the slides to embed."
        )

    def save(self, *, now: bool = False, finished: bool = False) -> None:
        """Write the state of every slide; unless `now`, at most once a second.

        Raises
        ------
        CohortError
            If it cannot be written.
        """
        if not now and time.monotonic() - self._saved < _SAVE_S:
            return
        self._saved = time.monotonic()
        data: dict[str, Any] = {
            "started": self.started,
            "finished": finished,
            "options": asdict(self.options),
            "slides": [asdict(slide) for slide in self.slides],
        }
        self._write(_RECORD, json.dumps(data, indent=1))

    def summarize(self, seconds: float, n_workers: int, n_lost: int) -> str:
        """Write ``summary.md`` and return its text."""
        done = [slide for slide in self.slides if slide.state == "done"]
        failed = [slide for slide in self.slides if slide.state != "done"]
        n_new = sum(slide.n_new for slide in self.slides)
        lines = [
            f"# {len(done)} of {len(self.slides)} slides embedded",
            "",
            f"{self.options.encoder} at {self.options.mpp:g} µm/px, begun {self.started}; "
            f"{n_new:,} new tiles in {seconds:,.0f} s with {n_workers} workers "
            f"({n_new / max(seconds, 1e-9):,.0f} tiles/s), {n_lost} workers lost on the way.",
            "",
            "| slide | state | new | there before | glass | unreadable | s |",
            "|---|---|---:|---:|---:|---:|---:|",
        ]
        for one in self.slides:
            counts = (one.n_new, one.n_there, one.n_glass, one.n_failed)
            numbers = " | ".join(f"{count:,}" for count in counts)
            lines.append(f"| {one.path} | {one.state} | {numbers} | {one.seconds:,.0f} |")
        if failed:
            lines += ["", "## Not embedded", ""]
            lines += [f"- {slide.path}: {slide.error or slide.state}" for slide in failed]
        text = "\n".join(lines) + "\n"
        self._write(_SUMMARY, text)
        return text

    def _write(self, name: str, text: str) -> None:
        partial = self.folder / f"{name}.partial"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial.write_text(text, "utf-8")
            partial.replace(self.folder / name)
        except OSError as error:
            why = error.strerror or str(error)
            raise CohortError(
                f"{self.folder} cannot be written ({why}); choose another folder as --store."
            ) from error
