"""comparison.html: several evaluated runs side by side, in one file that opens without a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from polyprag.evaluation.grids import NONE
from polyprag.evaluation.page.charts import bars, scatter, scored
from polyprag.evaluation.page.contrasts import contrast_table, difference_table
from polyprag.evaluation.page.drawing import Drawing
from polyprag.evaluation.page.numbers import Source, Step, count, score, seconds, size, words
from polyprag.evaluation.page.page import render
from polyprag.evaluation.page.pieces import Cell, Content, Family, Table, family_of, in_order, legend, table
from polyprag.evaluation.papers_mean import PAPERS_HEAD
from polyprag.files import write_text

PAGE = "comparison.html"


class _Shown(NamedTuple):
    """A run on the page: its label, its place in the numbers, its figures."""

    label: Markup
    bars: Drawing
    latency: Drawing | None
    size: Drawing | None


def write_comparison_page(content: Any, folder: Path) -> Path:
    """Write comparison.html.

    Args:
        content: what comparison.json holds, as a comparison's `to_json` gives it.
        folder: where both go.

    Returns:
        The file.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    found = Source(content)
    names = in_order(dict.fromkeys(name for run in found.get("runs") for name in run["methods"]))
    context = {
        "title": ", ".join(run["label"] for run in found.get("runs")),
        "found": found,
        "runs": _runs_table(found),
        "f1": _f1_table(found, names),
        "figures": [_figures(found, at) for at in range(len(found.get("runs")))],
        "legend": legend(names),
        "papers": list(_papers_tables(found)),
        "scores": _scores_table(found, names),
        "between": list(_between_tables(found)),
        "within": list(_within_tables(found)),
        "notes": [words(note) for note in found.get("notes")],
    }
    write_text(folder / PAGE, render("comparison.html.j2", context))
    return folder / PAGE


def _runs_table(found: Source) -> Table:
    rows = []
    for at, run in enumerate(found.get("runs")):
        first = next(iter(run["methods"]), "")
        questions = found.number(count, "runs", at, "methods", first, "n") if first else NONE
        seeds = ", ".join(str(seed) for seed in run["seeds"])
        texts = (run["label"], run["base"], run["data"], seeds, "\n".join(run["folders"]))
        label, base, data, shown, folders = map(words, texts)
        rows.append((label, base, data, folders, shown, questions))
    return Table("Runs", ("run", "base model", "data", "folders", "seeds", "questions"), tuple(rows), names=4)


def _f1_table(found: Source, names: list[str]) -> Table:
    """F1 of methods × runs as a heat map."""
    runs = found.get("runs")
    best = max((own["f1"] for run in runs for own in run["methods"].values()), default=0.0) or 1.0
    rows = [(name, tuple(_f1_cell(found, at, name, best) for at in range(len(runs)))) for name in names]
    heads: list[Content] = ["method", *(words(run["label"]) for run in runs)]
    return table("F1 by method and run", heads, rows)


def _f1_cell(found: Source, at: int, name: str, best: float) -> Cell:
    path: tuple[Step, ...] = ("runs", at, "methods", name)
    if found.get(*path) is None:
        return Cell(NONE, 0.0)
    number, ends = found.number(score, *path, "f1"), found.interval(score, *path, "f1_ci95")
    return Cell(Markup("{}<br><small>{}</small>").format(number, ends), found.get(*path, "f1") / best)


def _figures(found: Source, at: int) -> _Shown:
    run = found.get("runs", at)
    names = in_order(run["methods"])
    proper = [name for name in names if family_of(name) is not Family.CONTROL]

    def points(methods: list[str], *cost: Step) -> list[Any]:
        return [scored(found, name, ("runs", at, "methods", name), cost) for name in methods]

    latency = scatter(points(proper, "seconds_per_question"), "F1 against seconds", "seconds a question", seconds)
    by_size = scatter(points(proper, "bytes_per_passage"), "F1 against bytes", "bytes a passage", size)
    figures = (latency, by_size) if proper else (None, None)
    return _Shown(words(run["label"]), bars(points(names), f"F1 of each method: {run['label']}"), *figures)


def _scores_table(found: Source, names: list[str]) -> Table:
    """EM, contains and costs of methods × runs."""
    rows = []
    for name in names:
        for at, run in enumerate(found.get("runs")):
            if name in run["methods"]:
                path: tuple[Step, ...] = ("runs", at, "methods", name)
                rows.append((name, (words(run["label"]), *_cells(found, path))))
    head = (
        "method",
        "run",
        "n",
        "F1",
        "95 % interval",
        "EM",
        "contains",
        "PRAG’s F1",
        "time/question",
        "bytes/passage",
    )
    return table("Scores and costs by method and run", head, rows, names=2)


def _cells(found: Source, path: tuple[Step, ...]) -> tuple[Content, ...]:
    return (
        found.number(count, *path, "n"),
        found.number(score, *path, "f1"),
        found.interval(score, *path, "f1_ci95"),
        found.number(score, *path, "em"),
        found.number(score, *path, "contains"),
        found.number(score, *path, "prag_f1"),
        found.number(seconds, *path, "seconds_per_question"),
        found.number(size, *path, "bytes_per_passage"),
    )


def _papers_tables(found: Source) -> Iterator[tuple[Markup, Table]]:
    """The papers' eight columns and their mean, for each base model that has them, and the same by PRAG's scorer."""
    for base, methods in found.get("papers_mean").items():
        yield words(base), _papers_table(found, base, in_order(methods))
        yield words(f"{base}, by PRAG’s scorer"), _papers_table(found, base, in_order(methods), "prag_f1")


def _papers_table(found: Source, base: str, methods: Sequence[str], *scorer: Step) -> Table:
    rows = []
    for name in methods:
        path: tuple[Step, ...] = ("papers_mean", base, name, *scorer)
        columns = tuple(found.number(score, *path, "columns", at) for at in range(len(PAPERS_HEAD)))
        rows.append((name, (*columns, found.number(score, *path, "mean"), found.interval(score, *path, "ci95"))))
    head = ("method", *map(words, PAPERS_HEAD), "mean", "95 % interval")
    return table("The papers' eight columns", head, rows)


def _between_tables(found: Source) -> Iterator[tuple[Markup, Markup, Table]]:
    """Differences of the same method between two runs, a table for each pair of runs."""
    entries = found.get("differences")
    for a, b in dict.fromkeys((entry["a"], entry["b"]) for entry in entries):
        positions = [at for at, entry in enumerate(entries) if (entry["a"], entry["b"]) == (a, b)]
        yield words(a), words(b), contrast_table(found, ("differences",), positions)


def _within_tables(found: Source) -> Iterator[tuple[Markup, Table]]:
    """Differences between the methods of runs that differ only in their seed."""
    for label in found.get("differences_over_seeds"):
        rows = difference_table(found, ("differences_over_seeds", label))
        if rows:
            yield words(label), rows
