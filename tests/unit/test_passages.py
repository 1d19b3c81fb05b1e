import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag import passages as stored
from polyprag.errors import DataError
from polyprag.passages import CorpusFacts, StoredPassages, facts_of, positions_of, write_passages
from polyprag.records import Passage

CORPUS = [
    Passage("a", "T", " one\n"),
    Passage("b", "", "zwei \u2028 Wörter"),
    Passage("ключ", "", "three"),
    Passage("d", "T", "four"),
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def write(folder: Path, passages: list[Passage] = CORPUS) -> CorpusFacts:
    (folder / "lookup").mkdir(parents=True, exist_ok=True)
    return write_passages(folder / "passages.jsonl", folder / "lookup", iter(passages))


def opened(folder: Path, lookup: bool = True) -> StoredPassages:
    return StoredPassages(folder / "passages.jsonl", folder / "lookup" if lookup else None)


@pytest.fixture(params=[True, False], ids=["with lookup", "as older stores"])
def corpus(request, tmp_path) -> StoredPassages:
    write(tmp_path)
    return opened(tmp_path, request.param)


class TestAsASequence:
    def test_it_holds_what_was_written(self, corpus):
        assert len(corpus) == len(CORPUS)
        assert list(corpus) == [corpus[position] for position in range(4)] == CORPUS
        assert corpus[-1] == corpus[np.int64(3)] == CORPUS[3]

    @pytest.mark.parametrize("part", [slice(1, 3), slice(None, None, -1), slice(3, None), slice(9, None), slice(0, 2)])
    def test_some_of_it(self, corpus, part):
        assert corpus[part] == tuple(CORPUS[part])

    def test_all_of_it_is_itself(self, corpus):
        assert corpus[:] is corpus[0:4:1] is corpus

    @pytest.mark.parametrize("position", [4, -5])
    def test_beyond_it(self, corpus, position):
        with pytest.raises(IndexError, match=f"passage {position} of 4"):
            corpus[position]

    def test_it_equals_any_sequence_of_the_same_passages(self, corpus):
        assert corpus == CORPUS
        assert tuple(CORPUS) == corpus
        assert corpus != CORPUS[:3]
        assert corpus != [*CORPUS[:3], Passage("d", "T", "five")]
        assert corpus != 4

    @settings(max_examples=40, deadline=None)
    @given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
    def test_any_text_comes_back(self, tmp_path_factory, rows):
        folder = tmp_path_factory.mktemp("any")
        passages = [Passage(f"{at}", title, text) for at, (title, text) in enumerate(rows)]
        write(folder, passages)
        assert list(opened(folder)) == list(opened(folder, lookup=False)) == passages


class TestLookup:
    def test_by_id(self, corpus):
        assert dict(corpus.positions) == positions_of(CORPUS) == {"a": 0, "b": 1, "ключ": 2, "d": 3}
        assert positions_of(corpus) is corpus.positions
        assert "e" not in corpus.positions
        assert corpus.position_of_id("e") is None

    def test_by_content_whatever_the_id(self, corpus):
        other = Passage("other", "T", "four")
        assert corpus.position_of_content(other.content_hash) == 3
        assert corpus.position_of_content(Passage("d", "", "four").content_hash) is None

    def test_hashes_that_fall_together_are_told_apart(self, tmp_path, monkeypatch):
        monkeypatch.setattr(stored, "_id_hash", lambda passage_id: 7)
        write(tmp_path)
        assert [opened(tmp_path).position_of_id(passage.id) for passage in CORPUS] == [0, 1, 2, 3]
        assert opened(tmp_path).position_of_id("e") is None

    def test_of_equal_contents_the_first_is_found(self, tmp_path):
        write(tmp_path, [CORPUS[0], Passage("again", "T", " one\n")])
        assert opened(tmp_path).position_of_content(CORPUS[0].content_hash) == 0


class TestFacts:
    def test_they_are_the_same_however_the_corpus_is_held(self, tmp_path):
        facts = write(tmp_path)
        assert facts == facts_of(CORPUS) == facts_of(opened(tmp_path)) == facts_of(opened(tmp_path, lookup=False))
        assert facts.text_bytes == sum(len(f"{one.title}{one.text}".encode()) for one in CORPUS)

    def test_known_facts_ask_for_no_reading(self, tmp_path, monkeypatch):
        write(tmp_path)
        known = StoredPassages(tmp_path / "passages.jsonl", tmp_path / "lookup", CorpusFacts(1, "2"))
        monkeypatch.setattr(StoredPassages, "__getitem__", lambda self, index: pytest.fail("read"))
        assert facts_of(known) == CorpusFacts(1, "2")

    @pytest.mark.parametrize("other", [CORPUS[::-1], CORPUS[:3], [*CORPUS[:3], Passage("e", "T", "four")]])
    def test_other_passages_have_another_hash(self, other):
        assert facts_of(other).sha256 != facts_of(CORPUS).sha256


class TestDamage:
    def test_only_what_is_asked_for_is_read(self, tmp_path):
        write(tmp_path)
        path = tmp_path / "passages.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([lines[0], b"x" * (len(lines[1]) - 1) + b"\n", *lines[2:]]))
        corpus = opened(tmp_path)
        assert [corpus[0], corpus[2], corpus[3]] == [CORPUS[0], CORPUS[2], CORPUS[3]]
        assert corpus.position_of_id("d") == 3
        with pytest.raises(DataError, match=r"passages\.jsonl:2: damaged: not a passage"):
            corpus[1]

    @pytest.mark.parametrize("row", [["a"], {"id": "a", "title": "T"}])
    def test_a_line_that_is_no_passage(self, tmp_path, row):
        (tmp_path / "passages.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises(DataError, match=r"passages\.jsonl:1: damaged: not a passage"):
            opened(tmp_path, lookup=False)[0]

    def test_lines_of_another_file(self, tmp_path):
        write(tmp_path)
        with open(tmp_path / "passages.jsonl", "a") as file:
            file.write("{}\n")
        with pytest.raises(DataError, match=r"offsets\.npy: damaged, since the lines of passages\.jsonl end elsewhere"):
            opened(tmp_path)

    def test_arrays_of_another_corpus(self, tmp_path):
        write(tmp_path)
        write(tmp_path / "other", CORPUS[:2])
        (tmp_path / "lookup" / "ids.npy").write_bytes((tmp_path / "other" / "lookup" / "ids.npy").read_bytes())
        with pytest.raises(DataError, match=r"damaged, since ids\.npy is not for 4 passages"):
            opened(tmp_path).position_of_id("a")

    @pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00\x10\x00{'descr': (\n     ", b"garbage"])
    def test_an_array_that_is_none(self, tmp_path, content):
        write(tmp_path)
        (tmp_path / "lookup" / "offsets.npy").write_bytes(content)
        with pytest.raises(DataError, match=r"offsets\.npy: damaged"):
            opened(tmp_path)
