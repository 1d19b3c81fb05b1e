import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.errors import StoreError
from polyprag.records import Augmentation, Passage, QAPair
from polyprag.retrieval.bm25 import BM25Retriever, searched, tokenise
from polyprag.retrieval.retriever import Hit

WORDS = ["alder", "birch", "cedar", "x", "7", "the", "of", "!"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)


def passages_of(*texts: str) -> list[Passage]:
    return [Passage(f"p{index}", "", text) for index, text in enumerate(texts)]


def positions(hits: list[Hit]) -> list[int]:
    return [hit.position for hit in hits]


def test_words():
    assert tokenise("The Marie's X-1, O’Brien’s naïve café of 1963.") == [
        "marie", "x", "1", "o", "brien", "naïve", "café", "1963",
    ]  # fmt: skip


def test_the_passage_that_is_asked_for_comes_first():
    retriever = BM25Retriever.build(passages_of("Ada was born in Oslo", "Ben was born in Rome", "Cy lives in Rome"))
    first, second = retriever.search(["Where was Ada born?", "Who lives in Rome?"], n=3)
    assert positions(first) == [0, 1]
    assert positions(second) == [2, 1]
    assert first[0].score > first[1].score > 0


def test_titles_count_only_on_request():
    passages = [Passage("a", "Oslo", "a city in the north"), Passage("b", "Rome", "a city in the south")]
    assert positions(BM25Retriever.build(passages).search(["Rome"], 1)[0]) == [1]
    assert BM25Retriever.build(passages, titles=False).search(["Rome"], 1) == [[]]


def test_ties_go_by_position_also_at_the_cut():
    retriever = BM25Retriever.build(passages_of(*["same words"] * 50, "other text"))
    assert positions(retriever.search(["same words"], 7)[0]) == list(range(7))


@pytest.mark.parametrize("query", ["", "  ", "?!", "the of and", "unheard-of"])
def test_a_query_that_overlaps_with_nothing_has_no_hits(query):
    assert BM25Retriever.build(passages_of("alder", "birch")).search([query], 5) == [[]]


def test_no_queries_and_no_hits_wanted():
    retriever = BM25Retriever.build(passages_of("alder"))
    assert retriever.search([], 3) == []
    assert retriever.search(["alder"], 0) == [[]]


@pytest.mark.parametrize("text", ["!!!", "the", "…"])
def test_a_corpus_without_words_can_be_built_saved_and_searched(tmp_path, text):
    retriever = BM25Retriever.build(passages_of(text, text))
    retriever.save(tmp_path / "bm25")
    assert BM25Retriever.open(tmp_path / "bm25").search([text, "alder", ""], 3) == [[], [], []]


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=12), query=TEXTS, n=st.integers(1, 20))
def test_hits_are_ordered_positive_and_a_prefix_of_all_hits(texts, query, n):
    retriever = BM25Retriever.build(passages_of(*texts))
    assert len(retriever) == len(texts)
    [everything] = retriever.search([query], len(texts))
    [hits] = retriever.search([query], n)
    assert hits == everything[:n]
    assert all(hit.score > 0 for hit in everything)
    assert everything == sorted(everything, key=lambda hit: (-hit.score, hit.position))
    wanted = set(tokenise(query))
    assert set(positions(everything)) == {i for i, text in enumerate(texts) if wanted & set(tokenise(text))}


def test_saved_and_opened_it_answers_alike_from_disk(tmp_path, capfd):
    texts = [f"person {i} was born in town {i % 7}" for i in range(60)]
    built = BM25Retriever.build(passages_of(*texts))
    built.save(tmp_path / "one")
    BM25Retriever.build(passages_of(*texts)).save(tmp_path / "two")
    opened = BM25Retriever.open(tmp_path / "one")
    queries = ["Who was born in town 3?", "person 12", "nothing"]
    assert opened.search(queries, 9) == built.search(queries, 9)
    assert len(opened) == 60
    assert isinstance(opened._index.scores["data"], np.memmap)
    assert capfd.readouterr() == ("", "")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_built_on_disk_it_is_as_if_saved(tmp_path):
    passages = passages_of(*(f"person {i} was born in town {i % 7}" for i in range(60)))
    on_disk = BM25Retriever.build_into(tmp_path / "one", iter(passages))
    built = BM25Retriever.build(passages)
    built.save(tmp_path / "two")
    assert on_disk.search(["Who was born in town 3?"], 9) == built.search(["Who was born in town 3?"], 9)
    assert built.bytes_on_disk == on_disk.bytes_on_disk == sum(f.stat().st_size for f in (tmp_path / "one").iterdir())
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    on_disk.save(tmp_path / "one")
    assert BM25Retriever.open(tmp_path / "one").search(["town 3"], 9) == built.search(["town 3"], 9)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    BM25Retriever.build(passages_of("alder", "birch")).save(tmp_path / "one")
    BM25Retriever.build(passages_of("alder", "birch cedar")).save(tmp_path / "two")
    for name in ("data.csc.index.npy", "words.utf8", "words.terms.npy", "indptr.csc.index.npy"):
        whole = (tmp_path / "one" / name).read_bytes()
        (tmp_path / "one" / name).write_bytes((tmp_path / "two" / name).read_bytes())
        with pytest.raises(StoreError, match="cannot be opened as BM25 index"):
            BM25Retriever.open(tmp_path / "one")
        (tmp_path / "one" / name).write_bytes(whole)
    assert len(BM25Retriever.open(tmp_path / "one")) == 2


def test_no_pickle_is_written(tmp_path):
    BM25Retriever.build(passages_of("alder", "birch")).save(tmp_path / "bm25")
    for path in (tmp_path / "bm25").iterdir():
        if path.suffix == ".npy":
            assert np.load(path, allow_pickle=False).size
        elif path.suffix == ".utf8":
            assert path.read_text(encoding="utf-8") == "alderbirch"
        else:
            assert json.loads(path.read_text(encoding="utf-8"))


def test_a_missing_or_damaged_index_is_refused(tmp_path):
    with pytest.raises(StoreError, match="cannot be opened as BM25 index"):
        BM25Retriever.open(tmp_path / "none")
    for victim in ("params.index.json", "words.utf8", "words.offsets.npy", "data.csc.index.npy"):
        BM25Retriever.build(passages_of("alder", "birch")).save(tmp_path / "bm25")
        (tmp_path / "bm25" / victim).write_bytes(b"garbage")
        with pytest.raises(StoreError, match="cannot be opened as BM25 index"):
            BM25Retriever.open(tmp_path / "bm25")


def test_document_expansion_finds_passages_by_what_is_trained_on_them():
    passages = passages_of("Ada came from Oslo", "Ben came from Rome")
    augmentations = {
        "p1": Augmentation("p1", ("Rome is where Ben grew up",), (QAPair("Whose cradle stood there?", "B"),))
    }
    plain = BM25Retriever.build(searched(passages, augmentations, expand=False))
    expanded = BM25Retriever.build(searched(passages, augmentations, expand=True))
    for query in ("Who grew up where?", "a cradle"):
        assert plain.search([query], 1) == [[]]
        assert positions(expanded.search([query], 1)[0]) == [1]
    assert "cradle" not in passages[1].text
