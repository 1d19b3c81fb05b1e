import numpy as np
import pytest

pytest.importorskip("faiss", reason="faiss-cpu is an optional install")

from polyprag.config import RetrievalBackend, RetrievalConfig
from polyprag.errors import ModelError, StoreError
from polyprag.records import Passage
from polyprag.retrieval import dense
from polyprag.retrieval.dense import DenseRetriever

CONFIG = RetrievalConfig(backend=RetrievalBackend.DENSE, encoder="letters")
WORDS = ["alder", "birch", "cedar", "fig", "gum", "hazel", "juniper", "larch", "maple", "oak"]


def passages_of(*texts: str, title: str = "") -> list[Passage]:
    return [Passage(f"p{at}", title, text) for at, text in enumerate(texts)]


@pytest.mark.parametrize("n", [1, 4, 50])
def test_hits_are_those_of_brute_force(letter_encoder, n):
    passages = passages_of(*(f"{one} {other}" for one in WORDS for other in WORDS[:3]))
    queries = ["a larch", "figs", "oak and juniper"]
    options = {"normalize_embeddings": True, "convert_to_numpy": True, "show_progress_bar": False}
    encoder = letter_encoder("letters")
    vectors_ND = encoder.encode_document([f"\n{passage.text}" for passage in passages], **options)
    cosines_BN = encoder.encode_query(queries, **options) @ vectors_ND.T
    found = DenseRetriever.build(CONFIG, passages).search(queries, n)
    for hits, cosines_N in zip(found, cosines_BN, strict=True):
        assert [hit.score for hit in hits] == pytest.approx(np.sort(cosines_N[cosines_N > 0])[::-1][:n], abs=1e-5)
        assert [hit.score for hit in hits] == pytest.approx([cosines_N[hit.position] for hit in hits], abs=1e-5)


def test_passages_come_in_a_stream_and_leave_in_batches(letter_encoder, monkeypatch):
    monkeypatch.setattr(dense, "_BATCH", 4)
    texts = [f"{WORDS[at % 10]} {at}" for at in range(10)]
    retriever = DenseRetriever.build(CONFIG, iter(passages_of(*texts)))
    assert retriever._encoder.batches == [4, 4, 2]
    monkeypatch.setattr(dense, "_BATCH", 512)
    whole = DenseRetriever.build(CONFIG, passages_of(*texts)).search(["larch"], 3)
    assert [hit.position for hit in retriever.search(["larch"], 3)[0]] == [hit.position for hit in whole[0]]


def test_ties_go_by_position_and_what_is_unlike_is_no_hit(letter_encoder):
    retriever = DenseRetriever.build(CONFIG, passages_of("oak", "zzz", "oak"))
    (hits,) = retriever.search(["oak"], 3)
    assert [hit.position for hit in hits] == [0, 2]
    assert retriever.search(["xxx"], 3) == [[]]


def test_titles_count_only_on_request(letter_encoder):
    passages = [Passage("a", "zebra", "oak"), Passage("b", "oak", "figs")]
    with_titles = DenseRetriever.build(CONFIG, passages).search(["zz"], 2)
    without = DenseRetriever.build(RetrievalConfig(encoder="letters", titles=False), passages).search(["zz"], 2)
    assert ([len(hits) for hits in with_titles], without) == ([1], [[]])


def test_no_queries_and_no_hits_wanted(letter_encoder):
    retriever = DenseRetriever.build(CONFIG, passages_of("oak"))
    assert retriever.search([], 3) == []
    assert retriever.search(["oak"], 0) == [[]]


def test_saved_and_opened_it_answers_alike(letter_encoder, tmp_path):
    built = DenseRetriever.build(CONFIG, passages_of(*WORDS))
    built.save(tmp_path / "one")
    opened = DenseRetriever.open(tmp_path / "one")
    assert opened.search(["larch", "fig"], 4) == built.search(["larch", "fig"], 4)
    assert (len(opened), opened._encoder.name) == (10, "letters")
    assert opened.bytes_on_disk == built.bytes_on_disk == sum(f.stat().st_size for f in (tmp_path / "one").iterdir())
    opened.save(tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_missing_or_damaged_index_is_refused(letter_encoder, tmp_path):
    DenseRetriever.build(CONFIG, passages_of(*WORDS)).save(tmp_path / "index")
    vectors = (tmp_path / "index" / "vectors.faiss").read_bytes()
    for damaged in (b"", b"garbage", vectors[:-8]):
        (tmp_path / "index" / "vectors.faiss").write_bytes(damaged)
        with pytest.raises(StoreError, match="cannot be opened as dense index") as caught:
            DenseRetriever.open(tmp_path / "index")
        assert "\n" not in str(caught.value)
    DenseRetriever.build(CONFIG, passages_of(*WORDS[:9])).save(tmp_path / "other")
    (tmp_path / "index" / "vectors.faiss").write_bytes((tmp_path / "other" / "vectors.faiss").read_bytes())
    with pytest.raises(StoreError, match="9 vectors for 10 passages"):
        DenseRetriever.open(tmp_path / "index")
    with pytest.raises(StoreError, match="cannot be opened as dense index"):
        DenseRetriever.open(tmp_path / "none")


def test_an_encoder_that_cannot_be_loaded_is_one_line(letter_encoder):
    with pytest.raises(ModelError, match=r"^retrieval.encoder=no-such-encoder: cannot be loaded \(.*local folder\)$"):
        DenseRetriever.build(RetrievalConfig(encoder="no-such-encoder"), passages_of("oak"))
