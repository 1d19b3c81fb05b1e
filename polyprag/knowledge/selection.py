"""Which questions are scored, which are set apart for choices, and what is left out, all by seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from polyprag.errors import ConfigError
from polyprag.knowledge.records import Question


@dataclass(frozen=True)
class KnowledgeCounts:
    """What was loaded and what was left out, for logs.

    Attributes:
        passages: distinct passages kept.
        duplicates: passages with the content of an earlier one.
        test: scored questions by type.
        validation: questions set apart, by type.
        dropped: questions left out, by reason.
    """

    passages: int
    duplicates: int = 0
    test: dict[str, int] = field(default_factory=dict)
    validation: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{self.passages} passages ({self.duplicates} duplicates collapsed)"]
        for name, counts in (("test", self.test), ("validation", self.validation), ("dropped", self.dropped)):
            details = ", ".join(f"{key or 'untyped'} {count}" for key, count in counts.items())
            parts.append(f"{sum(counts.values())} {name} questions" + (f" ({details})" if details else ""))
        return "; ".join(parts)


def count_types(questions: Iterable[Question]) -> dict[str, int]:
    """Number of questions by type, in the order of the type names."""
    return dict(sorted(Counter(question.type for question in questions).items()))


def stratified_sample(questions: Sequence[Question], n: int, seed: int) -> list[Question]:
    """Draw questions so that each type keeps its share, at least one of each where n allows it.

    Draws with one seed are nested within a type: a larger n only adds questions of a type, unless its share shrinks.

    Args:
        questions: to draw from; their order does matter to which are drawn.
        n: how many; all of them are returned if there are no more than n.
        seed: of the draw.

    Returns:
        The drawn questions in their original order.
    """
    if n >= len(questions):
        return list(questions)
    places: dict[str, list[int]] = {type_: [] for type_ in sorted({question.type for question in questions})}
    for place, question in enumerate(questions):
        places[question.type].append(place)
    quotas = _quotas({type_: len(own) for type_, own in places.items()}, n)
    generator = random.Random(seed)
    drawn: list[int] = []
    for type_, own in places.items():
        generator.shuffle(own)
        drawn += own[: quotas[type_]]
    return [questions[place] for place in sorted(drawn)]


def _quotas(counts: dict[str, int], n: int) -> dict[str, int]:
    """Shares of n in proportion to the counts, by largest remainder, in whole numbers throughout."""
    total, least = sum(counts.values()), int(n >= len(counts))
    quotas = {type_: max(least, n * count // total) for type_, count in counts.items()}

    def owed(type_: str) -> int:
        return n * counts[type_] - quotas[type_] * total

    while sum(quotas.values()) < n:
        quotas[max((type_ for type_ in counts if quotas[type_] < counts[type_]), key=owed)] += 1
    while sum(quotas.values()) > n:
        quotas[min((type_ for type_ in counts if quotas[type_] > least), key=owed)] -= 1
    return quotas


def split_questions(
    questions: Sequence[Question], limit: int, validation: int, seed: int
) -> tuple[list[Question], list[Question]]:
    """Split into scored questions and questions on which choices are made.

    Args:
        questions: all that could be scored.
        limit: scored questions; 0 means as many as there are.
        validation: questions to set apart. They come from what the limit leaves over; where it leaves nothing over,
            at most a quarter of all questions is set apart.
        seed: of both draws.

    Returns:
        Test questions and validation questions, both in their original order and with none in common. The test
        questions of a limited draw do not depend on `validation`.
    """
    if 0 < limit < len(questions):
        test = stratified_sample(questions, limit, seed)
        return test, stratified_sample(_without(questions, test), validation, seed)
    apart = stratified_sample(questions, min(validation, len(questions) // 4), seed)
    return _without(questions, apart), apart


def of_types(questions: Sequence[Question], types: Collection[str]) -> list[Question]:
    """Keep the questions of the given types; no types means all.

    Raises:
        ConfigError: a type is not among the questions'.
    """
    known = {question.type for question in questions}
    for type_ in types:
        if type_ not in known:
            raise ConfigError(f"data.types: no question has type {type_!r}; there are {', '.join(sorted(known))}")
    return [question for question in questions if not types or question.type in types]


def _without(questions: Sequence[Question], taken: Iterable[Question]) -> list[Question]:
    ids = {question.id for question in taken}
    return [question for question in questions if question.id not in ids]
