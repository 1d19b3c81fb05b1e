"""Long texts to passages: so many words or tokens at most, and no word lost or doubled."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from polyprag.config import SplittingConfig, SplitUnit
from polyprag.errors import ConfigError

Tokenize = Callable[[str], Sequence[int]]
"""The tokens of a text, without special tokens."""

CACHED_WORDS = 2**17

_WORD = re.compile(r"\S+")
_OPENERS, _CLOSERS = "\"'“‘„«([{*_", "\"'”’“»)]}*_"
_WIDE_ENDS = "。！？"
_WIDE_SENTENCE = re.compile(r"[^。！？]*[。！？]+[”’」』）]*|[^。！？]+")
_ABBREVIATION = re.compile(
    r"(?:[^\W\d_]\.)*[^\W\d_]|mr|mrs|ms|dr|prof|st|mt|jr|sr|rev|hon|gov|gen|capt|lt|sgt|vs|etc|cf|al|ca|approx|nos?|"
    r"vols?|figs?|eq|eds?|pp|ch|inc|ltd|co|corp|bros|dept|univ|est|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|"
    r"ph\.d|bzw|usw",
    re.IGNORECASE,
)
"""A letter, letters with stops between them (J. R. R., e.g., U.S.), and words that a stop follows mid-sentence."""


class Piece(NamedTuple):
    """What no cut goes through: a word, or in tokens a part of a word that is longer than a passage.

    Attributes:
        start: its first character in the text.
        end: the character after its last.
        cost: its length in words or tokens.
    """

    start: int
    end: int
    cost: int


class Splitter:
    """Cuts texts into passages that follow each other without gap or overlap.

    A passage holds as many words as fit. Where a text goes on and `sentences` is set, it ends with the last sentence
    (or else the last line) that ends in its second half, if there is one.

    Args:
        splitting: unit, size and whether sentence ends count. Words are what white space separates, as in DPR
            (arXiv 2004.04906).
        tokenize: the base model's tokenizer, for `unit: tokens`.

    Raises:
        ConfigError: the unit is tokens and there is no tokenizer.
    """

    def __init__(self, splitting: SplittingConfig, tokenize: Tokenize | None = None) -> None:
        if splitting.unit is SplitUnit.TOKENS and tokenize is None:
            raise ConfigError("data.splitting.unit is tokens, but no tokenizer is loaded here; use words")
        self._splitting = splitting
        self._tokenize = tokenize if splitting.unit is SplitUnit.TOKENS else None
        self._cached = lru_cache(CACHED_WORDS)(self._length)

    def split(self, text: str) -> Iterator[str]:
        """The passages of a text, of at most `size` words or tokens each.

        White space at the cuts is dropped, elsewhere it stays. In tokens, a word that is longer than a passage (a text
        in Chinese, say) is cut too, at its sentence ends if possible.

        Args:
            text: any text; a blank one gives nothing. With `unit: off` it stays whole.
        """
        if self._splitting.unit is SplitUnit.OFF:
            yield from [text.strip()] if text.strip() else []
            return
        pieces = self._pieces(text)
        window: list[Piece] = []
        while True:
            self._fill(window, pieces)
            if not window:
                return
            count = self._fitting(text, window)
            if count < len(window) and self._splitting.sentences:
                count = self._natural_end(text, window, count)
            yield text[window[0].start : window[count - 1].end]
            del window[:count]

    def _pieces(self, text: str) -> Iterator[Piece]:
        """Words, counted in tokens together with the white space before them."""
        before = 0
        for word in _WORD.finditer(text):
            start, end = word.span()
            cost = 1 if self._tokenize is None else self._cached(text[before:end])
            if self._tokenize is not None and cost > self._splitting.size:
                for sentence in _WIDE_SENTENCE.finditer(text, start, end):
                    yield from self._parts(text, *sentence.span())
            else:
                yield Piece(start, end, cost)
            before = end

    def _parts(self, text: str, start: int, end: int) -> Iterator[Piece]:
        """Halve a stretch of a text until its parts fit."""
        cost = self._length(text[start:end])
        if cost <= self._splitting.size or end - start == 1:
            yield Piece(start, end, cost)
        else:
            middle = (start + end) // 2
            yield from self._parts(text, start, middle)
            yield from self._parts(text, middle, end)

    def _length(self, text: str) -> int:
        return len(text.split() if self._tokenize is None else self._tokenize(text))

    def _fill(self, window: list[Piece], pieces: Iterator[Piece]) -> None:
        """Take in pieces until they are more than a passage, or there are no more."""
        held = sum(piece.cost for piece in window)
        while held <= self._splitting.size and (piece := next(pieces, None)):
            window.append(piece)
            held += piece.cost

    def _fitting(self, text: str, window: Sequence[Piece]) -> int:
        """How many pieces make a passage; tokens of a whole are counted anew, for they are not the sum of its parts."""
        count, held = 1, window[0].cost
        while count < len(window) and held + window[count].cost <= self._splitting.size:
            held += window[count].cost
            count += 1
        while count > 1:
            length = self._length(text[window[0].start : window[count - 1].end])
            if length <= self._splitting.size:
                break
            count = max(1, min(count - 1, count * self._splitting.size // length))
        return count

    def _natural_end(self, text: str, window: Sequence[Piece], count: int) -> int:
        """The last place in a passage's second half where a sentence or else a line ends; without one, its end."""
        for ends in (_ends_sentence, _ends_line):
            held = sum(piece.cost for piece in window[:count])
            for last in range(count, 0, -1):
                if 2 * held < self._splitting.size:
                    break
                if ends(text, window[last - 1], window[last]):
                    return last
                held -= window[last - 1].cost
        return count


def ends_sentence(word: str, following: str) -> bool:
    """Whether a word looks like the last of a sentence before another word; unsure cases count as none."""
    word = word.rstrip(_CLOSERS)
    if word.endswith(tuple(_WIDE_ENDS)):
        return True
    if not word.endswith((".", "!", "?", "…")):
        return False
    if word.endswith(".") and _ABBREVIATION.fullmatch(word.lstrip(_OPENERS).rstrip(".")):
        return False
    return not following.lstrip(_OPENERS)[:1].islower()


def _ends_sentence(text: str, piece: Piece, following: Piece) -> bool:
    return ends_sentence(text[piece.start : piece.end], text[following.start : following.end])


def _ends_line(text: str, piece: Piece, following: Piece) -> bool:
    return "\n" in text[piece.end : following.start]
