"""What the methods share: the base model, the corpus, the retriever, the opened store, and the clock.

Shapes: N passages, G routed groups, K experts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import Tensor

from polyprag.answering.generation import Generated, Generator
from polyprag.answering.question_encoder import QuestionEncoder, build_encoder
from polyprag.config import Combine, Config, RouterConfig
from polyprag.errors import ConfigError
from polyprag.experts.base_model import BaseModel, device_of, load_base
from polyprag.experts.pool import ExpertPool
from polyprag.experts.routing import gates_from_logits
from polyprag.files import current_folder
from polyprag.knowledge.prompts import PromptWriter
from polyprag.methods.adapters import AdapterEncoder
from polyprag.records import Knowledge, Passage, QAPair, Question
from polyprag.retrieval.backends import build_retriever, open_retriever
from polyprag.retrieval.bm25 import searched
from polyprag.retrieval.retriever import Hit, Retriever
from polyprag.router_store import StoredRouter, open_router
from polyprag.store import Store, open_store
from polyprag.training.warm_up import warm_up_data

STEPS = ("retrieve", "route", "load_merge", "generate")


@dataclass(frozen=True)
class Setting:
    """What a method leaves open until validation questions decide.

    Attributes:
        passages: retrieved passages per question.
        combine: how their gates are combined.
        shots: short-answer examples in the prompt.
    """

    passages: int = 0
    combine: Combine = Combine.SUM
    shots: int = 0


@dataclass(frozen=True)
class Confidence:
    """How sure a routing was of its choice.

    Attributes:
        entropy: of its distribution over passages, from 0 (sure) to 1.
        margin: probability of its first passage less that of the second.
        abstained: whether the routing was not trusted, so that the fall-back answered.
    """

    entropy: float
    margin: float
    abstained: bool


@dataclass(frozen=True)
class Answered:
    """A method's answer to one question, with what led to it and what it cost.

    Attributes:
        generated: the text.
        retrieved: ids of the passages used, best first.
        top_experts: the experts with the largest mean gate, and that gate.
        prompt_tokens: tokens of the prompt; of all prompts where a method writes several.
        seconds: by step; a batch's time is shared equally by its questions.
        confidence: of the routing; None for methods without one.
        retrievals: times that the index was searched for the question.
        discarded_tokens: tokens that were generated and are no part of the answer.
    """

    generated: Generated
    retrieved: tuple[str, ...]
    top_experts: tuple[tuple[int, float], ...]
    prompt_tokens: int
    seconds: dict[str, float]
    confidence: Confidence | None = None
    retrievals: int = 0
    discarded_tokens: int = 0

    @property
    def generated_tokens(self) -> int:
        """All tokens generated, those discarded as well."""
        return self.generated.new_tokens + self.discarded_tokens


@dataclass
class Clock:
    """Adds up the seconds of each step."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a block as part of a step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started

    def shared_by(self, questions: int) -> dict[str, float]:
        """The seconds of each step, per question."""
        return {name: seconds / questions for name, seconds in self.seconds.items()}


class Workbench:
    """Everything that methods work with, opened when first needed.

    Args:
        config: the whole configuration.
        knowledge: corpus and questions; the corpus of a trained run is that of its store.
        folder: the run's folder; its `store/` is opened by the methods that need one.
    """

    def __init__(self, config: Config, knowledge: Knowledge, folder: Path) -> None:
        self.config, self.knowledge, self.folder = config, knowledge, folder

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The corpus."""
        return self.knowledge.passages

    @cached_property
    def positions(self) -> dict[str, int]:
        """Position of each passage id in the corpus, which is also its task."""
        return {passage.id: position for position, passage in enumerate(self.passages)}

    @cached_property
    def retriever(self) -> Retriever:
        """The index over the corpus: the store's if there is one, else built now."""
        if self.has_store:
            return open_retriever(self.config.retrieval, self.store.index_folder)
        expand = self.config.answering.expand_index
        corpus = searched(self.passages, self.knowledge.augmentations, expand)
        return build_retriever(self.config.retrieval, corpus)

    @cached_property
    def base(self) -> BaseModel:
        """The base model."""
        return load_base(self.config.base, device_of(self.config.training.accelerator))

    @cached_property
    def writer(self) -> PromptWriter:
        """Prompts in the base model's chat template."""
        return PromptWriter(self.base.tokenizer)

    @property
    def has_store(self) -> bool:
        """Whether the run was trained."""
        return current_folder(self.folder / "store").exists()

    @cached_property
    def store(self) -> Store:
        """The knowledge store of the run.

        Raises:
            ConfigError: the run has none.
            StoreError: it is damaged or belongs to another base model.
        """
        if not self.has_store:
            raise ConfigError(f"{self.folder}: no store there; train one first: python train.py run.dir={self.folder}")
        return open_store(self.folder / "store", self.base.fingerprint, self.base.name)

    @cached_property
    def stored_router(self) -> StoredRouter:
        """The query router of the run, on the base model's device.

        Raises:
            ConfigError: the run has no store.
            StoreError: the router is missing, damaged, or belongs to another store.
        """
        stored = open_router(self.folder / "router", self.store.manifest.digest)
        stored.router.to(self.base.device)
        return stored

    @cached_property
    def question_encoder(self) -> QuestionEncoder:
        """What represented questions when the query router was trained."""
        facts = self.stored_router.facts
        return build_encoder(RouterConfig(encoder=facts.encoder, layers=facts.layers), self.base)

    @cached_property
    def index_bytes_per_passage(self) -> float:
        """Bytes of the retrieval index, per passage."""
        return self.retriever.bytes_on_disk / len(self.passages)

    @cached_property
    def text_bytes_per_passage(self) -> float:
        """Bytes of a passage's title and text in UTF-8, on average."""
        return sum(len(f"{p.title}{p.text}".encode()) for p in self.passages) / len(self.passages)

    @cached_property
    def pool(self) -> ExpertPool:
        """The stored experts, put into the base model."""
        pool = ExpertPool(self.base.model, self.config.experts, self.config.routing.granularity)
        pool.load(self.store.pool())
        return pool

    @cached_property
    def adapters(self) -> AdapterEncoder:
        """One-to-one adapters, on a base model of their own, since PEFT wraps its layers."""
        base = load_base(self.config.base, device_of(self.config.training.accelerator))
        return AdapterEncoder(base, self.config, self.folder, self.knowledge.augmentations, self.warm_up_pairs)

    @cached_property
    def warm_up_pairs(self) -> tuple[QAPair, ...]:
        """The outside pairs that one-to-one adapters start from; none without `warm_up.prag`.

        Raises:
            ConfigError: nothing says which passages are outside.
            DataError: they cannot be used, or none is left.
        """
        return warm_up_data(self.config, self.knowledge).pairs if self.config.warm_up.prag else ()

    @cached_property
    def gates_NGK(self) -> Tensor:
        """The gates of every passage of the store."""
        routing = self.config.routing
        rows_NGK = self.store.rows_NGK.float().to(self.base.device)
        return gates_from_logits(rows_NGK, routing.normalisation, routing.top_k)

    @cached_property
    def generator(self) -> Generator:
        """Decoding with the experts at hand."""
        return Generator(self.base, self.config.answering.max_new_tokens, self.pool)

    @cached_property
    def plain_generator(self) -> Generator:
        """Decoding with the base model alone."""
        return Generator(self.base, self.config.answering.max_new_tokens)

    def retrieve(self, questions: Sequence[Question], n: int) -> list[list[Hit]]:
        """The n best passages of each question."""
        return self.retriever.search([question.text for question in questions], n)
