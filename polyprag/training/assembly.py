"""The parts of a pool training put together, and what is done with them: measured, or fitted and stored."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from polyprag.cli import environment
from polyprag.config import Config
from polyprag.config.loading import to_yaml
from polyprag.config.weights import changed_keys
from polyprag.experts.base_model import BaseModel, device_of, load_base
from polyprag.experts.pool import ExpertPool
from polyprag.experts.routing import TaskRouter
from polyprag.files import write_json, write_text
from polyprag.knowledge.card_report import card_lines, write_card
from polyprag.knowledge.data_card import DataCard
from polyprag.knowledge.prompts import PromptWriter
from polyprag.knowledge.tasks import build_tasks
from polyprag.records import Knowledge
from polyprag.retrieval.backends import build_retriever
from polyprag.retrieval.bm25 import searched
from polyprag.retrieval.retriever import Retriever
from polyprag.store import is_sound, open_store
from polyprag.training.checkpoint import Checkpointing
from polyprag.training.datamodule import KnowledgeData
from polyprag.training.exchange import together
from polyprag.training.module import PoolModule
from polyprag.training.place import FSDP, local_rank
from polyprag.training.processes import ending_together
from polyprag.training.router_stage import check_router
from polyprag.training.run_card import card_of_run, log_card
from polyprag.training.saving import save_store
from polyprag.training.spreading import load_spread
from polyprag.training.trainer import (
    build_trainer,
    measure_sizes,
    similar_passages,
    told_device,
    validation_of,
)


@dataclass(frozen=True)
class PoolTraining:
    """Everything that the joint training of pool and task router is made of.

    Attributes:
        config: the whole configuration.
        knowledge: the corpus, whose passages are the tasks, in order.
        base: the frozen base model, with the experts in place.
        pool: the experts.
        router: the task router, a row of logits per passage.
        retriever: the index over the corpus, which goes into the store.
        module: the training step.
        data: training sequences in batches, and validation questions.
        index_seconds: what building the index took.
    """

    config: Config
    knowledge: Knowledge
    base: BaseModel
    pool: ExpertPool
    router: TaskRouter
    retriever: Retriever
    module: PoolModule
    data: KnowledgeData
    index_seconds: float = 0.0

    def plan(self, folder: Path) -> list[str]:
        """What is trained on and what it will take, one line each; one step is timed for that.

        Args:
            folder: the run's folder.
        """
        sizes = measure_sizes(self.module, self.data, self.pool, self.router)
        device = told_device(self.base.device, self.config.training)
        return [*card_lines(self._card(folder)), f"device                 {device}", *sizes.lines()]

    def fit(self, folder: Path, checkpoint: Path | None, earlier_seconds: float = 0.0) -> bool:
        """Train, and write the store if anything was trained or that of this very training is not there.

        Experts and router are afterwards on the base model's device, and the base model is in evaluation mode.

        Args:
            folder: the run's folder.
            checkpoint: where to go on; None begins afresh.
            earlier_seconds: what led to the experts that the training starts from.

        Returns:
            Whether this is the process that writes, of those that train together.
        """
        learned_from = self.knowledge.fingerprint
        checkpoints = Checkpointing(folder / "checkpoints", self.config.training.checkpoint_minutes, learned_from)
        trainer = build_trainer(self.config, folder, self.data, checkpoints)
        if trainer.is_global_zero:
            write_text(folder / "config.yaml", to_yaml(self.config))
            write_json(folder / "environment.json", environment())
            card = self._card(folder)
            write_card(card, folder)
            log_card(card, trainer.loggers)
            print(f"training on {told_device(self.base.device, self.config.training)}", flush=True)
        with ending_together():
            trainer.fit(self.module, self.data, ckpt_path=checkpoint)
        made = {"steps": trainer.global_step, "learned_from": learned_from}
        if trainer.is_global_zero and (checkpoints.trained or not self._is_stored(folder / "store", made)):
            facts = {
                "seconds": earlier_seconds + checkpoints.train_seconds,
                "passes": self.data.passes(),
                "index_seconds": self.index_seconds,
                **made,
            }
            save_store(folder / "store", self.module, self.knowledge, self.retriever, facts)
        self.module.to(self.base.device)  # Lightning leaves it on the CPU, which also spares the device while storing
        self.base.model.eval()
        return bool(trainer.is_global_zero)

    def _is_stored(self, folder: Path, made: Mapping[str, Any]) -> bool:
        """Whether a sound store of this training is there, and none that an earlier one has left.

        Args:
            folder: the store's folder.
            made: facts of this training; a store agrees with those that it does not tell.
        """
        if not is_sound(folder):
            return False
        store = open_store(folder)
        told = store.manifest.training
        agrees = all(told.get(name, value) == value for name, value in made.items())
        return agrees and not changed_keys(store.config_yaml, self.config)

    def _card(self, folder: Path) -> DataCard:
        return card_of_run(self.config, folder, self.knowledge, self.base.tokenizer)


def _base_of(config: Config) -> BaseModel:
    """The base model of this process: all of it, or its share of those that train together."""
    training, device = config.training, device_of(config.training.accelerator)
    if training.strategy == FSDP and together() > 1:
        return load_spread(config.base, torch.device(device), local_rank(), training.devices)
    return load_base(config.base, device)


def assemble(config: Config, knowledge: Knowledge) -> PoolTraining:
    """Load the base model, put the pool into it, write the training sequences, index the corpus.

    Args:
        config: the whole configuration, validated.
        knowledge: what is to be trained.

    Raises:
        DataError: a passage has nothing to train on.
        ModelError: the base model cannot be found, loaded or wrapped.
        ConfigError: the retrieval backend is not installed.
        RetrievalError: its server cannot be reached.
    """
    base = _base_of(config)
    packs = build_tasks(knowledge, config.tasks, PromptWriter(base.tokenizer, config.answering.prompt))
    pool = ExpertPool(base.model, config.experts, config.routing.granularity)
    router = TaskRouter(len(knowledge.passages), pool.groups, config.experts.count, config.routing)
    passages = searched(knowledge.passages, knowledge.augmentations, config.answering.expand_index)
    started = time.perf_counter()
    retriever = build_retriever(config.retrieval, passages)
    index_seconds = time.perf_counter() - started
    tasks = {passage.id: task for task, passage in enumerate(knowledge.passages)}
    neighbours_NM = similar_passages(retriever, knowledge.passages, config.routing)
    module = PoolModule(base, pool, router, config, tasks, neighbours_NM)
    validation = validation_of(knowledge.validation, tasks, config.training.validation_questions)
    data = KnowledgeData(packs, validation, config, base.tokenizer.pad_token_id)
    if config.router.after_pool:
        check_router(config, base, knowledge)
    return PoolTraining(config, knowledge, base, pool, router, retriever, module, data, index_seconds)
