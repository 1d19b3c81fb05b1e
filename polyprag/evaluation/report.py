"""Results for people: tables on the terminal and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from polyprag.evaluation.results import Difference, MethodResult, Results, TypeResult

# Methods that are no competitors but show what the others owe to routing and to answer format.
CONTROL_SUFFIXES = ("_oracle", "_uniform", "_average", "_shuffled", "_random", "_lora")

_NONE = "–"
_ALL = "all"
_COLUMNS = 100
_NAME_WIDTH = 26
_HEAD_WIDTH = 13
_MAIN_HEAD = (
    *("method", "n", "F1", "95 %\ninterval", "EM", "contains"),
    *("retrieve", "route/load", "generate", "prompt\ntokens", "bytes/passage", "training"),
)
# On the terminal these break where a reader would break them.
_BROKEN = {
    "contains": "con-\ntains",
    "retrieve": "re-\ntrieve",
    "route/load": "route/\nload",
    "generate": "gene-\nrate",
    "bytes/passage": "bytes/\npassage",
    "training": "train-\ning",
}

Row = tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A table before it is drawn.

    Attributes:
        title: above the table.
        head: one text a column; a newline is a space in Markdown.
        rows: as many texts each as there are columns.
        controls: rows of a section of their own.
        names: leading columns that hold names; the others hold numbers.
        note: below the table; may be empty.
    """

    title: str
    head: Row
    rows: tuple[Row, ...]
    controls: tuple[Row, ...] = ()
    names: int = 1
    note: str = ""


def results_tables(results: Results) -> tuple[Table, ...]:
    """Tables for a terminal of 100 columns: all methods, F1 by question type, differences; empty ones left out."""
    return tuple(grid_table(grid) for grid in _grids(results))


def print_report(results: Results, console: Console) -> None:
    """Print all tables of the results; see `print_tables`."""
    print_tables(results_tables(results), console)


def print_tables(tables: Iterable[Table], console: Console) -> None:
    """Print tables, an empty line after each.

    On a narrower console, or in a pipe, which counts as 80 columns, lines run on rather than lose figures.
    """
    room = console.options.update(max_width=max(console.width, _COLUMNS))
    for table in tables:
        table.width = Measurement.get(console, room, table).maximum
        console.print(table, crop=False)
        console.print()


def to_markdown(results: Results) -> str:
    """The same tables in GitHub's Markdown, ending in a newline."""
    return "\n\n".join(grid_markdown(grid) for grid in _grids(results)) + "\n"


def is_control(method: str) -> bool:
    """Whether a method is a control: gates that nothing has chosen for the question, or a LoRA without gates."""
    return method.removesuffix("_combine").endswith(CONTROL_SUFFIXES)


def _grids(results: Results) -> list[Grid]:
    methods = results["methods"]
    grids = [
        _main_grid(methods),
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
    rows = [_main_row(name, result) for name, result in methods.items()]
    return Grid("Results by method", _MAIN_HEAD, *_split(rows), note="Times are per question, except that of training.")


def _main_row(name: str, result: MethodResult) -> Row:
    seconds = result["seconds_per_question"]
    return (
        name,
        str(result["n"]),
        _score(result["f1"]),
        "{:.3f}–{:.3f}".format(*result["f1_ci95"]),
        _score(result["em"]),
        _score(result["contains"]),
        format_seconds(seconds["retrieve"]),
        format_seconds(seconds["route"] + seconds["load_merge"]),
        format_seconds(seconds["generate"]),
        f"{result['prompt_tokens']:.0f}",
        format_bytes(result["bytes_per_passage"]),
        format_seconds(result["train_seconds"]),
    )


def _type_grids(methods: dict[str, MethodResult], figure: Literal["f1", "own_first"], title: str) -> list[Grid]:
    """A figure by question type, in as many grids as the terminal's width asks for."""
    by_type = {name: _by_type(result, figure) for name, result in methods.items()}
    heads = {
        kind: _type_head(kind, [found[kind]["n"] for found in by_type.values() if kind in found])
        for kind in sorted(
            {kind for found in by_type.values() for kind in found}, key=lambda kind: (kind != _ALL, kind)
        )
    }
    grids = []
    for group in _fitting(heads):
        rows = [
            (name, *(_score(found[kind][figure]) if kind in found else _NONE for kind in group))
            for name, found in by_type.items()
            if any(kind in found for kind in group)
        ]
        grids.append(Grid(title, ("method", *(heads[kind] for kind in group)), *_split(rows)))
    return grids


def _by_type(result: MethodResult, figure: Literal["f1", "own_first"]) -> dict[str, TypeResult]:
    """Results by type where they hold the figure; overall first where the main table does not show it."""
    found: dict[str, TypeResult] = dict(result.get("by_type", {}))
    if figure == "own_first":
        found = {_ALL: cast(TypeResult, result), **found}
    return {kind: own for kind, own in found.items() if figure in own}


def _type_head(kind: str, sizes: Sequence[int]) -> str:
    size = str(min(sizes)) if min(sizes) == max(sizes) else f"{min(sizes)}–{max(sizes)}"
    return f"{_printable(kind)}\n(n {size})"


def _fitting(heads: dict[str, str]) -> list[list[str]]:
    """The keys in groups whose columns fit beside the names of methods."""
    groups: list[list[str]] = []
    room = 0
    for key, head in heads.items():
        width = 1 + max(map(len, _fold(head).split("\n")))
        if width > room:
            groups.append([])
            room = _COLUMNS - _NAME_WIDTH
        groups[-1].append(key)
        room -= width
    return groups


def _difference_grid(differences: Iterable[Difference]) -> Grid:
    rows = tuple(
        (
            entry["a"],
            entry["b"],
            f"{entry['mean']:+.3f}",
            "{:+.3f} to {:+.3f}".format(*entry["ci95"]),
            "< 0.001" if entry["p"] < 0.001 else f"{entry['p']:.3f}",
        )
        for entry in differences
    )
    head = ("method a", "method b", "a − b", "95 % interval", "p")
    return Grid("Differences in F1 on the same questions (paired bootstrap)", head, rows, names=2)


def _split(rows: Iterable[Row]) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Rows of methods proper and rows of controls, each in the given order."""
    both = list(rows)
    return tuple(row for row in both if not is_control(row[0])), tuple(row for row in both if is_control(row[0]))


def grid_table(grid: Grid) -> Table:
    """A grid as a table for a terminal."""
    # Cells are Text, never markup: a name with square brackets is printed as it stands.
    table = Table(title=grid.title, caption=grid.note or None, box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for column, head in enumerate(grid.head):
        name = column < grid.names
        table.add_column(
            Text(_fold(head)), justify="left" if name else "right", no_wrap=not name, overflow="fold", vertical="bottom"
        )
    for row in grid.rows:
        table.add_row(*map(_cell, row))
    if grid.controls:
        if grid.rows:
            table.add_section()
        table.add_row(Text("controls", style="italic"))
        for row in grid.controls:
            table.add_row(*map(_cell, row))
    return table


def _cell(text: str) -> Text:
    return Text(_printable(text))


def grid_markdown(grid: Grid) -> str:
    """A grid in GitHub's Markdown, without a newline at its end."""
    head = [_escape(text.replace("\n", " ")) for text in grid.head]
    rule = [":--" if column < grid.names else "--:" for column in range(len(head))]
    rows = [_code_names(row, grid.names) for row in grid.rows]
    if grid.controls:
        rows.append(["*controls*", *[""] * (len(head) - 1)])
        rows += [_code_names(row, grid.names) for row in grid.controls]
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)]
    return "\n".join([f"**{grid.title}**", "", *lines, *(["", grid.note] if grid.note else [])])


def _code_names(row: Row, names: int) -> list[str]:
    return [*map(_code, row[:names]), *row[names:]]


def _code(name: str) -> str:
    """A name as a code span of a Markdown table."""
    return "`" + _printable(name).replace("`", "'").replace("|", "\\|") + "`"


def _escape(text: str) -> str:
    """A heading of a Markdown table, with nothing in it read as markup."""
    return re.sub(r"([\\`*\[\]<>|~])", r"\\\1", text)


def _printable(text: str) -> str:
    """The text without line breaks, terminal control sequences and the like."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _fold(head: str) -> str:
    """The head in lines of at most `_HEAD_WIDTH` characters, broken after underscores where there are any."""
    lines = []
    for text in _BROKEN.get(head, head).split("\n"):
        lines.append("")
        for piece in re.findall(rf"[^_]{{1,{_HEAD_WIDTH - 1}}}_|[^_]{{1,{_HEAD_WIDTH}}}|_", text):
            if len(lines[-1]) + len(piece) > _HEAD_WIDTH:
                lines.append("")
            lines[-1] += piece
    return "\n".join(lines)


def _score(value: float) -> str:
    return f"{value:.3f}"


def format_seconds(seconds: float) -> str:
    """A time in at most seven characters, such as 31 ms, 0.62 s, 1234 s or 2.8 h; a dash for none at all."""
    if seconds == 0:
        return _NONE
    if seconds < 0.0995:
        return "< 1 ms" if seconds < 0.0005 else f"{seconds * 1e3:.0f} ms"
    for limit, digits in ((9.995, 2), (99.95, 1), (9999.5, 0)):
        if seconds < limit:
            return f"{seconds:.{digits}f} s"
    return f"{seconds / 3600:.1f} h"


def format_bytes(size: float) -> str:
    """A size in three digits and decimal units, such as 820 B or 41.3 kB; a dash for none at all."""
    if size == 0:
        return _NONE
    units = ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1e3, units[1:]
    digits = 0 if units[0] == "B" or size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{size:.{digits}f} {units[0]}"
