"""Which passages of a corpus are gold for a question."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import final

from polyprag.knowledge.corpus import Corpus, resolve
from polyprag.knowledge.overlap import words_of
from polyprag.metrics import contains
from polyprag.records import Passage, Question


@final
class GoldFinder:
    """Finds gold passages by id, by content, or else by title.

    Gold of which only the title is known are the passages of that title that hold an answer.

    Args:
        corpus: where to look.
        foreign: whether the corpus is a collection of its own, which has other ids and cuts its passages otherwise.
            Then ids that it does not have are no error, and a gold passage whose content it lacks is the one of its
            title that shares most words with it.
    """

    def __init__(self, corpus: Corpus, foreign: bool = False) -> None:
        self._corpus = corpus
        self._foreign = foreign

    def find(self, question: Question, gold: Iterable[Passage], place: str) -> tuple[tuple[str, ...], int]:
        """The ids of a question's gold passages, and how many of its gold passages are not in the corpus.

        Args:
            question: with the gold passages that are given by id.
            gold: further gold passages; the text is empty where only the title is known.
            place: file and line of the question.

        Raises:
            RowError: the corpus has no passage of an id.
        """
        known = question.passage_ids
        ids = [known_id for known_id in known if known_id in self._corpus.canonical] if self._foreign else known
        found = [[resolve(self._corpus.canonical, id_, place)] for id_ in ids]
        found += [self._alike(passage, question.answers) for passage in gold]
        lacking = len(known) - len(ids) + sum(not matches for matches in found)
        return tuple(dict.fromkeys(id_ for matches in found for id_ in matches)), lacking

    def _alike(self, gold: Passage, answers: tuple[str, ...]) -> list[str]:
        """Ids of the passages that a gold passage is."""
        if gold.text and (same := self._corpus.find(gold)):
            return [same]
        titled = self._by_title.get(gold.title.casefold(), []) if self._foreign or not gold.text else []
        if not gold.text:
            return [passage.id for passage in titled if contains(passage.text, answers)]
        words = words_of(gold.text)
        shared = [len(words & words_of(passage.text)) for passage in titled]
        return [titled[shared.index(max(shared))].id] if any(shared) else []

    @cached_property
    def _by_title(self) -> dict[str, list[Passage]]:
        titled: dict[str, list[Passage]] = {}
        for passage in self._corpus.passages:
            titled.setdefault(passage.title.casefold(), []).append(passage)
        return titled
