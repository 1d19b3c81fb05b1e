"""BM25 scores against Lucene's formula, written out in float64."""

import gzip
import itertools
import json
import math
import random
from collections import Counter
from pathlib import Path

import pytest

from polyprag.records import Passage
from polyprag.retrieval import bm25_building
from polyprag.retrieval.bm25 import BM25Retriever, tokenise

WIKIPEDIA = Path(__file__).resolve().parents[3] / "shared" / "data" / "wiki_passages.jsonl.gz"


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
        assert [found.get(position, 0.0) for position in range(len(texts))] == pytest.approx(expected, rel=1e-6)
        in_order = [expected[hit.position] for hit in hits]
        assert all(earlier >= later - 1e-5 for earlier, later in itertools.pairwise(in_order))


def test_a_repeated_query_word_counts_twice():
    texts = ["alder birch", "birch cedar"]
    retriever = BM25Retriever.build([Passage(str(index), "", text) for index, text in enumerate(texts)])
    [[once], [twice]] = retriever.search(["alder", "alder alder"], 1)
    assert twice.score == pytest.approx(2 * once.score)


def lucene_best(texts: list[str], queries: list[str], n: int) -> list[list[float]]:
    """The n best scores of each query by the same formula, counting only the words that are asked for."""
    documents = [Counter(tokenise(text)) for text in texts]
    average = sum(document.total() for document in documents) / len(documents)
    frequencies = Counter(word for document in documents for word in document)
    best = []
    for query in queries:
        weights = {
            word: count * math.log(1 + (len(texts) - frequencies[word] + 0.5) / (frequencies[word] + 0.5))
            for word, count in Counter(tokenise(query)).items()
        }
        scores = (
            sum(
                weight * document[word] / (document[word] + 1.2 * (0.25 + 0.75 * document.total() / average))
                for word, weight in weights.items()
            )
            for document in documents
        )
        best.append(sorted(filter(None, scores), reverse=True)[:n])
    return best


@pytest.mark.parametrize("built", ["in memory", "on disk"])
def test_a_corpus_with_common_and_rare_words_is_scored_as_by_lucene(tmp_path, monkeypatch, built):
    """So many passages that the long columns of common words are looked up rather than added up."""
    monkeypatch.setattr(bm25_building, "BLOCK_TOKENS", 3000)
    monkeypatch.setattr(bm25_building, "RANGE_POSTINGS", 2000)
    rng = random.Random(0)
    words = [f"w{index}" for index in range(2000)]
    texts = [
        " ".join(rng.choices(words, [1 / (at + 1) for at in range(2000)], k=rng.randint(5, 60))) for _ in range(1500)
    ]
    passages = [Passage(str(index), "", text) for index, text in enumerate(texts)]
    on_disk = built == "on disk"
    retriever = BM25Retriever.build_into(tmp_path / "i", passages) if on_disk else BM25Retriever.build(passages)
    queries = [" ".join(rng.choice(texts).split()[:8]) for _ in range(25)]
    for hits, expected in zip(retriever.search(queries, 10), lucene_best(texts, queries, 10), strict=True):
        assert [hit.score for hit in hits] == pytest.approx(expected, rel=1e-6)


@pytest.mark.skipif(not WIKIPEDIA.exists(), reason="the shared Wikipedia passages are not there")
def test_wikipedia_passages_are_scored_as_by_lucene(tmp_path):
    with gzip.open(WIKIPEDIA, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in itertools.islice(file, 3000)]
    passages = [Passage(row["id"], row["title"], row["text"]) for row in rows]
    queries = [" ".join(passage.text.split()[5:15]) for passage in passages[::300]]
    retriever = BM25Retriever.build_into(tmp_path / "index", iter(passages))
    expected = lucene_best([f"{passage.title}\n{passage.text}" for passage in passages], queries, 20)
    for hits, scores in zip(retriever.search(queries, 20), expected, strict=True):
        assert [hit.score for hit in hits] == pytest.approx(scores, rel=1e-6)
