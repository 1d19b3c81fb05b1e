"""BM25 retrieval as Lucene and Elasticsearch score it (k1=1.2, b=0.75), by bm25s, memory-mapped when opened.

A text becomes lower-case words, possessive endings and the 33 stop words of Lucene's English analyser removed.
Stop words go because questions are full of them and the passages of a small corpus differ in them by chance; words
are not stemmed, because names, dates and titles are what questions about facts share with their passages.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import bm25s
from bm25s.stopwords import STOPWORDS_EN

from polyprag.config import RetrievalBackend
from polyprag.errors import StoreError
from polyprag.files import current_folder, replace_folder
from polyprag.records import Augmentation, Passage
from polyprag.retrieval.bm25_building import build_in_memory, build_on_disk, save_index
from polyprag.retrieval.bm25_scoring import ScoreColumns
from polyprag.retrieval.retriever import Hit, bytes_in, bytes_when_saved, searched_text, write_description
from polyprag.retrieval.vocabulary import StoredVocabulary, has_vocabulary

_WORD = re.compile(r"\w+")
_POSSESSIVE = re.compile(r"['’]s\b")
_STOP_WORDS = frozenset(STOPWORDS_EN)

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it asks for DEBUG, whatever the root logger says


@final
class BM25Retriever:
    """An index over the passages of a corpus; made by `build`, `build_into` or `open`."""

    sharpness = 1.0  # a BM25 score is a sum of log odds

    def __init__(self, index: Any, folder: Path | None = None) -> None:
        """Wrap a bm25s index.

        Args:
            index: a `bm25s.BM25` with its scores and vocabulary in place.
            folder: where it is mapped from; None for one in memory.

        Raises:
            ValueError: its arrays do not belong together.
        """
        self._index, self._folder = index, folder
        self._columns = ScoreColumns(index.scores)
        if len(self._columns) != len(index.vocab_dict):
            raise ValueError(f"{len(index.vocab_dict)} words for {len(self._columns)} columns")

    @classmethod
    def build(cls, passages: Iterable[Passage], titles: bool = True) -> BM25Retriever:
        """Index passages and hold the index in memory.

        Args:
            passages: the corpus, read once; hits name passages by their position in it. At least one.
            titles: search titles as if they stood before the text.
        """
        return cls(build_in_memory(_documents(passages, titles)))

    @classmethod
    def build_into(cls, folder: Path | str, passages: Iterable[Passage], titles: bool = True) -> BM25Retriever:
        """Index passages on disk, in a fraction of the memory that the index would take, and open it; see `build`.

        Args:
            folder: replaced as a whole; while the index is being built, it stays as it is.
            passages: see `build`.
            titles: see `build`.

        Raises:
            OSError: the disk is full or the folder cannot be written.
        """
        with replace_folder(folder) as temporary:
            build_on_disk(_documents(passages, titles), temporary)
            write_description(temporary, RetrievalBackend.BM25, {})
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path | str) -> BM25Retriever:
        """Open a saved index; arrays and words stay on disk and are mapped into memory.

        The words of an older index are read into memory.

        Raises:
            StoreError: the folder holds no index, or a damaged one.
        """
        folder = current_folder(folder)
        is_mapped = has_vocabulary(folder)
        try:
            index = bm25s.BM25.load(folder, mmap=True, load_vocab=not is_mapped, show_progress=False)
            if is_mapped:
                index.vocab_dict = StoredVocabulary(folder)
            return cls(index, folder)
        except (OSError, ValueError, TypeError, KeyError, EOFError) as error:
            raise StoreError(f"{folder}: cannot be opened as BM25 index ({error}); build the store again") from error

    @property
    def bytes_on_disk(self) -> int:
        """Bytes of the saved index."""
        return bytes_in(self._folder) if self._folder is not None else bytes_when_saved(self)

    def save(self, folder: Path | str) -> None:
        """Write the index as numpy arrays and JSON, without pickle; replaces the folder as a whole."""
        with replace_folder(folder) as temporary:
            save_index(self._index, temporary)
            write_description(temporary, RetrievalBackend.BM25, {})

    def __len__(self) -> int:
        """Number of passages."""
        return self._columns.passages

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
        counts = Counter(self._index.get_tokens_ids(tokenise(query)))
        if not counts or n < 1:
            return []
        positions, scores = self._columns.best(counts, n)
        return [Hit(*found) for found in zip(positions.tolist(), scores.tolist(), strict=True)]


def _documents(passages: Iterable[Passage], titles: bool) -> Iterator[list[str]]:
    return (tokenise(searched_text(passage, titles)) for passage in passages)


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
