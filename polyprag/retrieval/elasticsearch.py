"""BM25 by an Elasticsearch server, for those who have one.

Documents are split into words here, as for bm25s, and the server splits at white space only. So both backends count the
same words and their scores agree, up to Lucene's document lengths, which are rounded to 4 significant bits.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from rich.console import Console
from rich.progress import track

from polyprag.config import RetrievalBackend, RetrievalConfig
from polyprag.errors import ConfigError, RetrievalError, StoreError
from polyprag.files import replace_folder
from polyprag.records import Passage
from polyprag.retrieval.bm25 import tokenise
from polyprag.retrieval.bm25_building import K1, B
from polyprag.retrieval.retriever import Hit, optional_package, read_description, searched_text, write_description

KEY_ENV = "ELASTIC_API_KEY"
"""Environment variable with the server's API key; may be unset."""

_BATCH = 64
_LEAST_WINDOW = 10_000
_MAPPINGS = {
    "dynamic": False,
    "properties": {
        "words": {"type": "text", "analyzer": "whitespace", "index_options": "freqs"},
        "position": {"type": "integer"},
    },
}


@final
class ElasticsearchRetriever:
    """An index on a server; made by `build` or `open`."""

    sharpness = 1.0

    def __init__(self, client: Any, url: str, index: str, passages: int) -> None:
        """Wrap an index.

        Args:
            client: an `elasticsearch.Elasticsearch`.
            url: address of the server, for messages.
            index: name of the index.
            passages: number of documents in it.
        """
        self._client, self._url, self._index, self._passages = client, url, index, passages

    @classmethod
    def build(cls, config: RetrievalConfig, passages: Iterable[Passage]) -> ElasticsearchRetriever:
        """Index passages on the server, unless an index of the same corpus is there.

        Raises:
            ConfigError: the client is not installed.
            RetrievalError: the server cannot be reached, or refuses.
        """
        corpus = list(passages)
        assert corpus, "a corpus holds at least one passage"
        index = f"{config.index}-{_fingerprint(corpus, config.titles)}"
        client = _connect(config.url)
        with _answered(config.url):
            if _documents_in(client, index) != len(corpus):  # none, or what a kill left of it
                _fill(client, index, corpus, config.titles)
        return cls(client, config.url, index, len(corpus))

    @classmethod
    def open(cls, config: RetrievalConfig, folder: Path | str) -> ElasticsearchRetriever:
        """Open the index that a saved description names, on the configured server.

        Raises:
            ConfigError: the client is not installed.
            RetrievalError: the server cannot be reached, or does not have that index.
            StoreError: the description is damaged.
        """
        facts = read_description(folder)
        try:
            index, passages = str(facts["index"]), int(facts["passages"])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{folder}: describes no Elasticsearch index ({error}); build the store again") from error
        client = _connect(config.url)
        with _answered(config.url):
            found = _documents_in(client, index)
        if found != passages:
            raise RetrievalError(
                f"{config.url}: index {index} holds {found} passages, not {passages}; set retrieval.url to the server "
                "that has it, or train again"
            )
        return cls(client, config.url, index, passages)

    @property
    def bytes_on_disk(self) -> int:
        """Bytes of the index on the server.

        Raises:
            RetrievalError: the server cannot be reached.
        """
        with _answered(self._url):
            found = self._client.indices.stats(index=self._index, metric="store")
        return int(found["_all"]["primaries"]["store"]["size_in_bytes"])

    def save(self, folder: Path | str) -> None:
        """Write the name of the index; replaces the folder as a whole. The index stays on its server."""
        with replace_folder(folder) as temporary:
            facts = {"index": self._index, "passages": self._passages}
            write_description(temporary, RetrievalBackend.ELASTICSEARCH, facts)

    def __len__(self) -> int:
        """Number of passages."""
        return self._passages

    def search(self, queries: Sequence[str], n: int) -> list[list[Hit]]:
        """Find the best passages for each query, as `BM25Retriever.search` does.

        Raises:
            RetrievalError: the server cannot be reached, or refuses.
        """
        words = [" ".join(tokenise(query)) for query in queries]
        asked = [at for at, own in enumerate(words) if own and n > 0]
        found: list[list[Hit]] = [[] for _ in queries]
        for start in range(0, len(asked), _BATCH):
            batch = asked[start : start + _BATCH]
            answers = self._search_batch([words[at] for at in batch], min(n, self._passages))
            for at, hits in zip(batch, answers, strict=True):
                found[at] = hits
        return found

    def _search_batch(self, queries: list[str], n: int) -> list[list[Hit]]:
        lines: list[dict[str, Any]] = []
        for words in queries:
            order = [{"_score": "desc"}, {"position": "asc"}]
            lines += [{}, {"query": {"match": {"words": words}}, "size": n, "_source": False, "sort": order}]
        with _answered(self._url):
            responses = self._client.msearch(index=self._index, searches=lines)["responses"]
        for response in responses:
            if "error" in response:
                raise RetrievalError(f"{self._url}: index {self._index} refuses a search: {response['error']}")
        return [[_hit(*found["sort"]) for found in response["hits"]["hits"]] for response in responses]


def _hit(score: float, position: int) -> Hit:
    """Elasticsearch keeps the constant factor k1 + 1 that Lucene has dropped from BM25."""
    return Hit(int(position), float(score) / (K1 + 1))


def _fingerprint(passages: Sequence[Passage], titles: bool) -> str:
    """16 hex digits for a corpus as it is searched."""
    digest = hashlib.sha256(f"words 1, titles {titles}".encode())
    for passage in passages:
        digest.update(passage.content_hash.encode())
    return digest.hexdigest()[:16]


def _connect(url: str) -> Any:
    """A client; nothing is asked of the server yet.

    Raises:
        ConfigError: the client is not installed, or the address cannot be one.
    """
    library = optional_package("elasticsearch", "elasticsearch", RetrievalBackend.ELASTICSEARCH)
    try:
        return library.Elasticsearch(url, api_key=os.environ.get(KEY_ENV) or None, request_timeout=60)
    except ValueError as error:
        raise ConfigError(f"retrieval.url is {url!r}, which is no address ({error}); write http://HOST:9200") from None


@contextmanager
def _answered(url: str) -> Iterator[None]:
    """Turns what goes wrong between client and server into one line."""
    library = optional_package("elasticsearch", "elasticsearch", RetrievalBackend.ELASTICSEARCH)
    try:
        yield
    except (library.ApiError, library.TransportError) as error:
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise RetrievalError(
            f"{url}: Elasticsearch does not answer as it should ({reason}); start it, set retrieval.url, put its key "
            f"into {KEY_ENV}, or set retrieval.backend=bm25"
        ) from None


def _documents_in(client: Any, index: str) -> int:
    """Documents in an index; 0 where there is none."""
    if not client.indices.exists(index=index):
        return 0
    client.indices.refresh(index=index)
    return int(client.count(index=index)["count"])


def _fill(client: Any, index: str, passages: Sequence[Passage], titles: bool) -> None:
    """Make an index anew and send it all passages."""
    helpers = optional_package("elasticsearch.helpers", "elasticsearch", RetrievalBackend.ELASTICSEARCH)
    settings = {
        "number_of_shards": 1,  # document frequencies count per shard
        "max_result_window": max(_LEAST_WINDOW, len(passages)),
        "similarity": {"default": {"type": "BM25", "k1": K1, "b": B}},
    }
    client.indices.delete(index=index, ignore_unavailable=True)
    client.indices.create(index=index, settings=settings, mappings=_MAPPINGS)
    actions = (
        {
            "_index": index,
            "_id": str(position),
            "_source": {
                "words": " ".join(tokenise(searched_text(passage, titles))),
                "position": position,
                **{"id": passage.id, "title": passage.title, "text": passage.text},
            },
        }
        for position, passage in enumerate(passages)
    )
    sent = helpers.streaming_bulk(client, actions, max_retries=5, raise_on_error=False)
    console = Console(stderr=True)
    for fine, answer in track(sent, total=len(passages), description="indexing", console=console, transient=True):
        if not fine:
            raise RetrievalError(f"index {index} refuses a passage: {answer}; see the server's log")
    client.indices.refresh(index=index)
