"""The data of training: packs in token-budget batches, and validation questions.

All passes over the packs are one Lightning epoch, so that a checkpoint anywhere says by a single number how far the
loader had come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from polyprag.config import Config
from polyprag.knowledge.tasks import Pack
from polyprag.records import Question
from polyprag.training.batches import Batch, RewindableSampler, TokenBudgetSampler, collate
from polyprag.training.place import FSDP, world_of


class ResumableLoader(DataLoader[Any]):
    """A loader that can start again where it was: Lightning saves and loads its state."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        sampler = self.batch_sampler
        assert isinstance(sampler, RewindableSampler)
        self.done = sampler.start
        for batch in super().__iter__():
            self.done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How many batches were given out."""
        return {"batches": self.done}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Skip as many batches at the next start."""
        sampler = self.batch_sampler
        assert isinstance(sampler, RewindableSampler)
        sampler.start = state_dict["batches"]


class KnowledgeData(pl.LightningDataModule):
    """Packs for training, questions for validation.

    Args:
        packs: all packs of all passages.
        validation: questions with a gold passage, answered closed-book during training.
        config: batch size, passes, seed.
        pad: token id for padding.
    """

    def __init__(self, packs: Sequence[Pack], validation: Sequence[Question], config: Config, pad: int) -> None:
        super().__init__()
        self.packs, self.validation, self.config, self.pad = list(packs), list(validation), config, pad

    def sampler(self) -> TokenBudgetSampler:
        """The batches of this process, over all passes."""
        rank, world = self.place
        training = self.config.training
        return TokenBudgetSampler(
            [len(pack) for pack in self.packs],
            training.batch_tokens,
            passes=training.epochs,
            seed=self.config.run.seed,
            rank=rank,
            world=world,
        )

    @property
    def place(self) -> tuple[int, int]:
        """The number of this process, from 0, and how many train together."""
        return (self.trainer.global_rank if self.trainer else 0), world_of(self.config.training)

    def number(self, batch_idx: int) -> int:
        """The number of one of this process's batches among those of all."""
        rank, world = self.place
        return batch_idx * world + rank

    def counts(self, batch_idx: int) -> bool:
        """Whether one of this process's batches is to count; see `TokenBudgetSampler`."""
        return self.number(batch_idx) < self.total

    @cached_property
    def total(self) -> int:
        """Batches of all processes, over all passes."""
        return self.sampler().total

    @property
    def shares_validation(self) -> bool:
        """Whether processes answer different validation questions; with a spread base model all answer all."""
        training = self.config.training
        return training.strategy != FSDP and len(self.validation) >= world_of(training)

    def steps(self) -> int:
        """Optimiser steps over all passes, or `training.max_steps` where that is fewer."""
        training = self.config.training
        steps = -(-len(self.sampler()) // training.accumulate)
        return steps if training.max_steps < 0 else min(steps, training.max_steps)

    def passes(self) -> float:
        """Passes over all training sequences that these steps make."""
        training = self.config.training
        return training.epochs * min(1.0, self.steps() * training.accumulate / len(self.sampler()))

    def collated(self, indices: Sequence[int]) -> Batch:
        """One batch of chosen packs."""
        return collate([self.packs[index] for index in indices], self.pad)

    def train_dataloader(self) -> DataLoader[Pack]:
        """Batches over all passes."""
        collated = partial(collate, pad=self.pad)
        return ResumableLoader(
            self.packs,  # type: ignore[arg-type]
            batch_sampler=self.sampler(),
            collate_fn=collated,
            generator=_own_generator(),
        )

    def val_dataloader(self) -> DataLoader[Question]:
        """Validation questions in the batch size of answering; processes share them, if there is one for each."""
        size = self.config.answering.batch_size
        rank, world = self.place
        own = self.validation[rank::world] if self.shares_validation else self.validation
        return DataLoader(
            own,  # type: ignore[arg-type]
            batch_size=size,
            collate_fn=list,
            generator=_own_generator(),
        )

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Move tensors; questions stay as they are."""
        return batch.to(device) if isinstance(batch, Batch) else batch


def _own_generator() -> torch.Generator:
    """What a loader draws a seed from each time it starts; with the global one, a resumed run would draw once more."""
    return torch.Generator()
