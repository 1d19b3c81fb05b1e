"""Results for people: tables on the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from polyprag.evaluation.cost_report import CostColumns
from polyprag.evaluation.data import data_lines
from polyprag.evaluation.differences import Contrast, Difference
from polyprag.evaluation.grids import (
    NONE,
    Grid,
    Row,
    csv_text,
    fitting,
    format_bytes,
    format_interval,
    format_p,
    format_score,
    format_seconds,
    grid_markdown,
    grid_table,
    grids_latex,
    print_tables,
)
from polyprag.evaluation.results import MethodResult, Results, macro_f1
from polyprag.markdown import escape, printable

Figure = Literal["f1", "own_first"]
Kind = tuple[int, str]
"""What a column of a table by types is about: all questions, the mean of types, or a type; and its name."""


class Mean(NamedTuple):
    """A mean of a figure, and over how many."""

    n: int
    value: float


# Methods that are no competitors but show what the others owe to routing and to answer format.
CONTROL_SUFFIXES = ("_oracle", "_uniform", "_average", "_shuffled", "_random", "_lora")

_ALL, _MACRO, _TYPE = range(3)
_SCORES_HEAD = ("method", "n", "F1", "95 %\ninterval", "EM", "contains")
_STEPS_HEAD = ("retrieve", "route/load", "generate", "bytes/passage", "training")
CONTRAST_HEAD = ("a − b", "95 % interval", "p", "p\nHolm", "d_z", "% won/\ntied/lost")


def results_tables(results: Results) -> tuple[Table, ...]:
    """Tables for a terminal of 100 columns: all methods, F1 by question type, differences; empty ones left out."""
    return tuple(grid_table(grid) for grid in _grids(results))


def print_report(results: Results, console: Console) -> None:
    """Print all tables of the results, see `print_tables`, and a line for each fact about the data."""
    print_tables(results_tables(results), console)
    lines = data_lines(results["data"])
    if lines:
        console.print(Text("Data", style="italic"))
    for line in lines:
        console.print(Text(printable(line)))


def to_markdown(results: Results) -> str:
    """The same tables and facts in GitHub's Markdown, ending in a newline."""
    parts = [grid_markdown(grid) for grid in _grids(results)]
    lines = data_lines(results["data"])
    if lines:
        parts += ["**Data**", "\n".join(f"- {escape(line)}" for line in lines)]
    return "\n\n".join(parts) + "\n"


def to_latex(results: Results) -> str:
    """The same tables in LaTeX with the rules of booktabs, ending in a newline."""
    return grids_latex(_grids(results))


def to_csv(results: Results) -> str:
    """Every number of every method, unrounded, a row a method.

    Columns are named as in results.json, such as `seconds_per_question.total`, the ends of intervals `f1_ci95.low` and
    `f1_ci95.high`. The setting, and what it was chosen from, is left out.
    """
    rows = {name: dict(_numbers({**result, "choice": {}})) for name, result in results["methods"].items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    return csv_text(["method", *columns], ([name, *map(row.get, columns)] for name, row in rows.items()))


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """All numbers by dotted name."""
    for name, value in values.items():
        inner = dict(zip(("low", "high"), value, strict=True)) if isinstance(value, list) else value
        if isinstance(inner, Mapping):
            yield from ((f"{name}.{key}", number) for key, number in _numbers(inner))
        elif isinstance(inner, int | float):
            yield name, inner


def is_control(method: str) -> bool:
    """Whether a method is a control: gates that nothing has chosen for the question, or a LoRA without gates."""
    return method.removesuffix("_combine").endswith(CONTROL_SUFFIXES)


def _grids(results: Results) -> list[Grid]:
    methods = results["methods"]
    grids = [
        _main_grid(methods),
        _cost_grid(methods),
        *_type_grids(methods, "f1", "F1 by question type"),
        *_type_grids(
            {name: result for name, result in methods.items() if not is_control(name)},
            "own_first",
            "Share of questions whose first chosen passage is a gold one",
        ),
        _difference_grid(results["differences"]),
    ]
    return [grid for grid in grids if grid.rows or grid.controls]


def _main_grid(methods: dict[str, MethodResult]) -> Grid:
    judges = {result["judge_by"]: None for result in methods.values() if "judge_by" in result}
    rows = [_main_row(name, result, bool(judges)) for name, result in methods.items()]
    head = (*_SCORES_HEAD, *(["judge"] if judges else []), *_STEPS_HEAD)
    note = "Times are per question, except that of training."
    if judges:
        note += f" Judge: share judged correct by {'; by '.join(judges)}."
    return Grid("Results by method", head, *split_controls(rows), note=note)


def _cost_grid(methods: dict[str, MethodResult]) -> Grid:
    columns = CostColumns(list(methods.values()))
    rows = [(name, *columns.cells(result["seconds_per_question"]["total"], result)) for name, result in methods.items()]
    return Grid("Costs by method", ("method", *columns.head), *split_controls(rows), note=columns.note)


def _main_row(name: str, result: MethodResult, is_judged: bool) -> Row:
    seconds = result["seconds_per_question"]
    return (
        name,
        str(result["n"]),
        format_score(result["f1"]),
        format_interval(result["f1_ci95"]),
        format_score(result["em"]),
        format_score(result["contains"]),
        *([format_score(result["judge"]) if "judge" in result else NONE] if is_judged else []),
        format_seconds(seconds["retrieve"]),
        format_seconds(seconds["route"] + seconds["load_merge"]),
        format_seconds(seconds["generate"]),
        format_bytes(result["bytes_per_passage"]),
        format_seconds(result["train_seconds"]),
    )


def _type_grids(methods: dict[str, MethodResult], figure: Figure, title: str) -> list[Grid]:
    """A figure by question type, in as many grids as the terminal's width asks for."""
    by_type = {name: _by_type(result, figure) for name, result in methods.items()}
    kinds = sorted({kind for found in by_type.values() for kind in found})
    heads = {kind: _type_head(kind, [found[kind].n for found in by_type.values() if kind in found]) for kind in kinds}
    grids = []
    for group in fitting(heads):
        rows = [
            (name, *(format_score(found[kind].value) if kind in found else NONE for kind in group))
            for name, found in by_type.items()
            if any(kind in found for kind in group)
        ]
        grids.append(Grid(title, ("method", *(heads[kind] for kind in group)), *split_controls(rows)))
    return grids


def _by_type(result: MethodResult, figure: Figure) -> dict[Kind, Mean]:
    """The figure of all questions, as the mean of types where there are any, and of each type; as far as known."""
    types = result.get("by_type", {})
    found: dict[Kind, Mapping[str, Any]] = {(_TYPE, kind): means for kind, means in types.items()}
    if types or figure == "own_first":
        found[_ALL, "all"] = result
    if types and figure == "f1":
        found[_MACRO, "macro"] = {"n": len(types), "f1": macro_f1(types)}
    return {kind: Mean(means["n"], means[figure]) for kind, means in found.items() if figure in means}


def _type_head(kind: Kind, sizes: Sequence[int]) -> str:
    size = str(min(sizes)) if min(sizes) == max(sizes) else f"{min(sizes)}–{max(sizes)}"
    place, name = kind
    return f"{printable(name)}\n({size} types)" if place == _MACRO else f"{printable(name)}\n(n {size})"


def _difference_grid(differences: Sequence[Difference]) -> Grid:
    rows = tuple((entry["a"], entry["b"], *contrast_cells(entry)) for entry in differences)
    note = holm_note(len(rows))
    title = "Differences in F1 on the same questions (paired bootstrap)"
    return Grid(title, ("method a", "method b", *CONTRAST_HEAD), rows, names=2, note=note)


def contrast_cells(entry: Contrast) -> Row:
    """A paired difference in the columns of `CONTRAST_HEAD`; a dash for what earlier versions did not measure."""
    effect = entry.get("d_z")
    shares = [entry["won"], entry["tied"], entry["lost"]] if "won" in entry else []
    return (
        f"{entry['mean']:+.3f}",
        "{:+.3f} to {:+.3f}".format(*entry["ci95"]),
        format_p(entry["p"]),
        format_p(entry["p_holm"]) if "p_holm" in entry else NONE,
        NONE if effect is None else f"{effect:+.2f}",
        "/".join(f"{share * 100:.0f}" for share in shares) or NONE,
    )


def holm_note(pairs: int) -> str:
    """What the columns of differences mean."""
    together = f"p Holm: adjusted for all {pairs} of them together. " if pairs > 1 else ""
    return f"{together}d_z: mean difference in standard deviations of the differences."


def split_controls(rows: Iterable[Row]) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Rows of methods proper and rows of controls, each in the given order."""
    both = list(rows)
    return tuple(row for row in both if not is_control(row[0])), tuple(row for row in both if is_control(row[0]))
