"""Which questions are scored, which are set apart for choices, and what is left out, all by seed."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from polyprag.errors import ConfigError
from polyprag.records import Knowledge, Question

logger = logging.getLogger(__name__)

NO_TEST_QUESTIONS = (
    "there are no test questions: name some in data.questions, or lower data.train_qas where passages come with pairs "
    "(qas); those that augmentation writes are all trained on"
)


def warn_without_test(knowledge: Knowledge) -> None:
    """Say of a corpus without test questions, before anything is spent on it, that it can be trained, not evaluated."""
    if not knowledge.test:
        logger.warning("%s; until then evaluate.py has nothing to score", NO_TEST_QUESTIONS)


def describe(knowledge: Knowledge) -> str:
    """One line that says what was loaded and what was left out, for logs."""
    counts = knowledge.counts
    parts = [f"{len(knowledge.passages)} passages ({counts.duplicates} duplicates collapsed)"]
    named = {
        "test questions": count_types(knowledge.test),
        "validation questions": count_types(knowledge.validation),
        "dropped questions": counts.dropped_questions,
    }
    named |= {"rows left out": counts.dropped_rows} if counts.dropped_rows else {}
    for name, numbers in named.items():
        details = ", ".join(f"{key or 'untyped'} {number}" for key, number in numbers.items())
        parts.append(f"{sum(numbers.values())} {name}" + (f" ({details})" if details else ""))
    if counts.unknown_gold:
        parts.append(f"{counts.unknown_gold} gold passages are not in the corpus")
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


def first_of_each(questions: Sequence[Question], n: int, typed: bool) -> tuple[list[Question], list[Question]]:
    """Cut questions into the first ones and the others, as the papers cut a test set off.

    Args:
        questions: in the order of their file.
        n: how many come first; 0 means all.
        typed: whether n counts each type by itself, or all questions together.
    """
    seen: Counter[str] = Counter()
    first: list[Question] = []
    beyond: list[Question] = []
    for question in questions:
        stratum = question.type if typed else ""
        seen[stratum] += 1
        (first if not n or seen[stratum] <= n else beyond).append(question)
    return first, beyond


def split_beyond(
    first: Sequence[Question], beyond: Sequence[Question], limit: int, validation: int, seed: int
) -> tuple[list[Question], list[Question]]:
    """As `split_questions`, but the questions set apart come from beyond the test set, as long as there are any.

    Args:
        first: the test set, of which a limit draws some.
        beyond: the questions outside of it.
        limit: scored questions; 0 means the whole test set.
        validation: questions to set apart.
        seed: of both draws.
    """
    if not beyond:
        return split_questions(first, limit, validation, seed)
    return stratified_sample(first, limit or len(first), seed), stratified_sample(beyond, validation, seed)


def of_types(questions: Sequence[Question], types: Collection[str]) -> list[Question]:
    """Keep the questions of the given types; no types means all.

    Raises:
        ConfigError: a type is not among the questions'.
    """
    known = {question.type for question in questions}
    for type_ in types:
        if type_ not in known:
            there = ", ".join(sorted(known)) or "none"
            raise ConfigError(f"data.types: no question has type {type_!r}; there are {there}")
    return [question for question in questions if not types or question.type in types]


def _without(questions: Sequence[Question], taken: Iterable[Question]) -> list[Question]:
    ids = {question.id for question in taken}
    return [question for question in questions if question.id not in ids]
