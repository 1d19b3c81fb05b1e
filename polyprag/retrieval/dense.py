"""Dense retrieval: sentence-transformers encodes, faiss searches by cosine. Both are optional installs.

Shapes: N passages, B queries, D size of an embedding.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, final

import numpy as np

from polyprag.config import RetrievalBackend, RetrievalConfig
from polyprag.errors import ModelError, StoreError
from polyprag.files import current_folder, replace_folder
from polyprag.records import Passage
from polyprag.retrieval.retriever import (
    Hit,
    bytes_in,
    bytes_when_saved,
    optional_package,
    read_description,
    searched_text,
    write_description,
)

VECTORS = "vectors.faiss"
_BATCH = 512

T = TypeVar("T")


@final
class DenseRetriever:
    """A flat index of unit vectors; made by `build` or `open`."""

    sharpness = 20.0  # the scale on cosines that sentence-transformers train with (MultipleNegativesRankingLoss)

    def __init__(self, index: Any, encoder: Any, encoder_name: str, folder: Path | None = None) -> None:
        """Wrap an index.

        Args:
            index: a `faiss.IndexFlatIP` over vectors of length 1.
            encoder: the `SentenceTransformer` that made them.
            encoder_name: its name.
            folder: where the index is mapped from; None for one in memory.
        """
        self._index, self._encoder, self._encoder_name, self._folder = index, encoder, encoder_name, folder

    @classmethod
    def build(cls, config: RetrievalConfig, passages: Iterable[Passage]) -> DenseRetriever:
        """Encode passages one batch after the other; of each, only its vector of 4·D bytes is kept.

        Raises:
            ConfigError: sentence-transformers or faiss is not installed.
            ModelError: the encoder cannot be loaded.
        """
        faiss, encoder = _faiss(), _load_encoder(config.encoder)
        index = None
        for batch in _batches(searched_text(passage, config.titles) for passage in passages):
            vectors_BD = _unit_vectors(encoder.encode_document, batch)
            index = index or faiss.IndexFlatIP(vectors_BD.shape[1])
            index.add(vectors_BD)
        assert index is not None, "a corpus holds at least one passage"
        return cls(index, encoder, config.encoder)

    @classmethod
    def open(cls, folder: Path | str) -> DenseRetriever:
        """Open a saved index; its vectors stay on disk and are mapped into memory.

        Raises:
            ConfigError: sentence-transformers or faiss is not installed.
            ModelError: the encoder cannot be loaded.
            StoreError: the folder holds no such index, or a damaged one.
        """
        folder = current_folder(folder)
        faiss, facts = _faiss(), read_description(folder)
        try:
            name, passages = str(facts["encoder"]), int(facts["passages"])
            index = faiss.read_index(str(folder / VECTORS), faiss.IO_FLAG_MMAP_IFC)
            if index.ntotal != passages:
                raise ValueError(f"{index.ntotal} vectors for {passages} passages")
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise StoreError(f"{folder}: cannot be opened as dense index ({reason}); build the store again") from error
        return cls(index, _load_encoder(name), name, folder)

    @property
    def bytes_on_disk(self) -> int:
        """Bytes of the saved index, the encoder not counted."""
        return bytes_in(self._folder) if self._folder is not None else bytes_when_saved(self)

    def save(self, folder: Path | str) -> None:
        """Write the vectors and the encoder's name; replaces the folder as a whole."""
        with replace_folder(folder) as temporary:
            _faiss().write_index(self._index, str(temporary / VECTORS))
            facts = {"encoder": self._encoder_name, "passages": len(self)}
            write_description(temporary, RetrievalBackend.DENSE, facts)

    def __len__(self) -> int:
        """Number of passages."""
        return int(self._index.ntotal)

    def search(self, queries: Sequence[str], n: int) -> list[list[Hit]]:
        """Find the nearest passages of each query.

        Args:
            queries: questions or keywords.
            n: most hits per query, 0 or more.

        Returns:
            For each query its hits by falling cosine, ties by position; cosines of 0 or less are no hits.
        """
        if not queries or n < 1:
            return [[] for _ in queries]
        vectors_BD = _unit_vectors(self._encoder.encode_query, list(queries))
        cosines, positions = self._index.search(vectors_BD, min(n, len(self)))
        found = [
            [Hit(position, cosine) for position, cosine in zip(*row, strict=True) if cosine > 0]
            for row in zip(positions.tolist(), cosines.tolist(), strict=True)
        ]
        return [sorted(hits, key=lambda hit: (-hit.score, hit.position)) for hits in found]


def _unit_vectors(encode: Any, texts: list[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Embeddings [B, D] of length 1, by one of the encoder's methods."""
    vectors_BD = encode(texts, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
    return np.ascontiguousarray(vectors_BD, dtype=np.float32)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    return iter(lambda: list(itertools.islice(iterator, _BATCH)), [])


def _faiss() -> Any:
    return optional_package("faiss", "faiss-cpu", RetrievalBackend.DENSE)


def _load_encoder(name: str) -> Any:
    library = optional_package("sentence_transformers", "sentence-transformers", RetrievalBackend.DENSE)
    try:
        return library.SentenceTransformer(name)
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"retrieval.encoder={name}: cannot be loaded ({reason})") from None
