from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.retrieval.bm25_building import build_in_memory
from polyprag.retrieval.bm25_scoring import ScoreColumns

COMMON, RARE = 5, 40
WORDS = [f"c{at}" for at in range(COMMON)] + [f"r{at}" for at in range(RARE)]


def corpus(seed: int, documents: int) -> list[list[str]]:
    """Some words are in nearly every document, others in few."""
    rng = np.random.default_rng(seed)
    shares = np.array([8.0] * COMMON + [0.1] * RARE)
    return [list(rng.choice(WORDS, rng.integers(1, 25), p=shares / shares.sum())) for _ in range(documents)]


def brute_force(scores, counts: dict[int, int], n: int) -> tuple[list[int], list[float]]:
    """All columns added up over all passages, in the order in which the rarest words come first."""
    data, indices, indptr = scores["data"], scores["indices"], scores["indptr"]
    totals = np.zeros(scores["num_docs"])
    for term in sorted(counts, key=lambda term: (indptr[term + 1] - indptr[term], term)):
        column = slice(indptr[term], indptr[term + 1])
        np.add.at(totals, indices[column], counts[term] * data[column].astype(np.float64))
    best = np.lexsort((np.arange(len(totals)), -totals))
    best = best[totals[best] > 0][:n]
    return best.tolist(), totals[best].tolist()


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 30),
    documents=st.sampled_from([1, 7, 200]),
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=12),
    n=st.integers(1, 250),
)
def test_the_best_are_those_of_brute_force(seed, documents, words, n):
    index = build_in_memory(corpus(seed, documents))
    counts = Counter(index.get_tokens_ids(words))
    positions, scores = ScoreColumns(index.scores).best(counts, n)
    assert (positions.tolist(), scores.tolist()) == brute_force(index.scores, counts, n)


class Watched(np.ndarray):
    """Counts the longest piece that is read of it."""

    longest = 0

    def __getitem__(self, key):
        found = super().__getitem__(key)
        if not isinstance(key, slice):
            Watched.longest = max(Watched.longest, np.size(found))
        return found


def test_columns_of_common_words_are_looked_up_and_not_read(monkeypatch):
    """A rare word that settles the question leaves of the common one's scores only those of a few passages."""
    documents = [["common"] * (1 + at % 3) + [f"own{at}"] for at in range(1000)]
    for at in (3, 500, 900):
        documents[at] += ["rare"] * 9
    index = build_in_memory(documents)
    columns = ScoreColumns(index.scores)
    columns._data = columns._data.view(Watched)
    Watched.longest = 0
    counts = Counter(index.get_tokens_ids(["rare", "common"]))
    positions, _ = columns.best(counts, 2)
    assert Watched.longest <= 3
    assert positions.tolist() == brute_force(index.scores, counts, 2)[0]


def test_arrays_that_do_not_belong_together_are_refused():
    scores = build_in_memory([["alder", "birch"], ["birch"]]).scores
    with pytest.raises(ValueError, match="2 scores, 3 positions, 3 expected"):
        ScoreColumns({**scores, "data": scores["data"][:-1]})
