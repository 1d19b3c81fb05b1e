import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polyprag.config import OnBadRow
from polyprag.errors import DataError
from polyprag.knowledge.augmentations import read_augmentation
from polyprag.knowledge.bad_rows import BadRows
from polyprag.knowledge.corpus import read_corpus
from polyprag.knowledge.questions import read_drafts, settle
from polyprag.knowledge.rows import read_rows
from polyprag.records import Augmentation, Passage, QAPair

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)
KEYS = ["id", "title", "text", "qas", "question", "answer", "answers", "passages", "passage_ids", "qa", "type"]


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def error_of(read: Callable[[Path], object], path: Path) -> DataError | None:
    try:
        read(path)
    except DataError as error:
        return error
    return None


def pairs(*numbers: int) -> list[dict[str, str]]:
    return [{"question": f"question {number}?", "answer": f"answer {number}"} for number in numbers]


def qa(*numbers: int) -> tuple[QAPair, ...]:
    return tuple(QAPair(f"question {number}?", f"answer {number}") for number in numbers)


class TestReadCorpus:
    def test_rows_become_passages_with_stable_ids(self, tmp_path):
        rows = [{"id": "a", "title": "T", "text": " one "}, {"text": "two"}, {"id": "", "title": None, "text": "three"}]
        corpus = read_corpus(write(tmp_path / "c.jsonl", *rows))
        assert corpus.passages[0] == Passage("a", "T", "one")
        for passage in corpus.passages[1:]:
            assert passage.id == "p-" + passage.content_hash[:16]
        assert corpus.passages[1:] == read_corpus(write(tmp_path / "d.jsonl", *rows[1:])).passages

    def test_gzip_reads_alike(self, tmp_path):
        plain = write(tmp_path / "c.jsonl", {"text": "one"})
        (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
        assert read_corpus(tmp_path / "c.jsonl.gz") == read_corpus(plain)

    def test_duplicates_collapse_and_their_pairs_merge(self, tmp_path):
        corpus = read_corpus(
            write(
                tmp_path / "c.jsonl",
                {"id": "a", "text": "one", "qas": pairs(1, 2)},
                {"id": "b", "text": "two"},
                {"id": "c", "text": "one", "qas": pairs(2, 3, 3)},
                {"text": "one"},
                {"id": "b", "text": "two"},
            )
        )
        assert [passage.id for passage in corpus.passages] == ["a", "b"]
        assert corpus.duplicates == 3
        assert {corpus.canonical[id_] for id_ in ("a", "c")} == {"a"}
        assert corpus.augmentations == {"a": Augmentation("a", qa=qa(1, 2, 3))}

    def test_titles_distinguish_passages(self, tmp_path):
        rows = [{"title": title, "text": "same"} for title in ("A", "B")]
        assert len(read_corpus(write(tmp_path / "c.jsonl", *rows)).passages) == 2

    def test_a_given_id_never_hides_another_passages_content(self, tmp_path):
        made = read_corpus(write(tmp_path / "c.jsonl", {"text": "two"})).passages[0].id
        with pytest.raises(DataError, match=f"c.jsonl:2: id '{made}' belongs to another passage above"):
            read_corpus(write(tmp_path / "c.jsonl", {"id": made, "text": "one"}, {"text": "two"}))

    @pytest.mark.parametrize(
        ("row", "complaint"),
        [
            ({"title": "T"}, '"text" is missing'),
            ({"text": "  "}, '"text" is blank'),
            ({"text": ["x"]}, '"text" must be a string'),
            ({"text": "x", "id": 7.5}, r'"id" must be a string, not 7\.5'),
            ({"text": "x", "qas": {"question": "q"}}, '"qas" must be a list'),
            ({"text": "x", "qas": [{"question": "q"}]}, r'"qas"\[0\]: "answer" is missing'),
            ({"text": "x", "qas": [{"question": "q", "answer": ""}]}, r'"qas"\[0\]: "answer" is blank'),
            ({"text": "other", "id": "a"}, "id 'a' belongs to another passage above; give each passage its own id"),
        ],
    )
    def test_bad_rows(self, tmp_path, row, complaint):
        with pytest.raises(DataError, match=r"c\.jsonl:2: " + complaint):
            read_corpus(write(tmp_path / "c.jsonl", {"id": "a", "text": "first"}, row))

    def test_bad_rows_are_left_out_if_asked_to(self, tmp_path):
        rows = [
            {"id": "a", "text": "first"},
            {"id": "a", "text": "other"},
            {"id": "b", "text": "second", "qas": [{"question": "q"}]},
            {"id": "b", "text": "third", "qas": pairs(1)},
            {"text": ""},
        ]
        bad = BadRows(OnBadRow.SKIP)
        corpus = read_corpus(write(tmp_path / "c.jsonl", *rows), bad=bad)
        assert [(passage.id, passage.text) for passage in corpus.passages] == [("a", "first"), ("b", "third")]
        assert corpus.augmentations == {"b": Augmentation("b", qa=qa(1))}
        assert bad.counts == {"passage id used twice": 1, "answer missing": 1, "text blank": 1}
        with pytest.raises(
            DataError, match=r"c\.jsonl: holds no passages that can be used \(text blank 2\); write one"
        ):
            read_corpus(write(tmp_path / "c.jsonl", *rows[4:] * 2), bad=BadRows(OnBadRow.SKIP))

    def test_passages_are_found_by_their_content(self, tmp_path):
        corpus = read_corpus(write(tmp_path / "c.jsonl", {"id": "a", "title": "T", "text": "one"}))
        assert corpus.find(Passage("other", "T", "one")) == "a"
        assert corpus.find(Passage("a", "", "one")) is None

    @pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf", gzip.compress(b"")])
    def test_an_empty_corpus(self, tmp_path, content):
        (tmp_path / "c.jsonl").write_bytes(content)
        with pytest.raises(DataError, match=r"c\.jsonl: holds no passages; write one"):
            read_corpus(tmp_path / "c.jsonl")


@settings(max_examples=80, deadline=None)
@given(st.one_of(st.binary(max_size=100), st.lists(st.dictionaries(st.sampled_from(KEYS), JSON), max_size=3)))
@example([{"text": "\ud800"}])
@example([{"question": "?", "answers": ["x"], "passages": [{"text": "t", "is_support": True}]}])
def test_any_file_gives_records_or_a_data_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "f.jsonl"
    path.write_bytes(
        content if isinstance(content, bytes) else b"".join(json.dumps(row).encode() + b"\n" for row in content)
    )

    def read_questions(path: Path) -> object:
        bad = BadRows()
        return settle(read_drafts(read_rows(path), str(path), bad)[0], str(path), bad)

    for read in (read_corpus, read_questions, lambda path: read_augmentation(path, (), {"": ""})):
        error = error_of(read, path)
        assert error is None or (str(error).startswith(str(path)) and "\n" not in str(error))
