"""Building a bm25s index in a stream, in a fraction of the memory that the index would take.

bm25s itself wants all documents as lists of token ids and holds several copies of the score matrix. Here documents are
read once and sorted outside of memory, in two steps:

1. Postings (term, document, term frequency) of a block of documents are sorted by term and put away as a *run*.
2. When the last document is read, document frequencies are known. For one range of terms after the other the postings
   of all runs are merged and scored; they leave as consecutive pieces of the matrix's columns, which are appended to
   the files that bm25s maps into memory.

What stays in memory is the vocabulary, 12 bytes a document, a block and a range. Runs live in an unnamed temporary file
on the index's own disk (in memory while they are small), so a kill leaves nothing behind. The scores are those of bm25s
bit by bit: float64 term weights times a float32 idf, rounded to float32 (`_build_scores_and_indices_for_matrix` there).

Shapes: N documents, V terms, P postings of a run or range, S postings in all.
"""

from __future__ import annotations

import math
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, final

import bm25s
import numpy as np
import numpy.typing as npt

from polyprag.retrieval.vocabulary import write_vocabulary

K1, B = 1.2, 0.75
BLOCK_TOKENS = 1 << 19
RANGE_POSTINGS, MOST_RANGES = 1 << 18, 256
IN_MEMORY_BYTES = 1 << 23
DATA, INDICES, _JSON_VOCABULARY = "data.csc.index.npy", "indices.csc.index.npy", "vocab.index.json"

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def new_index() -> Any:
    """An empty bm25s index with Lucene's formula."""
    return bm25s.BM25(k1=K1, b=B, method="lucene", backend="numpy")


def build_in_memory(documents: Iterable[Sequence[str]]) -> Any:
    """Index documents and hold the index in memory.

    Args:
        documents: the words of each; at least one document.

    Returns:
        A `bm25s.BM25`.
    """
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as file:
        reader = _Reader(file)
        reader.read(documents)
        indices, data = (np.concatenate(pieces) for pieces in zip(*_columns(reader), strict=True))
        return _index_of(reader, indices, data)


def build_on_disk(documents: Iterable[Sequence[str]], folder: Path) -> None:
    """Index documents into files that `bm25s.BM25.load` maps into memory.

    Args:
        documents: the words of each, read once; at least one document.
        folder: an existing folder, which a caller makes atomic.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=str(folder)) as file:
        reader = _Reader(file)
        reader.read(documents)
        save_index(_index_of(reader, np.zeros(0, np.int32), np.zeros(0, np.float32)), folder)
        with open(folder / INDICES, "wb") as indices_file, open(folder / DATA, "wb") as data_file:
            _begin_array(indices_file, np.dtype(np.int32), reader.postings)
            _begin_array(data_file, np.dtype(np.float32), reader.postings)
            for indices, data in _columns(reader):
                indices_file.write(indices.data)
                data_file.write(data.data)


def save_index(index: Any, folder: Path) -> None:
    """Write an index into an existing folder: arrays and parameters as bm25s does, words so that they can be mapped."""
    vocabulary, index.vocab_dict = index.vocab_dict, {}
    try:
        index.save(folder, allow_pickle=False, show_progress=False)
    finally:
        index.vocab_dict = vocabulary
    (folder / _JSON_VOCABULARY).unlink()
    write_vocabulary(vocabulary, folder)


@final
class _Runs:
    """Sorted blocks of postings, [3, P] each: terms, documents, frequencies.

    Args:
        file: where they go; empty at first.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._ends = file, [0]

    def append(self, run_3P: Ints) -> None:
        """Put a run away."""
        self._file.write(np.ascontiguousarray(run_3P).data)
        self._ends.append(self._ends[-1] + run_3P.shape[1])

    def __len__(self) -> int:
        """Number of runs."""
        return len(self._ends) - 1

    def terms(self, run: int) -> Ints:
        """The terms of all postings of a run, ascending."""
        return self._row(run, 0, 0, self._ends[run + 1] - self._ends[run])

    def part(self, run: int, start: int, stop: int) -> Ints:
        """Postings from start to stop of a run, [3, stop - start]."""
        return np.stack([self._row(run, row, start, stop) for row in range(3)])

    def _row(self, run: int, row: int, start: int, stop: int) -> Ints:
        before, length = self._ends[run], self._ends[run + 1] - self._ends[run]
        self._file.seek(4 * (3 * before + row * length + start))
        return np.frombuffer(self._file.read(4 * (stop - start)), np.int32)


@final
class _Reader:
    """Step 1: words become ids, blocks of documents become runs.

    Args:
        file: where the runs go.

    Attributes:
        vocabulary: id of each word, in the order of first appearance.
        lengths: words of each document, N of them.
        frequencies_V: in how many documents each term occurs.
        runs: the postings.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.vocabulary: dict[str, int] = {}
        self.lengths = array("i")
        self.frequencies_V = np.zeros(0, np.int64)
        self.runs = _Runs(file)
        self._tokens, self._first = array("i"), 0

    @property
    def postings(self) -> int:
        """Number of postings, S."""
        return int(self.frequencies_V.sum())

    @property
    def indptr(self) -> Longs:
        """Where each term's column begins, [V + 1]."""
        return np.concatenate((np.zeros(1, np.int64), np.cumsum(self.frequencies_V)))

    def read(self, documents: Iterable[Sequence[str]]) -> None:
        """Read all documents, once."""
        vocabulary = self.vocabulary
        for words in documents:
            self._tokens.extend([vocabulary.setdefault(word, len(vocabulary)) for word in words])
            self.lengths.append(len(words))
            if len(self._tokens) >= BLOCK_TOKENS:
                self._put_away()
        assert self.lengths, "a corpus holds at least one passage"
        if not vocabulary:  # bm25s cannot map an empty matrix: one word that no query holds
            vocabulary[""] = 0
            self._tokens, self.lengths = array("i", [0]) * len(self.lengths), array("i", [1]) * len(self.lengths)
        self._put_away()

    def _put_away(self) -> None:
        """End a block."""
        run_3P = _sorted_run(self._tokens, self.lengths[self._first :], self._first)
        frequencies_V = np.bincount(run_3P[0], minlength=len(self.vocabulary))
        frequencies_V[: len(self.frequencies_V)] += self.frequencies_V
        self.runs.append(run_3P)
        self.frequencies_V, self._tokens, self._first = frequencies_V, array("i"), len(self.lengths)


def _sorted_run(tokens: array[int], lengths: array[int], first: int) -> Ints:
    """The postings [3, P] of a block of documents, sorted by term and then document.

    Args:
        tokens: term ids, document after document.
        lengths: tokens of each document.
        first: position of the first of these documents in the corpus.
    """
    documents = np.repeat(np.arange(len(lengths), dtype=np.int64) + first, np.frombuffer(lengths, np.int32))
    keys = np.frombuffer(tokens, np.int32).astype(np.int64) << 32 | documents
    keys, frequencies = np.unique(keys, return_counts=True)
    return np.stack([keys >> 32, keys & 0xFFFFFFFF, frequencies]).astype(np.int32)


def _columns(reader: _Reader) -> Iterator[tuple[Ints, Floats]]:
    """Step 2: the columns of the score matrix in pieces, as (documents, scores), in the order of the terms."""
    lengths_N = np.frombuffer(reader.lengths, np.int32)
    weights_V = _idf(reader.frequencies_V, len(lengths_N))
    norms_N = K1 * ((1 - B) + B * lengths_N / lengths_N.mean())
    borders = _ranges(reader.indptr)
    cuts = [np.searchsorted(reader.runs.terms(run), borders) for run in range(len(reader.runs))]
    for at in range(len(borders) - 1):
        parts = [reader.runs.part(run, own[at], own[at + 1]) for run, own in enumerate(cuts)]
        merged_3P = np.concatenate(parts, axis=1)
        order = np.argsort(merged_3P[0], kind="stable")  # runs follow each other by document
        terms, documents, frequencies = (row_P[order] for row_P in merged_3P)
        counts = frequencies.astype(np.float32)
        yield documents, (weights_V[terms] * (counts / (norms_N[documents] + counts))).astype(np.float32)


def _ranges(indptr: Longs) -> Longs:
    """Term ids that cut the columns into about MOST_RANGES ranges at most, of RANGE_POSTINGS or one column at least."""
    borders, size = [0], max(RANGE_POSTINGS, int(indptr[-1]) // MOST_RANGES)
    while borders[-1] < len(indptr) - 1:
        limit = indptr[borders[-1]] + size
        borders.append(max(borders[-1] + 1, int(np.searchsorted(indptr, limit, side="right")) - 1))
    return np.array(borders)


def _idf(frequencies_V: Longs, documents: int) -> Floats:
    """ln(1 + (N - df + 0.5) / (df + 0.5)), by `math.log` as bm25s does, once for each df."""
    distinct, inverse = np.unique(frequencies_V, return_inverse=True)
    values = [math.log(1 + (documents - df + 0.5) / (df + 0.5)) for df in distinct.tolist()]
    return np.array(values, np.float32)[inverse]


def _index_of(reader: _Reader, indices: Ints, data: Floats) -> Any:
    index = new_index()
    index.scores = {"data": data, "indices": indices, "indptr": reader.indptr, "num_docs": len(reader.lengths)}
    index.vocab_dict, index.nonoccurrence_array = reader.vocabulary, None
    return index


def _begin_array(handle: IO[bytes], dtype: np.dtype[Any], length: int) -> None:
    """Write the header of a .npy file whose numbers will be appended."""
    np.lib.format.write_array_header_1_0(
        handle, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
    )
