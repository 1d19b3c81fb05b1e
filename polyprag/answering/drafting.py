"""Continuations that a method may keep in part: tokens with their probabilities, entropies and attention.

Shapes: B rows, T tokens generated, H heads, S positions of prompt and continuation, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, final

import torch
from torch import Tensor

from polyprag.answering.decoding import Continued
from polyprag.answering.generation import Generator
from polyprag.answering.rows import stacked
from polyprag.errors import ModelError
from polyprag.experts.base_model import BaseModel

ATTENTION_NAMES = ("attn", "attention")
"""How the names of attention modules end; their second output is the weights."""
BROKEN = "\ufffd"
"""What decoders put in place of a character of which not all bytes are there."""


@dataclass(frozen=True)
class Draft:
    """What the model would write after a prompt.

    Attributes:
        ids: tokens, up to the first stop token, which is among them.
        pieces: the text that each token adds; they join to the text of all.
        probabilities: of each token, from 0 to 1, before it was written.
        entropies: of the distribution that each token was chosen from, in nats.
        ended: whether the last token is a stop token.
        attention_HTS: the last block's attention from where the first token was predicted (the prompt's last position)
            and from each token [H, T + 1, S]: row t is that of the position behind which token t was written.
            None where it was not asked for.
        first_token_at: when the first token was there, by `time.perf_counter`; None where nobody has looked.
    """

    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    probabilities: tuple[float, ...]
    entropies: tuple[float, ...]
    ended: bool
    attention_HTS: Tensor | None = None
    first_token_at: float | None = field(default=None, compare=False)

    @property
    def length(self) -> int:
        """Number of tokens without the stop token."""
        return len(self.ids) - self.ended


@final
class Drafter:
    """Writes drafts, greedily, on the base model of a generator, with its stops and under its standing gates.

    Args:
        generator: whose these are; no other gates may be in force.
    """

    def __init__(self, generator: Generator) -> None:
        self.generator, self.base, self.stops = generator, generator.base, generator.stops

    @torch.no_grad()
    def draft(self, prompts: Sequence[Sequence[int]], budgets: Sequence[int], attend: bool = False) -> list[Draft]:
        """Continue each prompt.

        Args:
            prompts: token ids, of any lengths; not empty.
            budgets: most tokens to write after each prompt, 1 or more.
            attend: whether drafts carry attention. It is measured in a second pass over the new tokens, so that only
                this pass, and not generation, pays for attention weights.

        Raises:
            ModelError: attention is wanted of a base model whose attention modules cannot be found.
        """
        recorder = _Recorder(len(prompts))
        gates_BGK = self.generator.gates(len(prompts))
        found = self.generator.decoder.decode(prompts, budgets, self.stops, gates_BGK, recorder, keep=attend)
        attention_BHTS = self._attention(prompts, found) if attend else repeat(None, len(prompts))
        return [
            Draft(
                tuple(one.ids),
                tuple(pieces_of(one.ids, self.base.tokenizer)),
                tuple(recorder.probabilities[row]),
                tuple(recorder.entropies[row]),
                one.ids[-1] in self.stops,
                attention_HTS,
                one.first_token_at,
            )
            for row, (one, attention_HTS) in enumerate(zip(found, attention_BHTS, strict=True))
        ]

    def _attention(self, prompts: Sequence[Sequence[int]], found: Sequence[Continued]) -> Iterator[Tensor]:
        """The last block's attention [H, T + 1, S] of each prompt's last position and of the tokens behind it.

        As in decoding, no more prompts are at work at once than the decoder has rows.
        """
        rows = self.generator.decoder.rows
        for at in range(0, len(prompts), rows):
            yield from self._attention_of(prompts[at : at + rows], found[at : at + rows])

    def _attention_of(self, prompts: Sequence[Sequence[int]], found: Sequence[Continued]) -> list[Tensor]:
        """That of some prompts in one pass.

        The prompts' keys and values are those of decoding, so that only these positions are computed again; they are
        not kept beyond.
        """
        rows = [[prompt[-1], *one.ids] for prompt, one in zip(prompts, found, strict=True)]
        begun = [len(prompt) - 1 for prompt in prompts]
        before, width = max(begun), max(map(len, rows))
        pad, device = self.base.tokenizer.pad_token_id, self.base.device
        tokens_BT = torch.tensor([ids + [pad] * (width - len(ids)) for ids in rows], device=device)
        mask_BS = torch.tensor(
            [
                [0] * (before - length) + [1] * (length + len(ids)) + [0] * (width - len(ids))
                for length, ids in zip(begun, rows, strict=True)
            ],
            device=device,
        )
        cache = stacked([one.prompt_cache for one in found if one.prompt_cache is not None])
        for one in found:
            one.prompt_cache = None
        with self.generator.gated(len(prompts)), last_attention(self.base) as seen:
            self.base.model.get_decoder()(
                input_ids=tokens_BT,
                attention_mask=mask_BS,
                position_ids=(mask_BS.cumsum(-1) - 1).clamp(min=0)[:, before:],
                past_key_values=cache,
                use_cache=True,
            )
        last_BHTS = seen[0].float().cpu()
        return [
            last_HTS[:, : len(ids), before - length : before + len(ids)]
            for last_HTS, length, ids in zip(last_BHTS, begun, rows, strict=True)
        ]


@contextmanager
def last_attention(base: BaseModel) -> Iterator[list[Tensor]]:
    """Compute attention as weights, and keep those of the last block, for as long as the context lasts.

    Yields:
        The weights [B, H, T, S] of each pass. Those of other blocks are gone as soon as the next block is at work.

    Raises:
        ModelError: the base model's attention modules cannot be found.
    """
    attending = [module for name, module in base.model.named_modules() if name.endswith(ATTENTION_NAMES)]
    if not attending:
        raise ModelError(
            f"base.model={base.name}: its attention modules cannot be found, and dragin reads their weights; "
            "leave it out of evaluation.methods"
        )
    seen: list[Tensor] = []
    usual = base.model.config._attn_implementation
    base.model.set_attn_implementation("eager")
    hook = attending[-1].register_forward_hook(lambda module, inputs, output: seen.append(output[1]))
    try:
        yield seen
    finally:
        hook.remove()
        base.model.set_attn_implementation(usual)


def pieces_of(ids: Sequence[int], tokenizer: Any) -> list[str]:
    """The text that each token adds to that of the tokens before it; special tokens add none.

    A character whose bytes lie in several tokens belongs to the last of them.
    """
    pieces, told = [], 0
    text: str = tokenizer.decode(list(ids), skip_special_tokens=True)
    for count in range(1, len(ids) + 1):
        so_far: str = tokenizer.decode(list(ids[:count]), skip_special_tokens=True)
        end = len(text) if count == len(ids) else max(told, len(so_far.rstrip(BROKEN)))
        pieces.append(text[told:end])
        told = end
    return pieces


class _Recorder:
    """Notes, at each step and for each prompt, the probability of the likeliest token and the entropy of all."""

    def __init__(self, prompts: int) -> None:
        self.probabilities: list[list[float]] = [[] for _ in range(prompts)]
        self.entropies: list[list[float]] = [[] for _ in range(prompts)]

    def __call__(self, numbers: Sequence[int], logits_BV: Tensor) -> None:
        shares_BV = logits_BV.float().softmax(-1)
        entropies_B = torch.special.entr(shares_BV).sum(-1)
        for number, largest, entropy in zip(numbers, shares_BV.amax(-1).tolist(), entropies_B.tolist(), strict=True):
            self.probabilities[number].append(largest)
            self.entropies[number].append(entropy)
