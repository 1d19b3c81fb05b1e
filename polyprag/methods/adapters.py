"""Adapters of one-to-one PRAG: trained from one shared start, stored as ordinary PEFT adapters, merged by `cat`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file
from torch import Tensor

from polyprag.config import AdapterPer, Config, PromptStyle
from polyprag.errors import AdapterError
from polyprag.experts.base_model import BaseModel
from polyprag.experts.fingerprints import forms
from polyprag.knowledge.question_augmentations import QuestionAugmentations
from polyprag.knowledge.released import words_of
from polyprag.methods.adapter_claims import Claims
from polyprag.methods.adapter_files import (
    FACTS,
    INITIAL,
    WARM_UP,
    WEIGHTS,
    AdapterCosts,
    AdapterFiles,
    Subject,
    digest,
)
from polyprag.methods.adapter_training import AdapterTrainer
from polyprag.records import Augmentation, Passage, QAPair, Question

__all__ = ["FACTS", "INITIAL", "MERGED", "WARM_UP", "WEIGHTS", "AdapterEncoder"]

MERGED = "merged"
RECIPE_LENGTH = 12
"""Hexadecimal digits of the name of a recipe's folder."""


class AdapterEncoder:
    """Trains, stores, loads and merges the adapters of a run.

    With `prag.per=question_passage` there is one for each question and passage, trained on what was written of the
    passage for the question where that is known, and else on what is known of the passage. The question itself is no
    part of the training. Calls without a question get the adapter of the passage.

    Args:
        base: a base model of its own; PEFT wraps its layers.
        config: the whole configuration; `prag.*` is the recipe.
        folder: the run's folder; adapters lie in `adapters/<hash of the recipe>`, see `AdapterFiles`, or where an
            older version kept them; `names` are those of both folders.
        augmentations: what the adapters are trained on, by passage id.
        warm_up: outside pairs that the shared start is trained on first, in `adapters/<hash of the recipe>/warm_up`;
            none leaves it as the seed draws it.
        by_question: what was written of passages for single questions.
    """

    def __init__(
        self,
        base: BaseModel,
        config: Config,
        folder: Path,
        augmentations: Mapping[str, Augmentation],
        warm_up: Sequence[QAPair] = (),
        by_question: QuestionAugmentations | None = None,
    ) -> None:
        self.base, self.config, self.augmentations, self.warm_up = base, config, augmentations, warm_up
        self.by_question = by_question or {}
        torch.manual_seed(config.run.seed)
        lora = LoraConfig(
            r=config.prag.rank,
            lora_alpha=config.prag.alpha,
            target_modules=config.prag.targets,
            task_type="CAUSAL_LM",
        )
        with warnings.catch_warnings():  # PEFT 0.21 asks transformers 5 by a name that is being retired
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
            self.model: Any = get_peft_model(base.model, lora, adapter_name=INITIAL)
        self.trainer = AdapterTrainer(self.model, base, config)
        self.writer, self.tasks = self.trainer.writer, self.trainer.tasks
        self.drawn = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(self.model).items()}
        recipes = {recipe[:RECIPE_LENGTH]: recipe for recipe in map(self._recipe, forms(base.fingerprint))}
        self.names = tuple(recipes)
        there = [name for name in self.names if (folder / "adapters" / name).exists()]
        name = (there or self.names)[0]
        recipe = recipes[name]
        self.files = AdapterFiles(folder / "adapters" / name)
        self.folder = self.files.folder
        self.claims = Claims(self.folder)
        written = [sorted(self.by_question.items())] if self.by_question else []
        self.identity = digest(recipe, sorted(augmentations.items()), *written)
        self.loaded: list[str] = []

    def subject(self, passage: Passage, question: Question | None = None) -> Subject:
        """What the adapter of a passage is trained on, and the question that it is kept for, if any."""
        known = self.augmentations.get(passage.id, Augmentation(""))
        if question is None or self.config.prag.per is AdapterPer.PASSAGE:
            return Subject(passage, known)
        own = self.by_question.get((words_of(question.text), passage.id), known)
        return Subject(passage, own, question.text)

    def path(self, passage: Passage, question: Question | None = None) -> Path:
        """The folder of a passage's adapter, or of its adapter for a question."""
        return self.files.path(self.subject(passage, question))

    def encode(self, passages: Sequence[Passage], questions: Sequence[Question] | None = None) -> None:
        """Train the adapters that are not there yet, `prag.parallel` at a time; these are on disk before others begin.

        Processes that work in the same folder share the work: none trains what another is at, and each waits for those
        of its own that others are at.

        Args:
            passages: whose adapters are wanted.
            questions: the question for each of them that retrieves it.

        Raises:
            AdapterError: a trained adapter changes no logit, or its loss is not finite.
            DataError: a passage has nothing to train on.
        """
        wanted = {self.files.path(subject): subject for subject in self._subjects(passages, questions)}
        missing = [subject for subject in wanted.values() if not self.files.holds(subject)]
        if wanted and (missing or self._lacks_warm_up):
            _ = self.start  # trained and timed apart from the first adapter
        console = Console(stderr=True)
        for _ in track(
            self._encoded(missing),
            description="PRAG adapters",
            total=len(missing),
            console=console,
            disable=not missing,
        ):
            pass

    def _encoded(self, missing: Sequence[Subject]) -> Iterator[Subject]:
        """Have the adapters of some subjects on disk, one after the other, those that other processes train at last."""
        left = list(missing)
        while left:
            others: list[Subject] = []
            for group in self.trainer.groups(left):
                with self.claims.of([self.files.path(subject) for subject in group]) as claimed:
                    own = [subject for subject, ours in zip(group, claimed, strict=True) if ours]
                    others += [subject for subject, ours in zip(group, claimed, strict=True) if not ours]
                    yield from (subject for subject in own if self.files.holds(subject))
                    todo = [subject for subject in own if not self.files.holds(subject)]
                    for subject, seconds in self._trained(todo) if todo else ():
                        self.files.save(self.files.path(subject), self.model, seconds)
                        yield subject
            left = [subject for subject in others if not self.files.holds(subject)]
            yield from (subject for subject in others if self.files.holds(subject))
            if left:
                self.claims.wait()

    def train(self, subject: Subject) -> None:
        """Train one adapter from the shared start, in memory.

        Raises:
            AdapterError: it changes no logit afterwards, or its loss is not finite.
            DataError: there is nothing to train on.
        """
        which = f"the adapter of {subject.name}"
        self.trainer.fit(self.start, self.trainer.steps(subject), which, subject.passage.title)

    def train_together(self, subjects: Sequence[Subject]) -> dict[str, dict[str, Tensor]]:
        """The weights of several adapters by subject's name, each trained as if alone; the model stays as it is.

        Raises:
            AdapterError: a loss is not finite.
            DataError: there is nothing to train on.
        """
        return self.trainer.fit_together(self.start, subjects)

    @cached_property
    def start(self) -> dict[str, Tensor]:
        """The weights that every adapter starts from: as the seed draws them, or as the warm-up leaves them on disk.

        Raises:
            AdapterError: the warm-up changes no logit, or its loss is not finite.
        """
        if not self.warm_up:
            return self.drawn
        folder = self.folder / WARM_UP
        with self.claims.alone(folder):
            if not (folder / FACTS).exists():
                started = time.perf_counter()
                steps = self.trainer.warm_up_steps(self.warm_up)
                self.trainer.fit(self.drawn, steps, "the warm-up adapter", shown="PRAG warm-up")
                self.files.save(folder, self.model, time.perf_counter() - started)
        return load_file(folder / WEIGHTS)

    def load_and_merge(
        self, passages: Sequence[Passage], question: Question | None = None, strength: float = 1.0
    ) -> None:
        """Load the adapters of some passages and put their sum in force; with no passage, the base model alone.

        PEFT's `cat` adds up the weight updates, as PRAG does; `linear` would add A and B apart.

        Args:
            passages: whose adapters are merged.
            question: the question that retrieves them.
            strength: factor on their sum.

        Raises:
            AdapterError: a stored adapter does not fit the model.
        """
        self.loaded = [f"passage_{number}" for number in range(len(passages))]
        for name, passage in zip(self.loaded, passages, strict=True):
            path = self.path(passage, question)
            result = self.model.load_adapter(str(path), adapter_name=name)
            unmatched = [*result.unexpected_keys, *(key for key in result.missing_keys if f".{name}." in key)]
            if unmatched:
                raise AdapterError(f"{path}: {len(unmatched)} weights do not fit, such as {unmatched[0]}")
        if not passages:
            self.model.base_model.disable_adapter_layers()
            return
        self.model.add_weighted_adapter(self.loaded, [strength] * len(self.loaded), MERGED, combination_type="cat")
        self.model.set_adapter(MERGED)
        self.loaded.append(MERGED)

    def unload(self) -> None:
        """Take what `load_and_merge` loaded out of the model."""
        if not self.loaded:
            self.model.base_model.enable_adapter_layers()
        self.model.set_adapter(INITIAL)
        for name in self.loaded:
            self.model.delete_adapter(name)
        self.loaded = []

    def costs(self, passages: Sequence[Passage], questions: Sequence[Question] | None = None) -> AdapterCosts:
        """What the adapters of some passages cost, as far as they are there, trained on what is known of these now.

        Args:
            passages: whose adapters are meant.
            questions: the question for each of them that retrieves it.
        """
        return self.files.costs(self._subjects(passages, questions))

    def lost(self, passages: Sequence[Passage], questions: Sequence[Question] | None = None) -> str:
        """Which adapters are not on disk that answers were given with, and the remedy; empty if all are there.

        Args:
            passages: whose adapters are meant.
            questions: the question for each of them that retrieves it.
        """
        wanted = {self.files.path(subject): subject for subject in self._subjects(passages, questions)}
        gone = sum(not self.files.holds(subject) for subject in wanted.values())
        if not wanted or not (gone or self._lacks_warm_up):
            return ""
        what = f"{gone} of {len(wanted)} adapters behind the answers are" if gone else "the adapters' warm-up is"
        return (
            f"{what} not in {self.folder}; copy the adapters/ of each machine that has answered into "
            f"{self.folder.parent}, or answer anew with another evaluation.dir"
        )

    @property
    def _lacks_warm_up(self) -> bool:
        """Whether the shared start is still to be trained."""
        return bool(self.warm_up) and not (self.folder / WARM_UP / FACTS).exists()

    def _subjects(self, passages: Sequence[Passage], questions: Sequence[Question] | None) -> list[Subject]:
        asked: Sequence[Question | None] = questions if questions is not None else [None] * len(passages)
        return [self.subject(passage, question) for passage, question in zip(passages, asked, strict=True)]

    def _recipe(self, fingerprint: str) -> str:
        """A hash of all that an adapter depends on but its subject.

        Args:
            fingerprint: of the base model.
        """
        config = self.config
        warmed = (config.warm_up.epochs, tuple(self.warm_up)) if self.warm_up else ()
        later = [
            choice.value
            for choice, usual in ((config.answering.prompt, PromptStyle.DIRECT), (config.prag.per, AdapterPer.PASSAGE))
            if choice is not usual
        ]
        quantisation = config.base.quantisation.value
        return digest(config.prag, self.tasks, config.run.seed, fingerprint, quantisation, *warmed, *later)

    def _trained(self, group: Sequence[Subject]) -> Iterator[tuple[Subject, float]]:
        """Put one trained adapter after the other into the model; with it come its seconds of training."""
        started = time.perf_counter()
        if len(group) == 1:
            self.train(group[0])
            yield group[0], time.perf_counter() - started
            return
        together = self.train_together(group)
        share = (time.perf_counter() - started) / len(group)
        for subject in group:
            set_peft_model_state_dict(self.model, together[subject.name])
            self.trainer.check_effect(subject.passage.title, f"the adapter of {subject.name}")
            yield subject, share
