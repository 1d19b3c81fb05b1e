"""Continuations that a method may keep in part: tokens with their probabilities, entropies and attention.

Shapes: B rows, T tokens generated, H heads, S positions of prompt and continuation, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from polyprag.answering.generation import Generator, left_padded
from polyprag.experts.base_model import BaseModel

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
    """

    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    probabilities: tuple[float, ...]
    entropies: tuple[float, ...]
    ended: bool
    attention_HTS: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of tokens without the stop token."""
        return len(self.ids) - self.ended


@final
class Drafter:
    """Writes drafts, greedily and with the stops of a generator, on the base model alone.

    Args:
        generator: whose base model and stops are used; no gates may be in force.
    """

    def __init__(self, generator: Generator) -> None:
        self.base, self.stops = generator.base, generator.stops

    @torch.no_grad()
    def draft(self, prompts: Sequence[Sequence[int]], budgets: Sequence[int], attend: bool = False) -> list[Draft]:
        """Continue each prompt.

        Args:
            prompts: token ids, of any lengths; not empty.
            budgets: most tokens to write after each prompt, 1 or more.
            attend: whether drafts carry attention. It is measured in a second pass over the new tokens, so that only
                this pass, and not generation, pays for attention weights.
        """
        tokens_BS, mask_BS = left_padded(prompts, self.base)
        recorder = _Recorder()
        out = self.base.model.generate(
            tokens_BS,
            attention_mask=mask_BS,
            max_new_tokens=max(budgets),
            do_sample=False,
            eos_token_id=self.stops,
            pad_token_id=self.base.tokenizer.pad_token_id,
            logits_processor=LogitsProcessorList([recorder]),
            return_dict_in_generate=True,
        )
        new_BT = out.sequences[:, tokens_BS.shape[1] :]
        probabilities_BT = torch.stack(recorder.probabilities, 1).tolist()
        entropies_BT = torch.stack(recorder.entropies, 1).tolist()
        attention_BHTS = self._attention(out, mask_BS) if attend else None
        drafts = []
        for row, (prompt, budget) in enumerate(zip(prompts, budgets, strict=True)):
            ids = self._until_stop(new_BT[row, :budget].tolist())
            seen = None
            if attention_BHTS is not None:
                begin = tokens_BS.shape[1] - len(prompt)
                seen = attention_BHTS[row, :, : len(ids) + 1, begin : tokens_BS.shape[1] + len(ids)]
            drafts.append(
                Draft(
                    tuple(ids),
                    tuple(pieces_of(ids, self.base.tokenizer)),
                    tuple(probabilities_BT[row][: len(ids)]),
                    tuple(entropies_BT[row][: len(ids)]),
                    ids[-1] in self.stops,
                    seen,
                )
            )
        return drafts

    def _until_stop(self, ids: list[int]) -> list[int]:
        length = next((at + 1 for at, token in enumerate(ids) if token in self.stops), len(ids))
        return ids[:length]

    def _attention(self, out: Any, mask_BS: Tensor) -> Tensor:
        """The last block's attention [B, H, T + 1, S] of the prompt's last position and of all new tokens.

        The prompts' keys and values are those of generation, so that only these positions are computed again.
        """
        width = mask_BS.shape[1]
        new = out.sequences.shape[1] - width
        cache = out.past_key_values
        cache.crop(-new)  # it lacks the last new token, and the prompt's last one is wanted too
        whole_BS = torch.cat([mask_BS, mask_BS.new_ones(len(mask_BS), new)], 1)
        positions_BS = (whole_BS.cumsum(-1) - 1).clamp(min=0)
        with eager_attention(self.base):
            seen = self.base.model(
                out.sequences[:, width - 1 :],
                attention_mask=whole_BS,
                position_ids=positions_BS[:, width - 1 :],
                past_key_values=cache,
                output_attentions=True,
                logits_to_keep=1,
            )
        last: Tensor = seen.attentions[-1].float().cpu()
        return last


@contextmanager
def eager_attention(base: BaseModel) -> Iterator[None]:
    """Compute attention as weights that can be read, for as long as the context lasts."""
    usual = base.model.config._attn_implementation
    base.model.set_attn_implementation("eager")
    try:
        yield
    finally:
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


class _Recorder(LogitsProcessor):  # type: ignore[misc]
    """Notes, at each step, the probability of the likeliest token and the entropy of all; changes nothing."""

    def __init__(self) -> None:
        self.probabilities: list[Tensor] = []
        self.entropies: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        shares_BV = scores.float().softmax(-1)
        self.probabilities.append(shares_BV.amax(-1).cpu())
        self.entropies.append(torch.special.entr(shares_BV).sum(-1).cpu())
        return scores
