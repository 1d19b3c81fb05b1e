"""The story of `python evaluate.py compare`: find evaluated runs, compare them, print and write what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.text import Text

from polyprag.cli import Call
from polyprag.config import MethodName
from polyprag.config.checks import validate
from polyprag.config.loading import load_config, to_yaml
from polyprag.errors import ConfigError
from polyprag.evaluation.columns import Column
from polyprag.evaluation.comparison import Comparison, Score, compare
from polyprag.evaluation.cost_report import CostColumns
from polyprag.evaluation.grids import (
    NONE,
    Grid,
    csv_text,
    fitting,
    format_bytes,
    format_interval,
    format_score,
    grid_markdown,
    grid_table,
    grids_latex,
    print_tables,
)
from polyprag.evaluation.page.comparison_page import write_comparison_page
from polyprag.evaluation.papers_mean import PAPERS_HEAD, EightColumns
from polyprag.evaluation.recorded import EvaluatedRun, find_evaluations, read_runs
from polyprag.evaluation.report import CONTRAST_HEAD, contrast_cells, holm_note, split_controls
from polyprag.files import write_json, write_text
from polyprag.markdown import escape, printable

FOLDER, FILE = "runs/comparison", "comparison"
KEYS = ("run.dir", "evaluation.methods", "evaluation.bootstrap", "evaluation.seed")
"""Keys that mean something here."""
SCHEMA = 1
_FIGURES = (
    *("seeds", "n", "f1", "f1_sd", "em", "contains", "prag_f1", "judge", "macro_f1"),
    *("seconds_per_question", "bytes_per_passage"),
    *("seconds_to_first_token", "tokens_in", "tokens_out", "retrievals", "peak_memory_bytes"),
    *("offline_seconds_per_passage", "break_even", "break_even_prag"),
)

_EXTRAS = {"prag_f1": "PRAG’s\nF1", "f1_sd": "SD over\nseeds", "judge": "judge"}


def compare_runs(call: Call) -> None:
    """Compare the evaluated runs that a call names; tables go to the terminal and, with all numbers, into a folder.

    Args:
        call: its folders are evaluations, runs or sweeps; `run.dir` is where the comparison goes, `methods` the methods
            that count.

    Raises:
        ConfigError: fewer than two evaluations, or a key that means nothing here.
        DataError: results or answers cannot be read.
    """
    config = load_config(None, _checked(call))
    validate(config)
    if call.print_config:
        print(to_yaml(config), end="")
        return
    chosen = config.evaluation.methods if _is_given(call, "evaluation.methods") else []
    runs = read_runs(find_evaluations(call.folders), chosen)
    if len([run for run in runs if run.answers]) < 2:
        raise ConfigError("evaluate.py compare: fewer than two evaluations with these methods; name two runs or more")
    if call.dry_run:
        print("\n".join(map(_plan_line, runs)))
        return
    found = compare([run for run in runs if run.answers], config.evaluation.bootstrap, config.evaluation.seed)
    console = Console()
    print_tables(map(grid_table, grids(found)), console)
    for note in found.notes:
        console.print(Text(printable(f"note: {note}")))
    folder = Path(config.run.dir or FOLDER)
    write_comparison(found, folder)
    print(f"these tables, also in LaTeX and as a page, and all numbers: {folder}")


def write_comparison(found: Comparison, folder: Path) -> None:
    """Write a comparison as Markdown, LaTeX, CSV, JSON, and as a page for a browser."""
    write_text(folder / f"{FILE}.md", to_markdown(found))
    write_text(folder / f"{FILE}.tex", grids_latex(grids(found)))
    write_text(folder / f"{FILE}.csv", to_csv(found))
    write_json(folder / f"{FILE}.json", to_json(found))
    write_comparison_page(to_json(found), folder)


def to_markdown(found: Comparison) -> str:
    """Tables, folders and notes in GitHub's Markdown, ending in a newline."""
    folders = [f"- {escape(column.label)}: {escape(_folders(column))}" for column in found.columns]
    parts = [*map(grid_markdown, grids(found)), "**Folders**", "\n".join(folders)]
    if found.notes:
        parts += ["**Notes**", "\n".join(f"- {escape(note)}" for note in found.notes)]
    return "\n\n".join(parts) + "\n"


def to_csv(found: Comparison) -> str:
    """Every score, unrounded, a row for each column and method."""
    rows = [
        [
            *(column.label, method, column.base, column.data),
            *(score["f1_ci95"][0], score["f1_ci95"][1]),
            *(score.get(figure) for figure in _FIGURES),
            _folders(column),
        ]
        for column, scores in zip(found.columns, found.scores, strict=True)
        for method, score in scores.items()
    ]
    return csv_text(["run", "method", "base", "data", "f1_low", "f1_high", *_FIGURES, "folders"], rows)


def to_json(found: Comparison) -> dict[str, Any]:
    """All numbers, for comparison.json."""
    return {
        "schema": SCHEMA,
        "runs": [
            {
                "label": column.label,
                "folders": [str(run.folder) for run in column.runs],
                "seeds": [run.results["run"].get("seed") for run in column.runs],
                "base": column.base,
                "data": column.data,
                "methods": scores,
            }
            for column, scores in zip(found.columns, found.scores, strict=True)
        ],
        "differences": found.between,
        "differences_over_seeds": found.within,
        "papers_mean": found.papers,
        "notes": found.notes,
    }


def grids(found: Comparison) -> list[Grid]:
    """The tables: runs, F1 of methods × runs, scores and costs, differences, the papers' mean; empty ones left out."""
    tables = [
        _runs_grid(found),
        *_f1_grids(found),
        _scores_grid(found),
        _costs_grid(found),
        *_papers_grids(found),
        *_between_grids(found),
        *_within_grids(found),
    ]
    return [grid for grid in tables if grid.rows or grid.controls]


def _runs_grid(found: Comparison) -> Grid:
    rows = []
    for column in found.columns:
        facts = [run.results["data"] for run in column.runs]
        seeds = ", ".join(str(run.results["run"].get("seed", NONE)) for run in column.runs)
        passages = str(facts[0].get("passages", NONE))
        rows.append((column.label, column.base, column.data, str(len(column.questions)), passages, seeds))
    return Grid("Runs", ("run", "base model", "data", "questions", "passages", "seeds"), tuple(rows), names=3)


def _f1_grids(found: Comparison) -> list[Grid]:
    """F1 of methods × runs, in as many tables as the terminal's width asks for."""
    if len(found.columns) == 1:
        return []
    cells = [
        {
            name: f"{score['f1']:.3f} ({score['f1_ci95'][0]:.2f}–{score['f1_ci95'][1]:.2f})"
            for name, score in own.items()
        }
        for own in found.scores
    ]
    heads = {position: column.label for position, column in enumerate(found.columns)}
    tables = []
    for group in fitting(heads, least=max(len(cell) for own in cells for cell in own.values())):
        names = [name for name in _methods(found) if any(name in cells[at] for at in group)]
        rows = [(name, *(cells[at].get(name, NONE) for at in group)) for name in names]
        tables.append(Grid("F1 by method and run", ("method", *(heads[at] for at in group)), *split_controls(rows)))
    return tables


def _scores_grid(found: Comparison) -> Grid:
    """Scores of methods in runs; PRAG's F1, the spread over seeds and a judge's share where there are any."""
    scored = _scored(found)
    extras = {name: head for name, head in _EXTRAS.items() if any(name in score for *_, score in scored)}
    rows = [
        (
            *(method, column.label, str(score["n"])),
            *(format_score(score["f1"]), format_interval(score["f1_ci95"])),
            *(format_score(score["em"]), format_score(score["contains"])),
            *(format_score(cast(dict[str, float], score)[name]) if name in score else NONE for name in extras),
        )
        for method, column, score in scored
    ]
    head = ("method", "run", "n", "F1", "95 %\ninterval", "EM", "contains", *extras.values())
    note = "SD: standard deviation of F1 over seeds; intervals cover other seeds and other questions."
    return Grid(
        "Scores by method and run", head, *split_controls(rows), names=2, note=note if "f1_sd" in extras else ""
    )


def _costs_grid(found: Comparison) -> Grid:
    scored = _scored(found)
    columns = CostColumns([score for *_, score in scored])
    rows = [
        (
            *(method, column.label),
            *columns.cells(score["seconds_per_question"], score),
            format_bytes(score["bytes_per_passage"]),
        )
        for method, column, score in scored
    ]
    head = ("method", "run", *columns.head, "bytes/passage")
    return Grid("Costs by method and run", head, *split_controls(rows), names=2, note=columns.note)


def _scored(found: Comparison) -> list[tuple[str, Column, Score]]:
    """All scores, method by method."""
    return [
        (method, column, scores[method])
        for method in _methods(found)
        for column, scores in zip(found.columns, found.scores, strict=True)
        if method in scores
    ]


def _papers_grids(found: Comparison) -> Iterator[Grid]:
    for base, methods in found.papers.items():
        by_prag: dict[str, EightColumns] = {name: mean["prag_f1"] for name, mean in methods.items()}
        yield _papers_grid(f"F1 in the papers' eight columns, and their mean: {base}", methods)
        yield _papers_grid(f"The same by PRAG's scorer: {base}", by_prag)


def _papers_grid(title: str, means: Mapping[str, EightColumns]) -> Grid:
    rows = [
        (name, *map(format_score, (*mean["columns"], mean["mean"])), format_interval(mean["ci95"]))
        for name, mean in means.items()
    ]
    return Grid(title, ("method", *PAPERS_HEAD, "mean", "95 %\ninterval"), *split_controls(rows))


def _between_grids(found: Comparison) -> Iterator[Grid]:
    note = holm_note(len(found.between))
    for a, b in dict.fromkeys((entry["a"], entry["b"]) for entry in found.between):
        rows = [
            (entry["method"], *contrast_cells(entry)) for entry in found.between if (entry["a"], entry["b"]) == (a, b)
        ]
        head = ("method", "difference", *CONTRAST_HEAD[1:])
        yield Grid(f"F1 of {a} minus {b} on the same questions", head, *split_controls(rows), note=note)


def _within_grids(found: Comparison) -> Iterator[Grid]:
    for label, entries in found.within.items():
        rows = tuple((entry["a"], entry["b"], *contrast_cells(entry)) for entry in entries)
        head = ("method a", "method b", *CONTRAST_HEAD)
        yield Grid(
            f"Differences in F1 over questions and seeds: {label}", head, rows, names=2, note=holm_note(len(rows))
        )


def _methods(found: Comparison) -> list[str]:
    """All methods, in the order of the configuration's choices."""
    order = {name.value: position for position, name in enumerate(MethodName)}
    names = dict.fromkeys(method for scores in found.scores for method in scores)
    return sorted(names, key=lambda name: order.get(name, len(order)))


def _folders(column: Column) -> str:
    return ", ".join(str(run.folder) for run in column.runs)


def _plan_line(run: EvaluatedRun) -> str:
    return (
        f"{run.label}: {run.folder}, {len(run.questions)} questions, {', '.join(run.answers) or 'none of the methods'}"
    )


def _is_given(call: Call, key: str) -> bool:
    return any(override.startswith(f"{key}=") for override in call.overrides)


def _checked(call: Call) -> tuple[str, ...]:
    """The overrides of a call, all of which mean something here."""
    foreign = [key for override in call.overrides if (key := override.partition("=")[0]) not in KEYS]
    if foreign or call.config_path is not None:
        raise ConfigError(
            f"evaluate.py compare: {foreign[0] if foreign else '--config'} means nothing here; name folders of "
            f"evaluated runs, and {', '.join(KEYS)}"
        )
    return call.overrides
