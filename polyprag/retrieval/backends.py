"""From the configuration to a retriever, and from a saved index to the retriever that made it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from polyprag.config import RetrievalBackend, RetrievalConfig
from polyprag.records import Passage
from polyprag.retrieval.bm25 import BM25Retriever
from polyprag.retrieval.dense import DenseRetriever
from polyprag.retrieval.elasticsearch import ElasticsearchRetriever
from polyprag.retrieval.retriever import Retriever, read_description


def build_retriever(
    config: RetrievalConfig, passages: Iterable[Passage], folder: Path | str | None = None
) -> Retriever:
    """Index passages with the configured backend.

    Args:
        config: the configuration's retrieval section.
        passages: the corpus, read once; hits name passages by their position in it. At least one.
        folder: replaced by the saved index, which then is opened from there; None holds the index in memory (or on
            its server) until it is saved.

    Raises:
        ConfigError: the backend's packages are not installed.
        ModelError: the encoder cannot be loaded.
        RetrievalError: the server cannot be reached.
        OSError: the disk is full or the folder cannot be written.
    """
    if config.backend is RetrievalBackend.BM25:
        if folder is not None:
            return BM25Retriever.build_into(folder, passages, config.titles)
        return BM25Retriever.build(passages, config.titles)
    dense = config.backend is RetrievalBackend.DENSE
    retriever = (DenseRetriever if dense else ElasticsearchRetriever).build(config, passages)
    if folder is None:
        return retriever
    retriever.save(folder)
    return open_retriever(config, folder)


def open_retriever(config: RetrievalConfig, folder: Path | str) -> Retriever:
    """Open a saved index with the backend that it says it is of, whatever the configuration says.

    Args:
        config: the configuration's retrieval section; gives the address of the server.
        folder: the index.

    Raises:
        ConfigError: the backend's packages are not installed.
        ModelError: the encoder cannot be loaded.
        RetrievalError: the server cannot be reached, or has another index by that name.
        StoreError: the folder holds no index, or a damaged one.
    """
    backend = read_description(folder)["backend"]
    if backend is RetrievalBackend.ELASTICSEARCH:
        return ElasticsearchRetriever.open(config, folder)
    return DenseRetriever.open(folder) if backend is RetrievalBackend.DENSE else BM25Retriever.open(folder)
