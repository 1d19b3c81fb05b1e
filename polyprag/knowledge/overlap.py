"""Training questions that copy a test question, word for word or nearly.

Two questions are exact copies if they are equal in SQuAD's normal form. They are near copies if their words, without
repeats and stop words, have a Jaccard index of 0.8 or more: one word of five was added or left out, or one of nine was
exchanged, in any order. Containment would make every short question a copy of many longer ones, and shared runs of
words would make copies of all questions of one template ("Do both films … have directors that share the same
nationality?"); an exchanged name costs the Jaccard index two words.

Near copies are found by prefix filtering (Bayardo et al., "Scaling Up All Pairs Similarity Search", WWW 2007): sets
that are so alike share one of the few rarest words of each, so only questions that do are compared. The result is that
of comparing all pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import final

from bm25s.stopwords import STOPWORDS_EN

from polyprag.metrics import normalise
from polyprag.records import Augmentation, Question

NEAR = 0.8
"""The Jaccard index from which on two questions are near copies."""
EXAMPLES = 5
_STOP_WORDS = frozenset(STOPWORDS_EN)


@dataclass(frozen=True)
class Copy:
    """A training question that copies a test question.

    Attributes:
        passage_id: the passage that the training question belongs to.
        training: the training question.
        test_id: id of the test question.
        test: the test question.
        exact: whether they are equal in SQuAD's normal form; else they are near copies.
    """

    passage_id: str
    training: str
    test_id: str
    test: str
    exact: bool


@dataclass(frozen=True)
class Overlap:
    """How far training questions copy test questions.

    Attributes:
        training: training questions looked at.
        exact: training questions that equal a test question in SQuAD's normal form.
        near: further training questions that are near copies of one.
        test_exact: test questions that a training question equals.
        test_near: further test questions that a training question nearly copies.
        examples: some of the copies, exact ones first.
    """

    training: int = 0
    exact: int = 0
    near: int = 0
    test_exact: int = 0
    test_near: int = 0
    examples: tuple[Copy, ...] = ()


@final
class QuestionIndex:
    """Test questions, to be asked whether a text copies one of them.

    Args:
        questions: the test questions.
    """

    def __init__(self, questions: Iterable[Question]) -> None:
        self.questions = tuple(questions)
        self._words = [words_of(question.text) for question in self.questions]
        self._frequency = Counter(word for words in self._words for word in words)
        self._equal: dict[str, list[int]] = {}
        self._sharing: dict[str, list[int]] = {}
        for place, question in enumerate(self.questions):
            self._equal.setdefault(_normal_form(question.text), []).append(place)
            for word in self._rarest(self._words[place]):
                self._sharing.setdefault(word, []).append(place)

    def exact(self, text: str) -> str | None:
        """Id of the first test question that equals the text in SQuAD's normal form; None if none does."""
        return next((question.id for question in self.equal(text)), None)

    def near(self, text: str) -> str | None:
        """Id of the test question most like the text among its near copies, the first of equals; None without any.

        An exact copy is a near copy, too, unless it consists of stop words.
        """
        return next((question.id for question in self.alike(text)), None)

    def equal(self, text: str) -> list[Question]:
        """All test questions that equal the text in SQuAD's normal form."""
        return [self.questions[place] for place in self._equal.get(_normal_form(text), ())]

    def alike(self, text: str) -> list[Question]:
        """All test questions that are near copies of the text, by falling Jaccard index."""
        words = words_of(text)
        places = {place for word in self._rarest(words) for place in self._sharing.get(word, ())}
        rated = ((_jaccard(words, self._words[place]), place) for place in places)
        found = sorted((-likeness, place) for likeness, place in rated if likeness >= NEAR)
        return [self.questions[place] for _, place in found]

    def _rarest(self, words: frozenset[str]) -> list[str]:
        """The rarest words of a set, as many as it takes to share one with any set that is alike."""
        ranked = sorted(words, key=lambda word: (self._frequency[word], word))
        # Sets that are alike share at least NEAR of either's words; the margin is for rounding.
        least_shared = ceil(NEAR * len(ranked) - 1e-9)
        return ranked[: len(ranked) - least_shared + 1] if ranked else []


def measure_overlap(augmentations: Mapping[str, Augmentation], test: Iterable[Question]) -> Overlap:
    """Compare all training questions with all test questions.

    Only questions are compared: that a training pair shares its passage or its answer with a test question is what
    training is for.

    Args:
        augmentations: what is trained on, by passage id.
        test: the test questions.
    """
    index = QuestionIndex(test)
    trained = [(own.passage_id, pair.question) for own in augmentations.values() for pair in own.qa]
    counts = Counter[bool]()
    copied: dict[bool, set[str]] = {True: set(), False: set()}
    examples: dict[bool, list[Copy]] = {True: [], False: []}
    for passage_id, text in trained:
        equal, alike = index.equal(text), index.alike(text)
        copied[True].update(question.id for question in equal)
        copied[False].update(question.id for question in alike)
        if equal or alike:
            kind = bool(equal)
            counts[kind] += 1
            first = (equal or alike)[0]
            if len(examples[kind]) < EXAMPLES:
                examples[kind].append(Copy(passage_id, text, first.id, first.text, kind))
    return Overlap(
        training=len(trained),
        exact=counts[True],
        near=counts[False],
        test_exact=len(copied[True]),
        test_near=len(copied[False] - copied[True]),
        examples=tuple([*examples[True], *examples[False]][:EXAMPLES]),
    )


def words_of(question: str) -> frozenset[str]:
    """The words that near copies share: those of SQuAD's normal form that are no stop words."""
    return frozenset(normalise(question).split()) - _STOP_WORDS


def _normal_form(text: str) -> str:
    """SQuAD's normal form, or the text itself where nothing is left of it."""
    return normalise(text) or text.strip()


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)
