"""What a passage is about: its title, what sort of thing that is, and the words that stand for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from polyprag.augmentation.lexicon import FUNCTION_WORDS, GROUP_KINDS, PERSON_NOUNS, PLACE_KINDS, WORK_KINDS
from polyprag.augmentation.sentences import ADVERB, VERB


class Nature(StrEnum):
    """What a subject is, as far as questions about it depend on that."""

    PERSON = "person"
    WORK = "work"
    OTHER = "other"


@dataclass(frozen=True)
class Subject:
    """Who or what a statement is about.

    Attributes:
        name: as it stands in the passage, or the passage's title without what is in brackets.
        shown: as a question names it.
        nature: person, work or something else; names about which nothing is known are something else.
        is_title: whether it is what the whole passage is about.
    """

    name: str
    shown: str
    nature: Nature = Nature.OTHER
    is_title: bool = False


_KINDS = frozenset((*WORK_KINDS, *PLACE_KINDS, *GROUP_KINDS))
_DEFINITION = re.compile(r"\b(?:is|was|are|were) (?:an?|the|one of the) (.+)")
_DEFINED_UNTIL = re.compile(
    r"[,.;:(]|\b(?:of|in|on|at|by|for|from|to|who|which|that|with|and|based|set|\w+ed|written)\b"
)


class Topic:
    """What a passage is about.

    Args:
        title: the passage's title, not empty.
        sentences: its sentences.

    Attributes:
        words: the words of the title, in small letters.
        kinds: nouns that may stand for it, such as "film".
        subject: the title as a subject.
        aliases: forms of the title that may stand for it, the longest first.
    """

    def __init__(self, title: str, sentences: list[str]) -> None:
        self.bracketed = match[1] if (match := re.search(r"\(([^()]*)\)\Z", title)) else ""
        name = re.sub(r"\s*\([^()]*\)\Z", "", title).strip()
        self.words = set(re.findall(r"\w+", name.casefold())) - FUNCTION_WORDS
        self.definition = next((found for one in sentences if (found := self._defined(one))), "")
        described = f"{self.definition} {self.bracketed} {name.lower()}"
        self.kinds = _KINDS.intersection(re.findall(r"[\w-]+", described))
        self.nature = self._nature(name, sentences)
        named = re.compile(rf"The {re.escape(name)}(?=,? {ADVERB}(?:{VERB})\b| \()")
        article = "the " if any(named.match(one) for one in sentences) else ""
        self.subject = Subject(name, self._shown(f"{article}{name}"), self.nature, is_title=True)
        self.aliases = sorted(self._aliases(name), key=len, reverse=True)

    def _defined(self, sentence: str) -> str:
        """What the sentence says that the title is, such as "1985 American film"; empty if that is not its subject."""
        match = _DEFINITION.search(sentence)
        before = set(re.findall(r"\w+", sentence[: match.start()].casefold())) if match else set()
        if match is None or not self.words & before:
            return ""
        return _DEFINED_UNTIL.split(match[1], maxsplit=1)[0].strip()

    def _nature(self, name: str, sentences: list[str]) -> Nature:
        head = (self.definition.split() or [""])[-1].lower()
        hints = {head, *self.bracketed.replace(",", "").split()}
        text = " ".join(sentences)
        if hints & PERSON_NOUNS or re.search(r"\((?:\w+ )?born |\bborn\b.*\b(?:died|[Hh]e|[Ss]he)\b", text):
            return Nature.PERSON
        if hints & set(WORK_KINDS):
            return Nature.WORK
        personal = re.search(r"(?:\A|[.;,] )(?:He|She|he|she|His|Her) ", text)
        surname = f" {(name.split(',')[0].split() or [name])[-1]}"
        called = surname in f" {text}".replace(f"the{surname}", "")
        return Nature.PERSON if personal and called and not self.kinds else Nature.OTHER

    def _shown(self, name: str) -> str:
        """The name with what its brackets say, as a person would: "the 1999 film Black and White"."""
        words = self.bracketed.split(",")[0].split()
        if not words:
            return name
        noun = words[-1].lower() in _KINDS or words[-1].lower() in PERSON_NOUNS
        plain = noun and not FUNCTION_WORDS.intersection(words)
        return f"the {' '.join(words)} {name}" if plain else f"{name} ({self.bracketed})"

    def _aliases(self, name: str) -> set[str]:
        short = name.split(",")[0].strip()
        aliases = {name, short, re.sub(r"\AThe ", "", short)}
        parts = short.split()
        if self.nature is Nature.PERSON and len(parts) > 1 and not FUNCTION_WORDS.intersection(parts):
            aliases |= {parts[0], parts[-1]}
        return {alias for alias in aliases if alias}
