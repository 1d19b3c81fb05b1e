"""Fill-in questions: a sentence of the passage with a name, date, number or quoted title left out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from polyprag.augmentation.lexicon import CALENDAR, DEMONYMS, FUNCTION_WORDS
from polyprag.augmentation.sentences import DATE, NAME
from polyprag.augmentation.slot_patterns import Candidate
from polyprag.augmentation.statements import Statement, StatementReader

BLANK = "____"
FEWEST_WORDS, MOST_WORDS = 6, 45
"""Words of a sentence that is used."""
LONGEST_ANSWER = 6

_UNITS = (
    "percent|per cent|%|°C|°F|km2?|kilometres|kilometers|miles|metres|meters|m|cm|mm|kg|tons|tonnes|feet|years|days|"
    "million|billion"
)
_KINDS = (
    re.compile(r"(?<=[\"“])[A-Z0-9][^\"“”]{1,50}?(?=[\"”])"),
    re.compile(DATE),
    re.compile(rf"(?:[$£€] ?)?\b\d[\d,.]*\d?(?![\w-])(?: (?:{_UNITS})\b|%)?(?: (?:{_UNITS})\b)?"),
    re.compile(rf"\b{NAME}"),
)
"""Quoted titles, dates, numbers with their units, and names; the earlier kind takes the words."""
_ENCLOSED = re.compile(r"\([^()]*\)|[\"“][^\"“”]*[\"”]")
_WEAK = frozenset((*CALENDAR, *DEMONYMS))
_UNCLEAR_START = re.compile(
    r"(?:This|These|That|Those|He|She|It|They|His|Her|Its|Their|There|Such|Both|But|And|However)\b"
)


def cloze_questions(reader: StatementReader, statements: list[Statement]) -> Iterator[Candidate]:
    """All fill-in questions of a passage.

    Args:
        reader: the passage's sentences.
        statements: what it read; their sentences have pronouns replaced.
    """
    resolved = {statement.place: statement.sentence for statement in statements}
    title = reader.topic.subject.shown if reader.topic else ""
    words = reader.topic.words if reader.topic else set()
    for place, plain in enumerate(reader.sentences):
        sentence = resolved.get(place, plain)
        if (
            not FEWEST_WORDS <= len(sentence.split()) <= MOST_WORDS
            or not sentence[0].isupper()
            or sentence[-1] not in '.!?"”'
        ):
            continue
        unclear = bool(_UNCLEAR_START.match(sentence))
        for start, end in _spans(sentence):
            answer = sentence[start:end]
            if sentence.count(answer) > 1 or set(re.findall(r"\w+", answer.casefold())) & words:
                continue
            asked = f"{sentence[:start]}{BLANK}{sentence[end:]}"
            about = f" about {title}" if title and title not in asked else ""
            yield Candidate(f"Fill in the blank{about}: {asked}", answer, sentence, place, 10 + 3 * unclear)


def _spans(sentence: str) -> list[tuple[int, int]]:
    """Places of possible answers, in the order of the sentence, that do not overlap."""
    taken: list[tuple[int, int]] = []
    enclosed = [match.span() for match in _ENCLOSED.finditer(sentence)]
    for pattern in _KINDS:
        for match in pattern.finditer(sentence):
            start, end = match.span()
            end -= len(match[0]) - len(match[0].rstrip(".,"))
            apart = all(end <= other or start >= stop for other, stop in taken)
            within = any(
                outer <= start and end <= stop and (outer + 1, stop - 1) != (start, end) for outer, stop in enclosed
            )
            if apart and not within and _fits(sentence, start, end):
                taken.append((start, end))
    return sorted(taken)


def _fits(sentence: str, start: int, end: int) -> bool:
    answer, words = sentence[start:end], sentence[start:end].split()
    if not 1 <= len(words) <= LONGEST_ANSWER or len(answer) < 2 or (start == 0 and len(words) == 1):
        return False
    says_little = (words[0].lower() in FUNCTION_WORDS and words[0] != "May") or answer in _WEAK
    part = re.match(r"['’]s [A-Z]|-\w", sentence[end:]) or sentence[:start].endswith("-") or "The" in words[1:]
    return not says_little and not part
