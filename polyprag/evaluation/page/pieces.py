"""What sections of a page are made of: methods with their colours and marks, and tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from markupsafe import Markup, escape

from polyprag.config import MethodName
from polyprag.evaluation.page.drawing import MARKS
from polyprag.evaluation.report import is_control
from polyprag.markdown import printable

Content = Markup | str


class Family(StrEnum):
    """Methods of one colour."""

    PROMPT = "prompt"
    FORMAT = "format"
    PRAG = "prag"
    DYPRAG = "dyprag"
    POLY = "poly"
    CONTROL = "control"


FAMILIES: dict[Family, tuple[str, str]] = {
    Family.PROMPT: ("circle", "the base model as it is"),
    Family.FORMAT: ("wedge", "the base model, taught the form of answers"),
    Family.PRAG: ("square", "an adapter for each passage"),
    Family.DYPRAG: ("triangle", "an adapter translated from each passage"),
    Family.POLY: ("diamond", "a pool of experts for all passages"),
    Family.CONTROL: ("bar", "controls"),
}
"""Mark, and what it stands for."""


@dataclass(frozen=True)
class Cell:
    """A coloured cell of a table.

    Attributes:
        content: what it shows.
        level: how strong its colour is, from 0 to 1.
        sign: `plus` or `minus` for differences, `level` for amounts.
    """

    content: Content
    level: float
    sign: str = "level"


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        label: what it shows, for those who cannot see it.
        head: one text a column.
        rows: cells, as many as there are columns; the first names the row.
        controls: rows of a section of their own.
        names: leading columns that are set to the left; the others hold numbers.
    """

    label: str
    head: tuple[Content, ...]
    rows: tuple[tuple[Content | Cell, ...], ...]
    controls: tuple[tuple[Content | Cell, ...], ...] = ()
    names: int = 1


def family_of(method: str) -> Family:
    """The family of a method."""
    if is_control(method):
        return Family.CONTROL
    for start, family in (("poly_prag", Family.POLY), ("dyprag", Family.DYPRAG), ("prag", Family.PRAG)):
        if method.startswith(start):
            return family
    return Family.FORMAT if method.endswith("_format") else Family.PROMPT


def is_open(method: str) -> bool:
    """Whether a method reads passages in its prompt, which open marks and pale bars show."""
    in_context = family_of(method) in (Family.PROMPT, Family.FORMAT)
    return method.endswith("_combine") or (in_context and method != MethodName.VANILLA)


def kind_of(method: str) -> str:
    """The style of a method's marks and bars."""
    return f"{family_of(method)} open" if is_open(method) else str(family_of(method))


def key_mark(family: Family, is_open: bool = False) -> Markup:
    """A family's mark for a legend or a line of text."""
    kind = f"mark {family} open" if is_open else f"mark {family}"
    return Markup(
        '<svg class="key" width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true">'
        '<path class="{}" d="{}"/></svg>'
    ).format(kind, MARKS[FAMILIES[family][0]])


def method_name(method: str) -> Markup:
    """A method's mark and name, which may break behind underscores."""
    broken = Markup("_<wbr>").join(map(escape, printable(method).split("_")))
    mark = key_mark(family_of(method), is_open(method))
    return Markup('<span class="method">{}<span class="name">{}</span></span>').format(mark, broken)


def legend(methods: Iterable[str]) -> list[tuple[Markup, str]]:
    """Mark and meaning of the families of some methods, and of open marks where there are any."""
    known = list(methods)
    families = [family for family in FAMILIES if any(family_of(method) is family for method in known)]
    entries = [(key_mark(family), FAMILIES[family][1]) for family in families]
    opened = next((family_of(method) for method in known if is_open(method)), None)
    return entries + ([(key_mark(opened, True), "open: reads passages in the prompt, too")] if opened else [])


def in_order(methods: Iterable[str]) -> list[str]:
    """Methods in the order of the configuration's choices, unknown ones last."""
    order = {name.value: position for position, name in enumerate(MethodName)}
    return sorted(methods, key=lambda name: order.get(name, len(order)))


def table(
    label: str, head: Iterable[Content], rows: Iterable[tuple[str, tuple[Content | Cell, ...]]], names: int = 1
) -> Table:
    """A table of methods with controls in a section of their own.

    Args:
        label: see `Table`.
        head: of all columns, that of the methods included.
        rows: a method, and the cells beside its name.
        names: see `Table`.
    """
    both = list(rows)
    proper, controls = (
        tuple((method_name(name), *cells) for name, cells in both if is_control(name) is wanted)
        for wanted in (False, True)
    )
    return Table(label, tuple(head), proper, controls, names)
