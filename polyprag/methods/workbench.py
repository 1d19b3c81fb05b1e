"""What the methods share: the base model, the corpus, the retriever and the opened store.

Shapes: N passages, G routed groups, K experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from torch import Tensor

from polyprag.answering.generation import Generator
from polyprag.answering.question_encoder import QuestionEncoder, build_encoder
from polyprag.config import AdapterPer, Config, MethodName, RouterConfig
from polyprag.errors import ConfigError
from polyprag.experts.base_model import BaseModel, device_of, load_base
from polyprag.experts.pool import ExpertPool
from polyprag.experts.routing import RowGates
from polyprag.experts.routing_measures import mean_use
from polyprag.files import current_folder
from polyprag.knowledge.prompts import PromptWriter
from polyprag.knowledge.question_augmentations import QuestionAugmentations, read_question_augmentations
from polyprag.methods.adapters import AdapterEncoder
from polyprag.methods.answered import STEPS, Answered, Clock, Confidence, Setting
from polyprag.methods.control_lora import ControlLora
from polyprag.methods.dyprag_adapters import TranslatedAdapters
from polyprag.passages import facts_of, positions_of
from polyprag.records import Knowledge, Passage, QAPair, Question
from polyprag.retrieval.backends import build_retriever, open_retriever
from polyprag.retrieval.bm25 import searched
from polyprag.retrieval.retriever import Hit, Retriever
from polyprag.router_store import StoredRouter, open_router
from polyprag.runs import run_data, with_prag_passes
from polyprag.store import Store, open_store
from polyprag.training.warm_up import warm_up_data
from polyprag.translator_store import FOLDER as TRANSLATOR_FOLDER
from polyprag.translator_store import StoredTranslator, open_translator

__all__ = ["STEPS", "Answered", "Clock", "Confidence", "Setting", "Workbench"]


class Workbench:
    """Everything that methods work with, opened when first needed.

    Args:
        config: the whole configuration.
        knowledge: corpus and questions; the corpus of a trained run is that of its store.
        folder: the run's folder; its `store/` is opened by the methods that need one.
    """

    def __init__(self, config: Config, knowledge: Knowledge, folder: Path) -> None:
        self.config, self.knowledge, self.folder = config, knowledge, folder
        self._controls: dict[MethodName, ControlLora] = {}

    @property
    def passages(self) -> Sequence[Passage]:
        """The corpus."""
        return self.knowledge.passages

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Position of each passage id in the corpus, which is also its task."""
        return positions_of(self.passages)

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
        return PromptWriter(self.base.tokenizer, self.config.answering.prompt)

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
            raise ConfigError(
                f"{self.folder}: no store there; train one first by python train.py with the same --config and keys"
            )
        return open_store(self.folder / "store", self.base.fingerprint, self.base.name)

    @cached_property
    def stored_router(self) -> StoredRouter:
        """The query router of the run, on the base model's device.

        Raises:
            ConfigError: the run has no store.
            StoreError: the router is missing, damaged, or belongs to another store.
        """
        share = self.config.answering.key_share
        stored = open_router(self.folder / "router", self.store.manifest.digest, share=share)
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
        return facts_of(self.passages).text_bytes / len(self.passages)

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
        augmentations, by_question = self.knowledge.augmentations, self.question_augmentations
        config = with_prag_passes(self.config, self.folder)
        return AdapterEncoder(base, config, self.folder, augmentations, self.warm_up_pairs, by_question)

    @cached_property
    def question_augmentations(self) -> QuestionAugmentations:
        """What was written of passages for single questions, where adapters are kept for single questions.

        Raises:
            DataError: the files cannot be read.
        """
        if self.config.prag.per is AdapterPer.PASSAGE:
            return {}
        return read_question_augmentations(run_data(self.config, self.folder), self.passages)

    @cached_property
    def warm_up_pairs(self) -> tuple[QAPair, ...]:
        """The outside pairs that one-to-one adapters start from; none without `warm_up.prag`.

        Raises:
            ConfigError: nothing says which passages are outside.
            DataError: they cannot be used, or none is left.
        """
        return warm_up_data(self.config, self.knowledge).pairs if self.config.warm_up.prag else ()

    @cached_property
    def stored_translator(self) -> StoredTranslator:
        """The parameter translator of the run.

        Raises:
            StoreError: it is missing, damaged, or belongs to another base model.
        """
        return open_translator(self.folder / TRANSLATOR_FOLDER, self.base.fingerprint, self.base.name)

    @cached_property
    def translated(self) -> TranslatedAdapters:
        """Adapters by the parameter translator, on a base model of their own, whose layers they stand beside."""
        base = load_base(self.config.base, device_of(self.config.training.accelerator))
        return TranslatedAdapters(self.stored_translator, base, self.config.translator.composition)

    @cached_property
    def gates_NGK(self) -> RowGates:
        """The gates of the passages of the store, worked out for those that are asked for."""
        return RowGates(self.store.rows_NGK, self.config.routing, self.base.device)

    @cached_property
    def mean_gates_GK(self) -> Tensor:
        """The mean gates of all passages of the store."""
        return mean_use(self.gates_NGK)

    @cached_property
    def generator(self) -> Generator:
        """Decoding with the experts at hand."""
        answering = self.config.answering
        return Generator(self.base, answering.max_new_tokens, self.pool, answering.prompt, rows=answering.batch_size)

    @cached_property
    def plain_generator(self) -> Generator:
        """Decoding with the base model alone."""
        answering = self.config.answering
        return Generator(self.base, answering.max_new_tokens, style=answering.prompt, rows=answering.batch_size)

    def control(self, name: MethodName) -> ControlLora:
        """A control without routing, which is opened and loaded once."""
        if name not in self._controls:
            self._controls[name] = ControlLora(name, self.config, self.folder, self.base, self.passages)
        return self._controls[name]

    def retrieve(self, questions: Sequence[Question], n: int) -> list[list[Hit]]:
        """The n best passages of each question."""
        return self.retriever.search([question.text for question in questions], n)
