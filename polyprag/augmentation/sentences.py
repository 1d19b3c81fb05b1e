"""English text as patterns need it: repaired, cut into sentences, and the shapes of names, dates and verbs."""

from __future__ import annotations

import re
import unicodedata

from polyprag.augmentation.lexicon import MONTHS, PAST, PRESENT

UPPER = "A-ZÀ-ÖØ-ÞĀĆČĎĐĒĖĘĚĞĪİĮŁŃŇŌŐŘŚŞŠŢŤŪŮŰŲŹŻŽ"
_CAPITALISED = (
    rf"(?:(?:al|el|as|ad|an|d|l)[-'’](?=[{UPPER}]))?"
    rf"(?:(?:[{UPPER}]\.)+|(?:Mr|Mrs|Dr|St|Jr|Sr|Mt)\.|[{UPPER}](?:[\w&/-]|['’](?!s\b))*(?:\.\w+)*)"
)
_LINK = (
    "(?:of the|of|for the|for|de la|de las|de los|de|da|dos|das|do|del|della|di|du|des|van der|van den|van|von|der|den|"
    "la|le|el|al|bin|ibn|ben|y|&)"
)
NAME = rf"{_CAPITALISED}(?:[ ](?:{_LINK}[ ])?(?:{_CAPITALISED}|\d+(?:st|nd|rd|th)\b))*"
"""A run of capitalised words, with the small words that names hold."""

YEAR = r"(?:1\d{3}|20\d{2})"
_MONTH = rf"(?:{'|'.join(MONTHS)})"
DATE = (
    rf"(?:{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? {YEAR}|\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH},? {YEAR}|"
    rf"{_MONTH},? {YEAR}|{YEAR}(?![-–/]?\d|s\b|,\d))"
)
"""A day, a month or a year in full."""

_VERBS = ("is", "was", "are", "were", "has", "had", *PRESENT, *PAST)
VERB = "|".join(re.escape(verb) for verb in sorted(_VERBS, key=len)[::-1])
"""Finite verbs that a predicate may begin with."""

ADVERB = r"(?:(?:also|then|later|subsequently|eventually|originally|soon|initially|formally|officially|first) )?"
"""What may stand before such a verb."""

_ABBREVIATION = re.compile(
    rf"(?:\A|[\s(\"“.])(?:[{UPPER}]|(?:\w\.)+\w|Mr|Mrs|Ms|Dr|Prof|St|Mt|Jr|Sr|Rev|Hon|Gen|Lt|Col|Capt|Sgt|Gov|Sen|vs|"
    r"Nos?|ca|cf|al|etc|approx|[cflrbd]|fl|Inc|Ltd|Co|Corp|Bros|Dept|Univ|Jan|Feb|Mar|Apr|Aug|Sept?|Oct|Nov|Dec)\.\Z"
)
_END = re.compile(rf"[.!?][\"”’')\]]*(?=\s+[\"“'‘(\[]*[{UPPER}0-9])")
_REPAIRS = (
    (re.compile(r"\[(?:citation needed|\d+|[a-z]|note \d+|who\?|when\?|clarification needed)\]"), ""),
    (re.compile(r"(?<=[.!?]):\d[\d,:–-]*(?=\s|$)"), ""),
    (re.compile(r"\s+"), " "),
    (re.compile(r"(?<=[\w\"])\(\s*|\(\s+"), " ("),
    (re.compile(r"\((?:\s*[;,])+\s*"), "("),
    (re.compile(r"\s*\(\s*\)"), ""),
    (re.compile(r"\s+(?=[,;)](?:\s|$)|\.(?:\s|$))"), ""),
    (re.compile(r"(?<=[a-z])- (?!(?:and|or|to)\b)(?=\w)"), "-"),
    (re.compile(r"\s(?=['’]s\b)"), ""),
    (re.compile(r"(?<=[a-z][.!?])(?=[A-Z][a-z]+ [a-z])"), " "),
    (re.compile(r"\s{2,}"), " "),
)
"""Marks of references, brackets that lost their content, and spaces and quotation marks out of place."""


def repaired(text: str) -> str:
    """A text in one line and in composed characters, without what extraction from Wikipedia left behind."""
    text = unicodedata.normalize("NFC", text)
    for pattern, replacement in _REPAIRS:
        text = pattern.sub(replacement, text)
    parts = text.split('"')
    if len(parts) % 2:  # as many marks open as close
        quoted = [part.strip() if number % 2 else part for number, part in enumerate(parts)]
        spaced = [
            re.sub(r"(?<=[\w,:;])$", " ", part) if number % 2 == 0 else part for number, part in enumerate(quoted)
        ]
        text = '"'.join([*spaced[:-1], parts[-1]])
    return text.strip()


def split_sentences(text: str) -> list[str]:
    """The sentences of a text in one line; initials and common abbreviations end none."""
    found, start = [], 0
    for match in _END.finditer(text):
        if not _ABBREVIATION.search(text[start : match.start() + 1]):
            found.append(text[start : match.end()].strip())
            start = match.end()
    rest = text[start:].strip()
    return [*found, rest] if rest else found
