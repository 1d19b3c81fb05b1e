"""The best passages by the columns of a bm25s score matrix, without reading the long columns of common words.

bm25s adds up all columns of a query in an array over all passages, which costs the most for the words that say the
least. Here the rarest words come first. Once the words that are left cannot lift a passage that has not been met above
the n-th best so far, only passages already met are looked up in their columns (MaxScore, Turtle and Flood 1995). What
comes out is the same, ties included, since every passage adds up its words in the same order.

Shapes: N passages, P passages of a column, C candidates.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import numpy.typing as npt

_SLACK = 1 + 1e-6  # the matrix is in float32

Positions = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float64]


@final
class ScoreColumns:
    """The score matrix of a bm25s index, by columns.

    Args:
        scores: `bm25s.BM25.scores`; its arrays may be mapped into memory.

    Raises:
        ValueError: the arrays do not belong together.
    """

    def __init__(self, scores: Mapping[str, Any]) -> None:
        self._data, self._indices, self._indptr = (np.asarray(scores[name]) for name in ("data", "indices", "indptr"))
        self.passages = int(scores["num_docs"])
        if not len(self._data) == len(self._indices) == self._indptr[-1]:
            raise ValueError(f"{len(self._data)} scores, {len(self._indices)} positions, {self._indptr[-1]} expected")

    def __len__(self) -> int:
        """Number of columns, which is that of the words."""
        return len(self._indptr) - 1

    def best(self, counts: Mapping[int, int], n: int) -> tuple[Positions, Scores]:
        """The n best passages of a query.

        Args:
            counts: how often each term id occurs in the query.
            n: most passages, 1 or more.

        Returns:
            Positions by falling score, ties by position, and their scores, all above 0.
        """
        terms = sorted(counts, key=lambda term: (self._frequency(term), term))
        bounds = [counts[term] * self._bound(term) for term in terms]
        left = [*itertools.accumulate(reversed(bounds), initial=0.0)][::-1]
        positions, scores, done = self._met(terms, counts, left, n)
        for at in range(done, len(terms)):
            kept = scores + left[at] >= _nth(scores, n)
            positions, scores = positions[kept], scores[kept]
            self._look_up(terms[at], counts[terms[at]], positions, scores)
        kept = scores >= _nth(scores, n)
        positions, scores = positions[kept], scores[kept]
        order = np.lexsort((positions, -scores))[:n]
        return positions[order], scores[order]

    def _met(
        self, terms: list[int], counts: Mapping[int, int], left: list[float], n: int
    ) -> tuple[Positions, Scores, int]:
        """Add up whole columns until the others can bring no new passage among the best.

        Returns:
            Positions of the passages met, ascending, their scores so far, and how many columns they come from.
        """
        scores_N = np.zeros(self.passages)
        met: list[Positions] = []
        done = 0
        for done, term in enumerate(terms, start=1):
            positions, own = self._column(term)
            before = scores_N[positions]
            scores_N[positions] = before + np.multiply(own, counts[term], dtype=np.float64)
            met.append(positions[before == 0])
            could_suffice = left[0] - left[done] > left[done] and sum(map(len, met)) >= n
            if could_suffice and _nth(scores_N[np.concatenate(met)], n) > left[done]:
                break
        candidates = np.sort(np.concatenate(met)) if met else np.zeros(0, np.int32)
        return candidates, scores_N[candidates], done

    def _look_up(self, term: int, count: int, positions_C: Positions, scores_C: Scores) -> None:
        """Add a column's scores to those of the candidates that are in it."""
        positions, own = self._column(term)
        places_C = np.minimum(np.searchsorted(positions, positions_C), len(positions) - 1)
        within_C = positions[places_C] == positions_C
        scores_C[within_C] += np.multiply(own[places_C[within_C]], count, dtype=np.float64)

    def _column(self, term: int) -> tuple[Positions, npt.NDArray[np.float32]]:
        start, stop = self._indptr[term], self._indptr[term + 1]
        return self._indices[start:stop], self._data[start:stop]

    def _frequency(self, term: int) -> int:
        return int(self._indptr[term + 1] - self._indptr[term])

    def _bound(self, term: int) -> float:
        """A term's idf, which no score of its column exceeds, since its other factor is below 1."""
        frequency = self._frequency(term)
        return math.log(1 + (self.passages - frequency + 0.5) / (frequency + 0.5)) * _SLACK


def _nth(scores: Scores, n: int) -> float:
    """The n-th largest of some scores; the smallest where there are fewer, and 0 where there are none."""
    if not len(scores):
        return 0.0
    place = max(0, len(scores) - n)
    return float(np.partition(scores, place)[place])
