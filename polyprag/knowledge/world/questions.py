"""Test and validation questions of the demo world.

A fixed quarter of every entity's facts, chosen by the seed, is kept for validation; the rest is for the test. No
question of one split asks for a fact of the other, bridges of two-hop questions and years of comparisons included.
Questions are drawn lazily in a seeded order, so that a few hundred of them cost little even in a large world.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from polyprag.knowledge.world import people, texts, things
from polyprag.knowledge.world.facts import Fact, World
from polyprag.knowledge.world.wordings import Comparison, Description, Kind, Relation, Split
from polyprag.records import Question

WORDINGS = people.WORDINGS | things.WORDINGS
DESCRIPTIONS = {
    Kind.PERSON: people.DESCRIPTIONS,
    Kind.PLACE: texts.PLACE_DESCRIPTIONS,
    Kind.INSTITUTION: texts.INSTITUTION_DESCRIPTIONS,
    Kind.WORK: texts.WORK_DESCRIPTIONS,
}
COMPARISONS: dict[Kind, tuple[Relation, Comparison]] = {
    Kind.PERSON: (Relation.BORN, people.BORN_COMPARISON),
    Kind.PLACE: (Relation.FOUNDED, texts.FOUNDED_COMPARISON),
    Kind.INSTITUTION: (Relation.FOUNDED, texts.FOUNDED_COMPARISON),
    Kind.WORK: (Relation.PUBLISHED, texts.PUBLISHED_COMPARISON),
}
_MOST_FACTS = 6
_COMPARED_WITH = 3  # how many earlier entities of the seeded order an entity is compared with


class QuestionType(StrEnum):
    """The question types, by which results are reported."""

    ONE_HOP = "one_hop"
    NAMESAKE = "namesake"
    DESCRIPTION = "description"
    TWO_HOP = "two_hop"
    COMPARISON = "comparison"


SHARES = {  # per cent; what rounding leaves over goes to the first
    QuestionType.ONE_HOP: 45,
    QuestionType.NAMESAKE: 15,
    QuestionType.DESCRIPTION: 15,
    QuestionType.TWO_HOP: 15,
    QuestionType.COMPARISON: 10,
}
_DescriptionKey = tuple[Description, str, str]


@dataclass(frozen=True)
class _Draft:
    text: str
    answers: tuple[str, ...]
    passages: tuple[int, ...]


def passage_id(index: int) -> str:
    """The id of the passage about an entity."""
    return f"p{index:06d}"


def draw_questions(world: World, split: Split, count: int | None) -> tuple[Question, ...]:
    """The questions of a split, type by type, in the proportions of `SHARES`.

    Where a type has too few, the others make up for it; where all have, there are fewer than asked for.

    Args:
        world: the world that they are about.
        split: test or validation.
        count: how many in all, at least 0; None for all.

    Returns:
        Questions with ids such as `test-one_hop-00012`; no two have the same text.
    """
    streams = _streams(world, split)
    if count is None:
        drawn = {kind: list(stream) for kind, stream in streams.items()}
    else:
        drawn = {kind: list(islice(streams[kind], quota)) for kind, quota in _quotas(count).items()}
        for kind, stream in streams.items():
            missing = count - sum(map(len, drawn.values()))
            drawn[kind] += islice(stream, missing)
    return tuple(
        Question(
            f"{split}-{kind}-{i:05d}", draft.text, draft.answers, kind.value, tuple(map(passage_id, draft.passages))
        )
        for kind, drafts in drawn.items()
        for i, draft in enumerate(drafts)
    )


def _quotas(count: int) -> dict[QuestionType, int]:
    quotas = {kind: count * share // 100 for kind, share in SHARES.items()}
    quotas[QuestionType.ONE_HOP] += count - sum(quotas.values())
    return quotas


def _streams(world: World, split: Split) -> dict[QuestionType, Iterator[_Draft]]:
    return {
        QuestionType.ONE_HOP: _one_hop(world, split, namesakes=False),
        QuestionType.NAMESAKE: _one_hop(world, split, namesakes=True),
        QuestionType.DESCRIPTION: _descriptions(world, split),
        QuestionType.TWO_HOP: _two_hop(world, split),
        QuestionType.COMPARISON: _comparisons(world, split),
    }


def _one_hop(world: World, split: Split, namesakes: bool) -> Iterator[_Draft]:
    order = [index for index in _order(world, split, "one_hop") if world.shares_surname(index) == namesakes]
    for turn in range(_MOST_FACTS):
        for index in order:
            for fact in _facts_of_split(world, index, split)[turn : turn + 1]:
                yield _Draft(_ask(world, split, fact, index, world.name(index)), fact.answers, (index,))


def _descriptions(world: World, split: Split) -> Iterator[_Draft]:
    known = Counter(key for index in range(world.size) for key in _description_keys(world, index))
    order = _order(world, split, "description")
    for turn in range(_MOST_FACTS):
        for index in order:
            for fact in _facts_of_split(world, index, split)[turn : turn + 1]:
                keys = [key for key in _description_keys(world, index) if fact.relation not in key[0].relations]
                unique = [key for key in keys if known[key] == 1]
                if unique:
                    text = _ask(world, split, fact, index, _describe(split, unique[0]))
                    yield _Draft(text, fact.answers, (index,))


def _two_hop(world: World, split: Split) -> Iterator[_Draft]:
    order = _order(world, split, "two_hop")
    for turn in range(_MOST_FACTS):
        for index in order:
            hops = [fact for fact in _facts_of_split(world, index, split) if fact.link is not None]
            for hop in hops:
                yield from _second_hop(world, split, index, hop, turn)


def _second_hop(world: World, split: Split, index: int, hop: Fact, turn: int) -> Iterator[_Draft]:
    assert hop.link is not None
    for fact in _facts_of_split(world, hop.link, split)[turn : turn + 1]:
        if fact.link != index:  # the answer must not stand in the question
            bridge = WORDINGS[hop.relation].bridge_phrase(split).format(e=world.name(index))
            yield _Draft(_ask(world, split, fact, index, bridge), fact.answers, (index, hop.link))


def _comparisons(world: World, split: Split) -> Iterator[_Draft]:
    """Pairs of one kind with different years: every answer is named first in half of them."""
    recent: dict[Kind, deque[tuple[int, Fact]]] = {kind: deque(maxlen=_COMPARED_WITH) for kind in Kind}
    number = 0
    for index in _order(world, split, "comparison"):
        kind, _ = world.locate(index)
        relation, wordings = COMPARISONS[kind]
        for fact in _facts_of_split(world, index, split):
            if fact.relation is not relation:
                continue
            for other, other_fact in recent[kind]:
                if fact.text != other_fact.text:
                    years = {index: int(fact.text), other: int(other_fact.text)}
                    yield _compare(world, wordings, split, years, number)
                    number += 1
            recent[kind].append((index, fact))


def _compare(world: World, wordings: Comparison, split: Split, years: dict[int, int], number: int) -> _Draft:
    """The `number` decides what is asked for, and which of the two is named first: all four ways take turns."""
    earlier, answer_first = number % 2 == 0, number // 2 % 2 == 0
    by_year = sorted(years, key=years.__getitem__)
    answer, other = by_year if earlier else by_year[::-1]
    pair = (answer, other) if answer_first else (other, answer)
    choices = wordings.asked(split, earlier)
    wording = choices[number // 4 % len(choices)]
    text = wording.format(a=world.name(pair[0]), b=world.name(pair[1]))
    return _Draft(text, world.names(answer), pair)


def _order(world: World, split: Split, purpose: str) -> list[int]:
    order = list(range(world.size))
    world.stream(f"{split}/{purpose}").shuffle(order)
    return order


def _facts_of_split(world: World, index: int, split: Split) -> list[Fact]:
    """An entity's facts that a split may ask for, in a seeded order: one or two in turn are kept for validation."""
    facts = list(world.facts(index))
    world.stream("split", index).shuffle(facts)
    kept = 1 + world.locate(index)[1] % 2
    return facts[:kept] if split is Split.VALIDATION else facts[kept:]


def _ask(world: World, split: Split, fact: Fact, index: int, entity: str) -> str:
    wording = world.stream(f"{split}/{fact.relation}", index).choice(WORDINGS[fact.relation].asked(split))
    text = wording.format(e=entity)
    return text[0].upper() + text[1:]


def _description_keys(world: World, index: int) -> Iterator[_DescriptionKey]:
    """What the descriptions of an entity say: equal keys mean that a description fits more than one entity."""
    values = {fact.relation: fact.text for fact in world.facts(index)}
    for description in DESCRIPTIONS[world.locate(index)[0]]:
        first, second = description.relations
        if first in values and second in values:
            yield description, values[first], values[second]


def _describe(split: Split, key: _DescriptionKey) -> str:
    description, first, second = key
    slots = {description.relations[0].value: first, description.relations[1].value: second}
    return description.phrase(split).format_map(slots)
