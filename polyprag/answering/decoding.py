"""Greedy decoding of many prompts in few rows: a row that ends leaves the batch, and a waiting prompt takes its place.

transformers' `generate` carries all rows on until the longest answer ends, and on a CPU its first step copies the
output head once for every row. Its continuous batching lays the tokens of all rows into a single one, where gates could
not belong to rows.

Shapes: B rows, T positions, S positions in the cache, V vocabulary, G routed groups, K experts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import final

import torch
from torch import Tensor
from transformers import DynamicCache

from polyprag.answering.rows import KeysAndValues, Rows, joined, repeated
from polyprag.experts.base_model import BaseModel
from polyprag.experts.logits import logits_of
from polyprag.experts.pool import ExpertPool

REFILL_SHARE = 0.25
"""Share of the rows that must be free before waiting prompts are read, since few are read hardly faster than many."""
SHARED_TOKENS = 64
"""Shortest common beginning of prompts, such as examples, that is read once for all of them."""

Watch = Callable[[Sequence[int], Tensor], None]
"""Is told, before each token, which prompts are continued, and their logits [B, V]."""


@dataclass
class Continued:
    """What was written after a prompt.

    Attributes:
        ids: tokens, up to the first stop token, which is among them.
        first_token_at: when the first of them was there, by `time.perf_counter`; waiting for a row is left out.
        prompt_cache: what is cached of the prompt but for its last token, where that was asked for.
    """

    ids: list[int] = field(default_factory=list)
    first_token_at: float = 0.0
    prompt_cache: KeysAndValues | None = None


@final
class Decoder:
    """Continues prompts by the likeliest tokens; shared by all methods, so that none wins by decoding.

    Args:
        base: the base model, with or without a pool in it; all its blocks must cache keys and values.
        rows: most prompts at work at once.
        pool: whose experts gates are meant for; None for methods without gates.
    """

    def __init__(self, base: BaseModel, rows: int, pool: ExpertPool | None = None) -> None:
        self.base, self.rows, self.pool = base, rows, pool

    @torch.no_grad()
    def decode(
        self,
        prompts: Sequence[Sequence[int]],
        budgets: Sequence[int],
        stops: Sequence[int] = (),
        gates_BGK: Tensor | None = None,
        watch: Watch | None = None,
        keep: bool = False,
    ) -> list[Continued]:
        """Continue each prompt.

        Args:
            prompts: token ids, of any lengths; none is empty.
            budgets: most tokens to write after each prompt, 1 or more.
            stops: tokens that end an answer.
            gates_BGK: gates of each prompt, on the model's device; None runs the base model alone.
            watch: is told all logits, prompts in any order.
            keep: whether what is cached of the prompts is wanted.

        Raises:
            ValueError: gates were given, but there is no pool.
        """
        if gates_BGK is not None and self.pool is None:
            raise ValueError("gates were given to a decoder without a pool")
        run = _Run(self, prompts, budgets, frozenset(stops), gates_BGK, watch, keep)
        try:
            run.finish()
        finally:
            if self.pool is not None and gates_BGK is not None:
                self.pool.context.deactivate()
        return run.found

    def read(self, tokens_BT: Tensor, mask_BS: Tensor, cache: DynamicCache) -> Tensor:
        """Logits [B, V] behind the last of some tokens, which the cache takes in.

        The output head meets a plain matrix of last states: the slice of three dimensions that transformers would give
        it makes PyTorch copy the head for each row.

        Args:
            tokens_BT: token ids.
            mask_BS: 1 for tokens, 0 for padding, those of the cache before those that are read.
            cache: what was read before.
        """
        positions_BS = (mask_BS.cumsum(-1) - 1).clamp(min=0)
        states_BTD = self.base.model.get_decoder()(
            input_ids=tokens_BT,
            attention_mask=mask_BS,
            position_ids=positions_BS[:, -tokens_BT.shape[1] :],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return logits_of(self.base.model, states_BTD[:, -1])


@dataclass
class _Run:
    """One call of `Decoder.decode`, whose arguments these are.

    Attributes:
        found: what is written so far.
        shared: number of tokens with which all prompts begin and that are read once.
        beginning: what is cached of them.
        gated: the prompts whose gates are in force, row by row.
    """

    decoder: Decoder
    prompts: Sequence[Sequence[int]]
    budgets: Sequence[int]
    stops: frozenset[int]
    gates_BGK: Tensor | None
    watch: Watch | None
    keep: bool
    found: list[Continued] = field(init=False)
    shared: int = 0
    beginning: DynamicCache | None = None
    gated: list[int] = field(default_factory=list)

    def finish(self) -> None:
        """Continue all prompts, the longest first, so that rows of like lengths work together."""
        self.found = [Continued() for _ in self.prompts]
        self._share()
        ready_at = time.perf_counter()
        waiting = sorted(range(len(self.prompts)), key=lambda number: len(self.prompts[number]))
        rows: Rows | None = None
        while waiting or rows:
            free = self.decoder.rows - (len(rows.numbers) if rows else 0)
            if waiting and (rows is None or free >= REFILL_SHARE * self.decoder.rows):
                began_at = time.perf_counter()
                numbers = [waiting.pop() for _ in range(min(free, len(waiting)))]
                new = self._begin(numbers)
                first_token_at = time.perf_counter() - (began_at - ready_at)
                for number in numbers:
                    self.found[number].first_token_at = first_token_at
                rows = joined(rows, new) if rows and new else rows or new
            elif rows:
                rows = self._step(rows)

    def _share(self) -> None:
        """Read the tokens with which all prompts begin, once; under gates each row reads them in its own way."""
        if self.gates_BGK is not None or len(self.prompts) < 2:
            return
        common = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*self.prompts, strict=False)))
        common = min(common, *(len(prompt) - 1 for prompt in self.prompts))
        if common >= SHARED_TOKENS:
            tokens_1T = torch.tensor([self.prompts[0][:common]], device=self.decoder.base.device)
            self.shared, self.beginning = common, DynamicCache()
            self.decoder.read(tokens_1T, torch.ones_like(tokens_1T), self.beginning)

    def _begin(self, numbers: list[int]) -> Rows | None:
        """Read some prompts and choose their first tokens; the rows that go on, if any do."""
        base = self.decoder.base
        tokens_BT, mask_BS = left_padded([self.prompts[number][self.shared :] for number in numbers], base)
        cache = DynamicCache()
        if self.beginning is not None:
            cache = repeated(self.beginning, len(numbers))
            mask_BS = torch.cat([mask_BS.new_ones(len(numbers), self.shared), mask_BS], 1)
        self._put_in_force(numbers)
        logits_BV = self.decoder.read(tokens_BT, mask_BS, cache)
        rows = self._chosen(numbers, logits_BV, mask_BS, cache)
        if self.keep:
            for place, number in enumerate(numbers):
                self.found[number].prompt_cache = rows.begun(place, len(self.prompts[number]) - 1)
        return self._going_on(rows)

    def _step(self, rows: Rows) -> Rows | None:
        """Read the last token of each row and choose the next one; the rows that go on, if any do."""
        self._put_in_force(rows.numbers)
        mask_BS = torch.cat([rows.mask_BS, rows.mask_BS.new_ones(len(rows.numbers), 1)], 1)
        logits_BV = self.decoder.read(rows.tokens_B[:, None], mask_BS, rows.cache)
        return self._going_on(self._chosen(rows.numbers, logits_BV, mask_BS, rows.cache))

    def _chosen(self, numbers: list[int], logits_BV: Tensor, mask_BS: Tensor, cache: DynamicCache) -> Rows:
        """The rows with the likeliest next token of each."""
        if self.watch:
            self.watch(numbers, logits_BV)
        tokens_B = logits_BV.max(-1).indices  # argmax takes six times as long in bfloat16
        for number, token in zip(numbers, tokens_B.tolist(), strict=True):
            self.found[number].ids.append(token)
        return Rows(numbers, tokens_B, mask_BS, cache)

    def _going_on(self, rows: Rows) -> Rows | None:
        """The rows whose answers have not ended."""
        places = [
            place
            for place, number in enumerate(rows.numbers)
            if (ids := self.found[number].ids)[-1] not in self.stops and len(ids) < self.budgets[number]
        ]
        if len(places) == len(rows.numbers):
            return rows
        return rows.only(places) if places else None

    def _put_in_force(self, numbers: list[int]) -> None:
        """Let each row have the gates of its prompt."""
        if self.gates_BGK is not None and self.decoder.pool is not None and numbers != self.gated:
            self.decoder.pool.context.activate(self.gates_BGK[numbers])
            self.gated = numbers


def left_padded(prompts: Sequence[Sequence[int]], base: BaseModel) -> tuple[Tensor, Tensor]:
    """A batch that can be continued: token ids and attention mask, both [B, T], on the model's device.

    Args:
        prompts: token ids, of any lengths; not empty.
        base: whose padding token is put before the shorter ones.
    """
    width = max(map(len, prompts))
    pad = base.tokenizer.pad_token_id
    tokens_BT = torch.tensor([[pad] * (width - len(ids)) + list(ids) for ids in prompts], device=base.device)
    mask_BT = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=base.device)
    return tokens_BT, mask_BT
