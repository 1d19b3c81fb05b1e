"""What an evaluation has found and what it cost: the headline, the tables of methods, the figures of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from polyprag.config import MethodName
from polyprag.evaluation.grids import NONE
from polyprag.evaluation.page.charts import Scored, scored
from polyprag.evaluation.page.numbers import (
    Format,
    Source,
    Step,
    count,
    mean,
    p_value,
    score,
    seconds,
    share,
    size,
    words,
)
from polyprag.evaluation.page.pieces import Cell, Content, Family, Table, family_of, in_order, method_name, table
from polyprag.evaluation.page.provenance import value_text

NAMED_FIRST = (MethodName.POLY_PRAG_QUERY, MethodName.POLY_PRAG_HYBRID, MethodName.POLY_PRAG)
RIVALS = (MethodName.PRAG, MethodName.STANDARD_RAG, MethodName.VANILLA)
ROLES = {
    MethodName.POLY_PRAG_QUERY: "gates chosen from the question alone, nothing retrieved, loaded or merged",
    MethodName.POLY_PRAG_HYBRID: "gates chosen by question and retrieval",
    MethodName.POLY_PRAG: "gates of the retrieved passages",
    MethodName.PRAG: "adapters of the retrieved passages, loaded and merged",
    MethodName.STANDARD_RAG: "retrieved passages in the prompt",
    MethodName.VANILLA: "the base model from its own memory",
}
SETTINGS = {
    Family.POLY: (
        *("experts.count", "experts.rank", "routing.top_k", "routing.granularity", "base.quantisation"),
        "warm_up.pool",
    ),
    Family.PRAG: ("prag.rank", "prag.learning_rate", "prag.epochs", "prag.recipe", "warm_up.prag"),
}
"""Keys that say what a family of methods is, for the headline."""


@dataclass(frozen=True)
class Card:
    """A method in the headline.

    Attributes:
        name: the method.
        role: what it does.
        facts: what it has reached and what it costs, by name.
        settings: keys and values that make it what it is.
        f1: its F1.
        interval: 95 % interval of that.
    """

    name: Content
    role: str
    f1: Content
    interval: Content
    facts: tuple[tuple[str, Content], ...]
    settings: tuple[str, ...]


def headline(results: Source) -> list[Card]:
    """The method that the project is about, beside those that it has to beat; the best one where it was not run."""
    methods = proper(results)
    if not methods:
        return []
    best = max(methods, key=lambda name: float(results.get("methods", name, "f1")))
    first = next((name.value for name in NAMED_FIRST if name in methods), best)
    shown = dict.fromkeys((first, *(name for name in RIVALS if name in methods)))
    return [_card(results, name, first) for name in shown]


def proper(results: Source) -> list[str]:
    """The methods that are no controls, in the order of the configuration's choices."""
    return [name for name in in_order(results.get("methods")) if family_of(name) is not Family.CONTROL]


def _card(results: Source, name: str, first: str) -> Card:
    path = ("methods", name)
    facts: list[tuple[str, Content]] = [
        ("exact match", results.number(score, *path, "em")),
        ("time per question", results.number(seconds, *path, "seconds_per_question", "total")),
        ("bytes per passage", results.number(size, *path, "bytes_per_passage")),
    ]
    at = _difference_of(results, name, first)
    if at is not None:
        adjusted = "p_holm" if results.get("differences", at, "p_holm") is not None else "p"
        label = "p Holm of the difference" if adjusted == "p_holm" else "p of the difference"
        facts.append((label, results.number(p_value, "differences", at, adjusted)))
    config = results.get("run", "config") or {}
    keys = [key for key in SETTINGS.get(family_of(name), ()) if key in config]
    return Card(
        name=method_name(name),
        role=ROLES.get(MethodName(name), "") if name in ROLES else "",
        f1=results.number(score, *path, "f1"),
        interval=results.interval(score, *path, "f1_ci95"),
        facts=tuple(facts),
        settings=tuple(f"{key}={value_text(config[key])}" for key in keys),
    )


def _difference_of(results: Source, a: str, b: str) -> int | None:
    """The position of two methods' difference, whichever comes first in it."""
    pairs = [{entry["a"], entry["b"]} for entry in results.get("differences")]
    return pairs.index({a, b}) if a != b and {a, b} in pairs else None


@dataclass(frozen=True)
class _Column:
    """A column of a table of methods.

    Attributes:
        head: above it.
        path: where its numbers lie in a method's result.
        text: how they are written.
        unless_zero: leave the column out where it holds zeros only.
        before: where results of earlier versions have these numbers.
    """

    head: str
    path: tuple[Step, ...]
    text: Format
    unless_zero: bool = False
    before: tuple[Step, ...] = ()


BREAK_EVEN: tuple[tuple[Step, ...], ...] = (("break_even",), ("break_even_prag",))
MAIN = (
    _Column("n", ("n",), count),
    _Column("F1", ("f1",), score),
    _Column("95 % interval", ("f1_ci95",), score),
    _Column("EM", ("em",), score),
    _Column("contains", ("contains",), score),
    _Column("PRAG’s F1", ("prag_f1",), score),
    _Column("macro F1", ("macro_f1",), score),
    _Column("judge", ("judge",), score),
    _Column("95 % interval", ("judge_ci95",), score),
    _Column("judge as EM", ("judge_agreement",), share),
    _Column("gold first", ("own_first",), score),
    _Column("abstained", ("abstained",), share, unless_zero=True),
    _Column("time/question", ("seconds_per_question", "total"), seconds),
    _Column("bytes/passage", ("bytes_per_passage",), size),
)
COST = (
    *(_Column(step.replace("_", "/"), ("seconds_per_question", step), seconds) for step in ("retrieve", "route")),
    *(_Column(step.replace("_", "/"), ("seconds_per_question", step), seconds) for step in ("load_merge", "generate")),
    _Column("total", ("seconds_per_question", "total"), seconds),
    _Column("to first token", ("seconds_to_first_token",), seconds),
    _Column("tokens in", ("tokens_in",), mean, before=("prompt_tokens",)),
    _Column("tokens out", ("tokens_out",), mean, before=("generated_tokens",)),
    _Column("answer tokens", ("new_tokens",), mean),
    _Column("retrievals", ("retrievals",), mean),
    _Column("peak memory", ("peak_memory_bytes",), size),
    _Column("bytes/passage", ("bytes_per_passage",), size),
    _Column("offline/passage", ("offline_seconds_per_passage",), seconds),
    _Column("training", ("train_seconds",), seconds),
    _Column("break-even, RAG", BREAK_EVEN[0], mean),
    _Column("break-even, PRAG", BREAK_EVEN[1], mean),
)


def main_table(results: Source) -> Table:
    """What every method has reached, in short."""
    return _table("Results by method", results, MAIN)


def judges(results: Source) -> list[Markup]:
    """Who judged answers, and by which prompt."""
    found = (results.get("methods", name, "judge_by") for name in results.get("methods"))
    return [words(by) for by in dict.fromkeys(found) if by]


def cost_table(results: Source) -> Table:
    """What every method costs, as far as it was measured."""
    return _table("Costs by method", results, COST)


def _table(label: str, results: Source, columns: Sequence[_Column]) -> Table:
    """The columns that any method has."""
    names = in_order(results.get("methods"))
    known = [column for column in columns if any(_path(results, name, column) for name in names)]
    rows = [(name, tuple(_cell(results, name, column) for column in known)) for name in names]
    return table(label, ("method", *(column.head for column in known)), rows)


def _path(results: Source, name: str, column: _Column) -> tuple[Step, ...]:
    """Where a method has the column's number, or none for a reason; empty where the results do not tell."""
    for path in filter(None, (column.path, column.before)):
        parent = results.get("methods", name, *path[:-1]) or {}
        if path[-1] in parent and not (column.unless_zero and not parent[path[-1]]):
            return ("methods", name, *path)
    return ()


def _cell(results: Source, name: str, column: _Column) -> Content:
    path = _path(results, name, column)
    if not path:
        return NONE
    value = results.get(*path)
    if isinstance(value, list):
        return results.interval(column.text, *path)
    if value is None and column.path in BREAK_EVEN:
        return "never"
    return results.number(column.text, *path)


def points(results: Source, *cost: Step) -> list[Scored]:
    """F1 of all methods for a figure, with a cost."""
    return [scored(results, name, ("methods", name), cost) for name in in_order(results.get("methods"))]


def type_table(results: Source) -> Table | None:
    """F1 of methods by question type as a heat map; None where questions have no types."""
    methods = in_order(results.get("methods"))
    typed = [name for name in methods if results.get("methods", name, "by_type")]
    if not typed:
        return None
    kinds = sorted({kind for name in typed for kind in results.get("methods", name, "by_type")})
    best = max(results.get("methods", name, "by_type", kind, "f1") or 0.0 for name in typed for kind in kinds) or 1.0
    heads: list[Content] = ["method", "all", *(_type_head(results, typed, kind) for kind in kinds)]
    paths = [("f1",), *(("by_type", kind, "f1") for kind in kinds)]
    rows = [(name, tuple(_heat(results, ("methods", name, *path), best) for path in paths)) for name in typed]
    return table("F1 by question type", heads, rows)


def _type_head(results: Source, methods: Sequence[str], kind: str) -> Markup:
    """A type and how many questions it has."""
    first = next(name for name in methods if kind in results.get("methods", name, "by_type"))
    number = results.number(count, "methods", first, "by_type", kind, "n")
    return Markup("{}<br><small>n {}</small>").format(words(kind), number)


def _heat(results: Source, path: tuple[Step, ...], best: float) -> Cell:
    value = results.get(*path)
    return Cell(NONE if value is None else results.number(score, *path), (value or 0.0) / best)
