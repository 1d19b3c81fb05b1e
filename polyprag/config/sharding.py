"""Shards: the shares of a piece of work that processes and machines do without talking to each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from polyprag.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, order=True)
class Shard:
    """One of several equal shares.

    Attributes:
        index: which, from 0.
        count: of how many; 1 is the whole, and 0 nothing of it.
    """

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def of(cls, text: str) -> Shard:
        """Read `run.shard`.

        Args:
            text: such as 0/4; empty for the whole.

        Raises:
            ConfigError: it says something else.
        """
        if not text:
            return WHOLE
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if found is None or int(found[1]) >= int(found[2]):
            raise ConfigError(f"run.shard is {text!r}, but must be a number from 0 and of how many, such as 0/4 to 3/4")
        return cls(int(found[1]), int(found[2]))

    @property
    def is_part(self) -> bool:
        """Whether others do the rest."""
        return self.count > 1

    def own(self, items: Sequence[T]) -> list[T]:
        """Every `count`-th of some items, so that shards get like shares of each kind."""
        return list(items[self.index :: self.count]) if self.count else []


WHOLE, NOTHING = Shard(), Shard(0, 0)
