"""The frozen records that travel through the house: passages, questions, augmentations."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True)
class QAPair:
    """A question with its short answer.

    Attributes:
        question: the question, as plain text.
        answer: the short answer, as plain text.
        full_answer: the answer as a sentence or a chain of thought; empty when there is none.
    """

    question: str
    answer: str
    full_answer: str = ""


@dataclass(frozen=True)
class Passage:
    """One distinct piece of the corpus, which is one task of the multi-task problem.

    Attributes:
        id: unique within a corpus.
        title: may be empty.
        text: never empty.
    """

    id: str
    title: str
    text: str

    @property
    def content_hash(self) -> str:
        """sha256 over title and text (hex, 64 characters): passages with equal hashes are one task."""
        return hashlib.sha256(f"{self.title}\n{self.text}".encode()).hexdigest()


@dataclass(frozen=True)
class Augmentation:
    """What training knows of a passage beyond its text.

    Attributes:
        passage_id: the passage it belongs to.
        rewrites: other phrasings of the passage's text.
        qa: question-answer pairs about the passage.
    """

    passage_id: str
    rewrites: tuple[str, ...] = ()
    qa: tuple[QAPair, ...] = ()


@dataclass(frozen=True)
class Question:
    """A question to be answered and scored.

    Attributes:
        id: unique within a question set.
        text: the question.
        answers: all accepted answers, the main one first; never empty.
        type: the question type, by which results are reported; empty when the set has none.
        passage_ids: the gold passages; empty when unknown.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    type: str = ""
    passage_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadCounts:
    """What loading left out, or could not find.

    Attributes:
        duplicates: passages with the content of an earlier one.
        unknown_gold: gold passages of test and validation questions that are not in the corpus.
        dropped_rows: rows of files that could not be used, by reason.
        dropped_questions: questions left out, by reason.
    """

    duplicates: int = 0
    unknown_gold: int = 0
    dropped_rows: Mapping[str, int] = field(default_factory=dict)
    dropped_questions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Knowledge:
    """Everything that a run knows: the corpus, its augmentation and the question splits.

    Attributes:
        passages: distinct passages in a stable order; those of a store are read when they are asked for.
        augmentations: by passage id; passages without one are absent.
        test: the questions that results are reported on.
        validation: questions of a split of their own, on which choices are made.
        counts: what loading left out; no part of what makes two of them equal.
    """

    passages: Sequence[Passage]
    augmentations: dict[str, Augmentation] = field(default_factory=dict)
    test: tuple[Question, ...] = ()
    validation: tuple[Question, ...] = ()
    counts: LoadCounts = field(default_factory=LoadCounts, compare=False)

    @cached_property
    def augmentation_digest(self) -> str:
        """sha256 (hex) of all rewrites and pairs."""
        return hashlib.sha256(repr(sorted(self.augmentations.items())).encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of all that can be learned from: passages, rewrites and pairs, in their order."""
        known = hashlib.sha256(b"[")
        for at, passage in enumerate(self.passages):
            own = self.augmentations.get(passage.id, Augmentation(passage.id))
            known.update(f"{', ' if at else ''}{(passage.title, passage.text, own.rewrites, own.qa)!r}".encode())
        known.update(b"]")
        return known.hexdigest()
