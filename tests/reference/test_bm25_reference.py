"""BM25 scores against Lucene's formula, written out in float64."""

import itertools
import math
import random

import pytest

from polyprag.answering.retrieval import BM25Retriever, tokenise
from polyprag.knowledge.records import Passage


def lucene_scores(texts: list[str], query: str, k1: float = 1.2, b: float = 0.75) -> list[float]:
    """Lucene's BM25Similarity without the constant factor (k1 + 1), which it dropped in version 8."""
    documents = [tokenise(text) for text in texts]
    average = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for term in tokenise(query):
            df = sum(term in other for other in documents)
            idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
            tf = document.count(term)
            score += idf * tf / (tf + k1 * (1 - b + b * len(document) / average))
        scores.append(score)
    return scores


@pytest.mark.parametrize("seed", range(12))
def test_scores_and_order_equal_lucene(seed):
    rng = random.Random(seed)
    words = [f"w{index}" for index in range(rng.choice([4, 30, 200]))] + ["the", "and"]
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 40))) for _ in range(rng.randint(1, 60))]
    retriever = BM25Retriever.build([Passage(str(index), "", text) for index, text in enumerate(texts)])
    queries = [" ".join(rng.choices([*words, "unknown"], k=rng.randint(1, 12))) for _ in range(20)]
    for query, hits in zip(queries, retriever.search(queries, len(texts)), strict=True):
        expected = lucene_scores(texts, query)
        found = {hit.position: hit.score for hit in hits}
        assert found.keys() == {position for position, score in enumerate(expected) if score > 0}
        assert [found.get(position, 0.0) for position in range(len(texts))] == pytest.approx(expected, abs=1e-4)
        in_order = [expected[hit.position] for hit in hits]
        assert all(earlier >= later - 1e-4 for earlier, later in itertools.pairwise(in_order))


def test_a_repeated_query_word_counts_twice():
    texts = ["alder birch", "birch cedar"]
    retriever = BM25Retriever.build([Passage(str(index), "", text) for index, text in enumerate(texts)])
    [[once], [twice]] = retriever.search(["alder", "alder alder"], 1)
    assert twice.score == pytest.approx(2 * once.score)
