"""BM25 retrieval as Lucene and Elasticsearch score it (k1=1.2, b=0.75), by bm25s, memory-mapped when opened.

A text becomes lower-case words, possessive endings and the 33 stop words of Lucene's English analyser removed.
Stop words go because questions are full of them and the passages of a small corpus differ in them by chance; words
are not stemmed, because names, dates and titles are what questions about facts share with their passages.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import bm25s
import numpy as np
from bm25s.stopwords import STOPWORDS_EN

from polyprag.errors import StoreError
from polyprag.files import replace_folder
from polyprag.knowledge.records import Augmentation, Passage

_K1, _B = 1.2, 0.75
_WORD = re.compile(r"\w+")
_POSSESSIVE = re.compile(r"['’]s\b")
_STOP_WORDS = frozenset(STOPWORDS_EN)

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it asks for DEBUG, whatever the root logger says


@dataclass(frozen=True)
class Hit:
    """A retrieved passage.

    Attributes:
        position: index of the passage in the corpus.
        score: BM25 score, above 0.
    """

    position: int
    score: float


@final
class BM25Retriever:
    """An index over the passages of a corpus; made by `build` or `open`."""

    def __init__(self, index: Any) -> None:
        """Wrap a bm25s index.

        Args:
            index: a `bm25s.BM25` with its scores and vocabulary in place.
        """
        self._index = index

    @classmethod
    def build(cls, passages: Sequence[Passage], titles: bool = True) -> BM25Retriever:
        """Index passages.

        Args:
            passages: the corpus; hits name passages by their position in it. At least one.
            titles: search titles as if they stood before the text.
        """
        assert passages, "a corpus holds at least one passage"
        texts = (f"{passage.title}\n{passage.text}" if titles else passage.text for passage in passages)
        vocabulary: dict[str, int] = {}
        ids = [[vocabulary.setdefault(word, len(vocabulary)) for word in tokenise(text)] for text in texts]
        if not vocabulary:  # nothing but stop words and punctuation: one word that no query holds
            vocabulary, ids = {"": 0}, [[0] for _ in ids]
        index = bm25s.BM25(k1=_K1, b=_B, method="lucene", backend="numpy")
        index.index((ids, vocabulary), create_empty_token=False, show_progress=False)
        return cls(index)

    @classmethod
    def open(cls, folder: Path | str) -> BM25Retriever:
        """Open a saved index; its arrays stay on disk and are mapped into memory.

        Raises:
            StoreError: the folder holds no index, or a damaged one.
        """
        try:
            return cls(bm25s.BM25.load(folder, mmap=True, allow_pickle=False, show_progress=False))
        except (OSError, ValueError, TypeError, KeyError, EOFError) as error:
            raise StoreError(f"{folder}: cannot be opened as BM25 index ({error}); build the store again") from error

    def save(self, folder: Path | str) -> None:
        """Write the index as numpy arrays and JSON, without pickle; replaces the folder as a whole."""
        with replace_folder(folder) as temporary:
            self._index.save(temporary, allow_pickle=False, show_progress=False)

    def __len__(self) -> int:
        """Number of passages."""
        return int(self._index.scores["num_docs"])

    def search(self, queries: Sequence[str], n: int) -> list[list[Hit]]:
        """Find the best passages for each query.

        Args:
            queries: questions or keywords; a word that occurs twice counts twice, as in Lucene.
            n: most hits per query, 0 or more.

        Returns:
            For each query its hits by falling score, ties by position. Passages that share no word with the query are
            no hits, so there may be fewer than n.
        """
        return [self._search_one(query, n) for query in queries]

    def _search_one(self, query: str, n: int) -> list[Hit]:
        ids = self._index.get_tokens_ids(tokenise(query))
        if not ids or n < 1:
            return []
        scores_N: np.ndarray[Any, Any] = self._index.get_scores_from_ids(ids)
        found = np.flatnonzero(scores_N > 0)
        if len(found) > n:
            nth_score = np.partition(scores_N[found], -n)[-n]
            found = found[scores_N[found] >= nth_score]
        best = found[np.lexsort((found, -scores_N[found]))][:n]
        return [Hit(int(position), float(scores_N[position])) for position in best]


def searched(passages: Sequence[Passage], augmentations: Mapping[str, Augmentation], expand: bool) -> Sequence[Passage]:
    """The passages as the index sees them.

    Document expansion adds to each passage its rewrites and the questions that it is trained on, as doc2query does
    with generated questions (arXiv 1904.08375). In a small corpus, where rare words of a question can outweigh the
    name that it is about, this finds the right passage far more often.

    Args:
        passages: the corpus.
        augmentations: by passage id.
        expand: whether to expand.
    """
    if not expand:
        return passages
    return [_expanded(passage, augmentations.get(passage.id, Augmentation(passage.id))) for passage in passages]


def _expanded(passage: Passage, augmentation: Augmentation) -> Passage:
    parts = [passage.text, *augmentation.rewrites, *(pair.question for pair in augmentation.qa)]
    return dataclasses.replace(passage, text="\n".join(parts))


def tokenise(text: str) -> list[str]:
    """Split a text into the words that BM25 counts."""
    return [word for word in _WORD.findall(_POSSESSIVE.sub("", text.lower())) if word not in _STOP_WORDS]
