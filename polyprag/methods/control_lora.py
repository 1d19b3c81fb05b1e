"""A LoRA that `python train.py controls` has left in a run: a pool of a single expert, on a base model of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch

from polyprag.answering.generation import Generator
from polyprag.config import Config, MethodName
from polyprag.config.loading import load_config
from polyprag.errors import ConfigError
from polyprag.experts.base_model import BaseModel, device_of, load_base
from polyprag.experts.pool import ExpertPool
from polyprag.files import current_folder
from polyprag.passages import facts_of
from polyprag.records import Passage
from polyprag.store import Store, open_store
from polyprag.training.checkpoint import MAY_DIFFER, changed_keys
from polyprag.training.controls import control_config, control_folder

CONTROL_MAY_DIFFER = (
    *MAY_DIFFER,
    *("retrieval.", "answering.expand_index"),
    *("training.accelerator", "training.strategy", "training.gradient_checkpointing", "training.validation_questions"),
    *("data.questions", "data.limit", "data.types", "data.validation_questions", "data.outside"),
    *("data.world.questions", "data.world.validation_questions"),
)
"""Keys that a control may have otherwise than its run's pool, since its weights do not depend on them."""
OF_OUTSIDE = ("data.", "warm_up.")
"""Keys that `format_lora` has otherwise than the pool; whether it knows the corpus is told by its passages."""


class ControlLora:
    """Opens and loads a control when it is first needed.

    Args:
        name: `global_lora` or `format_lora`.
        config: of the run.
        run: the run's folder.
        base: the run's base model, which the control must have been trained on.
        corpus: the passages that are asked about.
    """

    def __init__(self, name: MethodName, config: Config, run: Path, base: BaseModel, corpus: Sequence[Passage]) -> None:
        self.name, self.config, self.run, self.base, self.corpus = name, config, run, base, corpus
        self.folder = control_folder(run, name)

    def check(self, wanted_by: MethodName) -> None:
        """Open the control's store.

        Args:
            wanted_by: the method that needs it.

        Raises:
            ConfigError: it was not trained, or for other prompts, or for another pool or corpus than the run's.
            StoreError: it is damaged or belongs to another base model.
        """
        if not current_folder(self.folder / "store").exists():
            raise ConfigError(
                f"{wanted_by}: no store in {self.folder}; train it first: "
                f"python train.py controls run.dir={self.run}, or leave it out of evaluation.methods"
            )
        _ = self.store
        prompt, trained = self.config.answering.prompt, self.trained_config.answering.prompt
        if trained is not prompt:
            raise ConfigError(
                f"{wanted_by}: answering.prompt is {prompt}, but {self.folder} was trained for {trained}; "
                "use that, or train the controls of another run.dir"
            )
        if self.stale:
            raise ConfigError(
                f"{wanted_by}: {self.folder} does not fit the run: {self.stale}; "
                f"python train.py controls run.dir={self.run} trains it anew"
            )

    @cached_property
    def stale(self) -> str:
        """Why it is not the control of the run as it is now, say after the pool was trained anew; empty if it is."""
        trained = self.run / "config.yaml"
        pool = load_config(trained) if trained.is_file() else self.config
        of_others = self.name is MethodName.FORMAT_LORA
        may_differ = (*CONTROL_MAY_DIFFER, *OF_OUTSIDE) if of_others else CONTROL_MAY_DIFFER
        due = control_config(pool, MethodName.GLOBAL_LORA)  # both have all but data and warm-up in common
        if changed := changed_keys(self.store.config_yaml, due, may_differ):
            return f"it was trained with another {', '.join(changed)}"
        learned = self.store.passages
        if not of_others:
            same = facts_of(learned).sha256 == facts_of(self.corpus).sha256
            return "" if same else "it was trained on other passages than the corpus"
        shared = {passage.content_hash for passage in learned} & {passage.content_hash for passage in self.corpus}
        return f"{len(shared)} of the passages that it was trained on are in the corpus" if shared else ""

    @property
    def bytes(self) -> int:
        """Bytes of the LoRA on disk."""
        return self.store.bytes_on_disk["pool"]

    @property
    def train_seconds(self) -> float:
        """Seconds of its training."""
        return float(self.store.manifest.training["seconds"])

    @cached_property
    def trained_config(self) -> Config:
        """The configuration that it was trained by."""
        return load_config(self.folder / "config.yaml")

    @cached_property
    def store(self) -> Store:
        """Its store.

        Raises:
            StoreError: it is missing, damaged, or belongs to another base model.
        """
        return open_store(self.folder / "store", self.base.fingerprint, self.base.name)

    @cached_property
    def generator(self) -> Generator:
        """Decoding with the LoRA in force."""
        trained = self.trained_config
        base = load_base(self.config.base, device_of(self.config.training.accelerator))
        pool = ExpertPool(base.model, trained.experts, trained.routing.granularity)
        pool.load(self.store.pool())
        answering, whole_GK = self.config.answering, torch.ones(pool.groups, 1)
        return Generator(base, answering.max_new_tokens, pool, answering.prompt, whole_GK, answering.batch_size)
