"""From files of JSON lines to `Knowledge`: distinct passages, what training knows of them, and question splits."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from polyprag.config import DataConfig, DataName
from polyprag.errors import ConfigError, DataError
from polyprag.knowledge.demo_world import generate_world
from polyprag.knowledge.records import Augmentation, Knowledge, Passage, QAPair, Question
from polyprag.knowledge.rows import Row, read_rows
from polyprag.knowledge.selection import KnowledgeCounts, count_types, of_types, split_questions

_ID_DIGITS = 16  # 64 bits: among a million passages a collision has odds of one to 37 million

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """Distinct passages with what came beside them.

    Attributes:
        passages: in the order of their first appearance.
        augmentations: by passage id; as read, `qa` holds all pairs of a passage, also those for testing.
        canonical: every given id, those of collapsed duplicates included, to the id of the distinct passage.
        by_content: content hash to the id of the distinct passage.
        duplicates: rows that repeated the content of an earlier passage.
    """

    passages: tuple[Passage, ...]
    augmentations: dict[str, Augmentation] = field(default_factory=dict)
    canonical: dict[str, str] = field(default_factory=dict)
    by_content: dict[str, str] = field(default_factory=dict)
    duplicates: int = 0


@dataclass(frozen=True)
class QuestionSet:
    """Questions with the corpus that their gold passages belong to.

    Attributes:
        questions: in the order of the file, gold passages by canonical id.
        corpus: the one given, or the passages that came with the questions.
        carried: ids of the passages that came with a question, by question id; empty if the corpus was given.
    """

    questions: tuple[Question, ...]
    corpus: Corpus
    carried: dict[str, tuple[str, ...]] = field(default_factory=dict)


def load_knowledge(data: DataConfig, require_training: bool = False) -> Knowledge:
    """Load the corpus, its augmentation and the question splits that the configuration names.

    Passages that come with the questions are the corpus when `data.path` is empty; then only those of the questions
    that were drawn stay in it. What was kept and left out is logged.

    Args:
        data: the configuration's data section.
        require_training: refuse a corpus without any training pairs.

    Raises:
        ConfigError: no file is named, or a question type does not exist.
        DataError: a file cannot be used, or nothing is left of what is required.
    """
    if data.name is DataName.DEMO:
        knowledge, counts = _select_demo(generate_world(data.world), data)
    else:
        knowledge, counts = _load_files(data)
    logger.info("%s", counts)
    if require_training and not any(augmentation.qa for augmentation in knowledge.augmentations.values()):
        raise DataError(
            f"{data.path or data.questions}: no passage has question-answer pairs to train on; "
            'give rows with "qas" and data.train_qas above 0, or name a file in data.augmentation'
        )
    return knowledge


def read_corpus(path: Path) -> Corpus:
    """Read passages `{"id"?, "title"?, "text", "qas"?: [{"question", "answer", "full_answer"?}]}`.

    Raises:
        DataError: the file cannot be read or holds no passages, a row is malformed, or an id is used twice.
    """
    collector = _Collector()
    for row in read_rows(path):
        passage_id = collector.add(row)
        _merge_into(collector.augmentations, Augmentation(passage_id, qa=_pairs(row, "qas")))
    if not collector.passages:
        raise DataError(f'{path}: holds no passages; write one {{"title": ..., "text": ...}} a line')
    return collector.corpus()


def read_augmentation(path: Path, canonical: Mapping[str, str]) -> dict[str, Augmentation]:
    """Read augmentations `{"passage_id", "rewrites"?: [..], "qa"?: [{"question", "answer", "full_answer"?}]}`.

    Args:
        path: the file; several rows of one passage are merged.
        canonical: `Corpus.canonical`.

    Raises:
        DataError: the file cannot be read, a row is malformed or empty, or a passage is not in the corpus.
    """
    augmentations: dict[str, Augmentation] = {}
    for row in read_rows(path):
        passage_id = _resolve(canonical, row.identifier("passage_id") or row.text("passage_id"), row.place)
        read = Augmentation(passage_id, row.texts("rewrites"), _pairs(row, "qa"))
        if not read.rewrites and not read.qa:
            raise row.error('neither "rewrites" nor "qa" holds anything; give one of them or remove the row')
        _merge_into(augmentations, read)
    return augmentations


def read_questions(path: Path, corpus: Corpus | None = None) -> QuestionSet:
    """Read questions `{"id"?, "question", "answers": [..], "type"?, "passage_ids"?, "passages"?}`.

    Passages `[{"title"?, "text", "is_support"?}]` of a question are gold where `is_support` is true. In a given
    corpus they are found by their content, and count as unknown gold where they are not in it.

    Args:
        path: the file.
        corpus: the corpus; without one it is made of the passages that come with the questions.

    Raises:
        DataError: the file cannot be read or holds no questions, a row is malformed, an id is used twice, or a passage
            id is not in the corpus.
    """
    collector = _Collector()
    drafts: list[tuple[str, Question, tuple[str, ...]]] = []
    for row in read_rows(path):
        gold, carried = [], []
        for own in row.objects("passages"):
            if corpus is None:
                carried.append(collector.add(own))
            found = (corpus or collector).by_content.get(_passage(own).content_hash)
            if own.flag("is_support") and found:
                gold.append(found)
        drafts.append((row.place, _question(row, gold), tuple(carried)))
    if not drafts:
        raise DataError(f'{path}: holds no questions; write one {{"question": ..., "answers": [...]}} a line')
    known = corpus or collector.corpus()
    if not known.passages:
        raise DataError(f"{path}: no question comes with passages; name the corpus in data.path")
    return _settle(drafts, known)


def _settle(drafts: Iterable[tuple[str, Question, tuple[str, ...]]], corpus: Corpus) -> QuestionSet:
    """Resolve gold passage ids, which may appear later in the file, and collapse repeated questions."""
    questions: dict[str, Question] = {}
    carried: dict[str, tuple[str, ...]] = {}
    for place, draft, found in drafts:
        gold = dict.fromkeys(_resolve(corpus.canonical, id_, place) for id_ in draft.passage_ids)
        question = dataclasses.replace(draft, passage_ids=tuple(gold))
        if questions.setdefault(question.id, question) != question:
            raise DataError(f"{place}: id {question.id!r} belongs to another question above; give each its own id")
        if found:
            carried[question.id] = tuple(dict.fromkeys((*carried.get(question.id, ()), *found)))
    return QuestionSet(tuple(questions.values()), corpus, carried)


def _question(row: Row, gold: Iterable[str]) -> Question:
    text, answers, type_ = row.text("question"), row.texts("answers"), row.optional_text("type")
    if not answers:
        raise row.error(f'"answers" holds none for {text!r}; give at least one, or remove the question')
    passage_ids = tuple(dict.fromkeys((*row.identifiers("passage_ids"), *gold)))
    content = json.dumps([text, answers, type_, passage_ids]).encode()
    made = f"q-{hashlib.sha256(content).hexdigest()[:_ID_DIGITS]}"
    return Question(row.identifier("id") or made, text, answers, type_, passage_ids)


def _pairs(row: Row, key: str) -> tuple[QAPair, ...]:
    return tuple(
        QAPair(pair.text("question"), pair.text("answer"), pair.optional_text("full_answer"))
        for pair in row.objects(key)
    )


def _passage(row: Row) -> Passage:
    """The passage of a row, under an id made from its content where none is given."""
    passage = Passage("", row.optional_text("title"), row.text("text"))
    return dataclasses.replace(passage, id=row.identifier("id") or f"p-{passage.content_hash[:_ID_DIGITS]}")


def _resolve(canonical: Mapping[str, str], passage_id: str, place: str) -> str:
    if passage_id not in canonical:
        raise DataError(f"{place}: passage id {passage_id!r} is not in the corpus; correct it or add the passage")
    return canonical[passage_id]


def _merge_into(augmentations: dict[str, Augmentation], new: Augmentation) -> None:
    """Add an augmentation to those of its passage, without repeats; an empty one leaves no trace."""
    if new.rewrites or new.qa:
        old = augmentations.get(new.passage_id, Augmentation(new.passage_id))
        rewrites, qa = dict.fromkeys(old.rewrites + new.rewrites), dict.fromkeys(old.qa + new.qa)
        augmentations[new.passage_id] = Augmentation(new.passage_id, tuple(rewrites), tuple(qa))


class _Collector:
    """Gathers passages row by row and collapses those of equal content."""

    def __init__(self) -> None:
        self.passages: list[Passage] = []
        self.augmentations: dict[str, Augmentation] = {}
        self.canonical: dict[str, str] = {}
        self.by_content: dict[str, str] = {}
        self.duplicates = 0

    def add(self, row: Row) -> str:
        """Take in the passage of a row; returns the id of the distinct passage that it is."""
        passage = _passage(row)
        content, target = passage.content_hash, self.by_content.get(passage.content_hash)
        if self.canonical.get(passage.id, target) != target:
            raise row.error(f"id {passage.id!r} belongs to another passage above; give each passage its own id")
        if target is None:
            target = passage.id
            self.passages.append(passage)
        else:
            self.duplicates += 1
        self.by_content[content] = self.canonical[passage.id] = target
        return target

    def corpus(self) -> Corpus:
        """What was gathered."""
        return Corpus(tuple(self.passages), self.augmentations, self.canonical, self.by_content, self.duplicates)


def _load_files(data: DataConfig) -> tuple[Knowledge, KnowledgeCounts]:
    if not data.path and not data.questions:
        raise ConfigError("data.path and data.questions are both empty; name a corpus, or questions with passages")
    corpus = read_corpus(Path(data.path)) if data.path else None
    asked = read_questions(Path(data.questions), corpus) if data.questions else None
    if asked is None:
        assert corpus is not None
        asked = QuestionSet(_beyond_training(corpus, data.train_qas), corpus)
    augmentations: dict[str, Augmentation] = {}
    for own in asked.corpus.augmentations.values():
        _merge_into(augmentations, dataclasses.replace(own, qa=own.qa[: data.train_qas]))
    if data.augmentation:
        for read in read_augmentation(Path(data.augmentation), asked.corpus.canonical).values():
            _merge_into(augmentations, read)
    return _select(asked, augmentations, data)


def _beyond_training(corpus: Corpus, train_qas: int) -> tuple[Question, ...]:
    """The pairs of each passage that are not trained on, as questions."""
    return tuple(
        Question(f"{own.passage_id}-q{index}", pair.question, (pair.answer,), passage_ids=(own.passage_id,))
        for own in corpus.augmentations.values()
        for index, pair in enumerate(own.qa)
        if index >= train_qas
    )


def _select(
    asked: QuestionSet, augmentations: dict[str, Augmentation], data: DataConfig
) -> tuple[Knowledge, KnowledgeCounts]:
    """Cut the corpus, filter and split the questions, and keep the passages that they leave."""
    passages = asked.corpus.passages[data.skip_passages :][: data.max_passages or None]
    if not passages:
        raise DataError(f"no passage is left: data.skip_passages={data.skip_passages} leaves out all of them; lower it")
    within = _within(asked.questions, passages)
    if asked.questions and not within:
        raise DataError(
            f"no question is left: data.max_passages={data.max_passages} cuts all gold passages after "
            f"data.skip_passages={data.skip_passages}; raise it"
        )
    typed = of_types(within, data.types)
    test, validation = split_questions(typed, data.limit, data.validation_questions, data.limit_seed)
    if asked.carried:
        needed = {id_ for one in (*test, *validation) for id_ in (*asked.carried.get(one.id, ()), *one.passage_ids)}
        passages = tuple(passage for passage in passages if passage.id in needed)
    dropped = {
        "gold passages cut": len(asked.questions) - len(within),
        "other types": len(within) - len(typed),
        "beyond the limit": len(typed) - len(test) - len(validation),
    }
    knowledge = _knowledge(passages, augmentations, test, validation)
    return knowledge, _counts(knowledge, asked.corpus.duplicates, dropped)


def _select_demo(world: Knowledge, data: DataConfig) -> tuple[Knowledge, KnowledgeCounts]:
    """Cut and filter the demo world, whose validation questions are a split of its own."""
    passages = world.passages[: data.max_passages or None]
    typed = of_types(_within(world.test, passages), data.types)
    test, _ = split_questions(typed, data.limit, 0, data.limit_seed)
    apart = [one for one in _within(world.validation, passages) if not data.types or one.type in data.types]
    dropped = {"left out": len(world.test) + len(world.validation) - len(test) - len(apart)}
    knowledge = _knowledge(passages, world.augmentations, test, apart)
    return knowledge, _counts(knowledge, 0, dropped)


def _within(questions: Iterable[Question], passages: Iterable[Passage]) -> list[Question]:
    """Questions with the gold passages that are left; those that lost all of theirs are dropped."""
    left = {passage.id for passage in passages}
    kept = []
    for question in questions:
        gold = tuple(id_ for id_ in question.passage_ids if id_ in left)
        if gold or not question.passage_ids:
            kept.append(dataclasses.replace(question, passage_ids=gold))
    return kept


def _knowledge(
    passages: tuple[Passage, ...],
    augmentations: Mapping[str, Augmentation],
    test: Iterable[Question],
    validation: Iterable[Question],
) -> Knowledge:
    own = {passage.id: augmentations[passage.id] for passage in passages if passage.id in augmentations}
    return Knowledge(passages, own, tuple(test), tuple(validation))


def _counts(knowledge: Knowledge, duplicates: int, dropped: Mapping[str, int]) -> KnowledgeCounts:
    return KnowledgeCounts(
        passages=len(knowledge.passages),
        duplicates=duplicates,
        test=count_types(knowledge.test),
        validation=count_types(knowledge.validation),
        dropped={reason: count for reason, count in dropped.items() if count},
    )
