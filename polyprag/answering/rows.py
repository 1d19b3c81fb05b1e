"""Rows of a batch in the middle of their answers: what is cached of each, and how rows leave and join.

Shapes: B rows, S positions in the cache, H heads of keys and values, E size of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

KeysAndValues = list[tuple[Tensor, Tensor]]
"""Keys and values of every block, [B, H, S, E] each, or [H, S, E] those of a single row."""


@dataclass(frozen=True)
class Rows:
    """Some rows at work.

    Attributes:
        numbers: which prompt each row continues.
        tokens_B: the last token of each row, which is not in the cache yet.
        mask_BS: 1 where the cache holds a token of the row, 0 where it holds padding.
        cache: keys and values so far.
    """

    numbers: list[int]
    tokens_B: Tensor
    mask_BS: Tensor
    cache: DynamicCache

    def only(self, places: Sequence[int]) -> Rows:
        """The rows in some places, without the positions before the first token of any of them."""
        at = torch.tensor(places, device=self.mask_BS.device)
        mask_BS = self.mask_BS[at]
        begin = int(mask_BS.any(0).int().argmax())
        parts = [(keys[at, :, begin:], values[at, :, begin:]) for keys, values in contents(self.cache)]
        return Rows([self.numbers[place] for place in places], self.tokens_B[at], mask_BS[:, begin:], cache_of(parts))

    def begun(self, place: int, length: int) -> KeysAndValues:
        """What is cached of the first tokens of one row, without padding."""
        at = self.mask_BS[place].nonzero().flatten()[:length]
        return [(keys[place, :, at], values[place, :, at]) for keys, values in contents(self.cache)]


def joined(one: Rows, other: Rows) -> Rows:
    """The rows of both, padded on the left to one width."""
    width = max(one.mask_BS.shape[1], other.mask_BS.shape[1])
    ours, theirs = (widened(contents(rows.cache), width) for rows in (one, other))
    mask_BS = torch.cat([F.pad(rows.mask_BS, (width - rows.mask_BS.shape[1], 0)) for rows in (one, other)])
    parts = [(torch.cat([a, b]), torch.cat([c, d])) for (a, c), (b, d) in zip(ours, theirs, strict=True)]
    return Rows(one.numbers + other.numbers, torch.cat([one.tokens_B, other.tokens_B]), mask_BS, cache_of(parts))


def stacked(rows: Sequence[KeysAndValues]) -> DynamicCache:
    """A cache of single rows, padded on the left to one width."""
    width = max(row[0][0].shape[-2] for row in rows)
    blocks = zip(*(widened(row, width) for row in rows), strict=True)
    return cache_of([tuple(torch.stack(part) for part in zip(*block, strict=True)) for block in blocks])


def repeated(cache: DynamicCache, rows: int) -> DynamicCache:
    """A cache of many rows, all of them like the only one of another."""
    return cache_of([(k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1)) for k, v in contents(cache)])


def widened(parts: KeysAndValues, width: int) -> KeysAndValues:
    """Keys and values with zeros on the left, up to so many positions."""
    return [(F.pad(k, (0, 0, width - k.shape[-2], 0)), F.pad(v, (0, 0, width - v.shape[-2], 0))) for k, v in parts]


def contents(cache: DynamicCache) -> KeysAndValues:
    """Keys and values of every block of a cache."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def cache_of(parts: Sequence[tuple[Tensor, ...]]) -> DynamicCache:
    """A cache that holds keys and values, [B, H, S, E], of every block."""
    return DynamicCache(parts)
