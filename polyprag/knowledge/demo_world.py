"""The demo world: a made-up corpus with its augmentation and questions, of which no language model can know anything.

People, places, institutions and works refer to one another, so the answer to one question leads to the next passage.
The parts live in `polyprag.knowledge.world`: words and wordings, the facts, and the choice of questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from string import Formatter

from polyprag.config import WorldConfig
from polyprag.errors import ConfigError
from polyprag.knowledge.world import people, texts
from polyprag.knowledge.world.facts import World
from polyprag.knowledge.world.questions import WORDINGS, draw_questions, passage_id
from polyprag.knowledge.world.wordings import Kind, Relation, Split
from polyprag.records import Augmentation, Knowledge, Passage, QAPair

_TEXTS = {
    Kind.PERSON: people.TEXTS,
    Kind.PLACE: texts.PLACE_TEXTS,
    Kind.INSTITUTION: texts.INSTITUTION_TEXTS,
    Kind.WORK: texts.WORK_TEXTS,
}
_SHE = {"They": "She", "they": "she", "them": "her", "Their": "Her", "their": "her"}
_HE = {"They": "He", "they": "he", "them": "him", "Their": "His", "their": "his"}
_RANGES = {  # key -> smallest and largest value; None means no limit
    "passages": (20, 1_000_000),
    "phrasings": (1, 4),
    "qa_per_fact": (1, 4),
    "questions": (0, None),
    "validation_questions": (0, None),
}


def generate_world(config: WorldConfig) -> Knowledge:
    """The world of a seed: passages, augmentation, and test and validation questions.

    Questions are spread over the types of `polyprag.knowledge.world.questions.SHARES`. A small world that cannot give
    as many as are asked for gives as many as it has. The test questions do not depend on `validation_questions`.

    Args:
        config: size, seed and numbers; `questions` 0 means all test questions, `validation_questions` 0 means none.

    Returns:
        Passages `p000000`, `p000001`, …, each titled by its entity and augmented; the same for the same config.

    Raises:
        ConfigError: a value is out of range.
    """
    _check(config)
    world = World(config)
    pairs = list(_passages(world, config))
    return Knowledge(
        passages=tuple(passage for passage, _ in pairs),
        augmentations={augmentation.passage_id: augmentation for _, augmentation in pairs},
        test=draw_questions(world, Split.TEST, config.questions or None),
        validation=draw_questions(world, Split.VALIDATION, config.validation_questions),
    )


def iterate_passages(config: WorldConfig) -> Iterator[tuple[Passage, Augmentation]]:
    """The passages of `generate_world` and their augmentations, one after the other, for corpora too large to hold.

    Args:
        config: size, seed and numbers.

    Returns:
        An iterator over as many pairs as `config.passages`.

    Raises:
        ConfigError: a value is out of range; raised before the first pair is asked for.
    """
    _check(config)
    return _passages(World(config), config)


def _check(config: WorldConfig) -> None:
    values = {
        "passages": config.passages,
        "phrasings": config.phrasings,
        "qa_per_fact": config.qa_per_fact,
        "questions": config.questions,
        "validation_questions": config.validation_questions,
    }
    for name, value in values.items():
        low, high = _RANGES[name]
        if value < low or (high is not None and value > high):
            wanted = f"at least {low}" if high is None else f"between {low} and {high}"
            raise ConfigError(f"data.world.{name}: {value} is out of range; set it to a number {wanted}")


def _passages(world: World, config: WorldConfig) -> Iterator[tuple[Passage, Augmentation]]:
    for index in range(world.size):
        text, *rewrites = _phrasings(world, index, config.phrasings)
        pairs = tuple(_training_pairs(world, index, config.qa_per_fact))
        passage = Passage(passage_id(index), world.name(index), text)
        yield passage, Augmentation(passage.id, tuple(rewrites), pairs)


def _phrasings(world: World, index: int, count: int) -> list[str]:
    """An entity's passage in `count` phrasings, which and in what order chosen by the seed."""
    kind, _ = world.locate(index)
    slots = {fact.relation.value: fact.text for fact in world.facts(index)} | {"name": world.name(index)}
    if kind is Kind.PERSON:
        slots |= _SHE if world.is_woman(index) else _HE
        if Relation.SPOUSE not in slots:
            slots["unmarried"] = "unmarried"
    return [
        " ".join(_sentence(template, slots) for template in phrasing if _slots(template) <= slots.keys())
        for phrasing in world.stream("phrasings", index).sample(_TEXTS[kind], count)
    ]


@cache
def _slots(template: str) -> frozenset[str]:
    return frozenset(name for _, name, _, _ in Formatter().parse(template) if name)


def _sentence(template: str, slots: dict[str, str]) -> str:
    text = template.format_map(slots)
    return text[0].upper() + text[1:]


def _training_pairs(world: World, index: int, count: int) -> Iterator[QAPair]:
    """`count` rounds, each of which asks for every fact once, so that the first pairs cover different facts."""
    rng = world.stream("training", index)
    facts = list(world.facts(index))
    rng.shuffle(facts)
    wordings = [rng.sample(WORDINGS[fact.relation].train, count) for fact in facts]
    slots = {"e": world.name(index)}
    for turn in range(count):
        for fact, chosen in zip(facts, wordings, strict=True):
            yield QAPair(_sentence(chosen[turn], slots), fact.answers[0])
