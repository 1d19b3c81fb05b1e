import json
import sys

import pytest

from polyprag.config import Config, RetrievalBackend, RetrievalConfig
from polyprag.config.checks import validate
from polyprag.errors import ConfigError, StoreError
from polyprag.records import Passage
from polyprag.retrieval.backends import build_retriever, open_retriever
from polyprag.retrieval.bm25 import BM25Retriever
from polyprag.retrieval.dense import DenseRetriever
from polyprag.retrieval.elasticsearch import ElasticsearchRetriever

PASSAGES = [Passage(f"p{at}", f"Title {at}", text) for at, text in enumerate(["oak and ash", "oak", "fig", "ash ash"])]
QUERIES = ["oak", "ash oak", "title 2"]
BACKENDS = list(RetrievalBackend)


@pytest.fixture
def config_of(request):
    """`config_of(backend)`: a configuration that works here; skips where packages are missing."""

    def config(backend: RetrievalBackend) -> RetrievalConfig:
        if backend is RetrievalBackend.ELASTICSEARCH:
            pytest.importorskip("elasticsearch", reason="the Elasticsearch client is an optional install")
            return RetrievalConfig(backend=backend, url=request.getfixturevalue("elastic").url)
        if backend is RetrievalBackend.DENSE:
            request.getfixturevalue("letter_encoder")
        return RetrievalConfig(backend=backend, encoder="letters")

    return config


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_is_built_saved_and_opened(config_of, tmp_path, backend):
    config = config_of(backend)
    kind = {"bm25": BM25Retriever, "elasticsearch": ElasticsearchRetriever, "dense": DenseRetriever}[backend]
    in_memory = build_retriever(config, iter(PASSAGES))
    on_disk = build_retriever(config, iter(PASSAGES), tmp_path / "one")
    in_memory.save(tmp_path / "two")
    opened = open_retriever(config, tmp_path / "two")
    expected = in_memory.search(QUERIES, 3)
    for retriever in (in_memory, on_disk, opened):
        assert isinstance(retriever, kind)
        assert retriever.search(QUERIES, 3) == expected
        assert len(retriever) == 4
        assert retriever.bytes_on_disk == opened.bytes_on_disk > 0
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_index_is_opened_by_the_backend_that_made_it(config_of, tmp_path, backend):
    config = config_of(backend)
    built = build_retriever(config, PASSAGES, tmp_path / "index")
    for other in BACKENDS:
        opened = open_retriever(RetrievalConfig(backend=other, url=config.url), tmp_path / "index")
        assert type(opened) is type(built)


def test_an_index_without_description_is_of_bm25(tmp_path):
    BM25Retriever.build(PASSAGES).save(tmp_path / "index")
    (tmp_path / "index" / "retriever.json").unlink()
    assert isinstance(open_retriever(RetrievalConfig(), tmp_path / "index"), BM25Retriever)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"backend": "pigeon"}', "\xff"])
def test_a_damaged_description_is_refused(tmp_path, text):
    BM25Retriever.build(PASSAGES).save(tmp_path / "index")
    (tmp_path / "index" / "retriever.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match=r"retriever.json: names no retrieval backend .*; build the index again"):
        open_retriever(RetrievalConfig(), tmp_path / "index")


@pytest.mark.parametrize(
    ("backend", "module", "package"),
    [
        (RetrievalBackend.ELASTICSEARCH, "elasticsearch", "elasticsearch"),
        (RetrievalBackend.DENSE, "faiss", "faiss-cpu"),
        (RetrievalBackend.DENSE, "sentence_transformers", "sentence-transformers"),
    ],
)
def test_a_missing_package_is_one_line_with_the_command(config_of, monkeypatch, tmp_path, backend, module, package):
    config = config_of(backend)
    build_retriever(config, PASSAGES).save(tmp_path / "index")
    monkeypatch.setitem(sys.modules, module, None)
    for attempt in (lambda: build_retriever(config, PASSAGES), lambda: open_retriever(config, tmp_path / "index")):
        with pytest.raises(ConfigError, match=rf"^retrieval.backend is {backend}, .*: pip install {package}, or set"):
            attempt()


def test_titles_are_left_out_on_request():
    assert build_retriever(RetrievalConfig(titles=False), PASSAGES).search(["title"], 3) == [[]]
    assert len(build_retriever(RetrievalConfig(), PASSAGES).search(["title"], 3)[0]) == 3


def test_a_description_holds_what_opening_needs(config_of, tmp_path):
    for backend in BACKENDS:
        build_retriever(config_of(backend), PASSAGES, tmp_path / backend)
        facts = json.loads((tmp_path / backend / "retriever.json").read_text(encoding="utf-8"))
        expected = {"bm25": set(), "elasticsearch": {"index", "passages"}, "dense": {"encoder", "passages"}}[backend]
        assert facts.keys() == {"backend"} | expected


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"backend": "elasticsearch", "url": "localhost:9200"}, "retrieval.url is 'localhost:9200', which is no http"),
        ({"backend": "elasticsearch", "index": "My Index"}, "retrieval.index is 'My Index', which no index"),
        ({"backend": "elasticsearch", "index": "-a"}, "retrieval.index is '-a', which no index"),
        ({"backend": "dense", "encoder": ""}, "retrieval.encoder is '', which is empty"),
    ],
)
def test_what_no_backend_could_use_is_refused(keys, complaint):
    config = Config(retrieval=RetrievalConfig(**{**keys, "backend": RetrievalBackend(keys["backend"])}))
    with pytest.raises(ConfigError) as caught:
        validate(config)
    assert complaint in str(caught.value)
    validate(Config(retrieval=RetrievalConfig(**{**keys, "backend": RetrievalBackend.BM25})))
