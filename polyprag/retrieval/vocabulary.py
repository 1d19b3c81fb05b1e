"""The words of an index on disk, looked up by bisection in files that are mapped into memory.

    words.utf8           all words, one behind the other, in the order of their UTF-8 bytes
    words.offsets.npy    where each begins and the last one ends, [V + 1]
    words.terms.npy      the term of each, which is its column of the score matrix, [V]

Shapes: V terms.
"""

from __future__ import annotations

import bisect
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import final

import numpy as np

from polyprag.files import map_array

WORDS, OFFSETS, TERMS = "words.utf8", "words.offsets.npy", "words.terms.npy"


def write_vocabulary(vocabulary: Mapping[str, int], folder: Path) -> None:
    """Write a vocabulary into an existing folder, which a caller makes atomic.

    Args:
        vocabulary: the term of each word; at least one word.
        folder: where to.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    words = sorted(vocabulary, key=_bytes_of)
    with open(folder / WORDS, "wb") as file:
        lengths = np.fromiter((file.write(_bytes_of(word)) for word in words), np.int64, len(words))
        if not lengths.any():
            file.write(b"\0")  # an empty file cannot be mapped
    terms = np.fromiter((vocabulary[word] for word in words), np.int32, len(words))
    np.save(folder / OFFSETS, np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths))), allow_pickle=False)
    np.save(folder / TERMS, terms, allow_pickle=False)


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder holds such a vocabulary; older indexes hold another form."""
    return (folder / TERMS).exists()


@final
class StoredVocabulary(Mapping[str, int]):
    """The term of each word, mapped from disk.

    Args:
        folder: as `write_vocabulary` leaves it.

    Raises:
        OSError: a file cannot be read.
        ValueError: the files are damaged or do not belong together.
    """

    def __init__(self, folder: Path) -> None:
        with open(folder / WORDS, "rb") as file:
            self._words = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._offsets, self._terms = (map_array(folder / name) for name in (OFFSETS, TERMS))
        end = max(1, int(self._offsets[-1]))
        if len(self._offsets) != len(self._terms) + 1 or end != len(self._words):
            raise ValueError(f"{len(self._terms)} terms for {len(self._offsets) - 1} words of {len(self._words)} bytes")

    def __len__(self) -> int:
        """Number of words."""
        return len(self._terms)

    def __iter__(self) -> Iterator[str]:
        """The words in the order of their UTF-8 bytes."""
        return (self._word(place).decode("utf-8", "surrogatepass") for place in range(len(self)))

    def __getitem__(self, word: str) -> int:
        """The term of a word."""
        wanted = _bytes_of(word)
        place = bisect.bisect_left(range(len(self)), wanted, key=self._word)
        if place == len(self) or self._word(place) != wanted:
            raise KeyError(word)
        return int(self._terms[place])

    def _word(self, place: int) -> bytes:
        return self._words[self._offsets[place] : self._offsets[place + 1]]


def _bytes_of(word: str) -> bytes:
    return word.encode("utf-8", "surrogatepass")
