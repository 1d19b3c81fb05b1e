"""How many of the gold passages a retrieval finds."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def recall_at(found: Sequence[Sequence[T]], gold: Sequence[Collection[T]], ks: Sequence[int]) -> dict[int, float]:
    """The share of a question's gold passages among its first k, averaged over the questions that have gold.

    Args:
        found: for each question its passages, by position or id, best first.
        gold: for each question its gold passages, named likewise; questions without any are left out.
        ks: numbers of passages to look at, 1 or more.

    Returns:
        By k, from 0 to 1; nothing where no question has gold.
    """
    pairs = [(own, set(wanted)) for own, wanted in zip(found, gold, strict=True) if wanted]
    if not pairs:
        return {}
    return {k: sum(len(wanted.intersection(own[:k])) / len(wanted) for own, wanted in pairs) / len(pairs) for k in ks}
