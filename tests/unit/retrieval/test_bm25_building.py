import tracemalloc
from pathlib import Path

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.retrieval import bm25_building as building
from polyprag.retrieval.vocabulary import StoredVocabulary

WORDS = [f"w{index}" for index in range(12)]
DOCUMENTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=9), min_size=1, max_size=25)
ARRAYS = ("data", "indices", "indptr")


def by_bm25s(documents: list[list[str]]) -> bm25s.BM25:
    """bm25s's own index over the same ids."""
    vocabulary: dict[str, int] = {}
    ids = [[vocabulary.setdefault(word, len(vocabulary)) for word in words] for words in documents]
    index = building.new_index()
    index.index((ids, vocabulary), create_empty_token=False, show_progress=False)
    return index


def loaded(folder: Path) -> bm25s.BM25:
    """An index as it lies on disk."""
    index = bm25s.BM25.load(folder, mmap=True, load_vocab=False)
    index.vocab_dict = StoredVocabulary(folder)
    return index


def assert_same(ours: bm25s.BM25, theirs: bm25s.BM25) -> None:
    for name in ARRAYS:
        assert ours.scores[name].dtype == theirs.scores[name].dtype
        np.testing.assert_array_equal(ours.scores[name], theirs.scores[name], strict=True)
    assert ours.scores["num_docs"] == theirs.scores["num_docs"]
    assert ours.vocab_dict == theirs.vocab_dict


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks, ranges and memory so small that every path is taken."""
    for name, value in (("BLOCK_TOKENS", 7), ("RANGE_POSTINGS", 5), ("IN_MEMORY_BYTES", 64)):
        monkeypatch.setattr(building, name, value)


@settings(max_examples=60, deadline=None)
@given(documents=DOCUMENTS.filter(any), block=st.integers(1, 30), limit=st.integers(1, 30), memory=st.integers(1, 500))
def test_it_equals_the_index_of_bm25s_bit_by_bit(documents, block, limit, memory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("BLOCK_TOKENS", block), ("RANGE_POSTINGS", limit), ("IN_MEMORY_BYTES", memory)):
            patch.setattr(building, name, value)
        assert_same(building.build_in_memory(iter(documents)), by_bm25s(documents))


@pytest.mark.parametrize("seed", range(3))
def test_on_disk_it_equals_what_bm25s_saves(tmp_path, small_blocks, seed):
    rng = np.random.default_rng(seed)
    words = [f"w{index}" for index in range(400)]
    documents = [[words[int(at)] for at in rng.zipf(1.3, rng.integers(0, 60)) % 400] for _ in range(120)]
    building.build_on_disk(iter(documents), tmp_path)
    theirs = by_bm25s(documents)
    assert_same(loaded(tmp_path), theirs)
    theirs.save(tmp_path / "theirs", allow_pickle=False, show_progress=False)
    written = {path.name for path in tmp_path.iterdir()} - {"theirs"}
    common = written & {path.name for path in (tmp_path / "theirs").iterdir()}
    assert all((tmp_path / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes() for name in common)
    assert len(common) == 4
    assert written - common == {"words.utf8", "words.offsets.npy", "words.terms.npy"}


@pytest.mark.parametrize("documents", [[[]], [[], [], []]])
def test_documents_without_words_can_be_indexed(tmp_path, small_blocks, documents):
    building.build_on_disk(documents, tmp_path)
    index = loaded(tmp_path)
    assert index.scores["num_docs"] == len(documents)
    assert index.vocab_dict == {"": 0}


def test_documents_are_read_once_and_let_go(tmp_path, small_blocks):
    alive = []

    class Words(list):
        def __del__(self) -> None:
            alive.remove(id(self))

    def documents():
        for number in range(50):
            words = Words(["alder", f"w{number}"])
            alive.append(id(words))
            yield words
            del words
            assert len(alive) <= 2

    building.build_on_disk(documents(), tmp_path)
    assert not alive


def test_an_error_on_the_way_leaves_no_file_but_what_was_there(tmp_path, small_blocks):
    def documents():
        yield from [["alder", "birch"]] * 30
        raise KeyError("row 31")

    with pytest.raises(KeyError, match="row 31"):
        building.build_on_disk(documents(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_memory_stays_a_fraction_of_the_index(tmp_path, monkeypatch):
    for name, value in (("BLOCK_TOKENS", 1 << 11), ("RANGE_POSTINGS", 1 << 11), ("IN_MEMORY_BYTES", 1 << 11)):
        monkeypatch.setattr(building, name, value)
    rng = np.random.default_rng(0)
    words = [f"w{index}" for index in range(300)]
    building.build_on_disk([words], tmp_path)  # imports and caches
    some = [[words[at] for at in rng.integers(0, 300, 60)] for _ in range(50)]
    documents = (some[at % 50] for at in range(4000))
    tracemalloc.start()
    try:
        building.build_on_disk(documents, tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    index = sum((tmp_path / name).stat().st_size for name in (building.DATA, building.INDICES))
    assert index > 1_500_000
    assert peak < 0.3 * index, peak / index
