import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.records import Passage
from polyprag.retrieval.bm25 import BM25Retriever, tokenise
from polyprag.retrieval.bm25_building import build_in_memory
from polyprag.retrieval.vocabulary import StoredVocabulary, has_vocabulary, write_vocabulary

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@settings(max_examples=60, deadline=None)
@given(words=st.sets(WORDS, min_size=1, max_size=30), asked=st.lists(WORDS, max_size=10))
def test_every_word_has_its_term_and_no_other_has_one(tmp_path_factory, words, asked):
    folder = tmp_path_factory.mktemp("words")
    vocabulary = {word: term for term, word in enumerate(sorted(words, reverse=True))}
    write_vocabulary(vocabulary, folder)
    stored = StoredVocabulary(folder)
    assert dict(stored) == vocabulary
    assert [stored.get(word) for word in asked] == [vocabulary.get(word) for word in asked]


def test_half_a_surrogate_pair_is_no_word(tmp_path):
    write_vocabulary({"alder": 0}, tmp_path)
    assert "\ud800" not in StoredVocabulary(tmp_path)


def test_an_older_index_is_searched_as_before(tmp_path):
    texts = [f"person {i} was born near town {i % 7}" for i in range(40)]
    queries = ["person 12", "Who was born near town 3?", "nothing"]
    expected = BM25Retriever.build(Passage(str(at), "", text) for at, text in enumerate(texts)).search(queries, 5)
    documents = (tokenise(f"\n{text}") for text in texts)
    build_in_memory(documents).save(tmp_path / "older", allow_pickle=False, show_progress=False)
    assert not has_vocabulary(tmp_path / "older")
    older = BM25Retriever.open(tmp_path / "older")
    assert older.search(queries, 5) == expected
    older.save(tmp_path / "newer")
    assert has_vocabulary(tmp_path / "newer")
    assert BM25Retriever.open(tmp_path / "newer").search(queries, 5) == expected


@pytest.mark.parametrize("name", ["words.utf8", "words.offsets.npy", "words.terms.npy"])
def test_files_of_other_vocabularies_are_refused(tmp_path, name):
    for folder, words in (("one", ["alder", "birch"]), ("two", ["alder", "birch", "cedar"])):
        (tmp_path / folder).mkdir()
        write_vocabulary({word: term for term, word in enumerate(words)}, tmp_path / folder)
    (tmp_path / "one" / name).write_bytes((tmp_path / "two" / name).read_bytes())
    with pytest.raises(ValueError, match="words of"):
        StoredVocabulary(tmp_path / "one")
