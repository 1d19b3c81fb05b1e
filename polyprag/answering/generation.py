"""Batched greedy generation on the base model, each row with its own gates.

Shapes: B rows, T positions, G routed groups, K experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from torch import Tensor

from polyprag.answering.decoding import Decoder
from polyprag.config import PromptStyle
from polyprag.experts.base_model import BaseModel
from polyprag.experts.pool import ExpertPool
from polyprag.knowledge.prompts import PromptWriter


@dataclass(frozen=True)
class Generated:
    """What the model wrote after a prompt.

    Attributes:
        text: the answer, a single line, as `PromptWriter.read` finds it.
        raw: everything that was generated.
        new_tokens: tokens generated, end of turn included.
        first_token_at: when the first of them was there, by `time.perf_counter`; None where nobody has looked.
    """

    text: str
    raw: str
    new_tokens: int
    first_token_at: float | None = field(default=None, compare=False)


class Generator:
    """Writes answers with a base model; shared by all methods, so that none wins by decoding.

    Args:
        base: the base model, with or without a pool in it.
        max_new_tokens: longest answer.
        pool: whose experts gates are meant for; None for methods without gates.
        style: of the prompts, which says where an answer stops and what of it counts.
        standing_GK: gates [G, K] of every row that is given none; None leaves these to the base model alone.
        rows: most prompts at work at once.
    """

    def __init__(
        self,
        base: BaseModel,
        max_new_tokens: int,
        pool: ExpertPool | None = None,
        style: PromptStyle = PromptStyle.DIRECT,
        standing_GK: Tensor | None = None,
        rows: int = 16,
    ) -> None:
        self.base, self.pool, self.max_new_tokens = base, pool, max_new_tokens
        self.decoder = Decoder(base, rows, pool)
        self.writer, self.standing_GK = PromptWriter(base.tokenizer, style), standing_GK
        self.stops = self.writer.stops

    def answer(self, prompts: Sequence[Sequence[int]], gates_BGK: Tensor | None = None) -> list[Generated]:
        """Continue each prompt greedily.

        Args:
            prompts: token ids, of any lengths; none is empty.
            gates_BGK: gates of each row [B, G, K]; None takes the standing ones, or else runs the base model alone.
        """
        budgets = [self.max_new_tokens] * len(prompts)
        found = self.decoder.decode(prompts, budgets, self.stops, self.gates(len(prompts), gates_BGK))
        return [self.read(one.ids, one.first_token_at) for one in found]

    def read(self, ids: Sequence[int], first_token_at: float | None = None) -> Generated:
        """What generated tokens come to; those after the first stop token do not count."""
        length = next((at + 1 for at, token in enumerate(ids) if token in self.stops), len(ids))
        raw: str = self.base.tokenizer.decode(ids[:length], skip_special_tokens=True)
        ended = length > 0 and ids[length - 1] in self.stops
        return Generated(self.writer.read(raw, ended), raw, length, first_token_at)

    def gates(self, rows: int, gates_BGK: Tensor | None = None) -> Tensor | None:
        """The gates of a batch, on the model's device: those given, or the standing ones; without either, none.

        Args:
            rows: rows of the batch, B.
            gates_BGK: gates of each row [B, G, K].

        Raises:
            ValueError: there are gates, but no pool.
        """
        if gates_BGK is None and self.standing_GK is not None:
            gates_BGK = self.standing_GK.expand(rows, -1, -1)
        if gates_BGK is None:
            return None
        if self.pool is None:
            raise ValueError("gates were given to a generator without a pool")
        return gates_BGK.to(self.base.device)

    def gated(self, rows: int, gates_BGK: Tensor | None = None) -> AbstractContextManager[None]:
        """Put the gates of a batch in force, as `gates` finds them; without any the base model runs alone."""
        found_BGK = self.gates(rows, gates_BGK)
        return nullcontext() if self.pool is None or found_BGK is None else self.pool.gated(found_BGK)
