"""Passages that nearly repeat the text of an earlier one.

Two texts are near duplicates if their shingles, the runs of five words of SQuAD's normal form, have a Jaccard index of
0.8 or more; titles do not count. Pairs are found by prefix filtering, as copied questions are
(`polyprag.knowledge.overlap`): sets that are so alike share one of the few rarest shingles of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any

import numpy as np

from polyprag.metrics import normalise

NEAR = 0.8
"""The Jaccard index from which on two texts are near duplicates."""
SHINGLE = 5
CANDIDATES = 100
"""Most earlier texts that a text is compared with, which bounds the time for texts made of common phrases."""
_SLOT_BITS = 22  # the table of frequencies; shingles that fall together in it count as equally frequent
_FACTORS = np.random.default_rng(0).integers(1, 1 << 63, SHINGLE, dtype=np.uint64) | np.uint64(1)

Shingles = np.ndarray[Any, np.dtype[np.uint64]]


def near_duplicates(texts: Iterable[str]) -> list[tuple[int, int]]:
    """Find the texts that nearly repeat an earlier one.

    Args:
        texts: the passages' texts; one that normalises to nothing repeats none.

    Returns:
        For each such text its place and the place of an earlier one that it repeats, by rising place. A text with
        more than `CANDIDATES` candidates is compared with the earliest of them only.
    """
    sets = _shingles(texts)
    frequency_S = np.bincount(_slots(np.concatenate(sets or [np.empty(0, np.uint64)])), minlength=1 << _SLOT_BITS)
    sharing: dict[int, list[int]] = {}
    found = []
    for place, own in enumerate(sets):
        rarest = _rarest(own, frequency_S)
        candidates = sorted({other for shingle in rarest for other in sharing.get(shingle, ())})[:CANDIDATES]
        earlier = next((other for other in candidates if _alike(own, sets[other])), None)
        if earlier is not None:
            found.append((place, earlier))
        for shingle in rarest:
            sharing.setdefault(shingle, []).append(place)
    return found


def _shingles(texts: Iterable[str]) -> list[Shingles]:
    """For each text the hashes of its shingles, sorted, each once; a text of fewer words is one shingle."""
    numbers: dict[str, int] = {}
    sets = []
    for text in texts:
        words = [numbers.setdefault(word, len(numbers) + 1) for word in normalise(text).split()]
        padded = words + [0] * (SHINGLE - len(words)) if words else []
        ids_T = np.array(padded, dtype=np.uint64)
        count = max(0, len(padded) - SHINGLE + 1)
        hashes_S = np.zeros(count, dtype=np.uint64)
        for at, factor in enumerate(_FACTORS):
            hashes_S += ids_T[at : at + count] * factor  # modulo 2^64
        sets.append(np.unique(hashes_S))
    return sets


def _slots(shingles: Shingles) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The place of each shingle in the table of frequencies."""
    return (shingles >> np.uint64(64 - _SLOT_BITS)).astype(np.int64)


def _rarest(own: Shingles, frequency_S: np.ndarray[Any, Any]) -> Sequence[int]:
    """The rarest shingles of a text, as many as it takes to share one with any text that is alike."""
    if not len(own):
        return ()
    ranked = own[np.argsort(frequency_S[_slots(own)], kind="stable")]
    least_shared = ceil(NEAR * len(own) - 1e-9)
    rarest: list[int] = ranked[: len(own) - least_shared + 1].tolist()
    return rarest


def _alike(a: Shingles, b: Shingles) -> bool:
    if min(len(a), len(b)) < NEAR * max(len(a), len(b)):
        return False
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return bool(shared >= NEAR * (len(a) + len(b) - shared) - 1e-9)
