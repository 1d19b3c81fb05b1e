"""The axes of figures: where numbers lie, which of them are marked, and how labels keep apart."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

MOST_TICKS, MOST_STEPS = 4, 7
"""Most ticks of a logarithmic axis, and most steps of one from 0."""
ZERO_AT, FIRST_AT, LAST_AT = 0.03, 0.14, 0.97
"""Where a logarithmic axis shows 0, and where its numbers begin beside it and end, as shares of its length."""


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis of costs, with a place of its own for 0.

    Attributes:
        low: logarithm of its smallest number.
        high: the same of its largest.
        start: where `low` lies, as a share of the length.
        ticks: the numbers to mark.
    """

    low: float
    high: float
    start: float
    ticks: tuple[float, ...]

    def across(self, value: float) -> float:
        """Where a number lies, as a share of the length."""
        if value <= 0:
            return ZERO_AT
        return self.start + (LAST_AT - self.start) * (math.log10(value) - self.low) / (self.high - self.low)


def log_scale(values: Sequence[float]) -> Scale:
    """The axis on which some numbers, at least 0, are spread out; at least a power of ten long."""
    positive = [value for value in values if value > 0]
    zero = (0.0,) if len(positive) < len(values) else ()
    start = FIRST_AT if zero else ZERO_AT
    if not positive:
        return Scale(0.0, 1.0, start, zero)
    low, high = math.log10(min(positive)), math.log10(max(positive))
    margin = max(0.05 * (high - low), 0.1, (1 - (high - low)) / 2)
    low, high = low - margin, high + margin
    return Scale(low, high, start, (*zero, *_log_ticks(low, high)))


def _log_ticks(low: float, high: float) -> list[float]:
    """At most `MOST_TICKS` round numbers whose logarithms lie between two ends, evenly chosen."""
    exponents = range(math.floor(low), math.ceil(high) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [digit * 10.0**exponent for exponent in exponents for digit in digits]
        inside = [tick for tick in ticks if low <= math.log10(tick) <= high]
        if len(inside) <= MOST_TICKS:
            return inside
    return inside[:: math.ceil(len(inside) / MOST_TICKS)]


def axis_limit(highest: float) -> tuple[float, float]:
    """The end of an axis from 0, at least as far as the highest score, and the distance of its ticks."""
    for step in (0.01, 0.02, 0.05, 0.1, 0.2):
        ticks = max(1, math.ceil(highest / step - 1e-9))
        if ticks <= MOST_STEPS:
            return ticks * step, step
    return max(1.0, highest), 0.25


def tick_kind(position: int) -> str:
    """Every second tick is left out where a figure is narrow."""
    return "tick extra" if position % 2 else "tick"


def short_number(text: str) -> str:
    """A round number without zeros behind its point."""
    return re.sub(r"\.(\d*?)0+(?!\d)", lambda found: f".{found[1]}" if found[1] else "", text)


def ticks_up_to(limit: float, step: float) -> list[float]:
    """The ticks of an axis from 0."""
    return [at * step for at in range(round(limit / step) + 1)]


def spread_out(places: Sequence[float], apart: float, first: float, last: float) -> list[float]:
    """Rising places moved as little as it takes to lie apart, between two ends that leave room for all."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + apart if moved else first))
    ceiling = max(last, first + apart * (len(moved) - 1))
    for at in range(len(moved) - 1, -1, -1):
        moved[at] = min(moved[at], ceiling)
        ceiling = moved[at] - apart
    return moved
