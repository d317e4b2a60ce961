"""Write the figures of an evaluation: Markdown tables, JSON, and a plot."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from napari_virchow import __version__
from napari_virchow.evaluate import Protocol, Result
from napari_virchow.evaluate.scores import Score
from napari_virchow.evaluate.tasks import COLUMNS, PAPER, PAPER_CLASS_ONLY, TASKS

FILES = ("evaluation.md", "evaluation.json", "evaluation.png")
# Okabe and Ito's, without the yellow that no paper shows.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_MARKERS = "osD^vPX"
NONE = "–"


def write_report(results: Sequence[Result], folder: Path, protocol: Protocol) -> list[Path]:
    """Write `FILES` into a folder; the plot only if matplotlib is installed.

    Returns
    -------
    list of Path
        What was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    markdown, document, picture = (folder / name for name in FILES)
    document.write_text(json.dumps(to_json(results, protocol), indent=2) + "\n", "utf-8")
    drawn = plot(results, picture)
    text = to_markdown(results, protocol)
    if drawn:
        text += f"\n![Linear probe of every encoder on every set]({picture.name})\n"
    markdown.write_text(text, "utf-8")
    return [markdown, document, *([picture] if drawn else [])]


def to_json(results: Iterable[Result], protocol: Protocol) -> dict[str, Any]:
    """Return everything as JSON: a figure is {"value", "low", "high"}, F1 and r are fractions."""
    rows = []
    for result in results:
        row = {
            name: _plain(value)
            for name, value in (
                (each, getattr(result, each)) for each in Result.__dataclass_fields__
            )
        }
        rows.append(row)
    return {
        "napari_virchow": __version__,
        "protocol": asdict(protocol),
        "results": rows,
        "paper": {"class+mean": _dicts(PAPER), "class": _dicts(PAPER_CLASS_ONLY)},
    }


def to_markdown(results: Sequence[Result], protocol: Protocol) -> str:
    """Return the tables: the paper's with ours below, then ours in detail."""
    full = [r for r in results if r.balanced is not None or r.pooling != "class"]
    lines = ["# Evaluation", "", *_about(results), "", "## Linear probe, weighted F1 × 100", ""]
    lines += _linear_table(results)
    lines += ["", "## Beside the Virchow2 paper", "", *_paper_tables(results)]
    classified = [r for r in full if r.balanced is not None]
    for title in dict.fromkeys(r.title for r in classified):
        lines += ["", f"## {title} in detail", ""]
        lines += _detail([r for r in classified if r.title == title], protocol)
    return "\n".join(lines) + "\n"


def _about(results: Sequence[Result]) -> list[str]:
    lines = [
        f"napari-virchow {__version__}. Encoders are frozen. Linear probe: logistic regression on "
        "z-scored embeddings, C chosen on validation tiles. In brackets: 95 % interval of 1,000 "
        "bootstraps over the tested tiles, or over whole patients or slides where at least ten "
        "are known.",
        "",
        "| set | tiles | classes | patients or slides | split |",
        "|---|---|---|---|---|",
    ]
    for result in {r.title: r for r in results}.values():
        groups = result.n_groups or "not known"
        classes = result.n_classes or "regression"
        lines.append(f"| {result.title} | {result.n:,} | {classes} | {groups} | {result.split} |")
    return lines


def _linear_table(results: Sequence[Result]) -> list[str]:
    titles = list(dict.fromkeys(r.title for r in results))
    lines = [f"| encoder | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for name in dict.fromkeys(_name(r) for r in results):
        cells = {r.title: _bracketed(r.linear, r) for r in results if _name(r) == name}
        lines.append(f"| {name} | {' | '.join(cells.get(each, NONE) for each in titles)} |")
    return lines


def _paper_tables(results: Sequence[Result]) -> list[str]:
    lines = [
        "Weighted F1 × 100 of a linear probe; HEST: mean Pearson r. Figures of named models are "
        "those of arXiv 2408.00738; its in-domain tasks are private. Ours are in bold.",
    ]
    head = " | ".join(TASKS[column].title for column in COLUMNS)
    for words, paper, pooling in (
        ("class+mean", PAPER, "class+mean"),
        ("class token only", PAPER_CLASS_ONLY, "class"),
    ):
        lines += ["", f"| {words} | {head} |", "|---" * (len(COLUMNS) + 1) + "|"]
        for model, figures in paper.items():
            cells = (_paper_cell(column, figures.get(column)) for column in COLUMNS)
            lines.append(f"| {model} | {' | '.join(cells)} |")
        ours = [r for r in results if r.pooling == pooling or (pooling != "class" and r.balanced)]
        ours += [r for r in results if not r.n_classes and r not in ours and r.pooling == pooling]
        for name in dict.fromkeys(r.encoder_title for r in ours):
            mine = [r for r in ours if r.encoder_title == name]
            cells = (_our_cell(column, mine) for column in COLUMNS)
            lines.append(f"| **{name}** | {' | '.join(cells)} |")
    return lines


def _our_cell(column: str, results: Sequence[Result]) -> str:
    values = [r.linear.value for r in results if r.task == column]
    if not values:
        return NONE
    return f"**{_paper_cell(column, float(np.mean(values)) * (1 if column == 'hest' else 100))}**"


def _paper_cell(column: str, figure: float | None) -> str:
    if figure is None:
        return NONE
    return f"{figure:.3f}" if column == "hest" else f"{figure:.1f}"


def _detail(results: Sequence[Result], protocol: Protocol) -> list[str]:
    shots = [n for n in protocol.shots if any(n in r.few for r in results)]
    head = ["encoder", "balanced accuracy", "kNN", *(f"{n} per class" for n in shots)]
    head += ["precision@10", "mAP"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for r in results:
        figures = [r.balanced, r.knn, *(r.few.get(n) for n in shots)]
        figures += [r.precision, r.average_precision]
        lines.append(f"| {_name(r)} | {' | '.join(_bracketed(each) for each in figures)} |")
    views = list(dict.fromkeys(view for r in results for view in r.robust))
    if views:
        lines += [
            "",
            "Weighted F1 × 100 of the same probe on altered tiles (cosine of embeddings):",
        ]
        lines += ["", f"| encoder | as they are | {' | '.join(views)} |"]
        lines += ["|---" * (len(views) + 2) + "|"]
        for r in results:
            cells = [
                f"{100 * r.robust[view].f1.value:.1f} ({r.robust[view].cosine:.2f})"
                for view in views
            ]
            lines.append(f"| {_name(r)} | {_bracketed(r.plain)} | {' | '.join(cells)} |")
    return lines


def plot(results: Sequence[Result], file: Path) -> bool:
    """Draw the linear probes with their intervals; False if matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    titles = list(dict.fromkeys(r.title for r in results))
    names = list(dict.fromkeys(_name(r) for r in results))
    height = 1.4 + len(titles) * (0.35 + 0.16 * len(names))
    figure = Figure(figsize=(8, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, name in enumerate(names):
        mine = {r.title: r.linear for r in results if _name(r) == name}
        y = [titles.index(t) + (number - (len(names) - 1) / 2) * 0.8 / len(names) for t in mine]
        values = np.array([[s.value, s.low, s.high] for s in mine.values()]) * 100
        axes.errorbar(
            values[:, 0],
            y,
            xerr=np.abs(values[:, 1:].T - values[:, 0]),
            fmt=_MARKERS[number % len(_MARKERS)],
            color=COLORS[number % len(COLORS)],
            capsize=2,
            label=name,
        )
    axes.set_yticks(range(len(titles)), titles)
    axes.set_ylim(len(titles) - 0.5, -0.5)
    axes.set_xlabel("weighted F1 × 100 of a linear probe (genes: Pearson r × 100), 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    figure.savefig(file, dpi=120)
    return True


def _name(result: Result) -> str:
    if result.pooling == "descriptor":
        return result.encoder_title
    return f"{result.encoder_title} ({result.pooling})"


def _bracketed(score: Score | None, result: Result | None = None) -> str:
    if score is None:
        return NONE
    if result is not None and not result.n_classes:
        return f"{score.value:.3f} [{score.low:.3f}–{score.high:.3f}]"
    return f"{100 * score.value:.1f} [{100 * score.low:.1f}–{100 * score.high:.1f}]"


def _plain(value: Any) -> Any:
    """Turn named tuples inside into dictionaries, which JSON can name."""
    if hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    return value


def _dicts(table: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {model: dict(figures) for model, figures in table.items()}
