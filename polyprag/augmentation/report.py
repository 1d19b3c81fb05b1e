"""What an augmentation came to: counts, tokens, cost, and everything that was left out, by reason."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from polyprag.chat.replies import Reply
from polyprag.config import AugmentationConfig

MILLION = 1_000_000


@dataclass
class Usage:
    """What replies have cost.

    Attributes:
        replies: how many were counted.
        uncounted: how many of them came without a count of tokens.
        prompt_tokens: of all others.
        reply_tokens: of all others.
        seconds: of all replies, as if one had come after the other.
    """

    replies: int = 0
    uncounted: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0
    seconds: float = 0.0

    def add(self, reply: Reply) -> None:
        """Count a reply, with the tokens of its tries that could not be used."""
        self.replies += 1
        self.uncounted += reply.prompt_tokens is None or reply.reply_tokens is None
        self.prompt_tokens += reply.prompt_tokens or 0
        self.reply_tokens += reply.reply_tokens or 0
        self.seconds += reply.seconds

    def cost(self, config: AugmentationConfig) -> float:
        """The price of all counted tokens, in the currency of `augmentation.price_in` and `price_out`."""
        return (self.prompt_tokens * config.price_in + self.reply_tokens * config.price_out) / MILLION


@dataclass
class AugmentationReport:
    """What an augmentation came to.

    Attributes:
        by: who wrote it.
        prompt_version: versions of the prompts; empty where there are none.
        passages: passages of the corpus.
        requests: requests that these make in all; 0 where nobody is asked.
        cached: how many of them had been answered before this run.
        failed: requests that stay without an answer, by reason.
        first_failed: the first of them, in words.
        faults: tries of this run that could not be used, by reason.
        at_once: requests that were under way at once, at most.
        this_run: tokens of this run.
        all_runs: tokens of all replies that the augmentation is made of.
        rewrites: rewrites that were kept.
        pairs: pairs that were kept, those that fill gaps included.
        rejected: replies, rewrites and pairs that were left out, by reason.
        filled: passages that were given extractive pairs, since no other was left.
        filled_pairs: how many pairs these are.
        without_pairs: passages that have no pairs.
        first_without: the first of them.
        seconds: of this run.
    """

    by: str
    prompt_version: str = ""
    passages: int = 0
    requests: int = 0
    cached: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    first_failed: str = ""
    faults: Counter[str] = field(default_factory=Counter)
    at_once: int = 1
    this_run: Usage = field(default_factory=Usage)
    all_runs: Usage = field(default_factory=Usage)
    rewrites: int = 0
    pairs: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    filled: int = 0
    filled_pairs: int = 0
    without_pairs: int = 0
    first_without: str = ""
    seconds: float = 0.0

    def to_json(self, config: AugmentationConfig) -> dict[str, Any]:
        """As `augmentation_report.json` holds it, costs included."""
        found = dataclasses.asdict(self)
        for name, usage in (("this_run", self.this_run), ("all_runs", self.all_runs)):
            found[name]["cost"] = round(usage.cost(config), 6)
            found[name]["seconds"] = round(usage.seconds, 3)
        for name in ("failed", "faults", "rejected"):
            found[name] = dict(getattr(self, name).most_common())
        return {**found, "seconds": round(self.seconds, 3)}

    def lines(self, config: AugmentationConfig) -> list[str]:
        """For people, a line a fact."""
        lines = [f"{self.pairs:,} pairs and {self.rewrites:,} rewrites for {self.passages:,} passages, by {self.by}"]
        if self.requests:
            lines.append(f"requests    {self.requests:,}, {self.cached:,} of them answered before")
            lines.append(f"tokens      {usage_line(self.this_run, config)}")
        for name, counts in (("tries", self.faults), ("failed", self.failed), ("left out", self.rejected)):
            if counts:
                reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
                lines.append(f"{name:<11} {'that were repeated: ' * (name == 'tries')}{reasons}")
        if self.filled:
            gaps = f"{self.filled:,} passages of whose pairs none was left"
            lines.append(f"filled      {gaps}, with {self.filled_pairs:,} extractive ones")
        if self.without_pairs:
            lines.append(
                f"no pairs    {self.without_pairs:,} passages, the first {self.first_without!r}; "
                "they can be trained only with tasks.passage_text=true"
            )
        return lines


def usage_line(usage: Usage, config: AugmentationConfig) -> str:
    """Tokens and, where prices are given, cost."""
    parts = [f"{usage.prompt_tokens:,} in, {usage.reply_tokens:,} out"]
    if usage.uncounted:
        parts.append(f"{usage.uncounted:,} replies came without a count")
    if config.price_in or config.price_out:
        parts.append(f"cost {usage.cost(config):.4f}")
    return "; ".join(parts)
