"""The demo world itself: which entities there are, what they are called, and what is true of them.

Names and birth years are drawn once; every other fact is a function of the seed, the number of passages and the
entity's index, so it is never stored and the world costs little more memory than its names. Indices come in blocks of
16: a family of eight people at the even places, three towns, three institutions and two works at the odd ones. The
world ends wherever the last block is cut.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from polyprag.config import WorldConfig
from polyprag.knowledge.world import words
from polyprag.knowledge.world.wordings import Kind, Relation

_BLOCK = 16
_OFFSETS = {
    Kind.PERSON: (0, 2, 4, 6, 8, 10, 12, 14),
    Kind.PLACE: (1, 7, 13),
    Kind.INSTITUTION: (3, 9, 15),
    Kind.WORK: (5, 11),
}
_PLACE_IN_BLOCK = {offset: (kind, i) for kind, offsets in _OFFSETS.items() for i, offset in enumerate(offsets)}

# A family, by position: women are even, men odd, and 2i and 2i+1 are a couple. 5 is the son of 0 and 1, 7 of 2 and 3.
_FAMILY = 8
_MOTHERS = {5: 0, 7: 2}
_TEACHERS = {3: 1, 6: 4}
_WORK_OF = {1: 0, 4: 1}  # position of the author -> which of the block's works
_AUTHORS = {work: position for position, work in _WORK_OF.items()}
_SURNAMES = (0, 1, 2, 3, 4, 1, 5, 3)  # by position: which of the family's six surnames
_NAMESAKES = {1: 5, 5: 1, 3: 7, 7: 3}
_BIRTH_GAPS = ((0, 4), (0, 4), (24, 34), (24, 34), (24, 34), (24, 34), (54, 64), (54, 64))
_FIRST_FAMILIES = (1700, 1921)  # when the oldest couple of a family is born; the youngest follows 64 years later

_DEDICATEE_TRIES = 16


@dataclass(frozen=True)
class Fact:
    """One thing that a passage says of its entity.

    Attributes:
        relation: what is said.
        answers: the value as an answer, the main form first.
        text: the value as it stands in a sentence.
        link: index of the entity that the value is; None for years and words.
    """

    relation: Relation
    answers: tuple[str, ...]
    text: str
    link: int | None = None


class World:
    """The entities of a demo world and their facts.

    Args:
        config: size and seed; expected to be within range.
    """

    def __init__(self, config: WorldConfig) -> None:
        self.size = config.passages
        self._seed = config.seed
        self._counts = {kind: self._count(kind) for kind in Kind}
        self._names = {
            Kind.PERSON: self._people_names(),
            Kind.PLACE: self._made_up("places", words.PLACE_ENDS, self._counts[Kind.PLACE]),
            Kind.INSTITUTION: self._institution_names(),
            Kind.WORK: self._work_names(),
        }
        self._birth_years = self._born()

    def stream(self, purpose: str, number: int = 0) -> random.Random:
        """A random stream of its own for one purpose and one entity."""
        return random.Random(f"{self._seed}/{purpose}/{number}")

    def locate(self, index: int) -> tuple[Kind, int]:
        """The kind of an entity and its number among those of its kind."""
        block, offset = divmod(index, _BLOCK)
        kind, i = _PLACE_IN_BLOCK[offset]
        return kind, block * len(_OFFSETS[kind]) + i

    def index(self, kind: Kind, number: int) -> int:
        """The inverse of `locate`; it may lie beyond the end of the world."""
        block, i = divmod(number, len(_OFFSETS[kind]))
        return block * _BLOCK + _OFFSETS[kind][i]

    def name(self, index: int) -> str:
        """An entity's name, which is also the title of its passage."""
        kind, number = self.locate(index)
        return self._names[kind][number]

    def names(self, index: int) -> tuple[str, ...]:
        """All accepted forms of an entity's name, the name itself first."""
        name = self.name(index)
        match self.locate(index)[0]:
            case Kind.INSTITUTION:
                return name, f"the {name}"
            case Kind.WORK:
                return name, name.removeprefix("The ")
            case _:
                return (name,)

    def is_woman(self, index: int) -> bool:
        """Whether a person is spoken of as she."""
        return self.locate(index)[1] % 2 == 0

    def shares_surname(self, index: int) -> bool:
        """Whether an entity is a person whose surname another person of the world has too."""
        kind, number = self.locate(index)
        family, position = divmod(number, _FAMILY)
        if kind is not Kind.PERSON or position not in _NAMESAKES:
            return False
        return self._person(family, _NAMESAKES[position]) is not None

    def facts(self, index: int) -> tuple[Fact, ...]:
        """What is true of an entity: six facts, or five for a person whose spouse lies beyond the end of the world."""
        kind, number = self.locate(index)
        rng = self.stream("facts", index)
        match kind:
            case Kind.PERSON:
                return self._person_facts(number, rng)
            case Kind.PLACE:
                return self._place_facts(number, rng)
            case Kind.INSTITUTION:
                return self._institution_facts(rng)
            case Kind.WORK:
                return self._work_facts(number, rng)

    def _person_facts(self, number: int, rng: random.Random) -> tuple[Fact, ...]:
        family, position = divmod(number, _FAMILY)
        spouse = self._person(family, position ^ 1)
        facts = [
            _plain(Relation.BORN, str(self._birth_years[number])),
            self._link(Relation.BIRTHPLACE, self._any(Kind.PLACE, rng)),
            _plain(Relation.PROFESSION, rng.choice(words.PROFESSIONS), "a "),
            self._link(Relation.EMPLOYER, self._any(Kind.INSTITUTION, rng)),
        ]
        if spouse is not None:
            facts.append(self._link(Relation.SPOUSE, spouse))
        return (*facts, self._last_fact(family, position, rng))

    def _last_fact(self, family: int, position: int, rng: random.Random) -> Fact:
        """The fact that depends on a person's place in the family."""
        if position in _MOTHERS:
            return self._link(Relation.MOTHER, self.index(Kind.PERSON, family * _FAMILY + _MOTHERS[position]))
        if position in _TEACHERS:
            return self._link(Relation.TEACHER, self.index(Kind.PERSON, family * _FAMILY + _TEACHERS[position]))
        if position in _WORK_OF:
            work = self.index(Kind.WORK, family * len(_OFFSETS[Kind.WORK]) + _WORK_OF[position])
            if work < self.size:
                return self._link(Relation.WROTE, work)
        return _plain(Relation.INSTRUMENT, rng.choice(words.INSTRUMENTS), "the ")

    def _place_facts(self, number: int, rng: random.Random) -> tuple[Fact, ...]:
        others = self._counts[Kind.PLACE] - 1
        neighbour = (number + 1 + rng.randrange(others)) % (others + 1)
        river = rng.choice(words.RIVERS)
        return (
            _plain(Relation.FOUNDED, str(rng.randint(1400, 1640))),
            Fact(Relation.RIVER, (f"River {river}", river, f"the River {river}"), f"River {river}"),
            _plain(Relation.PRODUCT, rng.choice(words.PRODUCTS)),
            self._link(Relation.STATUE, self._any(Kind.PERSON, rng)),
            self._link(Relation.NEIGHBOUR, self.index(Kind.PLACE, neighbour)),
            _plain(Relation.EMBLEM, rng.choice(words.ANIMALS), "a "),
        )

    def _institution_facts(self, rng: random.Random) -> tuple[Fact, ...]:
        return (
            _plain(Relation.FOUNDED, str(rng.randint(1641, 1730))),
            self._link(Relation.SEAT, self._any(Kind.PLACE, rng)),
            self._link(Relation.PATRON, self._any(Kind.PERSON, rng)),
            _plain(Relation.SUBJECT, rng.choice(words.SUBJECTS)),
            _plain(Relation.COLOUR, rng.choice(words.COLOURS)),
            _plain(Relation.COLLECTION, rng.choice(words.COLLECTIBLES)),
        )

    def _work_facts(self, number: int, rng: random.Random) -> tuple[Fact, ...]:
        family, work = divmod(number, len(_OFFSETS[Kind.WORK]))
        author = family * _FAMILY + _AUTHORS[work]
        published = self._birth_years[author] + rng.randint(22, 55)
        return (
            self._link(Relation.AUTHOR, self.index(Kind.PERSON, author)),
            _plain(Relation.PUBLISHED, str(published)),
            _plain(Relation.GENRE, rng.choice(words.GENRES), "a "),
            self._link(Relation.SETTING, self._any(Kind.PLACE, rng)),
            _plain(Relation.HERO, rng.choice(words.PROFESSIONS), "a "),
            self._link(Relation.DEDICATEE, self.index(Kind.PERSON, self._dedicatee(author, published, rng))),
        )

    def _dedicatee(self, author: int, published: int, rng: random.Random) -> int:
        """Somebody who may have been alive when a work came out; the eldest of the author's family, who wrote nothing,
        if chance finds nobody else."""
        for _ in range(_DEDICATEE_TRIES):
            number = rng.randrange(self._counts[Kind.PERSON])
            if number != author and published - 80 <= self._birth_years[number] <= published - 10:
                return number
        return author - author % _FAMILY

    def _person(self, family: int, position: int) -> int | None:
        index = self.index(Kind.PERSON, family * _FAMILY + position)
        return index if index < self.size else None

    def _any(self, kind: Kind, rng: random.Random) -> int:
        return self.index(kind, rng.randrange(self._counts[kind]))

    def _link(self, relation: Relation, index: int) -> Fact:
        return Fact(relation, self.names(index), self.name(index), index)

    def _count(self, kind: Kind) -> int:
        blocks, rest = divmod(self.size, _BLOCK)
        return blocks * len(_OFFSETS[kind]) + sum(offset < rest for offset in _OFFSETS[kind])

    def _families(self) -> range:
        return range(-(-self._counts[Kind.PERSON] // _FAMILY))

    def _people_names(self) -> list[str]:
        """First names differ within a family, and families share no surname, so a full name is unique."""
        rng, of_family = self.stream("people"), max(_SURNAMES) + 1
        surnames = self._made_up("surnames", words.SURNAME_ENDS, len(self._families()) * of_family)
        names = []
        for family in self._families():
            women, men = (rng.sample(pool, _FAMILY // 2) for pool in (words.WOMEN, words.MEN))
            for position, surname in enumerate(_SURNAMES):
                first = (men if position % 2 else women)[position // 2]
                names.append(f"{first} {surnames[family * of_family + surname]}")
        return names

    def _institution_names(self) -> list[str]:
        made_up = self._made_up("institutions", words.INSTITUTION_ENDS, self._counts[Kind.INSTITUTION])
        rng = self.stream("institution types")
        return [f"{name} {rng.choice(words.INSTITUTIONS)}" for name in made_up]

    def _work_names(self) -> list[str]:
        made_up = self._made_up("works", words.WORK_ENDS, self._counts[Kind.WORK])
        rng = self.stream("titles")
        return [f"The {rng.choice(words.TITLE_NOUNS)} of {name}" for name in made_up]

    def _born(self) -> list[int]:
        rng, years = self.stream("births"), []
        for _ in self._families():
            oldest = rng.randint(*_FIRST_FAMILIES)
            years += [oldest + rng.randint(*gap) for gap in _BIRTH_GAPS]
        return years

    def _made_up(self, purpose: str, ends: tuple[str, ...], count: int) -> list[str]:
        return words.made_up_names(ends, count, self.stream(purpose))


def _plain(relation: Relation, value: str, article: str = "") -> Fact:
    """A fact whose value is a year or a word; the word is also accepted with its article."""
    answers = (value, f"{article}{value}") if article else (value,)
    return Fact(relation, answers, value)
