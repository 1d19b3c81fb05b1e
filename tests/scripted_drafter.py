"""A drafter that says what a test tells it to, in the tokens of the tiny model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from polyprag.answering.drafting import Draft, pieces_of
from polyprag.methods.active_rag import ActiveRag
from polyprag.retrieval.retriever import Hit

END = "<|im_end|>"


@dataclass(frozen=True)
class Said:
    """A word of a script; all its tokens have the same probability and entropy.

    Attributes:
        text: with its blank.
        received: what each later token of the draft pays in attention to the word's first token.
        looks: what the positions from which its tokens are predicted pay to pieces of text in prompt and draft, each at
            its last occurrence and at the first of its tokens; texts that are not there get nothing.
    """

    text: str
    probability: float = 1.0
    entropy: float = 0.0
    received: float = 0.0
    looks: Mapping[str, float] = field(default_factory=dict)


Script = Sequence[Said]


class Scripted:
    """Stands in for `Drafter`; notes what it is asked.

    Args:
        tokenizer: the tiny model's.
        scripts: for each question, by its text, what is said in the first draft, the second, …
    """

    def __init__(self, tokenizer: Any, scripts: Mapping[str, Sequence[Script]]) -> None:
        self.tokenizer, self.scripts = tokenizer, {question: list(left) for question, left in scripts.items()}
        self.asked: list[list[str]] = []
        self.budgets: list[list[int]] = []

    def draft(self, prompts: Sequence[Sequence[int]], budgets: Sequence[int], attend: bool = False) -> list[Draft]:
        self.asked.append([self.tokenizer.decode(prompt) for prompt in prompts])
        self.budgets.append(list(budgets))
        return [self._say(list(prompt), budget, attend) for prompt, budget in zip(prompts, budgets, strict=True)]

    def _say(self, prompt: list[int], budget: int, attend: bool) -> Draft:
        text = self.tokenizer.decode(prompt)
        (question,) = [known for known in self.scripts if f"Question: {known}{END}" in text]
        script = self.scripts[question].pop(0)
        said = [(word, self.tokenizer.encode(word.text, add_special_tokens=False)) for word in script]
        ids = [token for _, tokens in said for token in tokens][:budget]
        tokens = [word for word, tokens in said for _ in tokens][:budget]
        starts = [sum(len(tokens) for _, tokens in said[:at]) for at in range(len(said))]
        attention = None
        if attend:
            attention = torch.zeros(1, len(ids) + 1, len(prompt) + len(ids))
            for word, start in zip(script, starts, strict=True):
                attention[0, start + 2 :, len(prompt) + start] = word.received
            for (word, own), start in zip(said, starts, strict=True):
                before = [*prompt, *ids[:start]]
                for seen, weight in word.looks.items():
                    if seen in self.tokenizer.decode(before):
                        attention[0, start : start + len(own), place_of(seen, before, self.tokenizer)] = weight
        return Draft(
            tuple(ids),
            tuple(pieces_of(ids, self.tokenizer)),
            tuple(word.probability for word in tokens),
            tuple(word.entropy for word in tokens),
            bool(script) and script[-1].text == END and len(ids) == sum(len(tokens) for _, tokens in said),
            attention,
        )


def place_of(text: str, ids: Sequence[int], tokenizer: Any) -> int:
    """The token in which the last occurrence of a text begins."""
    at = tokenizer.decode(ids).rindex(text)
    return next(count for count in range(len(ids)) if len(tokenizer.decode(ids[: count + 1])) > at)


@dataclass
class Recorded:
    """A retriever whose searches are noted."""

    retriever: Any
    searches: list[tuple[list[str], int]] = field(default_factory=list)

    @property
    def queries(self) -> list[str]:
        """All queries, in their order."""
        return [query for queries, _ in self.searches for query in queries]

    def search(self, queries: Sequence[str], n: int) -> list[list[Hit]]:
        self.searches.append((list(queries), n))
        found: list[list[Hit]] = self.retriever.search(queries, n)
        return found


def play(method: ActiveRag, scripts: Mapping[str, Sequence[Script]]) -> tuple[Scripted, Recorded]:
    """Let a method's drafter follow scripts from now on; what drafter and retriever are asked is noted."""
    bench = method.bench
    drafter, retriever = Scripted(bench.base.tokenizer, scripts), Recorded(bench.retriever)
    method.__dict__["drafter"], bench.__dict__["retriever"] = drafter, retriever
    return drafter, retriever
