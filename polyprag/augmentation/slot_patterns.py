"""The table of patterns by which what a sentence says of its subject becomes a question."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from polyprag.augmentation.lexicon import DEMONYMS, MONTHS, NUMBER_WORDS, RANKS
from polyprag.augmentation.sentences import DATE, NAME, YEAR
from polyprag.augmentation.topics import Nature

ENDS = (
    r"(?=[,;:)?!\"”]|(?<![A-Z])\.|$| (?:and|or|but|in|on|by|at|as|for|with|from|to|of|near|where|when|after|before|"
    r"during|which|who|while|since|until|between|that|under|because|through|shortly|following|is|was|are|were)\b)"
)
"""What may follow a name that is no part of a longer term."""
PLACE = rf"(?:the )?{NAME}(?:, (?!(?:{'|'.join(MONTHS)})\b){NAME}(?! (?:and|was|were|is)\b)){{0,3}}{ENDS}"
"""A place with the larger ones that it lies in."""
PERSON = rf"(?:the )?{NAME}(?:, (?:\d\w+ )?(?:{'|'.join(RANKS)}) (?:of )?{NAME}(?: and [A-Z]\w+\b(?! [A-Z]))?)?"
"""A person, perhaps with a title after the name."""
PEOPLE = rf"{PERSON}(?:, (?!and ){NAME}){{0,3}}(?:,? and (?:his wife |the )?{PERSON})?"
_NATION = "|".join(sorted(DEMONYMS, key=len, reverse=True))
LED_BY = rf"(?:the )?(?:late )?(?:(?:{_NATION})(?:-born)? )?(?:[a-z-]+ ){{0,5}}?(?:the )?"
"""What may stand before a name: "the late German composer"."""
_NOUN = r"(?: (?!(?:and|or|with|by|as|to|for|from)\b)[a-z-]{3,}(?=[ ,.]|$))?"
_THING = rf"(?:(?:the|an?) )?(?:(?:[a-z-]+ ){{0,2}}[\"“][^\"”]+[\"”]|{NAME}{_NOUN})"
_COUNT = rf"\d[\d,.]*|{'|'.join(NUMBER_WORDS[1:])}"
_END = r"(?= (?:in|at|on|for|with|by|after|during|from|when|until|between|under) |,|;| and |$)"


@dataclass(frozen=True)
class Candidate:
    """A question that could be asked.

    Attributes:
        question: the question.
        answer: words of the passage that answer it.
        sentence: the sentence that tells, with its subject named.
        place: number of that sentence in the passage, from 0.
        rank: the smaller, the better the question.
    """

    question: str
    answer: str
    sentence: str
    place: int
    rank: int


class Pattern(NamedTuple):
    """A way to ask.

    Attributes:
        expression: matches the beginning of a predicate; group a is the answer.
        question: with `{s}` for the subject, `{base}` for the infinitive of the predicate's verb and other groups.
        nature: what the subject must be; None for anything.
        rank: the smaller, the better the question.
    """

    expression: re.Pattern[str]
    question: str
    nature: Nature | None
    rank: int


def _pattern(expression: str, question: str, nature: Nature | None = None, rank: int = 1) -> Pattern:
    return Pattern(re.compile(expression), question, nature, rank)


PATTERNS = (
    _pattern(rf"was born\b[^.;(]{{0,40}}?(?: on| in)? (?P<a>{DATE})", "When was {s} born?", rank=0),
    _pattern(rf"was born\b[^.;(]*? (?:in|at|near) (?P<a>{PLACE})", "Where was {s} born?", rank=0),
    _pattern(rf"died\b[^.;(]{{0,40}}? (?:on|in) (?P<a>{DATE})", "When did {s} die?", rank=0),
    _pattern(rf"died\b[^.;(]*? (?:in|at|near) (?P<a>{PLACE})", "Where did {s} die?", rank=0),
    _pattern(rf"died (?:of|from) (?P<a>(?:an? )?[a-z][a-z -]{{3,30}}?){_END}", "What did {s} die of?"),
    _pattern(
        rf"(?:is|was) (?:(?:located|situated) (?:in|on|at|near)|(?:based|headquartered) (?:in|at)) (?P<a>{PLACE})",
        "Where is {s} located?",
        rank=0,
    ),
    _pattern(
        rf"(?:is|was) (?:also )?(?:better |commonly |popularly |widely )?known (?:simply |professionally )?as "
        rf"(?P<a>(?:the )?[\"“]?{NAME}[\"”]?)",
        "What is {s} also known as?",
    ),
    _pattern(
        r"(?:is|was) (?:best |better |widely |well )?known for (?P<a>(?!(?:his|her|its|their|being)\b)[^,.;]+?)"
        r"(?=,|;| and (?:as|for)\b|$)",
        "What is {s} known for?",
        rank=2,
    ),
    _pattern(rf"(?:is|was) named (?:after|for) (?P<a>(?:the )?{NAME}(?:, Jr\.)?)", "Who or what is {s} named after?"),
    _pattern(rf"(?:first |secondly )?married {LED_BY}(?P<a>{PERSON})", "Who did {s} marry?", Nature.PERSON, 0),
    _pattern(rf"(?:is|was) married to {LED_BY}(?P<a>{PERSON})", "Who was {s} married to?", Nature.PERSON, 0),
    _pattern(
        rf"(?:attended|studied at|was educated at|graduated from) (?:the )?(?P<a>{NAME})",
        "Where did {s} study?",
        Nature.PERSON,
    ),
    _pattern(
        rf"studied (?P<a>(?!(?:in|at|with|under|for|the|and)\b)[a-z]+(?: (?!in\b|at\b|with\b)[a-z]+){{0,3}}?){_END}",
        "What did {s} study?",
        Nature.PERSON,
    ),
    _pattern(
        rf"(?:has )?played (?:professionally |club football |football )?for (?:the )?(?P<a>{NAME})",
        "Which team did {s} play for?",
        Nature.PERSON,
    ),
    _pattern(rf"joined (?:the )?(?P<a>{NAME})(?P<t> in {YEAR})?", "What did {s} join{t}?", Nature.PERSON, 2),
    _pattern(rf"moved to (?P<a>{PLACE})(?P<t> in {YEAR})?", "Where did {s} move to{t}?"),
    _pattern(rf"(?:lived|settled|grew up|resided) in (?P<a>{PLACE})", "Where did {s} live?", Nature.PERSON, 2),
    _pattern(
        rf"(?:served|worked|acted) as (?P<a>(?:the |an? )?[^,.;\d]{{4,60}}?){_END}",
        "What did {s} serve as?",
        Nature.PERSON,
    ),
    _pattern(rf"became (?P<a>(?:the |an? )?[^,.;\d]{{4,60}}?){_END}", "What did {s} become?", Nature.PERSON, 2),
    _pattern(rf"(?:has )?won (?P<a>(?:the|an?) [^,;]{{4,70}}?){_END}(?P<t> in {YEAR})?", "What did {s} win{t}?"),
    _pattern(
        rf"(?:received|was awarded) (?P<a>(?:the|an?) (?=[^,;]*[A-Z])[^,;]{{4,70}}?){_END}(?P<t> in {YEAR})?",
        "What did {s} receive{t}?",
    ),
    _pattern(
        rf"(?:wrote|directed|composed|founded|invented|discovered|designed|established|developed|recorded|painted|claimed|"
        rf"introduced|published|launched|adopted|built|created|produced|signed) "
        rf"(?P<a>{_THING})",
        "What did {s} {base}?",
        rank=2,
    ),
    _pattern(
        rf"(?:defeated|conquered|visited|captured|acquired|represented|influenced|replaced|taught|succeeded) (?:the )?"
        rf"(?P<a>{PERSON})",
        "Who or what did {s} {base}?",
        rank=3,
    ),
    _pattern(rf"(?:stars|starred) {LED_BY}(?P<a>{NAME})", "Who stars in {s}?", Nature.WORK, 0),
    _pattern(
        r"(?:is|was) (?:loosely |partly )?(?:based|adapted) (?:on|from) (?P<a>[^,;]{4,60}?)"
        r"(?=,|;| and | which | about |$)",
        "What is {s} based on?",
    ),
    _pattern(
        rf"(?:follows|tells|depicts) the (?:story|life) of (?P<a>(?:[a-z]+ ){{0,3}}{NAME})",
        "Whose story does {s} tell?",
        Nature.WORK,
    ),
    _pattern(rf"premiered\b[^.;(]*? (?:at|in) (?P<a>{PLACE})", "Where did {s} premiere?"),
    _pattern(r"consists of (?P<a>[^,;.]{4,50}?)(?=,|;| which| that|$)", "What does {s} consist of?", rank=2),
    _pattern(rf"borders (?P<a>{PEOPLE})", "What does {s} border?", rank=2),
    _pattern(
        r"(?:had|has) (?:an? )?(?:estimated )?(?P<n>population|area|length|height|elevation) of (?:about |around |"
        r"over |approximately |some )?(?P<a>\d[\d,.]*(?: million)?(?: (?:km2?|square \w+|m|ft|miles|metres))?)",
        "What is the {n} of {s}?",
        rank=0,
    ),
    _pattern(
        rf"(?:has|had|contains|includes|covers|comprises) (?:about |approximately |around |over |more than )?"
        rf"(?P<a>{_COUNT}) (?P<n>(?!more\b|other\b|of\b)[a-z]+(?: [a-z]+)?s)\b",
        "How many {n} does {s} have?",
        rank=2,
    ),
)
