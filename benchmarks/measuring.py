"""What a benchmark case is, and how two ways of doing the same are timed fairly: in alternating rounds of one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Bar:
    """What a case's value is held against.

    Attributes:
        limit: the number.
        is_floor: whether the value must reach it; else it must not exceed it.
    """

    limit: float
    is_floor: bool

    @classmethod
    def at_least(cls, limit: float) -> Bar:
        """A value must be this or more."""
        return cls(limit, True)

    @classmethod
    def at_most(cls, limit: float) -> Bar:
        """A value must be this or less."""
        return cls(limit, False)

    def holds(self, value: float) -> bool:
        """Whether a value is on the right side."""
        return value >= self.limit if self.is_floor else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.is_floor else '≤'} {self.limit:.4g}"


@dataclass(frozen=True)
class Measured:
    """What a case gave.

    Attributes:
        value: the number that is held against the bar; mostly a ratio.
        spread: lower and upper quartile of the value over the rounds.
        facts: what else is worth knowing, by name; must fit into JSON.
    """

    value: float
    spread: tuple[float, float]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One row of the suite's table.

    Attributes:
        name: by which it is called, `CASE=name`, unlike that of any other case or module of cases.
        what: what is measured.
        against: what it is a ratio to.
        bar: what the value is held against.
        measure: does it; runs in a process of its own.
        slow: takes minutes, so that it runs only when it is asked for.
    """

    name: str
    what: str
    against: str
    bar: Bar
    measure: Callable[[], Measured]
    slow: bool = False


def alternate(
    forms: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_ups: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds that each form took in each round; what disturbs the machine disturbs all forms alike.

    Args:
        forms: what to time, by name; each is called once a round, every other round in reverse order.
        rounds: rounds that count.
        warm_ups: rounds before them that do not.
        clock: in seconds; `time.thread_time` leaves out what other programs took, for work of a single thread.
    """
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for number in range(-warm_ups, rounds):
        for name in list(forms) if number % 2 == 0 else reversed(list(forms)):
            started = clock()
            forms[name]()
            if number >= 0:
                seconds[name].append(clock() - started)
    return seconds


def ratio(seconds_a: Sequence[float], seconds_b: Sequence[float], **facts: Any) -> Measured:
    """The median over the rounds of a / b; speed-ups are the slower form over the faster one.

    Args:
        seconds_a: of one form in each round.
        seconds_b: of the other, as many.
        facts: what else is worth knowing.
    """
    ratios = [a / b for a, b in zip(seconds_a, seconds_b, strict=True)]
    return Measured(statistics.median(ratios), quartiles(ratios), facts)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper quartile; of one value, the value twice."""
    if len(values) == 1:
        return values[0], values[0]
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, upper
