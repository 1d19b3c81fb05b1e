import pytest

pytest.importorskip("elasticsearch", reason="the Elasticsearch client is an optional install")

from polyprag.config import RetrievalBackend, RetrievalConfig
from polyprag.errors import ConfigError, RetrievalError, StoreError
from polyprag.records import Passage
from polyprag.retrieval.bm25 import BM25Retriever
from polyprag.retrieval.elasticsearch import ElasticsearchRetriever

TEXTS = ["Ada was born in Oslo", "Ben was born in Rome, in Rome", "Cy lives in Rome", "Dee lives in Rome"]
PASSAGES = [Passage(f"p{at}", f"Title {at}", text) for at, text in enumerate(TEXTS)]
QUERIES = ["Where was Ada born?", "Who lives in Rome?", "Rome Rome born", "the of", "unheard-of", "title"]


def config_for(elastic, **keys) -> RetrievalConfig:
    return RetrievalConfig(backend=RetrievalBackend.ELASTICSEARCH, url=elastic.url, **keys)


def without_server(port: int = 9) -> RetrievalConfig:
    """Nothing listens on the discard port."""
    return RetrievalConfig(backend=RetrievalBackend.ELASTICSEARCH, url=f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("titles", [True, False])
@pytest.mark.parametrize("n", [1, 2, 10])
def test_it_finds_what_bm25_finds_at_the_same_scores(elastic, titles, n):
    theirs = ElasticsearchRetriever.build(config_for(elastic, titles=titles), PASSAGES).search(QUERIES, n)
    ours = BM25Retriever.build(PASSAGES, titles).search(QUERIES, n)
    assert [[hit.position for hit in hits] for hits in theirs] == [[hit.position for hit in hits] for hits in ours]
    for their_hits, our_hits in zip(theirs, ours, strict=True):
        assert [hit.score for hit in their_hits] == pytest.approx([hit.score for hit in our_hits], rel=1e-6)


def test_lucene_is_told_to_count_as_bm25s_does(elastic):
    retriever = ElasticsearchRetriever.build(config_for(elastic), iter(PASSAGES))
    ((index, created),) = elastic.created.items()
    assert index.startswith("polyprag-")
    assert created["settings"]["similarity"]["default"] == {"type": "BM25", "k1": 1.2, "b": 0.75}
    assert created["settings"]["number_of_shards"] == 1
    assert created["mappings"]["properties"]["words"]["analyzer"] == "whitespace"
    assert elastic.indices[index][1] == {
        "words": "title 1 ben born rome rome",
        "position": 1,
        **vars(PASSAGES[1]),
    }
    assert (len(retriever), retriever.bytes_on_disk) == (4, 4000)


def test_the_same_corpus_is_indexed_once_and_another_one_apart(elastic):
    config = config_for(elastic, index="mine")
    ElasticsearchRetriever.build(config, PASSAGES)
    assert sum("_bulk" in request for request in elastic.asked) == 1
    ElasticsearchRetriever.build(config, PASSAGES)
    assert sum("_bulk" in request for request in elastic.asked) == 1
    ElasticsearchRetriever.build(config, PASSAGES[:3])
    ElasticsearchRetriever.build(config_for(elastic, index="mine", titles=False), PASSAGES)
    assert sum("_bulk" in request for request in elastic.asked) == 3
    assert len(elastic.indices) == 3
    assert all(name.startswith("mine-") for name in elastic.indices)


def test_what_a_kill_left_half_is_made_anew(elastic):
    config = config_for(elastic)
    before = ElasticsearchRetriever.build(config, PASSAGES).search(QUERIES, 4)
    ((index, documents),) = elastic.indices.items()
    del documents[2]
    assert ElasticsearchRetriever.build(config, PASSAGES).search(QUERIES, 4) == before
    assert len(elastic.indices[index]) == 4


def test_saved_it_is_opened_on_the_configured_server(elastic, tmp_path):
    built = ElasticsearchRetriever.build(config_for(elastic, index="mine"), PASSAGES)
    built.save(tmp_path / "index")
    opened = ElasticsearchRetriever.open(config_for(elastic, index="another"), tmp_path / "index")
    assert opened.search(QUERIES, 3) == built.search(QUERIES, 3)
    assert len(opened) == 4


def test_many_queries_go_in_few_requests_and_none_without_words(elastic):
    retriever = ElasticsearchRetriever.build(config_for(elastic), PASSAGES)
    elastic.asked.clear()
    assert retriever.search(["the", "", "!"], 3) == [[], [], []]
    assert retriever.search(["rome"], 0) == [[]]
    assert retriever.search([], 3) == []
    assert elastic.asked == []
    found = retriever.search(["ada", "the", "rome"] * 50, 2)
    assert len(elastic.asked) == 2
    assert found[:3] * 50 == found
    assert [len(hits) for hits in found[:3]] == [1, 0, 2]


def test_the_key_comes_from_the_environment(elastic, monkeypatch):
    ElasticsearchRetriever.build(config_for(elastic), PASSAGES)
    assert not any("authorization" in headers for headers in elastic.headers)
    monkeypatch.setenv("ELASTIC_API_KEY", "c2VjcmV0")
    ElasticsearchRetriever.build(config_for(elastic), PASSAGES)
    assert elastic.headers[-1]["authorization"] == "ApiKey c2VjcmV0"


class TestErrors:
    """One line each, with the address and the remedy."""

    def test_nobody_answers(self, tmp_path):
        with pytest.raises(RetrievalError, match=r"^http://127.0.0.1:9: .*set retrieval.url.*backend=bm25$") as caught:
            ElasticsearchRetriever.build(without_server(), PASSAGES)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("answer", [(401, {"error": "denied"}), (500, {"error": "no"}), (502, b"<html>Bad</html>")])
    def test_the_server_does_not_answer_as_it_should(self, elastic, answer):
        retriever = ElasticsearchRetriever.build(config_for(elastic), PASSAGES)
        elastic.failing = answer
        for attempt in (
            lambda: ElasticsearchRetriever.build(config_for(elastic), PASSAGES),
            lambda: retriever.search(["rome"], 3),
            lambda: retriever.bytes_on_disk,
        ):
            with pytest.raises(RetrievalError, match="does not answer as it should") as caught:
                attempt()
            assert "\n" not in str(caught.value)

    def test_a_search_is_refused(self, elastic):
        retriever = ElasticsearchRetriever.build(config_for(elastic), PASSAGES)
        elastic.failing = (200, {"responses": [{"error": {"type": "too_many_clauses"}, "status": 400}]})
        with pytest.raises(RetrievalError, match=r"refuses a search.*too_many_clauses"):
            retriever.search(["rome"], 3)

    def test_a_passage_is_refused(self, elastic):
        elastic.refused = {2}
        with pytest.raises(RetrievalError, match="refuses a passage"):
            ElasticsearchRetriever.build(config_for(elastic), PASSAGES)

    def test_the_server_has_no_such_index(self, elastic, tmp_path):
        ElasticsearchRetriever.build(config_for(elastic), PASSAGES).save(tmp_path / "index")
        elastic.indices.clear()
        with pytest.raises(RetrievalError, match=r"holds 0 passages, not 4; set retrieval.url"):
            ElasticsearchRetriever.open(config_for(elastic), tmp_path / "index")

    @pytest.mark.parametrize("facts", ['{"backend": "elasticsearch"}', '{"backend": "elasticsearch", "index": "a"}'])
    def test_the_description_is_damaged(self, elastic, tmp_path, facts):
        (tmp_path / "retriever.json").write_text(facts)
        with pytest.raises(StoreError, match="describes no Elasticsearch index"):
            ElasticsearchRetriever.open(config_for(elastic), tmp_path)

    def test_the_address_is_none(self):
        config = RetrievalConfig(backend=RetrievalBackend.ELASTICSEARCH, url="http://host-without-port")
        with pytest.raises(ConfigError, match=r"retrieval.url is 'http://host-without-port'"):
            ElasticsearchRetriever.build(config, PASSAGES)
