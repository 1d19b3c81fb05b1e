"""The passages' keys of a query router, and the search for those that a question attends to.

`AllKeys` multiplies a question with every key, a block at a time, so that keys can stay on disk in bfloat16.

`CodedKeys` is for large corpora. Beside each key lies the sign of each of its numbers, a bit each (Charikar 2002). A
question is rounded to ±1 and ±3, so that its product with all sign codes takes two rounds of exclusive or and bit
counting over a fourteenth of the keys' bytes. The keys of the passages with the largest of these products are then
weighed exactly: the search can miss a passage, but it does not misjudge one. What the others weigh together is
estimated from a sample of them, since attention is shared among all.

Shapes: B questions, N passages, M passages that a question meets, S sample, D size of a key, W words of 64 signs.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from polyprag.experts.routing import blocks_of

WORD = 64
SAMPLE = 2048
"""Passages from which the weight of those that are not met is estimated."""
SHARE = 0.01
"""Passages that a question meets, of all."""
LEAST_MET = 1024
_SCANNED_AT_ONCE = 1 << 16  # fewer, longer counts, so that threads seldom wait for the interpreter

Codes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Met:
    """The passages that a question has met.

    Attributes:
        positions_M: which they are.
        logits_M: the products of their keys with the question.
        others: number of the other passages.
        others_weight: the logarithm of the sum of exp(product) over them, estimated; -inf where there are none.
    """

    positions_M: Tensor
    logits_M: Tensor
    others: int = 0
    others_weight: float = -math.inf

    @property
    def attention_M(self) -> Tensor:
        """The share of each passage that was met; with those of the others they add up to 1."""
        everything = torch.cat([self.logits_M, self.logits_M.new_tensor([self.others_weight])])
        return everything.softmax(-1)[:-1]

    def relative_entropy(self) -> float:
        """Entropy of the attention over all passages, divided by that of even shares; the others count as alike."""
        passages = len(self.logits_M) + self.others
        if passages < 2:
            return 0.0
        shares_M = self.attention_M.clamp_min(1e-30)
        entropy = -float((shares_M * shares_M.log()).sum())
        rest = max(0.0, 1.0 - float(shares_M.sum())) if self.others else 0.0
        if rest:
            entropy -= rest * math.log(rest / self.others)
        return entropy / math.log(passages)


@final
class AllKeys(nn.Module):
    """Keys of which every question meets each.

    Args:
        keys_ND: of any number type; they may be mapped from disk.
    """

    def __init__(self, keys_ND: Tensor) -> None:
        super().__init__()
        self.keys_ND: Tensor
        self.register_buffer("keys_ND", keys_ND, persistent=False)

    def __len__(self) -> int:
        """Number of passages."""
        return len(self.keys_ND)

    def logits(self, queries_BD: Tensor) -> Tensor:
        """The products [B, N] with all keys."""
        if self.keys_ND.dtype == queries_BD.dtype:
            return queries_BD @ self.keys_ND.T
        blocks = (self.keys_ND[block].to(queries_BD.dtype) for block in blocks_of(len(self)))
        return torch.cat([queries_BD @ block_MD.T for block_MD in blocks], dim=1)

    def meet(self, queries_BD: Tensor) -> list[Met]:
        """All passages, for each question; queries are float32, on the keys' device, of any length."""
        positions_N = torch.arange(len(self), device=queries_BD.device)
        return [Met(positions_N, logits_N) for logits_N in self.logits(queries_BD)]


@final
class CodedKeys(nn.Module):
    """Keys of which a question meets those whose sign codes are nearest to it; on a GPU, where that is fast, all.

    Args:
        keys_ND: of any number type; they may be mapped from disk.
        codes_WN: as `sign_codes` gives them; they may be mapped, too.
        share: of the passages that a question meets, at least `LEAST_MET`.
    """

    def __init__(self, keys_ND: Tensor, codes_WN: Tensor, share: float = SHARE) -> None:
        super().__init__()
        self.all = AllKeys(keys_ND)
        self.codes_WN: Codes = codes_WN.numpy().view(np.uint64)
        self.share = share
        self.sample_S = np.linspace(0, len(keys_ND) - 1, min(SAMPLE, len(keys_ND))).astype(np.int64)

    def __len__(self) -> int:
        """Number of passages."""
        return len(self.all)

    def logits(self, queries_BD: Tensor) -> Tensor:
        """The products [B, N] with all keys."""
        return self.all.logits(queries_BD)

    def meet(self, queries_BD: Tensor) -> list[Met]:
        """The passages whose codes are nearest to each question, see `AllKeys.meet`."""
        if queries_BD.device.type != "cpu" or self.wanted >= len(self):
            return self.all.meet(queries_BD)
        return [self._met(query_D) for query_D in queries_BD]

    @property
    def keys_ND(self) -> Tensor:
        """The keys, in the order of the passages."""
        return self.all.keys_ND

    @property
    def wanted(self) -> int:
        """Passages that a question meets; ties may add a few."""
        return max(LEAST_MET, round(self.share * len(self)))

    def _met(self, query_D: Tensor) -> Met:
        distances_N = code_distances(query_D, self.codes_WN)
        limit = int(np.searchsorted(np.cumsum(np.bincount(distances_N)), self.wanted))
        positions_M = torch.from_numpy(np.flatnonzero(distances_N <= limit))
        others_S = torch.from_numpy(self.sample_S[distances_N[self.sample_S] > limit])
        others, weight = len(self) - len(positions_M), -math.inf
        if others and len(others_S):
            sampled_S = self._products(others_S, query_D)
            weight = float(sampled_S.logsumexp(0)) + math.log(others / len(others_S))
        return Met(positions_M, self._products(positions_M, query_D), others, weight)

    def _products(self, positions_M: Tensor, query_D: Tensor) -> Tensor:
        keys_ND = self.keys_ND
        chosen = (keys_ND.index_select(0, positions_M[block]) for block in blocks_of(len(positions_M)))
        parts = (block_MD.to(query_D.dtype) @ query_D for block_MD in chosen)
        return torch.cat([*parts])


def sign_codes(keys_ND: Tensor) -> Tensor:
    """The signs of keys, 64 to a word, as int64 [W, N]: a round of bit counting reads one word of every key in a row.

    Args:
        keys_ND: of any number type; where D is no multiple of 64, the last bits are zero.
    """
    words = math.ceil(keys_ND.shape[1] / WORD)
    codes_WN = np.empty((words, len(keys_ND)), np.uint64)
    for block in blocks_of(len(keys_ND)):
        codes_WN[:, block] = _packed(keys_ND[block].float().cpu().numpy() > 0, words).T
    return torch.from_numpy(codes_WN.view(np.int64))


def code_distances(query_D: Tensor, codes_WN: Codes) -> npt.NDArray[np.uint16]:
    """How far sign codes are from a question, [N]: the numbers of other sign count 1, if large in the question 3.

    That is a constant less half the product of the code's ±1 with the question rounded to ±1 and ±3.

    Args:
        query_D: a question; a number is large if it is above the root of the mean square.
        codes_WN: see `sign_codes`.
    """
    numbers_1D = query_D.float().numpy()[None]
    is_large_1D = np.abs(numbers_1D) > np.sqrt(np.square(numbers_1D).mean())
    (signs_W,), (large_W,) = (_packed(bits, len(codes_WN)) for bits in (numbers_1D > 0, is_large_1D))
    passages = codes_WN.shape[1]
    distances_N = np.zeros(passages, np.uint16)

    def scan(start: int) -> None:
        """Look through one block of keys."""
        block = slice(start, start + _SCANNED_AT_ONCE)
        near_M, weighty_M = distances_N[block], np.zeros_like(distances_N[block])
        for codes_N, sign, large in zip(codes_WN, signs_W, large_W, strict=True):
            differing_M = codes_N[block] ^ sign
            near_M += np.bitwise_count(differing_M)
            weighty_M += np.bitwise_count(differing_M & large)
        near_M += 2 * weighty_M

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # numpy lets go of the interpreter while it counts
        list(threads.map(scan, range(0, passages, _SCANNED_AT_ONCE)))
    return distances_N


def _packed(bits_ND: npt.NDArray[np.bool_], words: int) -> Codes:
    """Bits as words [N, W], filled up with zeros."""
    padded = np.zeros((len(bits_ND), WORD * words), np.bool_)
    padded[:, : bits_ND.shape[1]] = bits_ND
    packed: Any = np.packbits(padded, axis=1)
    codes: Codes = packed.view(np.uint64)
    return codes
