"""Tables before they are drawn, and their drawings for the terminal, in Markdown, LaTeX and CSV; figures as text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from polyprag.latex import PREAMBLE, latex_table
from polyprag.markdown import code, escape, markdown_table, printable

NONE = "–"
_COLUMNS = 100
_NAME_WIDTH = 26
_HEAD_WIDTH = 13

# On the terminal these break where a reader would break them.
_BROKEN = {
    "contains": "con-\ntains",
    "retrieve": "re-\ntrieve",
    "retrievals": "re-\ntri-\nevals",
    "route/load": "route/\nload",
    "generate": "gene-\nrate",
    "bytes/passage": "bytes/\npassage",
    "offline/passage": "offline/\npassage",
    "break-even\nRAG": "break-\neven\nRAG",
    "break-even\nPRAG": "break-\neven\nPRAG",
    "training": "train-\ning",
    "seconds/question": "seconds/\nquestion",
    "2Wiki comparison": "2Wiki\ncompa-\nrison",
    "2Wiki bridge_comparison": "2Wiki\nbridge_\ncompa-\nrison",
    "2Wiki inference": "2Wiki\ninfe-\nrence",
    "2Wiki compositional": "2Wiki\ncompo-\nsitional",
    "HotpotQA bridge": "Hotpot-\nQA\nbridge",
    "HotpotQA comparison": "Hotpot-\nQA\ncompa-\nrison",
}

Row = tuple[str, ...]
Key = TypeVar("Key", bound=Hashable)


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


def print_tables(tables: Iterable[Table], console: Console) -> None:
    """Print tables, an empty line after each.

    On a narrower console, or in a pipe, which counts as 80 columns, lines run on rather than lose figures.
    """
    room = console.options.update(max_width=max(console.width, _COLUMNS))
    for table in tables:
        table.width = Measurement.get(console, room, table).maximum
        console.print(table, crop=False)
        console.print()


def grid_table(grid: Grid) -> Table:
    """A grid as a table for a terminal."""
    # Cells are Text, never markup: a name with square brackets is printed as it stands.
    table = Table(
        title=Text(printable(grid.title), style="table.title"),
        caption=Text(printable(grid.note), style="table.caption") if grid.note else None,
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )
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
    return Text(printable(text))


def grid_markdown(grid: Grid) -> str:
    """A grid in GitHub's Markdown, without a newline at its end."""
    head = [escape(text.replace("\n", " ")) for text in grid.head]
    rows = [_code_names(row, grid.names) for row in grid.rows]
    if grid.controls:
        rows.append(["*controls*", *[""] * (len(head) - 1)])
        rows += [_code_names(row, grid.names) for row in grid.controls]
    note = ["", escape(grid.note)] if grid.note else []
    return "\n".join([f"**{escape(grid.title)}**", "", markdown_table(head, rows, grid.names), *note])


def grid_latex(grid: Grid) -> str:
    """A grid as a table of LaTeX with the rules of booktabs, without a newline at its end."""
    head = [text.replace("\n", " ") for text in grid.head]
    return latex_table(grid.title, head, {"": grid.rows, "controls": grid.controls}, grid.names, grid.note)


def grids_latex(grids: Iterable[Grid]) -> str:
    """Grids as a LaTeX file to be read by `\\input`, ending in a newline."""
    return "\n\n".join([PREAMBLE, *map(grid_latex, grids)]) + "\n"


def _code_names(row: Row, names: int) -> list[str]:
    return [*map(code, row[:names]), *row[names:]]


def _fold(head: str) -> str:
    """The head in lines of at most `_HEAD_WIDTH` characters, broken after `_`, `/` and `-` where there are any."""
    lines = []
    for text in _BROKEN.get(head, head).split("\n"):
        lines.append("")
        for piece in re.findall(rf"[^_/-]{{1,{_HEAD_WIDTH - 1}}}[_/-]|[^_/-]{{1,{_HEAD_WIDTH}}}|[_/-]", text):
            if len(lines[-1]) + len(piece) > _HEAD_WIDTH:
                lines.append("")
            lines[-1] += piece
    return "\n".join(lines)


def csv_text(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows as comma-separated values, ending in a newline; numbers are unrounded, None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def fitting(heads: Mapping[Key, str], least: int = 0) -> list[list[Key]]:
    """The keys in groups whose columns fit beside the names of methods.

    Args:
        heads: for each key the head of its column.
        least: characters that a column's cells take.
    """
    groups: list[list[Key]] = []
    room = 0
    for key, head in heads.items():
        width = 1 + max(least, *map(len, _fold(head).split("\n")))
        if width > room:
            groups.append([])
            room = _COLUMNS - _NAME_WIDTH
        groups[-1].append(key)
        room -= width
    return groups


def format_score(value: float) -> str:
    """A score from 0 to 1."""
    return f"{value:.3f}"


def format_interval(ends: Sequence[float]) -> str:
    """The ends of an interval of scores."""
    return "{:.3f}–{:.3f}".format(*ends)


def format_p(p: float) -> str:
    """A p-value."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def format_seconds(seconds: float) -> str:
    """A time in at most seven characters, such as 31 ms, 0.62 s, 1234 s or 2.8 h; a dash for none at all."""
    if seconds == 0:
        return NONE
    if seconds < 0.0995:
        return "< 1 ms" if seconds < 0.0005 else f"{seconds * 1e3:.0f} ms"
    for limit, digits in ((9.995, 2), (99.95, 1), (9999.5, 0)):
        if seconds < limit:
            return f"{seconds:.{digits}f} s"
    return f"{seconds / 3600:.1f} h"


def format_bytes(size: float) -> str:
    """A size in three digits and decimal units, such as 820 B or 41.3 kB; a dash for none at all."""
    if size == 0:
        return NONE
    units = ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1e3, units[1:]
    digits = 0 if units[0] == "B" or size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{size:.{digits}f} {units[0]}"
