"""From a passage to statements: who or what a sentence is about, and what it says of it, where patterns can tell."""

from __future__ import annotations

import re
from dataclasses import dataclass

from polyprag.augmentation.lexicon import FUNCTION_WORDS, HONORIFICS, MONTHS, PERSON_NOUNS
from polyprag.augmentation.sentences import ADVERB, NAME, UPPER, VERB, repaired, split_sentences
from polyprag.augmentation.topics import Nature, Subject, Topic
from polyprag.records import Passage


@dataclass(frozen=True)
class Statement:
    """A sentence that names its subject first.

    Attributes:
        subject: who or what it is about.
        predicate: what follows the subject, from the verb on and without the full stop; or from "'s" on.
        intro: a time or place in front of the subject, such as "In 1912"; may be empty.
        aside: what stands in brackets behind the subject; may be empty.
        sentence: the whole sentence with the subject's name in place of a pronoun.
        place: number of the sentence in the passage, from 0.
    """

    subject: Subject
    predicate: str
    intro: str
    aside: str
    sentence: str
    place: int


_BRACKETS = re.compile(r"\s*\(([^()]*)\)")
_INTRO = re.compile(r"((?:In|On|By|From|Since|During|After|Until|At|Around) (?:[^,()]|(?<=\d),(?= \d{4})){2,60}), (.+)")
_LEADING = re.compile(
    r"(?:However|Later|Then|Eventually|Subsequently|Additionally|Furthermore|Moreover|Today|Meanwhile|Originally|"
    r"Initially|Finally|Afterwards?|Thereafter|Also),? (?=\w)"
)
_BORN = re.compile(
    rf"(Born|Raised|Educated|Founded|Established|Located|Situated) (.+?), (?=(?:[Hh]e|[Ss]he|[Ii]t|the|{NAME})\b)(.+)"
)
_PRONOUN = re.compile(r"(?:He|She|It|They|he|she|it|they)\b")
_OWNER = re.compile(r"(?:His|Her|Its|Their|his|her|its|their)\b")
_APPOSITION = re.compile(rf",\s(?!and\b|who\b|which\b|but\b)([^()]{{3,100}}?),\s(?={ADVERB}(?:{VERB})\b)")
_OTHER_NAME = re.compile(
    rf"(?P<before>(?:[{UPPER}][\w-]+ )?(?:[a-z-]+ ){{1,2}})?(?P<name>(?:[Tt]he )?{NAME})"
    rf"(?P<noun>(?: (?!(?:{VERB})\b)[a-z-]+){{1,3}}(?= (?:{VERB})\b))?(?=['’]s? |[ (,])"
)
_DEFINITE = re.compile(rf"The (?:[a-z-]+ ){{1,4}}of (?:the )?{NAME}(?= \(| {ADVERB}(?:{VERB})\b)")
_SMALL = frozenset(("of", "the", "de", "da", "von", "van", "der", "and", "di", "la", "le", "du", "zu", "al", "bin"))
_NO_NOUN = re.compile(r"\w+(?:ed|ing|ly)\b")


class StatementReader:
    """Reads the statements of one passage.

    Args:
        passage: the passage; without a title only sentences that begin with a name give statements.
    """

    def __init__(self, passage: Passage) -> None:
        title = repaired(passage.title)
        self.sentences = [_without_heading(one, title) for one in split_sentences(repaired(passage.text))]
        self.topic = Topic(title, self.sentences) if title else None
        self._current: Subject | None = self.topic.subject if self.topic else None

    def read(self) -> list[Statement]:
        """The statements in the order of their sentences; sentences without a clear subject are left out."""
        found = []
        for place, sentence in enumerate(self.sentences):
            statement = self._statement(sentence, place)
            if statement:
                found.append(statement)
        return found

    def _statement(self, sentence: str, place: int) -> Statement | None:
        intro, rest = "", _LEADING.sub("", sentence, count=1)
        if match := _BORN.match(rest):
            intro, rest = f"{match[1]} {match[2]}", match[3]
        elif match := _INTRO.match(rest):
            intro, rest = match[1], match[2]
        found = self._subject(rest, place)
        if found is None:
            self._current = None if _OTHER_NAME.match(rest) or _OWNER.match(rest) else self._current
            return None
        subject, length = found
        owner = _OWNER.match(rest)
        named = f"{subject.name}{'’s' if owner else ''}" if subject.is_title else rest[:length]
        after = ("'s" if owner else "") + rest[length:]
        aside, predicate = self._predicate(after)
        if not predicate:
            return None
        self._current = subject if not predicate.startswith("'s") else None
        start = sentence.rfind(rest)
        full = f"{sentence[:start]}{named}{rest[length:]}"
        return Statement(subject, predicate.rstrip(" .!?"), intro, aside, full[0].upper() + full[1:], place)

    def _predicate(self, after: str) -> tuple[str, str]:
        """What stands in brackets behind a subject, and the predicate, which is empty if none is recognised."""
        aside = ""
        if match := _BRACKETS.match(after):
            aside, after = match[1], after[match.end() :]
        if match := _APPOSITION.match(after):
            after = " " + after[match.end() :]
        after = re.sub(r"\A['’]s ", "'s ", after)
        match = re.match(rf"\s{ADVERB}((?:{VERB})\b.*)", after) or re.match(r"('s .*)", after)
        predicate = re.sub(r"\A(is|was|are|were) also ", r"\1 ", match[1]) if match else ""
        return aside, predicate

    def _subject(self, rest: str, place: int) -> tuple[Subject, int] | None:
        """The subject that a sentence begins with and the length of the words that name it."""
        topic = self.topic
        if match := _PRONOUN.match(rest) or _OWNER.match(rest):
            word, current = match[0].lower(), self._current
            personal = word in ("he", "she", "his", "her")
            fits = current is not None and personal == (current.nature is Nature.PERSON)
            plural = word in ("they", "their")
            return (current, match.end()) if current and fits and not plural else None
        if topic:
            length = self._title_length(rest, place)
            if length:
                return topic.subject, length
        return self._other(rest)

    def _title_length(self, rest: str, place: int) -> int:
        topic = self.topic
        assert topic is not None
        for alias in topic.aliases:
            match = re.match(
                rf"(?:[Tt]he )?[\"“]?{re.escape(alias)}[\"”]?(?![\w-])(?:,? or (?:the )?{NAME})?(?! (?:and|or|&) )",
                rest,
            )
            if match and not re.match(rf" (?!{VERB})[{UPPER}][\w.]", rest[match.end() :]):
                return match.end()
        if match := re.match(rf"[Tt]he ({'|'.join(sorted(topic.kinds))})\b(?! of\b)", rest) if topic.kinds else None:
            return match.end()
        # The first sentence often has the name in full: "Lieutenant-General Sir William Erskine, 1st Baronet (".
        match = re.match(r"([^()]{1,100}?)(?= \(|,? (?:is|was|are|were) )", rest)
        named = re.findall(r"[\w’'-]+", match[1]) if match else []
        whole = all(word[0].isupper() or word[0].isdigit() or word in _SMALL for word in named)
        shared = topic.words.intersection(word.casefold() for word in named)
        return match.end() if match and whole and len(shared) * 2 >= len(topic.words) > 0 else 0

    def _other(self, rest: str) -> tuple[Subject, int] | None:
        """A name other than the title, or what is said to be of such a name."""
        if match := _DEFINITE.match(rest):
            return Subject(match[0], f"t{match[0][1:]}"), match.end()
        match = _OTHER_NAME.match(rest)
        if match is None:
            return None
        name, before, noun = match["name"], (match["before"] or "").lower().split(), match["noun"] or ""
        first, *more = name.lower().split()
        if more and first in PERSON_NOUNS - HONORIFICS:
            name, before = name.split(" ", 1)[1], [first]
        no_name = (first in FUNCTION_WORDS and not (first == "the" and more)) or name.split()[0] in MONTHS
        unclear = before and (FUNCTION_WORDS.intersection(before) or before[-1] not in PERSON_NOUNS)
        verb_first = noun and not re.match(r" (?:is|was|are|were|has|had)\b", rest[match.end() :])
        if no_name or unclear or verb_first or FUNCTION_WORDS.intersection(noun.split()) or _NO_NOUN.search(noun):
            return None
        shown = f"the {name[4:]}" if first == "the" else name
        return Subject(f"{name}{noun}", f"{shown}{noun}", Nature.PERSON if before else Nature.OTHER), match.end()


def _without_heading(sentence: str, title: str) -> str:
    """A sentence without the title in front of it, which stands in DPR's passages where an article begins anew."""
    rest = sentence.removeprefix(f"{title} ") if title else sentence
    name = re.match(rf"(?:The )?{NAME}", rest)
    repeated = name and set(re.findall(r"\w+", name[0])) & set(re.findall(r"\w{3,}", title))
    return rest if repeated else sentence
