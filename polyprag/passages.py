"""A corpus on disk: passages as JSON lines that are read where they are asked for, by position, id or content.

Beside the lines lie three arrays, mapped into memory, so that opening a corpus costs the same whatever its size:

    offsets.npy    where each line begins and the last one ends, [N + 1]
    ids.npy        the first 8 bytes of the ids' sha256, ascending, and the position of each, [2, N]
    contents.npy   the same for the contents' sha256

Shapes: N passages.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import operator
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final, overload

import numpy as np
import numpy.typing as npt

from polyprag.errors import DataError
from polyprag.files import map_array
from polyprag.records import Passage

OFFSETS, IDS, CONTENTS = "offsets.npy", "ids.npy", "contents.npy"

Longs = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class CorpusFacts:
    """What is known of a corpus as a whole.

    Attributes:
        text_bytes: bytes of all titles and texts in UTF-8.
        sha256: over ids, titles and texts of all passages in their order (hex).
    """

    text_bytes: int
    sha256: str


def facts_of(passages: Iterable[Passage]) -> CorpusFacts:
    """Read a corpus once for its facts; those of stored passages are known already."""
    if isinstance(passages, StoredPassages):
        return passages.facts
    digest, total = hashlib.sha256(), 0
    for passage in passages:
        digest.update(repr(passage).encode())
        total += len(passage.title.encode()) + len(passage.text.encode())
    return CorpusFacts(total, digest.hexdigest())


def positions_of(passages: Sequence[Passage]) -> Mapping[str, int]:
    """The position of each passage by its id; stored passages are looked up, others are gone through once."""
    if isinstance(passages, StoredPassages):
        return passages.positions
    return {passage.id: position for position, passage in enumerate(passages)}


def write_passages(lines: Path, lookup: Path, passages: Iterable[Passage]) -> CorpusFacts:
    """Write a corpus in a stream, and the arrays by which it is looked up; 24 bytes a passage stay in memory.

    Args:
        lines: the file of JSON lines.
        lookup: an existing folder for the arrays; a caller makes both atomic.
        passages: read once; at least one.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    offsets, ids, contents = array("q", [0]), array("Q"), array("Q")
    digest, total = hashlib.sha256(), 0
    with open(lines, "wb") as file:
        for passage in passages:
            row = {"id": passage.id, "title": passage.title, "text": passage.text}
            offsets.append(offsets[-1] + file.write(f"{json.dumps(row, ensure_ascii=False)}\n".encode()))
            ids.append(_id_hash(passage.id))
            contents.append(_content_hash(passage))
            digest.update(repr(passage).encode())
            total += len(passage.title.encode()) + len(passage.text.encode())
    np.save(lookup / OFFSETS, np.frombuffer(offsets, np.int64), allow_pickle=False)
    for name, hashes in ((IDS, ids), (CONTENTS, contents)):
        np.save(lookup / name, _sorted_table(np.frombuffer(hashes, np.uint64)), allow_pickle=False)
    return CorpusFacts(total, digest.hexdigest())


@final
class StoredPassages(Sequence[Passage]):
    """A corpus on disk; every passage is read when it is asked for.

    Args:
        lines: the file of JSON lines.
        lookup: the folder of the arrays; None for a corpus without, which is gone through for them when needed.
        facts: what is known of the corpus; None goes through it when that is asked for.

    Raises:
        DataError: the arrays do not belong to the file, or are damaged.
        OSError: a file cannot be read.
    """

    def __init__(self, lines: Path, lookup: Path | None, facts: CorpusFacts | None = None) -> None:
        self._lines, self._lookup, self._facts = lines, lookup, facts
        with open(lines, "rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._offsets: Longs = self._mapped(OFFSETS) if lookup else self._line_starts()
        if self._offsets.ndim != 1 or len(self._offsets) < 2 or self._offsets[-1] != len(self._bytes):
            place = lookup / OFFSETS if lookup else lines
            raise DataError(f"{place}: damaged, since the lines of {lines.name} end elsewhere; write both again")

    def __len__(self) -> int:
        """Number of passages."""
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Passage: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Passage]: ...
    def __getitem__(self, index: int | slice) -> Passage | Sequence[Passage]:
        """A passage, or some of them; all of them in their order are this corpus itself.

        Raises:
            DataError: a line is no passage.
            IndexError: there is no such passage.
        """
        if isinstance(index, slice):
            chosen = range(*index.indices(len(self)))
            return self if chosen == range(len(self)) else tuple(self[position] for position in chosen)
        position = operator.index(index)
        position += len(self) * (position < 0)
        if not 0 <= position < len(self):
            raise IndexError(f"passage {index} of {len(self)}")
        start, stop = self._offsets[position : position + 2].tolist()
        try:
            row = json.loads(self._bytes[start:stop])
            return Passage(row["id"], row["title"], row["text"])
        except (ValueError, KeyError, TypeError) as error:
            reason = f"not a passage ({error})"
            raise DataError(f"{self._lines}:{position + 1}: damaged: {reason}; write this file again") from error

    def __iter__(self) -> Iterator[Passage]:
        """All passages in their order, one by one."""
        return (self[position] for position in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Whether another sequence holds the same passages in the same order."""
        if self is other:
            return True
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(own == theirs for own, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """The position of each passage by its id."""
        return _Positions(self)

    @cached_property
    def facts(self) -> CorpusFacts:
        """What is known of the corpus as a whole."""
        return self._facts or facts_of(iter(self))

    def position_of_content(self, sha256: str) -> int | None:
        """The position of the passage of a content, by `Passage.content_hash`; None if there is none."""
        found = _candidates(self._contents, int(sha256[:16], 16))
        return next((at for at in found if self[at].content_hash == sha256), None)

    def position_of_id(self, passage_id: str) -> int | None:
        """The position of the passage of an id; None if there is none."""
        found = _candidates(self._ids, _id_hash(passage_id))
        return next((at for at in found if self[at].id == passage_id), None)

    @cached_property
    def _ids(self) -> Hashes:
        if self._lookup:
            return self._table(IDS)
        return _sorted_table(np.array([_id_hash(passage.id) for passage in self], np.uint64))

    @cached_property
    def _contents(self) -> Hashes:
        if self._lookup:
            return self._table(CONTENTS)
        return _sorted_table(np.array([_content_hash(passage) for passage in self], np.uint64))

    def _table(self, name: str) -> Hashes:
        table: Hashes = self._mapped(name)
        if table.shape != (2, len(self)):
            raise DataError(f"{self._lines}: damaged, since {name} is not for {len(self)} passages")
        return table

    def _mapped(self, name: str) -> Any:
        assert self._lookup is not None, "there are arrays to map"
        path = self._lookup / name
        try:
            return map_array(path)
        except ValueError as error:
            raise DataError(f"{path}: damaged ({error}); write this folder again") from error

    def _line_starts(self) -> Longs:
        """Offsets found by reading all lines; a last one without line break is none, as a kill leaves it."""
        ends = np.flatnonzero(np.frombuffer(self._bytes, np.uint8) == ord("\n")) + 1
        return np.concatenate((np.zeros(1, np.int64), ends))


@final
class _Positions(Mapping[str, int]):
    """Positions by id, looked up one by one."""

    def __init__(self, passages: StoredPassages) -> None:
        self._passages = passages

    def __getitem__(self, passage_id: str) -> int:
        position = self._passages.position_of_id(passage_id)
        if position is None:
            raise KeyError(passage_id)
        return position

    def __iter__(self) -> Iterator[str]:
        return (passage.id for passage in self._passages)

    def __len__(self) -> int:
        return len(self._passages)


def _id_hash(passage_id: str) -> int:
    return int.from_bytes(hashlib.sha256(passage_id.encode()).digest()[:8])


def _content_hash(passage: Passage) -> int:
    return int(passage.content_hash[:16], 16)


def _sorted_table(hashes_N: Hashes) -> Hashes:
    """Hashes in ascending order and the positions that they come from, ascending among equals, [2, N]."""
    order_N = np.argsort(hashes_N, kind="stable")
    return np.stack([hashes_N[order_N], order_N.astype(np.uint64)])


def _candidates(table_2N: Hashes, wanted: int) -> list[int]:
    """Positions of the passages of a hash, ascending."""
    hashes_N, key = table_2N[0], np.uint64(wanted)
    first, last = np.searchsorted(hashes_N, key, "left"), np.searchsorted(hashes_N, key, "right")
    found: list[int] = table_2N[1, first:last].tolist()
    return found
