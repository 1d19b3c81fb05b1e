"""The questions on which methods disagree most, with all their answers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from polyprag.evaluation.answers import Answer
from polyprag.evaluation.page.numbers import Source, score, words
from polyprag.evaluation.page.pieces import Family, family_of, in_order, method_name
from polyprag.evaluation.results import ANSWERS

SHOWN = 10
LONGEST = 600
"""Characters of a text beyond which it is cut."""


@dataclass(frozen=True)
class Reply:
    """An answer, and the methods that gave it.

    Attributes:
        text: the answer.
        f1: its score.
        level: the same, from 0 to 1.
        methods: who gave it.
    """

    text: Markup
    f1: Markup
    level: float
    methods: tuple[Markup, ...]


@dataclass(frozen=True)
class Asked:
    """A question with its answers, the best first."""

    question: Markup
    type: Markup
    gold: tuple[Markup, ...]
    replies: tuple[Reply, ...]


def disagreements(answers: Mapping[str, Mapping[str, Answer]], most: int = SHOWN) -> list[Asked]:
    """The questions on which the methods' F1 varies most, each type of question in turn.

    Args:
        answers: of each method by question id. Controls are left out where there are two other methods.
        most: questions to name.
    """
    methods = in_order(answers)
    proper = [name for name in methods if family_of(name) is not Family.CONTROL]
    methods = proper if len(proper) > 1 else methods
    if len(methods) < 2:
        return []
    common = [id_ for id_ in answers[methods[0]] if all(id_ in answers[name] for name in methods)]
    by_type: dict[str, list[tuple[float, int, str]]] = {}
    for id_ in common:
        own = [answers[name][id_] for name in methods]
        spread = float(np.std([answer.scores.f1 for answer in own]))
        texts = len({answer.prediction for answer in own})
        if texts > 1:
            by_type.setdefault(own[0].type, []).append((spread, texts, id_))
    ranked = [sorted(found, key=lambda entry: (-entry[0], -entry[1])) for found in by_type.values()]
    turns = [
        (entry[0] == 0, turn, -entry[0], -entry[1], entry[2]) for found in ranked for turn, entry in enumerate(found)
    ]
    source = _source(answers)
    return [_asked(answers, methods, id_, source) for *_, id_ in sorted(turns, key=lambda turn: turn[:4])[:most]]


def _asked(answers: Mapping[str, Mapping[str, Answer]], methods: Sequence[str], id_: str, source: Source) -> Asked:
    first = answers[methods[0]][id_]
    givers: dict[str, list[str]] = {}
    for name in methods:
        givers.setdefault(answers[name][id_].prediction, []).append(name)
    replies = [
        Reply(
            text=_shown(text) if text else Markup("<i>no answer</i>"),
            f1=source.number(score, names[0], id_, "f1"),
            level=answers[names[0]][id_].scores.f1,
            methods=tuple(map(method_name, names)),
        )
        for text, names in givers.items()
    ]
    best_first = tuple(sorted(replies, key=lambda reply: -reply.level))
    return Asked(_shown(first.question), _shown(first.type), tuple(map(_shown, first.gold)), best_first)


def _source(answers: Mapping[str, Mapping[str, Answer]]) -> Source:
    """F1 by method and question id."""
    return Source(
        {name: {id_: {"f1": answer.scores.f1} for id_, answer in own.items()} for name, own in answers.items()},
        ANSWERS,
    )


def _shown(text: str) -> Markup:
    return words(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")
