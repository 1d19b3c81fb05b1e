"""Text of users and tables in LaTeX, with nothing in them read as commands; tables want the package booktabs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from polyprag.markdown import printable

_SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
    "−": "$-$",
    "×": r"$\times$",
    "�": "?",
}
_NEGATIVE = re.compile(r"(?<![\w.-])-(?=\d)")
PREAMBLE = r"% \usepackage[T1]{fontenc} \usepackage{booktabs}"


def latex_text(text: str) -> str:
    """The text on one line, as it would be read without commands."""
    return "".join(_SIGNS.get(character, character) for character in printable(text))


def latex_name(name: str) -> str:
    """A name in typewriter letters."""
    return rf"\texttt{{{latex_text(name)}}}"


def latex_number(text: str) -> str:
    """A cell of figures, with minus signs instead of hyphens before numbers."""
    return _NEGATIVE.sub("$-$", latex_text(text))


def latex_table(
    title: str, head: Sequence[str], sections: Mapping[str, Sequence[Sequence[str]]], names: int, note: str = ""
) -> str:
    """A floating table with the rules of booktabs, without a newline at its end.

    Args:
        title: becomes the caption, with the note behind it.
        head: one text a column.
        sections: rows of cells, as plain text, by what stands above them, which may be empty; a rule stands between two
            sections. Those without rows are left out.
        names: leading columns that hold names, set to the left; the others hold numbers.
        note: explains the table; may be empty.
    """
    bodies = [_section(section, rows, names) for section, rows in sections.items() if rows]
    caption = f"{title}. {note}" if note else f"{title}."
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering\small",
            rf"\caption{{{latex_text(caption)}}}",
            rf"\begin{{tabular}}{{{'l' * names}{'r' * (len(head) - names)}}}",
            r"\toprule",
            f"{' & '.join(map(latex_text, head))} \\\\",
            r"\midrule",
            "\n\\midrule\n".join(bodies),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _section(title: str, rows: Sequence[Sequence[str]], names: int) -> str:
    above = [rf"\emph{{{latex_text(title)}}}{' &' * (len(rows[0]) - 1)} \\"] if title else []
    return "\n".join([*above, *(_row(row, names) for row in rows)])


def _row(cells: Sequence[str], names: int) -> str:
    return " & ".join([*map(latex_name, cells[:names]), *map(latex_number, cells[names:])]) + r" \\"
