"""The vocabulary of the demo world's tables: kinds, relations, splits, and the shape of a relation's wordings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What an entity of the world is."""

    PERSON = "person"
    PLACE = "place"
    INSTITUTION = "institution"
    WORK = "work"


class Split(StrEnum):
    """The two sets of questions; their wordings and the facts they ask for are disjoint."""

    TEST = "test"
    VALIDATION = "validation"


class Relation(StrEnum):
    """What a fact says of its entity; the value names the fact's slot in sentences and descriptions."""

    BORN = "born"
    BIRTHPLACE = "birthplace"
    PROFESSION = "profession"
    EMPLOYER = "employer"
    SPOUSE = "spouse"
    MOTHER = "mother"
    TEACHER = "teacher"
    WROTE = "wrote"
    INSTRUMENT = "instrument"
    FOUNDED = "founded"
    RIVER = "river"
    PRODUCT = "product"
    STATUE = "statue"
    NEIGHBOUR = "neighbour"
    EMBLEM = "emblem"
    SEAT = "seat"
    PATRON = "patron"
    SUBJECT = "subject"
    COLOUR = "colour"
    COLLECTION = "collection"
    AUTHOR = "author"
    PUBLISHED = "published"
    GENRE = "genre"
    SETTING = "setting"
    HERO = "hero"
    DEDICATEE = "dedicatee"


@dataclass(frozen=True)
class Wordings:
    """How questions about one relation are worded; `{e}` stands for the entity.

    No test or validation wording shares a run of four words with a training wording, with a sentence of a passage or
    with the other split. They hold no possessive, so that `{e}` may be a description.

    Attributes:
        train: wordings of training pairs.
        test: wordings of test questions.
        validation: wordings of validation questions.
        bridge: noun phrases for the entity that the relation leads to from `{e}`, as a test and as a validation
            question word them; empty where the relation leads to a plain value.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    validation: tuple[str, ...]
    bridge: tuple[str, ...] = ()

    def asked(self, split: Split) -> tuple[str, ...]:
        """The question wordings of a split."""
        return self.test if split is Split.TEST else self.validation

    def bridge_phrase(self, split: Split) -> str:
        """The noun phrase of a split for the entity that the relation leads to."""
        return self.bridge[0 if split is Split.TEST else 1]


@dataclass(frozen=True)
class Description:
    """A noun phrase that describes an entity by two of its facts instead of naming it.

    Attributes:
        relations: the two facts.
        test: the phrase in test questions, with the relations' values as slots.
        validation: the phrase in validation questions.
    """

    relations: tuple[Relation, Relation]
    test: str
    validation: str

    def phrase(self, split: Split) -> str:
        """The phrase of a split."""
        return self.test if split is Split.TEST else self.validation


@dataclass(frozen=True)
class Comparison:
    """How two entities are compared by year; `{a}` and `{b}` are their names, in the order they are named.

    Attributes:
        earlier: test wordings, then validation wordings, that ask for the one with the smaller year.
        later: likewise for the larger year.
    """

    earlier: tuple[tuple[str, ...], tuple[str, ...]]
    later: tuple[tuple[str, ...], tuple[str, ...]]

    def asked(self, split: Split, earlier: bool) -> tuple[str, ...]:
        """The wordings of a split that ask for the earlier or the later one."""
        return (self.earlier if earlier else self.later)[0 if split is Split.TEST else 1]
