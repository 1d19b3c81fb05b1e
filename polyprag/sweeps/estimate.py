"""How long a sweep will take: the tokens of its trainings at the speed of this machine, and its answers.

Work is counted in training tokens. An answer costs about as much as training on `ANSWER_TOKENS` of them: on two CPU
cores with the built-in model, 0.1 s an answer against 450 tokens a second. Choices on validation questions, which a
sweep had better settle beforehand, are not counted, nor is the writing of rewrites and pairs; the training on those
that are not there yet counts by their numbers.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from polyprag.config import AdapterPer, Config, DataConfig
from polyprag.experts.base_model import BaseModel, device_of, load_base
from polyprag.experts.pool import ExpertPool
from polyprag.experts.routing import TaskRouter
from polyprag.experts.tokenizer import tokenizer_of
from polyprag.knowledge.loading import limited, load_knowledge
from polyprag.knowledge.prompts import PromptWriter
from polyprag.knowledge.tasks import Pack, build_tasks
from polyprag.methods.method import PASSAGE_CHOICES
from polyprag.records import Augmentation, Knowledge, QAPair
from polyprag.runs import run_data
from polyprag.sweeps.grid import Run, needs_translator
from polyprag.sweeps.outcomes import Outcome, run_folder
from polyprag.sweeps.present import is_unwritten
from polyprag.training.controls import needed_controls
from polyprag.training.datamodule import KnowledgeData
from polyprag.training.module import PoolModule
from polyprag.training.trainer import measure_sizes

ANSWER_TOKENS = 45
START_SECONDS = 20.0
"""Seconds in which the two programs of a run start, load the base model and end, on two CPU cores."""
QUESTION_LENGTH, ANSWER_LENGTH, CHAIN_LENGTH = 60, 15, 120
"""Characters of the question, the answer and the full answer of a pair that is not written yet."""


def expected_seconds(pending: Sequence[tuple[Run, bool]], finished: Sequence[Outcome], folder: Path) -> list[float]:
    """Expected seconds of each run that is not finished; one step is timed where no finished run tells the speed.

    Args:
        pending: the runs, and whether each has its training still to do.
        finished: runs of this sweep that are done.
        folder: the sweep's folder.

    Raises:
        PolyPragError: the data or the base model of a run cannot be used.
    """
    seconds = _Estimator(finished, folder).seconds(pending)
    gc.collect()  # the runs need the memory that the base model took here
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return seconds


@dataclass
class _Estimator:
    """Counts the work of runs; corpora, training sequences and base models are loaded once."""

    finished: Sequence[Outcome]
    folder: Path
    _knowledge: dict[str, Knowledge] = field(default_factory=dict)
    _packs: dict[str, list[Pack]] = field(default_factory=dict)
    _bases: dict[str, BaseModel] = field(default_factory=dict)

    def seconds(self, pending: Sequence[tuple[Run, bool]]) -> list[float]:
        """See `expected_seconds`."""
        work = [self._training(run) * trains + self._answering(run) for run, trains in pending]
        if not work:
            return []
        rate = self._real_rate() or self._measured_rate(pending[0][0])
        return [tokens / rate + START_SECONDS for tokens in work]

    def _training(self, run: Run) -> int:
        """Tokens of a training, over all passes."""
        training = run.config.training
        tokens = sum(map(len, self._packs_of(run))) * training.epochs
        if training.max_steps > 0:
            tokens = min(tokens, training.max_steps * training.accumulate * training.batch_tokens)
        return tokens

    def _answering(self, run: Run) -> int:
        """Tokens of answers, and of training what they need: PRAG's adapters, controls, a translator's adapters."""
        answers = len(self._knowledge_of(run).test) * len(run.methods)
        trained = 0
        if any(method.startswith("prag") for method in run.methods):
            trained += self._adapter_tokens(run)
        trained += len(needed_controls(run.methods)) * self._training(run)
        if needs_translator(run.methods):
            trained += self._outside_tokens(run)
        return answers * ANSWER_TOKENS + trained

    def _adapter_tokens(self, run: Run) -> int:
        """Tokens of the training of PRAG's adapters, if every passage gets one, or every question its own."""
        tokens, knowledge, config = self._prag_tokens(run), self._knowledge_of(run), run.config
        if config.prag.per is AdapterPer.PASSAGE:
            return tokens
        pairs = len(knowledge.test) * (config.answering.passages or max(PASSAGE_CHOICES))
        return tokens * pairs // len(knowledge.passages)

    def _prag_tokens(self, run: Run) -> int:
        """Tokens of PRAG's training on the whole corpus."""
        epochs = run.config.prag.epochs
        return sum(map(len, self._packs_of(run))) * epochs if epochs else self._training(run)

    def _outside_tokens(self, run: Run) -> int:
        """Tokens of the training of the outside adapters that a translator learns from, if there are enough of them.

        They count as if outside passages were like those of the corpus; the translator's own steps are few beside them.
        """
        tokens = self._prag_tokens(run)
        return tokens * run.config.translator.passages // len(self._knowledge_of(run).passages)

    def _real_rate(self) -> float:
        """Tokens a second of the finished trainings; 0 without any."""
        trainings = {outcome.run.training_id: outcome for outcome in self.finished}.values()
        seconds = sum(outcome.train_seconds for outcome in trainings)
        return sum(self._training(outcome.run) for outcome in trainings) / seconds if seconds else 0.0

    def _measured_rate(self, run: Run) -> float:
        """Tokens a second of one step, timed; experts hardly change it, so one run stands for all."""
        config, base, packs = run.config, self._base_of(run.config), self._packs_of(run)
        passages = self._knowledge_of(run).passages
        pool = ExpertPool(base.model, config.experts, config.routing.granularity)
        router = TaskRouter(len(passages), pool.groups, config.experts.count, config.routing)
        module = PoolModule(base, pool, router, config, {})
        sizes = measure_sizes(module, KnowledgeData(packs, (), config, base.tokenizer.pad_token_id), pool, router)
        return sizes.tokens_per_pass * sizes.passes / sizes.seconds

    def _data_of(self, run: Run) -> tuple[DataConfig, int, int]:
        """What a run is trained on, and the rewrites and pairs of each passage that are still to be written for it."""
        folder, written = run_folder(self.folder, run), run.config.augmentation
        due = (written.rewrites, written.pairs) if is_unwritten(run.config, folder) else (0, 0)
        return run_data(run.config, folder), *due

    def _knowledge_of(self, run: Run) -> Knowledge:
        data, rewrites, pairs = self._data_of(run)
        key = repr((data, rewrites, pairs))
        if key not in self._knowledge:
            knowledge = load_knowledge(data, tokenize=tokenizer_of(run.config.base))
            self._knowledge[key] = _with_stand_ins(knowledge, data, rewrites, pairs)
        return self._knowledge[key]

    def _packs_of(self, run: Run) -> list[Pack]:
        config = run.config
        key = repr((self._data_of(run), config.tasks, config.base, config.answering.prompt))
        if key not in self._packs:
            writer = PromptWriter(self._base_of(config).tokenizer, config.answering.prompt)
            self._packs[key] = list(build_tasks(self._knowledge_of(run), config.tasks, writer))
        return self._packs[key]

    def _base_of(self, config: Config) -> BaseModel:
        key = repr(config.base)
        if key not in self._bases:
            self._bases[key] = load_base(config.base, device_of(config.training.accelerator))
        return self._bases[key]


def _with_stand_ins(knowledge: Knowledge, data: DataConfig, rewrites: int, pairs: int) -> Knowledge:
    """Knowledge with that many further rewrites and pairs of each passage, of usual lengths and without a meaning."""
    if not rewrites and not pairs:
        return knowledge
    augmentations = {}
    for passage in knowledge.passages:
        own = knowledge.augmentations.get(passage.id, Augmentation(passage.id))
        texts = (passage.text,) * rewrites
        qa = tuple(
            QAPair(f"{at} {passage.text[:QUESTION_LENGTH]}", passage.text[:ANSWER_LENGTH], passage.text[:CHAIN_LENGTH])
            for at in range(pairs)
        )
        augmentations[passage.id] = Augmentation(passage.id, own.rewrites + texts, own.qa + qa)
    return dataclasses.replace(knowledge, augmentations=limited(augmentations, data))
