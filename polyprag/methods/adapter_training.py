"""The training of one-to-one adapters: the steps of each, taken one adapter after the other or several at once."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from peft import PeftModel, set_peft_model_state_dict
from rich.console import Console
from rich.progress import track
from torch import Tensor

from polyprag.config import Config, Recipe
from polyprag.errors import AdapterError
from polyprag.experts.base_model import BaseModel
from polyprag.knowledge.prompts import PromptWriter
from polyprag.knowledge.tasks import Example, Pack, examples_of, pack
from polyprag.methods.adapter_batches import check_loss, train_together
from polyprag.methods.adapter_files import INITIAL, Subject
from polyprag.records import QAPair
from polyprag.training.batches import collate
from polyprag.training.module import label_loss

T = TypeVar("T")


class AdapterTrainer:
    """Trains adapters by the recipe of `prag.*`, in memory.

    Args:
        model: the base model as PEFT wraps it, with one adapter.
        base: the base model.
        config: the whole configuration.
    """

    def __init__(self, model: Any, base: BaseModel, config: Config) -> None:
        self.model, self.base, self.config = model, base, config
        self.writer = PromptWriter(base.tokenizer, config.answering.prompt)
        self.tasks = dataclasses.replace(config.tasks, recipe=config.prag.recipe, loss=config.prag.loss)

    def fit(
        self, start: dict[str, Tensor], steps: Sequence[Sequence[Pack]], which: str, title: str = "", shown: str = ""
    ) -> None:
        """Take an adapter's steps from these weights on.

        Args:
            start: weights by PEFT's names.
            steps: the packs of each step.
            which: what errors call the adapter.
            title: what a question is asked about to see that the adapter speaks up.
            shown: name of a progress bar; none without one.

        Raises:
            AdapterError: the adapter changes no logit afterwards, or its loss is not finite.
        """
        set_peft_model_state_dict(self.model, start)
        self.model.set_adapter(INITIAL)
        weights = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=self.config.prag.learning_rate)
        console = Console(stderr=True)
        for number, packs in enumerate(track(steps, description=shown, console=console, disable=not shown), start=1):
            batch = collate(packs, self.base.tokenizer.pad_token_id).to(self.base.device)
            loss = label_loss(self.model, batch)
            check_loss(loss.item(), number, which)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
        self.check_effect(title, which)

    def fit_together(self, start: dict[str, Tensor], subjects: Sequence[Subject]) -> dict[str, dict[str, Tensor]]:
        """The weights of several adapters by their subjects' names, each trained as if alone.

        The model stays as it is, and no effect is checked.

        Args:
            start: weights by PEFT's names.
            subjects: different ones.

        Raises:
            AdapterError: a loss is not finite.
        """
        steps = {subject.name: self.steps(subject) for subject in subjects}
        rate, pad = self.config.prag.learning_rate, self.base.tokenizer.pad_token_id
        return train_together(self.model, INITIAL, start, steps, rate, pad)

    @torch.no_grad()
    def check_effect(self, title: str, which: str) -> None:
        """See that the adapter in the model speaks up when it is asked about something.

        Raises:
            AdapterError: it changes no logit.
        """
        prompt = torch.tensor([self.writer.question(f"What is {title or 'this'}?")], device=self.base.device)
        model: PeftModel = self.model
        with model.disable_adapter():
            before = model(prompt).logits[0, -1]
        if torch.equal(model(prompt).logits[0, -1], before):
            raise AdapterError(
                f"{which} changes no logit of the base model after training; check prag.targets and prag.learning_rate"
            )

    def groups(self, subjects: Sequence[Subject]) -> list[Sequence[Subject]]:
        """Adapters to train together: of like numbers of steps and of tokens, so that little is padding."""
        size = self.config.prag.parallel
        alike = sorted(subjects, key=self._size) if size > 1 else subjects
        return [alike[at : at + size] for at in range(0, len(alike), size)]

    def steps(self, subject: Subject) -> list[list[Pack]]:
        """The steps of all passes: in the same order by PRAG's recipe, else in one of its own in each.

        Raises:
            DataError: there is nothing to train on.
        """
        prag, steps = self.config.prag, self._steps(subject)
        order = random.Random(self.config.run.seed)
        epochs = [steps] * prag.epochs if prag.recipe is Recipe.PRAG else _shuffled(steps, prag.epochs, order)
        return [packs for epoch in epochs for packs in epoch]

    def warm_up_steps(self, outside: Sequence[QAPair]) -> list[list[Pack]]:
        """Pairs alone with the end of the turn, as in the official code, in an order of their own in each pass."""
        pairs = [
            Example(tuple(self.writer.question(pair.question)), tuple(self.writer.target(pair))) for pair in outside
        ]
        epochs = _shuffled(pairs, self.config.warm_up.epochs, random.Random(self.config.run.seed))
        return [packs for epoch in epochs for packs in self._chunked(epoch)]

    def _size(self, subject: Subject) -> tuple[int, int]:
        """Steps and tokens of one pass."""
        steps = self._steps(subject)
        return len(steps), sum(len(pack) for packs in steps for pack in packs)

    def _steps(self, subject: Subject) -> list[list[Pack]]:
        groups = examples_of(subject.passage, subject.augmentation, self.tasks, self.writer)
        return [packs for group in groups for packs in self._chunked(group)]

    def _chunked(self, examples: Sequence[Example]) -> list[list[Pack]]:
        size = self.config.prag.batch_size
        return [pack(0, examples[at : at + size], self.tasks) for at in range(0, len(examples), size)]


def _shuffled(items: Iterable[T], times: int, order: random.Random) -> list[list[T]]:
    """The items in several orders, one after the other, each made of the one before."""
    current, orders = list(items), []
    for _ in range(times):
        order.shuffle(current)
        orders.append(list(current))
    return orders
