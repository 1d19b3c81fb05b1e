"""Batches: packs of like length, filled up to a token budget and mixed over passages.

Shapes: B rows, T positions, L labels.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Sampler

from polyprag.knowledge.tasks import Pack


@dataclass(frozen=True)
class Batch:
    """Tensors of one training step.

    Attributes:
        tokens_BT: token ids, padded on the right.
        positions_BT: position of each token in its own example.
        mask_B1TT: true where a token (third axis) may attend to another (fourth).
        tasks_B: the passage of each row.
        lengths_B: tokens of each row, padding not counted.
        rows_L: row of each labelled token.
        sources_L: position in the row whose next token is labelled.
        targets_L: the labels.
    """

    tokens_BT: Tensor
    positions_BT: Tensor
    mask_B1TT: Tensor
    tasks_B: Tensor
    lengths_B: Tensor
    rows_L: Tensor
    sources_L: Tensor
    targets_L: Tensor

    @property
    def real_tokens(self) -> int:
        """Tokens without padding."""
        return int(self.lengths_B.sum())

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(*(getattr(self, name).to(device, non_blocking=True) for name in self.__dataclass_fields__))


def collate(packs: Sequence[Pack], pad: int) -> Batch:
    """Put packs of any tasks into one batch.

    Args:
        packs: the rows.
        pad: token id for padding; padded positions attend to themselves alone and carry no label.
    """
    width = max(len(pack) for pack in packs)

    def padded(rows: Sequence[tuple[int, ...]], fill: int) -> Tensor:
        return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])

    branches_BT = padded([pack.branches for pack in packs], -1)
    source_BT1, goal_B1T = branches_BT[:, :, None], branches_BT[:, None, :]
    causal_TT = torch.ones(width, width, dtype=torch.bool).tril()
    mask_BTT = causal_TT & ((goal_B1T == source_BT1) | (goal_B1T == 0)) & (source_BT1 >= 0)
    mask_BTT |= torch.eye(width, dtype=torch.bool)
    return Batch(
        tokens_BT=padded([pack.tokens for pack in packs], pad),
        positions_BT=padded([pack.positions for pack in packs], 0),
        mask_B1TT=mask_BTT[:, None],
        tasks_B=torch.tensor([pack.task for pack in packs]),
        lengths_B=torch.tensor([len(pack) for pack in packs]),
        rows_L=torch.tensor([row for row, pack in enumerate(packs) for _ in pack.sources]),
        sources_L=torch.tensor([source for pack in packs for source in pack.sources]),
        targets_L=torch.tensor([target for pack in packs for target in pack.targets]),
    )


class RewindableSampler(Sampler[list[int]]):
    """Batches of indices in an order that is known in advance.

    Attributes:
        start: batches to skip at the next start, for resuming.
    """

    start = 0


class TokenBudgetSampler(RewindableSampler):
    """Indices of packs, batch by batch, over all passes; the same for the same arguments.

    In each pass the packs are shuffled, sorted by length within chunks of some batches, cut into batches of at most
    `budget` tokens (padding included; a batch takes at least one pack), and the batches are shuffled.

    Processes have equally many batches, so that none waits for another: where the last round has none for some of
    them, they get its last one once more, which must not count (`total`).

    Args:
        lengths: tokens of each pack.
        budget: tokens of a batch.
        passes: passes over all packs.
        seed: of the order.
        rank: which process this is; each takes every `world`-th batch.
        world: number of processes.
        chunk: how many budgets of tokens are sorted together; larger means less padding and less mixing.

    Attributes:
        total: batches of all processes; those numbered from here on only fill up.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        budget: int,
        *,
        passes: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        chunk: int = 16,
    ) -> None:
        self.lengths, self.budget, self.seed, self.chunk = list(lengths), budget, seed, chunk
        batches = [batch for number in range(passes) for batch in self._one_pass(number)]
        self.total = len(batches)
        missing = -self.total % world
        self.batches = [*batches, *batches[-1:] * missing][rank::world]

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0
        return iter(self.batches[start:])

    def __len__(self) -> int:
        return len(self.batches)

    def _one_pass(self, number: int) -> list[list[int]]:
        shuffled = list(range(len(self.lengths)))
        random.Random(f"{self.seed}-{number}").shuffle(shuffled)
        batches: list[list[int]] = []
        for chunk in self._chunks(shuffled):
            batches.extend(self._cut(sorted(chunk, key=lambda index: -self.lengths[index])))
        random.Random(f"{self.seed}-{number}-batches").shuffle(batches)
        return batches

    def _chunks(self, order: Sequence[int]) -> Iterator[list[int]]:
        chunk: list[int] = []
        tokens = 0
        for index in order:
            chunk.append(index)
            tokens += self.lengths[index]
            if tokens >= self.chunk * self.budget:
                yield chunk
                chunk, tokens = [], 0
        if chunk:
            yield chunk

    def _cut(self, longest_first: Sequence[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in longest_first:
            if batch and self.lengths[batch[0]] * (len(batch) + 1) > self.budget:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch
