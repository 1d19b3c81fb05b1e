"""Numbers on a page: each carries its full value, and says where it was read.

In HTML a number is `<data value="0.5123" data-path="methods.prag.f1">0.512</data>`; in a figure the element of its text
has `data-value` instead of `value`. `data-source` names the file that the path leads into, unless it is the page's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from polyprag.evaluation.grids import NONE, format_bytes, format_p, format_score, format_seconds
from polyprag.markdown import printable

Format = Callable[[float], str]
Step = str | int

score: Format = format_score
seconds: Format = format_seconds
size: Format = format_bytes
p_value: Format = format_p


def count(value: float) -> str:
    """A whole number."""
    return f"{value:,.0f}"


def mean(value: float) -> str:
    """A mean of counts."""
    return f"{value:,.1f}"


def share(value: float) -> str:
    """A share of the whole, in percent."""
    return f"{value * 100:.0f} %"


def signed(value: float) -> str:
    """A difference of scores."""
    return f"{value:+.3f}".replace("-", "−")


def effect(value: float) -> str:
    """An effect size."""
    return f"{value:+.2f}".replace("-", "−")


class Source:
    """A JSON value whose numbers a page shows.

    Args:
        content: the value, such as all of results.json.
        name: the file that it is, or was computed from; empty for the page's own.
    """

    def __init__(self, content: Any, name: str = "") -> None:
        self.content, self.name = content, name

    def get(self, *path: Step) -> Any:
        """The value at the end of a path; None where the path ends before."""
        value = self.content
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def number(self, text: Format, *path: Step, opposite: bool = False) -> Markup:
        """The number at the end of a path; a dash where there is none.

        Args:
            text: how it is written.
            path: keys and positions.
            opposite: show it with the other sign.
        """
        value = self.get(*path)
        if value is None:
            return Markup(NONE)
        shown = 0.0 - value if opposite else value  # 0.0 - 0.0 has no sign
        return Markup('<data value="{}"{}>{}</data>').format(repr(shown), self._place(path, opposite), text(shown))

    def interval(self, text: Format, *path: Step, opposite: bool = False, between: str = "–") -> Markup:
        """Both ends of an interval; a dash where there is none."""
        if self.get(*path) is None:
            return Markup(NONE)
        order = (1, 0) if opposite else (0, 1)
        low, high = (self.number(text, *path, end, opposite=opposite) for end in order)
        return Markup('<span class="interval">{}{}{}</span>').format(low, between, high)

    def attributes(self, *path: Step) -> Markup:
        """What the text of a number in a figure carries."""
        return Markup(' data-value="{}"{}').format(repr(self.get(*path)), self._place(path, False))

    def _place(self, path: tuple[Step, ...], opposite: bool) -> Markup:
        source = Markup(' data-source="{}"').format(self.name) if self.name else ""
        sign = Markup(" data-opposite") if opposite else ""
        return Markup(' data-path="{}"{}{}').format(dotted(*path), source, sign)


def dotted(*path: Step) -> str:
    """A path as one text: its steps with dots between them.

    Within a step a dot or backslash stands behind a backslash, and what cannot be printed is written `\\u{hex}`.
    """
    return ".".join("".join(map(_escaped, str(step))) for step in path)


def _escaped(character: str) -> str:
    if character in ".\\":
        return f"\\{character}"
    return character if character.isprintable() else f"\\u{{{ord(character):x}}}"


def words(text: str) -> Markup:
    """Text of users or models, all of it shown and none of it read as markup."""
    return Markup('<span class="text">{}</span>').format(printable(text))
