"""Augmentation by a local transformers model, in batches.

Shapes: B rows, T positions, V entries of the vocabulary.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from polyprag.answering.decoding import left_padded
from polyprag.augmentation.author import Request
from polyprag.chat.replies import Reply
from polyprag.config import Config
from polyprag.errors import ModelError
from polyprag.experts.base_model import BaseModel, load_base
from polyprag.knowledge.prompts import PromptWriter, as_chat

WINDOW = 16
"""Batches that are sorted by length together."""


class LocalAuthor:
    """Continues the chats of requests with a model on this machine.

    A chat that ends in an assistant's message is continued within that message, and the reply begins with it.

    With `augmentation.temperature` above 0 every request is sampled with noise of its own, drawn from `run.seed` and
    the request's key: what it gets depends neither on the rest of its batch nor on what a run that was killed had done
    before (up to the rounding of sums, which the size of a batch may change).

    Args:
        config: the whole configuration; `base` says how the model is loaded, `augmentation.model` which one, if not
            the base model.
        device: a torch device.

    Raises:
        ModelError: the model cannot be found or is no causal language model with a chat template.
    """

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self.config, self.seed = config.augmentation, config.run.seed
        self.base = _load(config, device)
        tokenizer = self.base.tokenizer
        self.stops = sorted({PromptWriter(tokenizer).end_of_turn, tokenizer.eos_token_id})
        self.context: int = self.base.model.config.max_position_embeddings

    @property
    def name(self) -> str:
        """The model's name."""
        return self.base.name

    def write(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer requests in batches of like length, a window of `WINDOW` batches at a time; see `Author.write`.

        A prompt that leaves no room in the model's context for a reply of `augmentation.max_tokens` is a failure.

        Raises:
            ModelError: a batch does not fit into memory.
        """
        waiting = iter(requests)
        size = self.config.batch_size
        room = self.context - self.config.max_tokens
        while window := [self._prompt(request) for request in islice(waiting, WINDOW * size)]:
            window.sort(key=lambda prompt: (prompt.request.kind, -len(prompt.ids)))
            yield from (_too_long(prompt, room) for prompt in window if len(prompt.ids) > room)
            fitting = [prompt for prompt in window if len(prompt.ids) <= room]
            for at in range(0, len(fitting), size):
                yield from self._replies(fitting[at : at + size])

    def _prompt(self, request: Request) -> _Prompt:
        *before, last = request.messages
        begun = last["content"].rstrip() if last["role"] == "assistant" else ""
        rendered = as_chat(self.base.tokenizer, before if begun else [*before, last], open_turn=True)
        ids: list[int] = self.base.tokenizer.encode(rendered + begun, add_special_tokens=False)
        return _Prompt(request, ids, begun)

    @torch.no_grad()
    def _replies(self, prompts: Sequence[_Prompt]) -> list[Reply]:
        """What the model makes of one batch, whose seconds are shared equally."""
        started = time.perf_counter()
        tokens_BT, mask_BT = left_padded([prompt.ids for prompt in prompts], self.base)
        try:
            out_BT = self.base.model.generate(
                tokens_BT,
                attention_mask=mask_BT,
                max_new_tokens=self.config.max_tokens,
                do_sample=False,
                logits_processor=LogitsProcessorList(self._noise(prompts)),
                eos_token_id=self.stops,
                pad_token_id=self.base.tokenizer.pad_token_id,
            )
        except torch.OutOfMemoryError:
            raise ModelError(
                f"augmentation.batch_size={self.config.batch_size}: {len(prompts)} prompts of up to "
                f"{tokens_BT.shape[1]} tokens do not fit into memory; use a smaller one"
            ) from None
        seconds = (time.perf_counter() - started) / len(prompts)
        rows = out_BT[:, tokens_BT.shape[1] :].tolist()
        return [self._reply(prompt, row, seconds) for prompt, row in zip(prompts, rows, strict=True)]

    def _reply(self, prompt: _Prompt, ids: list[int], seconds: float) -> Reply:
        length = next((at + 1 for at, token in enumerate(ids) if token in self.stops), len(ids))
        text = prompt.begun + self.base.tokenizer.decode(ids[:length], skip_special_tokens=True)
        return Reply(prompt.request.key, text.strip(), len(prompt.ids), length, seconds)

    def _noise(self, prompts: Sequence[_Prompt]) -> list[LogitsProcessor]:
        if self.config.temperature == 0:
            return []
        seeds = [_seed_of(self.seed, prompt.request.key) for prompt in prompts]
        return [SeededNoise(self.config.temperature, seeds, self.base.device)]


@dataclass(frozen=True, eq=False)
class _Prompt:
    """A request as token ids, and the beginning of the reply that they already hold."""

    request: Request
    ids: list[int]
    begun: str


class SeededNoise(LogitsProcessor):  # type: ignore[misc]  # transformers is not typed
    """Makes greedy decoding sample, each row by a seed of its own (the Gumbel-max trick, arXiv 1411.0030).

    With g_v = −ln(−ln u_v), u_v uniform in (0, 1), argmax_v (l_v/τ + g_v) is a sample of softmax(l/τ).

    Args:
        temperature: τ, above 0.
        seeds: one a row.
        device: where the scores are.
    """

    def __init__(self, temperature: float, seeds: Sequence[int], device: torch.device) -> None:
        self.temperature = temperature
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, tokens_BT: Tensor, scores_BV: Tensor) -> Tensor:
        """Scores whose largest is the sample, [B, V], float32."""
        exponential_BV = torch.stack(
            [
                torch.empty_like(row_V, dtype=torch.float32).exponential_(generator=generator)
                for row_V, generator in zip(scores_BV, self.generators, strict=True)
            ]
        )
        return scores_BV.float() / self.temperature - exponential_BV.log()


def _too_long(prompt: _Prompt, room: int) -> Reply:
    tokens = len(prompt.ids)
    reason = (
        f"prompt too long: {tokens:,} tokens, where augmentation.max_tokens leaves room for {room:,}; "
        "split passages smaller, or lower it"
    )
    return Reply(prompt.request.key, "", tokens, 0, failure=reason)


def _seed_of(seed: int, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {key}".encode()).digest()[:8]) >> 1


def _load(config: Config, device: str) -> BaseModel:
    name = config.augmentation.model
    if not name:
        return load_base(config.base, device)
    try:
        return load_base(dataclasses.replace(config.base, model=name, revision=""), device)
    except ModelError as error:
        raise ModelError(str(error).replace("base.model", "augmentation.model", 1)) from None
