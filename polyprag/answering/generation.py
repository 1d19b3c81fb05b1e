"""Batched greedy generation on the base model, each row with its own gates.

Shapes: B rows, T positions, G routed groups, K experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from polyprag.experts.base_model import BaseModel
from polyprag.experts.pool import ExpertPool
from polyprag.knowledge.prompts import PromptWriter


@dataclass(frozen=True)
class Generated:
    """What the model wrote after a prompt.

    Attributes:
        text: the answer, cut at the first line end, stripped.
        raw: everything that was generated.
        new_tokens: tokens generated, end of turn included.
    """

    text: str
    raw: str
    new_tokens: int


class Generator:
    """Writes answers with a base model; shared by all methods, so that none wins by decoding.

    Args:
        base: the base model, with or without a pool in it.
        max_new_tokens: longest answer.
        pool: whose experts gates are meant for; None for methods without gates.
    """

    def __init__(self, base: BaseModel, max_new_tokens: int, pool: ExpertPool | None = None) -> None:
        self.base, self.pool, self.max_new_tokens = base, pool, max_new_tokens
        tokenizer = base.tokenizer
        newline = tokenizer.encode("\n", add_special_tokens=False)
        self.stops = sorted({PromptWriter(tokenizer).end_of_turn, tokenizer.eos_token_id, *newline[-1:]})

    @torch.no_grad()
    def answer(self, prompts: Sequence[Sequence[int]], gates_BGK: Tensor | None = None) -> list[Generated]:
        """Continue each prompt greedily.

        Args:
            prompts: token ids, of any lengths; not empty.
            gates_BGK: gates of each row [B, G, K]; None runs the base model alone.
        """
        tokens_BT, mask_BT = left_padded(prompts, self.base)
        if gates_BGK is not None and self.pool is None:
            raise ValueError("gates were given to a generator without a pool")
        gated = (
            self.pool.gated(gates_BGK.to(self.base.device)) if self.pool and gates_BGK is not None else nullcontext()
        )
        with gated:
            out_BT = self.base.model.generate(
                tokens_BT,
                attention_mask=mask_BT,
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                eos_token_id=self.stops,
                pad_token_id=self.base.tokenizer.pad_token_id,
            )
        return [self.read(row[tokens_BT.shape[1] :].tolist()) for row in out_BT]

    def read(self, ids: Sequence[int]) -> Generated:
        """What generated tokens come to; those after the first stop token do not count."""
        length = next((at + 1 for at, token in enumerate(ids) if token in self.stops), len(ids))
        raw: str = self.base.tokenizer.decode(ids[:length], skip_special_tokens=True)
        lines = raw.strip().splitlines()
        return Generated(lines[0].strip() if lines else "", raw, length)


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
