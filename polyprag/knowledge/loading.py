"""From the configuration to `Knowledge`: the corpus, its augmentation and the question splits."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from polyprag.config import BENCHMARKS, DataConfig, DataName, DataPart
from polyprag.errors import ConfigError, DataError
from polyprag.knowledge.asked import Split, draw, read_asked, source_of
from polyprag.knowledge.augmentations import read_augmentation
from polyprag.knowledge.bad_rows import BadRows
from polyprag.knowledge.benchmarks.outside import load_outside
from polyprag.knowledge.corpus import Corpus, merge_into, read_corpus
from polyprag.knowledge.demo_world import generate_world
from polyprag.knowledge.questions import QuestionSet, settle
from polyprag.knowledge.released import is_released, set_of
from polyprag.knowledge.selection import describe, of_types, split_questions
from polyprag.knowledge.splitting import Tokenize
from polyprag.passages import positions_of
from polyprag.records import Augmentation, Knowledge, LoadCounts, Passage, Question
from polyprag.retrieval.bm25 import BM25Retriever

logger = logging.getLogger(__name__)


def load_knowledge(data: DataConfig, tokenize: Tokenize | None = None, corpus: Corpus | None = None) -> Knowledge:
    """Load the corpus, its augmentation and the question splits that the configuration names.

    Passages that come with the questions are the corpus when there is none of its own; then only those of the
    questions that were drawn stay in it. `data.retrieved` keeps those that the questions retrieve, and
    `data.collection` takes them from a collection. What was kept and left out is logged.

    Args:
        data: the configuration's data section.
        tokenize: the base model's tokenizer, for `data.splitting.unit=tokens`.
        corpus: what takes the place of a file in `data.path`.

    Raises:
        ConfigError: no file is named, or a question type does not exist.
        DataError: a file cannot be used, or nothing is left of what is required.
    """
    bad = BadRows(data.on_bad_row)
    if data.name is DataName.DEMO:
        knowledge = _select_demo(generate_world(data.world), data)
    elif data.name in BENCHMARKS and data.part is DataPart.OUTSIDE:
        knowledge = load_outside(data, bad)
    elif data.collection:
        knowledge = _load_collected(data, bad)
    else:
        knowledge = _load_files(data, bad, tokenize, corpus)
    knowledge = dataclasses.replace(knowledge, augmentations=limited(knowledge.augmentations, data))
    logger.info("%s", describe(knowledge))
    return knowledge


def _load_files(data: DataConfig, bad: BadRows, tokenize: Tokenize | None, corpus: Corpus | None) -> Knowledge:
    """The corpus at hand, of `data.path`, or of the passages that come with the questions."""
    data = _with_released(data)
    own = data.path if data.name is DataName.JSONL and corpus is None else ""
    if not data.path and not data.questions and corpus is None:
        raise ConfigError("data.path and data.questions are both empty; name a corpus, or questions with passages")
    corpus = read_corpus(own, data, bad, tokenize) if own else corpus
    if corpus is not None and not data.questions:
        asked, repeated = QuestionSet(_beyond_training(corpus, data.train_qas), corpus), 0
    else:
        drafts, repeated = read_asked(data, bad)
        asked = settle(drafts, source_of(data), bad, corpus)
    passages = asked.corpus.passages[data.skip_passages :][: data.max_passages or None]
    if not passages:
        raise DataError(f"no passage is left: data.skip_passages={data.skip_passages} leaves out all of them; lower it")
    within = _within(asked.questions, passages)
    if asked.questions and not within:
        raise DataError(
            f"no question is left: data.max_passages={data.max_passages} cuts all gold passages after "
            f"data.skip_passages={data.skip_passages}; raise it"
        )
    split = draw(within, data)
    if data.retrieved:
        passages = _retrieved(passages, split.all, data.retrieved)
    elif asked.carried:
        needed = {id_ for one in split.all for id_ in (*asked.carried.get(one.id, ()), *one.passage_ids)}
        passages = tuple(passage for passage in passages if passage.id in needed)
    split.dropped.update({"repeated": repeated, "gold passages cut": len(asked.questions) - len(within)})
    return _assemble(passages, asked, split, data, bad)


def _with_released(data: DataConfig) -> DataConfig:
    """If `data.path` is in PRAG's released layout, it names passages, augmentation and questions at once."""
    if not _names_released(data):
        return data
    return dataclasses.replace(data, path="", questions=data.path, augmentation=data.augmentation or data.path)


def _names_released(data: DataConfig) -> bool:
    """Whether `data.path` gives the questions, too, in PRAG's released layout."""
    named = data.name is DataName.JSONL and bool(data.path) and not data.questions
    return named and is_released(Path(data.path))


def benchmark_of(data: DataConfig) -> str:
    """Name of the papers' benchmark that the questions are of; empty where there is none or it cannot be told.

    PRAG's released files lie in folders that are named after their set, `data_aug/SET/MODEL/`.
    """
    if data.name in BENCHMARKS:
        return data.name.value
    return set_of(Path(data.path)) if _names_released(data) else ""


def _load_collected(data: DataConfig, bad: BadRows) -> Knowledge:
    """The corpus of what the drawn questions retrieve from a collection."""
    from polyprag.knowledge.collected import collect

    drafts, repeated = read_asked(data, bad)
    split = draw([draft.question for draft in drafts], data)
    asked = collect(drafts, split.all, data)
    cut = len(split.test)
    split = Split(asked.questions[:cut], asked.questions[cut:], split.dropped | {"repeated": repeated})
    return _assemble(asked.corpus.passages, asked, split, data, bad)


def _assemble(
    passages: Sequence[Passage], asked: QuestionSet, split: Split, data: DataConfig, bad: BadRows
) -> Knowledge:
    """Training pairs for the passages that are left, the questions with the gold that is left, and the counts."""
    test, validation = (_with_gold_in(questions, passages) for questions in (split.test, split.validation))
    training = _training(asked.corpus, passages, data, bad)
    known = {one.id: len(one.passage_ids) + asked.missing.get(one.id, 0) for one in asked.questions}
    counts = LoadCounts(
        duplicates=asked.corpus.duplicates,
        unknown_gold=sum(known[one.id] - len(one.passage_ids) for one in (*test, *validation)),
        dropped_rows=dict(bad.counts),
        dropped_questions={reason: count for reason, count in split.dropped.items() if count},
    )
    return Knowledge(passages, training, test, validation, counts)


def _training(corpus: Corpus, passages: Iterable[Passage], data: DataConfig, bad: BadRows) -> dict[str, Augmentation]:
    """What training knows of the passages: the first of their own pairs, and the augmentation file."""
    augmentations: dict[str, Augmentation] = {}
    for own in corpus.augmentations.values():
        merge_into(augmentations, dataclasses.replace(own, qa=own.qa[: data.train_qas]))
    if data.augmentation:
        for read in read_augmentation(Path(data.augmentation), corpus.passages, corpus.canonical, bad).values():
            merge_into(augmentations, read)
    return _of_passages(augmentations, passages)


def _beyond_training(corpus: Corpus, train_qas: int) -> tuple[Question, ...]:
    """The pairs of each passage that are not trained on, as questions."""
    return tuple(
        Question(f"{own.passage_id}-q{index}", pair.question, (pair.answer,), passage_ids=(own.passage_id,))
        for own in corpus.augmentations.values()
        for index, pair in enumerate(own.qa)
        if index >= train_qas
    )


def _retrieved(passages: Sequence[Passage], questions: Iterable[Question], n: int) -> tuple[Passage, ...]:
    """The passages among the first n that BM25 finds for some question."""
    hits = BM25Retriever.build(passages).search([question.text for question in questions], n)
    found = {hit.position for own in hits for hit in own}
    if not found:
        raise DataError("data.retrieved: no question shares a word with a passage; set it to 0 to keep all passages")
    return tuple(passages[position] for position in sorted(found))


def _select_demo(world: Knowledge, data: DataConfig) -> Knowledge:
    """Cut and filter the demo world, whose validation questions are a split of its own."""
    passages = world.passages[: data.max_passages or None]
    typed = of_types(_within(world.test, passages), data.types)
    test, _ = split_questions(typed, data.limit, 0, data.limit_seed)
    apart = [one for one in _within(world.validation, passages) if not data.types or one.type in data.types]
    left_out = len(world.test) + len(world.validation) - len(test) - len(apart)
    counts = LoadCounts(dropped_questions={"left out": left_out} if left_out else {})
    return Knowledge(passages, _of_passages(world.augmentations, passages), tuple(test), tuple(apart), counts)


def limited(augmentations: Mapping[str, Augmentation], data: DataConfig) -> dict[str, Augmentation]:
    """The first pairs and rewrites of each passage, as many as the configuration grants."""
    pairs = data.max_pairs or None
    rewrites = None if data.max_rewrites < 0 else data.max_rewrites
    return {
        id_: dataclasses.replace(own, rewrites=own.rewrites[:rewrites], qa=own.qa[:pairs])
        for id_, own in augmentations.items()
    }


def _within(questions: Iterable[Question], passages: Sequence[Passage]) -> list[Question]:
    """Questions with the gold passages that are left; those that lost all of theirs are dropped."""
    questions = list(questions)
    with_gold = _with_gold_in(questions, passages)
    return [new for old, new in zip(questions, with_gold, strict=True) if new.passage_ids or not old.passage_ids]


def _with_gold_in(questions: Iterable[Question], passages: Sequence[Passage]) -> tuple[Question, ...]:
    """Questions with the gold passages that are left."""
    left = positions_of(passages)
    return tuple(
        dataclasses.replace(question, passage_ids=tuple(id_ for id_ in question.passage_ids if id_ in left))
        for question in questions
    )


def _of_passages(augmentations: Mapping[str, Augmentation], passages: Iterable[Passage]) -> dict[str, Augmentation]:
    if not augmentations:
        return {}
    return {passage.id: augmentations[passage.id] for passage in passages if passage.id in augmentations}
