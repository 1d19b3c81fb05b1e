"""Text of users in GitHub's Markdown, and on terminals, with nothing in it read as markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MARKUP = re.compile(r"([\\`*\[\]<>|~]|(?<!\w)_|_(?!\w))")


def escape(text: str) -> str:
    """The text on one line, as it would be read without markup; also for cells of tables."""
    return _MARKUP.sub(r"\\\1", printable(text))


def code(name: str) -> str:
    """A name as a code span, also in a cell of a table."""
    return "`" + printable(name).replace("`", "'").replace("|", "\\|") + "`"


def printable(text: str) -> str:
    """The text without line breaks, terminal control sequences and the like."""
    return "".join(character if character.isprintable() else "�" for character in text)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], names: int = 1) -> str:
    """A table, without a newline at its end.

    Args:
        head: one text a column.
        rows: cells, as many as there are columns, as Markdown.
        names: leading columns that are set to the left; the others hold numbers.
    """
    rule = [":--" if column < names else "--:" for column in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))
