"""Controls without routing: one LoRA for all passages, and one that has learned the answer format alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch

from polyprag.answering.generation import Generator
from polyprag.config import MethodName
from polyprag.config.loading import load_config
from polyprag.errors import ConfigError
from polyprag.experts.base_model import device_of, load_base
from polyprag.experts.pool import ExpertPool
from polyprag.files import current_folder
from polyprag.methods.method import Method
from polyprag.methods.workbench import Answered, Clock, Setting
from polyprag.records import Question
from polyprag.store import Store, open_store
from polyprag.training.controls import control_folder


class SharedLora(Method):
    """`global_lora`: a LoRA of the pool's total rank, trained on all passages; `format_lora`: on outside passages only.

    Both are pools of a single expert, trained by `python train.py controls` like the pool that they are held against,
    on a base model of their own.
    """

    def options(self) -> list[Setting]:
        """Nothing to choose."""
        return [Setting()]

    def check(self, questions: Sequence[Question]) -> None:
        """Open the control's store.

        Raises:
            ConfigError: it was not trained.
            StoreError: it is damaged or belongs to another base model.
        """
        _ = self.store

    def prepare(self, questions: Sequence[Question], settings: Sequence[Setting]) -> None:
        """Load the LoRA."""
        _ = self.generator

    def answer(self, questions: Sequence[Question], setting: Setting) -> list[Answered]:
        """All questions at once, under the one expert."""
        clock = Clock()
        with clock.step("generate"):
            prompts = [self.bench.writer.question(question.text) for question in questions]
            texts = self.generator.answer(prompts, torch.ones(len(questions), len(self.store.manifest.group_names), 1))
        seconds = clock.shared_by(len(questions))
        return [Answered(text, (), (), len(prompt), seconds) for text, prompt in zip(texts, prompts, strict=True)]

    @property
    def identity(self) -> str:
        """The control's store."""
        return self.store.manifest.digest

    @property
    def bytes_per_passage(self) -> float:
        """The LoRA over the passages of the corpus."""
        return self.store.bytes_on_disk["pool"] / len(self.bench.passages)

    @property
    def train_seconds(self) -> float:
        """Seconds of its training."""
        return float(self.store.manifest.training["seconds"])

    @cached_property
    def store(self) -> Store:
        """The control's store."""
        folder = control_folder(self.bench.folder, MethodName(self.name))
        if not current_folder(folder / "store").exists():
            raise ConfigError(
                f"{self.name}: no store in {folder}; train it first: "
                f"python train.py controls run.dir={self.bench.folder}, or leave it out of evaluation.methods"
            )
        return open_store(folder / "store", self.bench.base.fingerprint, self.bench.base.name)

    @cached_property
    def generator(self) -> Generator:
        """Decoding with the LoRA."""
        config = load_config(control_folder(self.bench.folder, self.name) / "config.yaml")
        base = load_base(self.bench.config.base, device_of(self.bench.config.training.accelerator))
        pool = ExpertPool(base.model, config.experts, config.routing.granularity)
        pool.load(self.store.pool())
        return Generator(base, self.bench.config.answering.max_new_tokens, pool)
