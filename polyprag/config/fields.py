"""What a configuration key is made of: a default, a sentence that explains it, the numbers that it accepts."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The numbers that a key accepts, from `low` to `high`; an end marked open is itself refused."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        if value == math.inf or not self.low <= value <= self.high:
            return False
        return not (self.open_low and value == self.low) and not (self.open_high and value == self.high)

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"above {self.low}" if self.open_low else f"{self.low} or more"
        low = f"above {self.low}" if self.open_low else f"from {self.low}"
        return f"{low} to below {self.high}" if self.open_high else f"{low} to {self.high}"


POSITIVE = Range(0, open_low=True)
NOT_NEGATIVE = Range(0)
ONE_OR_MORE = Range(1)
SHARE = Range(0, 1)
SEED = Range(0, 2**32 - 1)


def key(default: Any, help: str, allowed: Range | None = None, *, in_repr: bool = True) -> Any:
    """A configuration key: its default, the sentence that explains it in YAML and docs, and a number's range.

    What a section's settings made is recognised again by the section's `repr`; a key that decides only how fast it was
    made stays out of that, and so does a later key that is accounted for where it is not at its default.
    """
    metadata = {"help": help, "allowed": allowed}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata, repr=in_repr)
    return dataclasses.field(default=default, metadata=metadata, repr=in_repr)


def section(factory: type[T], help: str) -> T:
    """A nested section of the configuration."""
    return dataclasses.field(default_factory=factory, metadata={"help": help})
