"""What answers come with: the setting, how sure a routing was, what was used, and the time by step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from polyprag.answering.generation import Generated
from polyprag.config import Combine

STEPS = ("retrieve", "route", "load_merge", "generate")


@dataclass(frozen=True)
class Setting:
    """What a method leaves open until validation questions decide.

    Attributes:
        passages: retrieved passages per question.
        combine: how their gates are combined.
        shots: short-answer examples in the prompt.
    """

    passages: int = 0
    combine: Combine = Combine.SUM
    shots: int = 0


@dataclass(frozen=True)
class Confidence:
    """How sure a routing was of its choice.

    Attributes:
        entropy: of its distribution over passages, from 0 (sure) to 1.
        margin: probability of its first passage less that of the second.
        abstained: whether the routing was not trusted, so that the fall-back answered.
    """

    entropy: float
    margin: float
    abstained: bool


@dataclass(frozen=True)
class Answered:
    """A method's answer to one question, with what led to it and what it cost.

    Attributes:
        generated: the text.
        retrieved: ids of the passages used, best first.
        top_experts: the experts with the largest mean gate, and that gate.
        prompt_tokens: tokens of the prompt; of all prompts where a method writes several.
        seconds: by step; a batch's time is shared equally by its questions.
        confidence: of the routing; None for methods without one.
        retrievals: times that the index was searched for the question.
        discarded_tokens: tokens that were generated and are no part of the answer.
        first_token_seconds: from the beginning of the question's batch to the first generated token, a draft's as well;
            None where that was not measured.
    """

    generated: Generated
    retrieved: tuple[str, ...]
    top_experts: tuple[tuple[int, float], ...]
    prompt_tokens: int
    seconds: dict[str, float]
    confidence: Confidence | None = None
    retrievals: int = 0
    discarded_tokens: int = 0
    first_token_seconds: float | None = field(default=None, compare=False)

    @property
    def generated_tokens(self) -> int:
        """All tokens generated, those discarded as well."""
        return self.generated.new_tokens + self.discarded_tokens


@dataclass
class Clock:
    """Adds up the seconds of each step.

    Attributes:
        seconds: of each step so far.
        started_at: when the clock was made, which is when a batch begins, by `time.perf_counter`.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))
    started_at: float = field(default_factory=time.perf_counter)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a block as part of a step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started

    def shared_by(self, questions: int) -> dict[str, float]:
        """The seconds of each step, per question."""
        return {name: seconds / questions for name, seconds in self.seconds.items()}

    def until(self, moment: float | None) -> float | None:
        """Seconds from when the clock was made to a moment by `time.perf_counter`; None where that is not known."""
        return None if moment is None else moment - self.started_at
