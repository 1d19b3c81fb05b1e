"""Which rewrites and question-answer pairs are fit to be trained on, and why the others are not."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import cached_property

from polyprag.augmentation.grounding import (
    contains_run,
    content_tokens,
    names_and_numbers,
    scripts,
    share_within,
    tokens,
)
from polyprag.augmentation.lexicon import FUNCTION_WORDS
from polyprag.config import AugmentationConfig, Grounding
from polyprag.knowledge.overlap import QuestionIndex
from polyprag.records import Augmentation, Passage, QAPair

SHORTEST_QUESTION, LONGEST_QUESTION = 3, 60
"""In words; questions by cloze hold a whole sentence."""
LONGEST_SENTENCE_ANSWER = 5
"""An answer of more words must not be all of the full answer, or a sentence of the passage."""
EXPLAINED = 0.6
"""Content words of a full answer that must stand in the passage."""
KEPT_NAMES = 0.5
"""Names and numbers of the passage that a rewrite must keep."""
KNOWN_NAMES, NAMES_TO_JUDGE = 0.5, 2
"""Names and numbers of a question that the passage must know; only questions with two of them or more are judged."""
REPEATED, RUN = 0.2, 5
"""Runs of so many words in a rewrite that may be there a second time."""
REWRITE_LENGTHS = (1 / 3, 3.0)
"""Characters of a rewrite, in those of the passage's text."""

_CLOZE = re.compile(r"_{2,}")
_ASKS = re.compile(
    r"(?:(?:in|on|at|of|to|from|by|for|with|during|under|after|before|about|through|into)\s+)?"
    r"(?:who|whom|whose|what|when|where|which|why|how)\b|"
    r"(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should)\s+\w",
    re.IGNORECASE,
)
_ORDERS = re.compile(r"(?:name|list|state|give|complete|fill in|describe|explain|identify|tell)\b", re.IGNORECASE)
_REFERS = re.compile(
    r"\b(?:the|this|that|given|above|provided|following)\s+(?:passage|text|paragraph|excerpt|article|document|author|"
    r"narrator)\b(?!\s+(?:of|by|in|on|about|behind)\b)|according to (?:the|this) (?:passage|text|paragraph|article)\b|"
    r"\b(?:mentioned|described|stated|given|discussed|listed) (?:above|here|in (?:the|this) (?:passage|text))\b",
    re.IGNORECASE,
)
_PRONOUN = re.compile(r"\b(?:he|she|it|they|him|her|his|its|their|them|this|these|those)\b", re.IGNORECASE)
_ENDS = re.compile(r"[.!?…。！？][\"”'’)\]»]*\Z")
_SENTENCES = re.compile(r"(?<=[.!?])\s+")


def validate(
    passage: Passage, augmentation: Augmentation, config: AugmentationConfig, asked: QuestionIndex
) -> tuple[Augmentation, Counter[str]]:
    """Leave out what should not be trained on; a question mark that is missing is added.

    Args:
        passage: what the augmentation is about.
        augmentation: rewrites and pairs as they were written.
        config: says how answers must be grounded, and how long they may be.
        asked: all test and validation questions, none of which may be copied.

    Returns:
        What is left, and how many rewrites and pairs were left out by reason.
    """
    known, rejected = _Known(passage), Counter[str]()
    rewrites: dict[str, str] = {}
    for rewrite in augmentation.rewrites:
        form = " ".join(tokens(rewrite))
        reason = "duplicate rewrite" if form in rewrites else known.fault_of_rewrite(rewrite)
        if reason:
            rejected[reason] += 1
        else:
            rewrites[form] = rewrite
    pairs: dict[str, QAPair] = {}
    for given in augmentation.qa:
        pair = _tidied(given)
        form = " ".join(tokens(pair.question))
        reason = _repeated(pair, pairs.get(form)) or known.fault_of_pair(pair, config) or _copied(pair, asked)
        if reason:
            rejected[reason] += 1
        else:
            pairs[form] = pair
    return replace(augmentation, rewrites=tuple(rewrites.values()), qa=tuple(pairs.values())), rejected


class _Known:
    """A passage, prepared for comparisons."""

    def __init__(self, passage: Passage) -> None:
        self.passage = passage
        self.tokens = tokens(f"{passage.title}\n{passage.text}")
        self.token_set = frozenset(self.tokens)
        letters = scripts(f"{passage.title} {passage.text}")
        self.scripts = {script for script, count in letters.items() if count >= 0.1 * letters.total()}

    @cached_property
    def sentences(self) -> frozenset[str]:
        return frozenset(" ".join(tokens(sentence)) for sentence in _SENTENCES.split(self.passage.text))

    def fault_of_rewrite(self, rewrite: str) -> str:
        """Why a rewrite is unfit; empty if it is fit."""
        own, text = tokens(rewrite), self.passage.text
        shortest, longest = REWRITE_LENGTHS
        names = names_and_numbers(text)
        faults = {
            "rewrite: empty": not own,
            "rewrite: copy of the passage": own == tokens(text),
            "rewrite: too short": len(rewrite) < shortest * len(text),
            "rewrite: too long": len(rewrite) > longest * len(text),
            "rewrite: other script": self._foreign(rewrite),
            "rewrite: loses names and numbers": bool(names) and share_within(names, own) < KEPT_NAMES,
            "rewrite: repeats itself": _repeats(own),
            "rewrite: cut off": bool(_ENDS.search(text)) and not _ENDS.search(rewrite),
        }
        return _first(faults)

    def fault_of_pair(self, pair: QAPair, config: AugmentationConfig) -> str:
        """Why a pair is unfit by itself; empty if it is fit."""
        question, answer = tokens(pair.question), tokens(pair.answer)
        words = len(pair.question.split())
        faults = {
            "answer empty": not answer,
            "question too short": words < SHORTEST_QUESTION,
            "question too long": words > LONGEST_QUESTION,
            "no question": not _is_question(pair.question),
            "answer too long": len(pair.answer.split()) > config.max_answer_words,
            "question refers to the passage": bool(_REFERS.search(pair.question)),
            "question does not name its subject": self._nameless(pair.question),
            "question about something else": self._unknown(pair.question),
            "other script": self._foreign(f"{pair.question} {pair.answer}"),
            "question holds the answer": _gives_away(question, answer),
            "answer is a whole sentence": self._is_sentence(pair),
        }
        return _first(faults) or ("" if self._grounded(pair, config.grounding) else "answer not in passage")

    def _grounded(self, pair: QAPair, grounding: Grounding) -> bool:
        if grounding is Grounding.OFF or contains_run(self.tokens, tokens(pair.answer)):
            return True
        if grounding is Grounding.STRICT or not pair.full_answer:
            return False
        answer, full = content_tokens(pair.answer), content_tokens(pair.full_answer)
        # An explanation may use other words, but it must hold the answer, and bring in no name and no number.
        named = names_and_numbers(pair.full_answer) | _numbers(pair.answer)
        held = answer in (["yes"], ["no"]) or share_within(answer, full) >= EXPLAINED
        return held and share_within(full, self.tokens) >= EXPLAINED and named <= self.token_set

    def _is_sentence(self, pair: QAPair) -> bool:
        answer = tokens(pair.answer)
        whole = " ".join(answer) in self.sentences or answer == tokens(pair.full_answer)
        return len(pair.answer.split()) > LONGEST_SENTENCE_ANSWER and whole

    def _nameless(self, question: str) -> bool:
        """Whether a question has a pronoun, but neither a name nor a number, nor a word of the title."""
        if not _PRONOUN.search(question) or _CLOZE.search(question):
            return False
        title = set(content_tokens(self.passage.title)) - FUNCTION_WORDS
        return not (names_and_numbers(question) or title.intersection(tokens(question)))

    def _unknown(self, question: str) -> bool:
        """Whether a question is mostly about what the passage never names, such as an example of the prompt."""
        names = names_and_numbers(question)
        return len(names) >= NAMES_TO_JUDGE and share_within(names, self.tokens) < KNOWN_NAMES

    def _foreign(self, text: str) -> bool:
        letters = scripts(text)
        own = sum(count for script, count in letters.items() if script in self.scripts)
        return bool(self.scripts) and own < letters.total() / 2


def _tidied(pair: QAPair) -> QAPair:
    """Single spaces, no quotes around the answer nor a full stop behind it, and a question mark where one belongs."""
    question, answer, full = (" ".join(text.split()) for text in (pair.question, pair.answer, pair.full_answer))
    if len(answer) > 1 and answer[0] in "\"“'‘" and answer[-1] in "\"”'’" and not re.search(r"[\"“”]", answer[1:-1]):
        answer = answer[1:-1].strip()
    if re.search(r"\w{4}\.$", answer) and answer.count(".") == 1:
        answer = answer[:-1]
    if not question.endswith("?") and _ASKS.match(question) and not _CLOZE.search(question):
        question = f"{question.rstrip(' .:;,!')}?"
    return QAPair(question, answer, full)


def _is_question(question: str) -> bool:
    return question.endswith("?") or bool(_CLOZE.search(question) or _ORDERS.match(question))


def _gives_away(question: list[str], answer: list[str]) -> bool:
    """Whether the answer stands in the question, which must not be unless it lets one choose."""
    chooses = "or" in question or answer in (["yes"], ["no"])
    return not chooses and contains_run(question, [token for token in answer if token not in ("a", "an", "the")])


def _repeated(pair: QAPair, earlier: QAPair | None) -> str:
    if earlier is None:
        return ""
    return "duplicate pair" if tokens(earlier.answer) == tokens(pair.answer) else "duplicate question"


def _copied(pair: QAPair, asked: QuestionIndex) -> str:
    if asked.exact(pair.question) is not None:
        return "copy of a test question"
    return "near copy of a test question" if asked.near(pair.question) is not None else ""


def _repeats(text_tokens: list[str]) -> bool:
    """Whether a text says too much of it twice, as models do that cannot find an end."""
    runs = [tuple(text_tokens[at : at + RUN]) for at in range(len(text_tokens) - RUN + 1)]
    return len(runs) - len(set(runs)) > REPEATED * len(runs)


def _numbers(text: str) -> set[str]:
    return {token for token in tokens(text) if any(character.isdigit() for character in token)}


def _first(faults: dict[str, bool]) -> str:
    return next((reason for reason, present in faults.items() if present), "")
