"""What the query router learns from: training questions, sentences of passages, and questions held back."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from polyprag.config import Config, RouterConfig
from polyprag.errors import DataError
from polyprag.knowledge.prompts import PromptWriter
from polyprag.knowledge.tasks import Example, Pack, pack
from polyprag.records import Augmentation, Knowledge, QAPair
from polyprag.training.batches import RewindableSampler

SHORTEST_SENTENCE = 20
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Query:
    """Something asked or said about passages.

    Attributes:
        text: a question, or a sentence in place of one.
        tasks: the passages that it is about.
        pack: the question with its answer as a training sequence; None for sentences and held-back questions.
    """

    text: str
    tasks: tuple[int, ...]
    pack: Pack | None = None


def texts_of(knowledge: Knowledge, held_back: Sequence[Query] = ()) -> list[list[str]]:
    """For each passage what its key is made of: title and text, rewrites, training questions.

    Args:
        knowledge: corpus and augmentation.
        held_back: queries that are to say how well keys are found, and so are left out of them.
    """
    texts = []
    apart = {query.text for query in held_back}
    for passage in knowledge.passages:
        own = knowledge.augmentations.get(passage.id, Augmentation(passage.id))
        questions = [pair.question for pair in own.qa if pair.question not in apart]
        texts.append([f"{passage.title}\n{passage.text}", *own.rewrites, *questions])
    return texts


def learned_from(knowledge: Knowledge) -> str:
    """sha256 (hex) of all that a router learns from or is held against, beside the passages of its store.

    Args:
        knowledge: rewrites, pairs, and the validation questions that name a passage.
    """
    asked = sorted((question.text, question.passage_ids) for question in knowledge.validation if question.passage_ids)
    return hashlib.sha256(f"{knowledge.augmentation_digest} {asked!r}".encode()).hexdigest()


def build_queries(knowledge: Knowledge, config: Config, writer: PromptWriter) -> tuple[list[Query], list[Query]]:
    """The queries to learn from and the questions held back.

    Held back are the validation questions that name a passage of the corpus; where there is none, a share of the
    training questions.

    Raises:
        DataError: there is no training question at all.
    """
    tasks = {passage.id: task for task, passage in enumerate(knowledge.passages)}
    asked = [
        Query(
            pair.question,
            (tasks[own.passage_id],),
            _alone(tasks[own.passage_id], pair, config, writer),
        )
        for own in knowledge.augmentations.values()
        for pair in own.qa
    ]
    held_back = [
        Query(question.text, tuple(tasks[passage] for passage in question.passage_ids if passage in tasks))
        for question in knowledge.validation
        if any(passage in tasks for passage in question.passage_ids)
    ]
    if not held_back:
        random.Random(config.run.seed).shuffle(asked)
        apart = max(0, min(len(asked) - 1, round(config.router.held_back * len(asked))))
        held_back, asked = asked[:apart], asked[apart:]
    queries = [*asked, *(_sentences(knowledge) if config.router.sentences else [])]
    if not queries or (config.router.lm_steps and not asked):
        raise DataError("no passage has question-answer pairs for the query router to learn from; give augmentation")
    return queries, held_back


class DrawnBatches(RewindableSampler):
    """Indices of queries, step by step, each batch drawn by the seed and its own number.

    First `router.steps` batches of all queries, then `router.lm_steps` smaller ones of those that have an answer.

    Args:
        queries: to draw from.
        config: numbers and sizes of the batches.
        seed: of the draws.
    """

    def __init__(self, queries: Sequence[Query], config: RouterConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.all = list(range(len(queries)))
        self.answered = [index for index, query in enumerate(queries) if query.pack is not None]

    def __len__(self) -> int:
        return self.config.steps + self.config.lm_steps

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0
        return (self._batch(number) for number in range(start, len(self)))

    def _batch(self, number: int) -> list[int]:
        distilled = number < self.config.steps
        indices, size = (self.all, self.config.batch_size) if distilled else (self.answered, self.config.lm_batch_size)
        return random.Random(f"{self.seed}-{number}").sample(indices, min(size, len(indices)))


def _sentences(knowledge: Knowledge) -> list[Query]:
    queries = []
    for task, passage in enumerate(knowledge.passages):
        own = knowledge.augmentations.get(passage.id, Augmentation(passage.id))
        for text in (passage.text, *own.rewrites):
            sentences = [sentence.strip() for sentence in _SENTENCE_END.split(text)]
            queries += [Query(sentence, (task,)) for sentence in sentences if len(sentence) >= SHORTEST_SENTENCE]
    return queries


def _alone(task: int, pair: QAPair, config: Config, writer: PromptWriter) -> Pack:
    example = Example(tuple(writer.question(pair.question)), tuple(writer.target(pair)))
    (packed,) = pack(task, [example], config.tasks)
    return packed
