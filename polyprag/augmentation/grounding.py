"""What ties words to a passage: normal forms of text, and how much of one text stands in another."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from polyprag.augmentation.lexicon import FUNCTION_WORDS, NUMBER_WORDS

_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
# Scripts without spaces between words (Thai, Lao, kana, Han) are compared character by character.
_TOKEN = re.compile(
    r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)
_WORD = re.compile(r"[^\W_]+")
_SENTENCE_START = re.compile(r"(?:\A|[.!?:;]|\n)[\s\"“'‘(]*\Z")
_NUMBERS = {word: str(number) for number, word in enumerate(NUMBER_WORDS, start=1)}


def tokens(text: str) -> list[str]:
    """Words in a form in which case, accents, punctuation and thousands separators make no difference.

    The numbers from one to twelve are digits.
    """
    plain = unicodedata.normalize("NFKD", _THOUSANDS.sub("", text)).casefold()
    bare = "".join(character for character in plain if not unicodedata.combining(character))
    return [_NUMBERS.get(token, token) for token in _TOKEN.findall(bare)]


def content_tokens(text: str) -> list[str]:
    """The tokens that are no function words; all of them where there are no others."""
    found = tokens(text)
    return [token for token in found if token not in FUNCTION_WORDS] or found


def contains_run(text_tokens: Sequence[str], run: Sequence[str]) -> bool:
    """Whether tokens occur one after the other in a text; an empty run occurs nowhere."""
    return bool(run) and f" {' '.join(run)} " in f" {' '.join(text_tokens)} "


def share_within(words: Collection[str], known: Iterable[str]) -> float:
    """How many of some tokens stand among known ones, 0 to 1; words of six letters or more may differ in their ends."""
    exact = set(known)
    stems = {_stem(token) for token in exact}
    return sum(word in exact or _stem(word) in stems for word in words) / max(len(words), 1)


def names_and_numbers(text: str) -> set[str]:
    """Tokens of words that hold a digit, or that begin with a capital letter within a sentence."""
    found: set[str] = set()
    for match in _WORD.finditer(text):
        word = match[0]
        is_name = word[0].isupper() and not _SENTENCE_START.search(text, 0, match.start())
        if any(character.isdigit() for character in word) or is_name:
            found.update(tokens(word))
    return found - FUNCTION_WORDS


def scripts(text: str) -> Counter[str]:
    """Letters of a text by writing system, such as LATIN, CYRILLIC or CJK."""
    names = (unicodedata.name(character, "") for character in text if character.isalpha())
    return Counter(name.split(" ", 1)[0] for name in names if name)


def _stem(token: str) -> str:
    return token[: max(5, len(token) - 3)] if len(token) >= 6 else token
