"""A corpus made of what questions retrieve from a passage collection."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from polyprag.config import DataConfig
from polyprag.errors import DataError
from polyprag.knowledge.collection import retrieve_from_collection
from polyprag.knowledge.corpus import Collector
from polyprag.knowledge.gold import GoldFinder
from polyprag.knowledge.questions import Draft, QuestionSet
from polyprag.knowledge.rows import Row
from polyprag.records import Question


def collect(drafts: Sequence[Draft], drawn: Sequence[Question], data: DataConfig) -> QuestionSet:
    """The questions that were drawn, with the passages that they retrieve from `data.collection` as corpus.

    A gold passage that came with its question is found by its content, or else by its title, since a collection cuts
    the pages of an encyclopedia otherwise than a benchmark does; see `GoldFinder`.

    Args:
        drafts: all questions of the file.
        drawn: the test and validation questions.
        data: names the collection, and `data.retrieved` the passages per question.

    Raises:
        DataError: the collection cannot be used, or holds nothing that the questions ask for.
    """
    found = retrieve_from_collection(data, [question.text for question in drawn], data.retrieved)
    collector = Collector()
    for passage in dict.fromkeys(passage for passages in found for passage in passages):
        collector.add(Row(data.collection, {"id": passage.id, "title": passage.title, "text": passage.text}))
    corpus = collector.corpus()
    if not corpus.passages:
        raise DataError(f"{data.collection}: no passage shares a word with a question; name another data.collection")
    finder = GoldFinder(corpus, foreign=True)
    by_id = {draft.question.id: draft for draft in drafts}
    gold = {one.id: finder.find(one, by_id[one.id].gold, by_id[one.id].place) for one in drawn}
    questions = tuple(dataclasses.replace(one, passage_ids=gold[one.id][0]) for one in drawn)
    return QuestionSet(questions, corpus, missing={id_: lacking for id_, (_, lacking) in gold.items() if lacking})
