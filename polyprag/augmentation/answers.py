"""Answers to ask a small model the questions of: dates, numbers and names, each with its sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest

from polyprag.augmentation.lexicon import DEMONYMS, FUNCTION_WORDS
from polyprag.augmentation.sentences import DATE, NAME, YEAR, repaired, split_sentences
from polyprag.records import Passage

LONGEST_NAME = 5
"""Words of a name; longer runs of capitalised words are mostly headings or lists."""

_DATE = re.compile(rf"(?<![\w-]){DATE}")
_NUMBER = re.compile(r"(?<![\w.,$£€-])\d(?:[\d,.]*\d)?(?= (?P<noun>[a-z-]+s)\b)")
_NAME = re.compile(rf"(?:\b(?P<before>by|in|at|near) (?:the )?)?(?P<name>\b{NAME})(?!\w|['’]s\b)")
_OPENINGS = {"by": "Who", "in": "Where", "at": "Where", "near": "Where"}


@dataclass(frozen=True)
class Candidate:
    """An answer whose question is wanted.

    Attributes:
        sentence: where it stands.
        answer: as it stands there.
        opening: how the question must begin; empty if its kind leaves that open.
    """

    sentence: str
    answer: str
    opening: str = ""


def candidates(passage: Passage, count: int) -> list[Candidate]:
    """At most so many different answers of a passage.

    Those whose kind says how the question must begin (dates, numbers of something, names behind some prepositions)
    come first, since small models ask about them best, and of either sort the sentences give theirs in turn. From a
    sentence, no two questions begin alike, or they would be the same; and no words of the title are an answer, since
    most questions must name it.
    """
    turns = zip_longest(*map(_in_sentence, split_sentences(repaired(passage.text))))
    found = sorted(filter(None, chain.from_iterable(turns)), key=lambda candidate: not candidate.opening)
    chosen: dict[str, Candidate] = {}
    begun: set[tuple[str, str]] = set()
    for candidate in found:
        question = (candidate.sentence, candidate.opening)
        if candidate.opening and question in begun:
            continue
        begun.add(question)
        if f" {candidate.answer.casefold()} " not in f" {passage.title.casefold()} ":
            chosen.setdefault(candidate.answer.casefold(), candidate)
    return list(chosen.values())[:count]


def _in_sentence(sentence: str) -> Iterator[Candidate]:
    for match in _DATE.finditer(sentence):
        yield Candidate(sentence, match[0], "In which year" if re.fullmatch(YEAR, match[0]) else "When")
    undated = _DATE.sub("…", sentence)
    for match in _NUMBER.finditer(undated):
        yield Candidate(sentence, match[0], f"How many {match['noun']}")
    for match in _NAME.finditer(undated):
        if match.start() > 0 and _is_answer(match["name"]):
            yield Candidate(sentence, match["name"], _OPENINGS.get(match["before"], ""))


def _is_answer(name: str) -> bool:
    """Whether a run of capitalised words can be one: no initial, no pronoun, no adjective."""
    if name in DEMONYMS or name.casefold() in FUNCTION_WORDS:
        return False
    return bool(re.search(r"\w{2}", name)) and len(name.split()) <= LONGEST_NAME
