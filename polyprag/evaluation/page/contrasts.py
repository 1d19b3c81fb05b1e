"""Differences between methods: what the controls show, every pair at a glance, and every pair in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from polyprag.evaluation.grids import NONE
from polyprag.evaluation.page.charts import reach
from polyprag.evaluation.page.numbers import Source, Step, effect, p_value, share, signed
from polyprag.evaluation.page.pieces import Cell, Content, Table, in_order, method_name

SURE = 0.05
LEAST_LIMIT = 0.1
_POLY = "poly_prag"
LESSONS: tuple[tuple[str, str, str], ...] = (
    (f"{_POLY}_oracle", _POLY, "what retrieval errors cost"),
    (f"{_POLY}_oracle", f"{_POLY}_query", "what errors of the query router cost"),
    (f"{_POLY}_oracle", f"{_POLY}_uniform", "what routing contributes: uniform gates keep what experts have in common"),
    (f"{_POLY}_oracle", f"{_POLY}_average", "what routing adds to the mean gates of all passages"),
    (f"{_POLY}_oracle", f"{_POLY}_shuffled", "whether gates carry the knowledge of their own passage"),
    (f"{_POLY}_oracle", f"{_POLY}_random", "the same, with the experts of each group interchanged"),
    (f"{_POLY}_shuffled", "format_lora", "what another passage’s gates keep beyond the form of answers"),
    (f"{_POLY}_average", "format_lora", "what mean gates keep beyond the form of answers"),
    ("format_lora", "vanilla", "what the form of answers alone is worth"),
    ("standard_rag_format", "standard_rag", "what the form of answers is worth beside retrieved passages"),
    (_POLY, "standard_rag_format", "knowledge in weights against passages in the prompt, where both know the form"),
    (f"{_POLY}_oracle", "global_lora", "what routing adds to as many weights trained on the same sequences"),
)
"""Pairs of methods, and what the first less the second tells; each also where both read the passages."""


@dataclass(frozen=True)
class _Entry:
    """A paired difference: where it lies, and whether it is shown the other way round."""

    a: str
    b: str
    path: tuple[Step, ...]
    opposite: bool = False


def control_table(results: Source) -> Table | None:
    """What each control that was run says; None where none was compared."""
    entries = _entries(results)
    rows: list[tuple[Content | Cell, ...]] = []
    limit = _limit(results, list(entries.values()))
    for a, b, lesson in _lessons():
        entry = entries.get((a, b)) or _turned(entries.get((b, a)))
        if entry:
            pair = Markup("{} − {}").format(method_name(a), method_name(b))
            name = Markup("{}<br><small>{}</small>").format(pair, lesson)
            rows.append((name, *_cells(results, entry, limit)[:_SHORT]))
    head = ("difference", *_head(results)[:_SHORT])
    return Table("What the controls show", head, tuple(rows)) if rows else None


def matrix(results: Source) -> Table | None:
    """F1 of each row's method minus that of each column's; faint where it may be chance. None for a single method."""
    entries = _entries(results)
    both = entries | {(b, a): _Entry(b, a, entry.path, opposite=True) for (a, b), entry in entries.items()}
    names = in_order(dict.fromkeys(name for pair in both for name in pair))
    if not names:
        return None
    largest = max(abs(results.get(*entry.path, "mean")) for entry in entries.values()) or 1.0
    rows: list[tuple[Content | Cell, ...]] = []
    for a in names:
        cells = [_matrix_cell(results, both.get((a, b)), largest) for b in names]
        rows.append((method_name(a), *cells))
    return Table("Differences in F1", ("row − column", *map(method_name, names)), tuple(rows))


def difference_table(results: Source, path: tuple[Step, ...] = ("differences",)) -> Table | None:
    """Every difference with its interval, p, effect size and shares; None where there is none.

    Args:
        results: of the numbers.
        path: of the list of differences.
    """
    entries = list(_entries(results, path).values())
    limit = _limit(results, entries)
    rows = tuple((method_name(entry.a), method_name(entry.b), *_cells(results, entry, limit)) for entry in entries)
    return Table("Differences in F1", ("a", "b", *_head(results, path)), rows, names=2) if rows else None


def contrast_table(results: Source, path: tuple[Step, ...], positions: Sequence[int]) -> Table:
    """Differences of the same methods between two runs.

    Args:
        results: of the numbers.
        path: of the list of differences.
        positions: those of the list that are shown.
    """
    entries = [_Entry(results.get(*path, at, "method"), "", (*path, at)) for at in positions]
    limit = _limit(results, entries)
    rows = tuple((method_name(entry.a), *_cells(results, entry, limit)) for entry in entries)
    return Table("Differences in F1 between runs", ("method", *_head(results, path)), rows)


_SHORT = 4
"""Columns of a difference that controls are shown with."""


def _head(results: Source, path: tuple[Step, ...] = ("differences",)) -> tuple[str, ...]:
    """The columns of a difference."""
    adjusted = any("p_holm" in entry for entry in results.get(*path) or ())
    return ("a − b", "95 % interval", "", "p Holm" if adjusted else "p", "d_z", "won", "tied", "lost")


def _cells(results: Source, entry: _Entry, limit: float) -> tuple[Content, ...]:
    """A difference in the columns of `_head`."""
    path, opposite = entry.path, entry.opposite
    low, high = results.get(*path, "ci95")
    middle = results.get(*path, "mean")
    if opposite:
        low, middle, high = -high, -middle, -low
    wins = ("lost", "tied", "won") if opposite else ("won", "tied", "lost")
    return (
        results.number(signed, *path, "mean", opposite=opposite),
        results.interval(signed, *path, "ci95", opposite=opposite, between=" to "),
        reach(low, middle, high, limit, f"{entry.a} {entry.b}").__html__(),
        results.number(p_value, *path, _p(results, path)),
        results.number(effect, *path, "d_z", opposite=opposite),
        *(results.number(share, *path, key) for key in wins),
    )


def _matrix_cell(results: Source, entry: _Entry | None, largest: float) -> Cell:
    if entry is None:
        return Cell(NONE, 0.0)
    value = results.get(*entry.path, "mean") * (-1 if entry.opposite else 1)
    content = results.number(signed, *entry.path, "mean", opposite=entry.opposite)
    if results.get(*entry.path, _p(results, entry.path)) > SURE:
        return Cell(Markup('<span class="faint">{}</span>').format(content), 0.0)
    return Cell(Markup("<b>{}</b>").format(content), abs(value) / largest, "plus" if value > 0 else "minus")


def _p(results: Source, path: tuple[Step, ...]) -> str:
    """The adjusted p; that of the single difference in results of earlier versions."""
    return "p" if results.get(*path, "p_holm") is None else "p_holm"


def _limit(results: Source, entries: Sequence[_Entry]) -> float:
    """How far from zero the intervals of a table reach."""
    ends: list[float] = [abs(end) for entry in entries for end in results.get(*entry.path, "ci95")]
    return max([LEAST_LIMIT, *ends])


def _entries(results: Source, path: tuple[Step, ...] = ("differences",)) -> dict[tuple[str, str], _Entry]:
    return {
        (entry["a"], entry["b"]): _Entry(entry["a"], entry["b"], (*path, at))
        for at, entry in enumerate(results.get(*path) or [])
    }


def _turned(entry: _Entry | None) -> _Entry | None:
    return None if entry is None else _Entry(entry.b, entry.a, entry.path, opposite=True)


def _lessons() -> Iterator[tuple[str, str, str]]:
    for a, b, lesson in LESSONS:
        yield a, b, lesson
        if a.startswith(_POLY) and b.startswith(_POLY):
            yield f"{a}_combine", f"{b}_combine", f"{lesson}, with the passages in the prompt"
