"""What results rest on: numbers of passages and questions, recall, copies, and what was left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from polyprag.evaluation.page.numbers import Source, Step, count, score, words
from polyprag.evaluation.page.pieces import Content, Table

_CARD: tuple[tuple[str, tuple[Step, ...]], ...] = (
    ("training pairs", ("pairs",)),
    ("duplicates collapsed", ("duplicates",)),
    ("near duplicates", ("near_duplicates", "found")),
    ("test questions with known gold passages", ("with_gold",)),
    ("training questions compared with the test", ("overlap", "training")),
    ("exact copies of test questions among them", ("overlap", "exact")),
    ("near copies among them", ("overlap", "near")),
)
_SPREAD = ("n", "of", "min", "median", "p95", "max")


@dataclass(frozen=True)
class DataSection:
    """The data card on the page.

    Attributes:
        facts: numbers by name.
        types: numbers of test questions by type.
        recall: of the retriever; None where it is not known.
        lengths: in tokens; None where they were not measured.
        sources: the files that the data come from.
        warnings: what a reader should know.
    """

    facts: tuple[tuple[Content, Content], ...]
    types: tuple[tuple[Markup, Markup], ...]
    recall: Table | None
    lengths: Table | None
    sources: tuple[tuple[Markup, Markup, Markup], ...]
    warnings: tuple[Markup, ...]


def data_section(results: Source, card: Source) -> DataSection:
    """What the results and the data card of an evaluation say of its data.

    Args:
        results: of the evaluation.
        card: its data_card.json; empty for evaluations of versions without one.
    """
    kinds = [kind for kind in results.get("data", "types") or {} if kind]
    return DataSection(
        facts=tuple(_facts(results)),
        types=tuple((words(kind), results.number(count, "data", "types", kind)) for kind in kinds),
        recall=_recall(results),
        lengths=_lengths(card),
        sources=tuple(
            (words(entry["key"]), words(entry["path"]), words(entry["sha256"])) for entry in card.get("sources") or ()
        ),
        warnings=tuple(map(words, results.get("data", "card", "warnings") or ())),
    )


def _facts(results: Source) -> Iterator[tuple[Content, Content]]:
    for name in ("passages", "questions", "validation"):
        if results.get("data", name) is not None:
            label = {"questions": "test questions", "validation": "validation questions"}.get(name, name)
            yield label, results.number(count, "data", name)
    for label, path in _CARD:
        if results.get("data", "card", *path) is not None:
            yield label, results.number(count, "data", "card", *path)
    for kind, reasons in (results.get("data", "card", "left_out") or {}).items():
        for reason in reasons:
            label = Markup("{} left out: {}").format(words(kind), words(reason))
            yield label, results.number(count, "data", "card", "left_out", kind, reason)


def _recall(results: Source) -> Table | None:
    found = results.get("data", "recall", "at")
    if not found:
        return None
    cells = tuple(results.number(score, "data", "recall", "at", k) for k in found)
    return Table("Recall of the retriever", ("passages", *map(words, found)), (("recall", *cells),))


def _lengths(card: Source) -> Table | None:
    found = card.get("tokens")
    if not found:
        return None
    head = ("tokens of", "measured", "of", "smallest", "median", "95 % up to", "largest")
    rows = tuple((words(name), *(card.number(count, "tokens", name, key) for key in _SPREAD)) for name in found)
    return Table("Lengths in tokens", head, rows)
