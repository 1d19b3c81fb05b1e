"""Stand-ins for what the optional backends talk to: an Elasticsearch server and a sentence encoder."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest


@dataclass
class Elastic:
    """A server that speaks the few endpoints that the backend uses, and counts words as Lucene does.

    Attributes:
        url: its address.
        indices: documents by position, by index.
        created: settings and mappings of each index.
        asked: method and path of every request.
        headers: of every request, by lower-case name.
        failing: status and body for every request from now on, if any.
        refused: positions whose indexing is refused.
    """

    url: str = ""
    indices: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    created: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    failing: tuple[int, Any] | None = None
    refused: set[int] = field(default_factory=set)

    def answer(self, method: str, path: str, lines: list[Any]) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        if self.failing:
            return self.failing
        index, _, action = path.removeprefix("/").partition("/")
        if index == "_bulk":
            return 200, self._bulk(lines)
        if method == "PUT" and not action:
            self.indices[index], self.created[index] = {}, lines[0]
            return 200, {"acknowledged": True}
        if method == "DELETE":
            self.indices.pop(index, None)
            return 200, {"acknowledged": True}
        if index not in self.indices:
            return 404, {"error": {"type": "index_not_found_exception"}, "status": 404}
        return 200, self._read(index, action, lines)

    def _read(self, index: str, action: str, lines: list[Any]) -> Any:
        documents = self.indices[index]
        if action == "_count":
            return {"count": len(documents)}
        if action == "_msearch":
            return {"responses": [self._found(documents, body) for body in lines[1::2]]}
        if action == "_stats/store":
            return {"_all": {"primaries": {"store": {"size_in_bytes": 1000 * len(documents)}}}}
        assert action in ("", "_refresh"), action
        return {}

    def _bulk(self, lines: list[Any]) -> Any:
        items = []
        for action, source in zip(lines[::2], lines[1::2], strict=True):
            place = action["index"]
            fine = source["position"] not in self.refused
            if fine:
                self.indices[place["_index"]][int(place["_id"])] = source
            items.append({"index": {"_id": place["_id"], "status": 201 if fine else 400, "error": {"type": "no"}}})
        return {"errors": bool(self.refused), "items": items}

    @staticmethod
    def _found(documents: dict[int, dict[str, Any]], body: dict[str, Any]) -> Any:
        """Lucene's BM25 in float64, times the k1 + 1 that Elasticsearch keeps."""
        texts = {at: source["words"].split() for at, source in documents.items()}
        average = sum(map(len, texts.values())) / len(texts)
        scores = dict.fromkeys(texts, 0.0)
        for word in body["query"]["match"]["words"].split():
            frequency = sum(word in text for text in texts.values())
            idf = math.log(1 + (len(texts) - frequency + 0.5) / (frequency + 0.5))
            for at, text in texts.items():
                count = text.count(word)
                scores[at] += 2.2 * idf * count / (count + 1.2 * (0.25 + 0.75 * len(text) / average))
        assert body["sort"] == [{"_score": "desc"}, {"position": "asc"}]
        best = sorted((at for at in scores if scores[at]), key=lambda at: (-scores[at], at))[: body["size"]]
        return {"hits": {"hits": [{"_id": str(at), "_score": None, "sort": [scores[at], at]} for at in best]}}


@pytest.fixture
def elastic(monkeypatch: pytest.MonkeyPatch) -> Iterator[Elastic]:
    """A running server, without indices."""
    monkeypatch.delenv("ELASTIC_API_KEY", raising=False)
    state = Elastic()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            lines = [json.loads(line) for line in body.splitlines() if line.strip()]
            status, content = state.answer(self.command, self.path.split("?")[0], lines)
            answer = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("Content-Type", "text/html" if isinstance(content, bytes) else "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


class LetterEncoder:
    """Embeds a text by the letters that it holds; queries and documents have a direction of their own."""

    def __init__(self, name: str) -> None:
        if name == "no-such-encoder":
            raise OSError(f"{name} is not a local folder\nand not on the hub")
        self.name = name
        self.batches: list[int] = []

    def _encode(self, texts: list[str], own: int, **options: bool) -> np.ndarray[Any, Any]:
        assert options == {"normalize_embeddings": True, "convert_to_numpy": True, "show_progress_bar": False}
        self.batches.append(len(texts))
        vectors = np.zeros((len(texts), 28))
        for row, text in enumerate(texts):
            for letter in text.lower():
                if letter.isascii() and letter.isalpha():
                    vectors[row, ord(letter) - ord("a")] += 1
            vectors[row, 26 + own] = 1e-3
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode_document(self, texts: list[str], **options: bool) -> np.ndarray[Any, Any]:
        return self._encode(texts, 0, **options)

    def encode_query(self, texts: list[str], **options: bool) -> np.ndarray[Any, Any]:
        return self._encode(texts, 1, **options)


@pytest.fixture
def letter_encoder(monkeypatch: pytest.MonkeyPatch) -> type[LetterEncoder]:
    """sentence-transformers, with `LetterEncoder` for every model."""
    pytest.importorskip("faiss", reason="faiss-cpu is an optional install")
    library = SimpleNamespace(SentenceTransformer=LetterEncoder)
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    return LetterEncoder
