"""The gold passages that controls are given: a question's own, or another's."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from polyprag.errors import DataError
from polyprag.records import Question


def other_passages(questions: Sequence[Question], positions: Mapping[str, int], seed: int) -> dict[str, list[int]]:
    """For each question, the gold passages of another question that has none of its own among them.

    Args:
        questions: questions with gold passages.
        positions: position of each passage id in the store.
        seed: of the draw.

    Raises:
        DataError: all questions are about the same passage.
    """
    generator = random.Random(seed)
    gold = {question.id: gold_of(question, positions) for question in questions}
    others = {}
    for question in questions:
        foreign = [mine for mine in gold.values() if not set(mine) & set(gold[question.id])]
        same_size = [mine for mine in foreign if len(mine) == len(gold[question.id])]
        if not foreign:
            raise DataError(f"question {question.id!r}: no question about other passages to shuffle gates with")
        others[question.id] = generator.choice(same_size or foreign)
    return others


def gold_of(question: Question, positions: Mapping[str, int]) -> list[int]:
    """Positions of a question's gold passages in the store.

    Raises:
        DataError: there are none.
    """
    known = [positions[passage] for passage in question.passage_ids if passage in positions]
    if not known:
        raise DataError(
            f"question {question.id!r} has no gold passage in the store; "
            "leave oracle, uniform, average, shuffled and random routing out of evaluation.methods"
        )
    return known
