import gzip
import json
import os
import threading
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.config import DataConfig, OnBadRow, SplittingConfig, SplitUnit
from polyprag.errors import ConfigError, DataError
from polyprag.knowledge.corpus import read_corpus
from polyprag.knowledge.ingestion import KINDS, read_passages
from polyprag.knowledge.rows import BadRows, RowError

WORDS = SplittingConfig(size=8)
GUIDE = "# Mills\n\nOne two three four five. Six seven eight nine ten.\n\n## Rye\n\nGround *fine*.\n"
PAIRS = [{"question": "?", "answer": "x"}]


def values_of(path: Path | str, bad: BadRows | None = None, **keys: object) -> list[dict[str, object]]:
    data = DataConfig(splitting=WORDS)
    for key, value in keys.items():
        setattr(data, key, value)
    return [row.values for row in read_passages(str(path), data, bad or BadRows())]


class TestFiles:
    def test_markdown_is_split_under_its_headings(self, tmp_path):
        (tmp_path / "guide.md").write_text(GUIDE)
        assert values_of(tmp_path / "guide.md") == [
            {"id": "guide.md#1", "title": "Mills", "text": "One two three four five."},
            {"id": "guide.md#2", "title": "Mills", "text": "Six seven eight nine ten."},
            {"id": "guide.md#3", "title": "Mills > Rye", "text": "Ground fine."},
        ]

    def test_plain_text_is_split_under_its_name(self, tmp_path):
        (tmp_path / "notes.v2.TXT").write_text("a b\nc d e\n\n f g h i j")
        assert values_of(tmp_path / "notes.v2.TXT") == [
            {"id": "notes.v2.TXT#1", "title": "notes.v2", "text": "a b c d e"},
            {"id": "notes.v2.TXT#2", "title": "notes.v2", "text": "f g h i j"},
        ]

    def test_compressed_documents(self, tmp_path):
        (tmp_path / "guide.md.gz").write_bytes(gzip.compress(b"\xef\xbb\xbftext"))
        assert values_of(tmp_path / "guide.md.gz") == [{"id": "guide.md.gz#1", "title": "guide", "text": "text"}]

    def test_tables_by_the_columns_of_the_configuration(self, tmp_path):
        (tmp_path / "t.csv").write_text("nr,body,name,more\n7,text,title,x\n")
        keys = {"id_column": "nr", "text_column": "body", "title_column": "name"}
        assert values_of(tmp_path / "t.csv", **keys) == [{"id": "7", "title": "title", "text": "text"}]
        (tmp_path / "t.tsv").write_text("text\none\n")
        assert values_of(tmp_path / "t.tsv") == [{"id": None, "title": None, "text": "one"}]
        with pytest.raises(
            DataError, match=r"t\.csv:1: there is no column 'text' but \['nr', 'body', 'name', 'more'\]"
        ):
            values_of(tmp_path / "t.csv")

    def test_rows_are_left_as_they_are(self, tmp_path):
        rows = [{"text": "one", "qas": PAIRS}, {"text": "word " * 50}]
        for name in ("r.jsonl", "r.ndjson", "r", "r.json"):
            (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
            assert values_of(tmp_path / name) == rows
        (tmp_path / "r.json").write_text(json.dumps(rows))
        assert values_of(tmp_path / "r.json") == rows

    def test_rows_are_split_if_asked_to(self, tmp_path):
        text = "a b c d e f g h i"
        rows = [{"id": 3, "title": "T", "text": text}, {"text": text}, {"text": text, "qas": PAIRS}, {"text": "short"}]
        (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
        splitting = SplittingConfig(size=8, rows=True)
        assert values_of(tmp_path / "r.jsonl", splitting=splitting) == [
            {"id": "3#1", "title": "T", "text": "a b c d e f g h"},
            {"id": "3#2", "title": "T", "text": "i"},
            {"id": "", "text": "a b c d e f g h"},
            {"id": "", "text": "i"},
            *rows[2:],
        ]

    def test_a_named_pipe_of_rows(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=('{"text": "one"}\n',))
        writer.start()
        assert values_of(tmp_path / "pipe") == [{"text": "one"}]
        writer.join()

    def test_files_of_other_kinds(self, tmp_path):
        for name, remedy in {"a.pdf": "convert it to one of these", "a.parquet": "hf:.*a.parquet reads it"}.items():
            (tmp_path / name).write_text("x")
            with pytest.raises(DataError, match=rf"{name}: unknown kind of file, .*\.jsonl, .*; {remedy}"):
                values_of(tmp_path / name)
        with pytest.raises(DataError, match=r"none\.md: no such file"):
            values_of(tmp_path / "none.md")

    def test_tokens_need_a_tokenizer(self, tmp_path):
        with pytest.raises(ConfigError, match="no tokenizer"):
            values_of(tmp_path / "a.txt", splitting=SplittingConfig(unit=SplitUnit.TOKENS))

    @pytest.mark.parametrize(
        ("content", "complaint", "reason"),
        [
            ("text".encode("utf-16"), ":1: holds UTF-16 or NUL bytes; save the file as UTF-8", "UTF-16 or NUL bytes"),
            (b"one\ntw\xe9\n", ":2: byte 0xe9 in column 3 is not UTF-8; save the file as UTF-8", "not UTF-8"),
            (b"one\n\0", ":2: holds UTF-16 or NUL bytes", "UTF-16 or NUL bytes"),
            (b" \n", ": is blank; fill it in or remove it", "blank document"),
        ],
    )
    def test_a_document_that_cannot_be_used(self, tmp_path, content, complaint, reason):
        for name in ("a.txt", "a.md"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(RowError, match=name.replace(".", r"\.") + complaint):
                values_of(tmp_path / name)
            bad = BadRows(OnBadRow.SKIP)
            assert values_of(tmp_path / name, bad) == []
            assert bad.counts == {reason: 1}

    def test_a_document_that_is_too_large(self, tmp_path, monkeypatch):
        monkeypatch.setattr("polyprag.knowledge.ingestion.LARGEST_MARKDOWN", 10)
        for name in ("a.txt", "a.md"):
            (tmp_path / name).write_text("one two three")
        assert len(values_of(tmp_path / "a.txt")) == 1
        with pytest.raises(RowError, match=r"a\.md: holds more than 0 MiB in one piece; cut it into several files"):
            values_of(tmp_path / "a.md")


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        for name, content in {
            "b.jsonl": '{"id": "r", "text": "row"}\n',
            "a/guide.md": "# T\ntext\n",
            "a/z.csv": "text\ncell\n",
            "c.txt": "plain",
            ".hidden.txt": "no",
            ".git/x.txt": "no",
            "a/picture.png": "no",
        }.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content)
        return tmp_path

    @pytest.mark.parametrize("choice", OnBadRow)
    def test_all_in_it_and_below_in_a_fixed_order(self, folder, choice):
        bad = BadRows(choice)
        assert [(values["id"], values["text"]) for values in values_of(folder, bad)] == [
            ("r", "row"),
            ("c.txt#1", "plain"),
            ("a/guide.md#1", "text"),
            (None, "cell"),
        ]
        assert bad.counts == {"unknown kind of file": 1}

    def test_ids_do_not_depend_on_other_files(self, folder):
        before = values_of(folder)
        (folder / "a" / "earlier.md").write_text("# New\ntext\n")
        assert [values for values in values_of(folder) if values.get("title") != "New"] == before

    def test_a_file_that_cannot_be_used_as_a_whole_counts_as_a_row(self, folder):
        (folder / "a" / "z.csv").write_text("body\ncell\n")
        (folder / "c.txt").write_bytes(b"\xff\xfe")
        with pytest.raises(RowError, match=r"c\.txt:1: holds UTF-16"):
            values_of(folder)
        bad = BadRows(OnBadRow.SKIP)
        assert len(values_of(folder, bad)) == 2
        assert bad.counts == {"unknown kind of file": 1, "UTF-16 or NUL bytes": 1, "wrong columns": 1}

    def test_a_damaged_file_is_an_error_in_any_case(self, folder):
        (folder / "d.jsonl.gz").write_bytes(gzip.compress(b"{}")[:9])
        with pytest.raises(DataError, match=r"d\.jsonl\.gz: cannot be read"):
            values_of(folder, BadRows(OnBadRow.SKIP))

    def test_a_folder_without_documents(self, tmp_path):
        with pytest.raises(DataError, match=r"holds no file that ends in \.jsonl, .*\.markdown; name another folder"):
            values_of(tmp_path)
        (tmp_path / "a.pdf").write_text("x")
        for choice in OnBadRow:
            with pytest.raises(DataError, match=r"\.markdown but such as a\.pdf; name another folder"):
                values_of(tmp_path, BadRows(choice))


class TestDatasets:
    def test_columns_and_pairs(self, tmp_path):
        Dataset.from_list([{"id": 1, "body": "one", "qas": PAIRS}]).save_to_disk(tmp_path / "d")
        hub = f"hf:{tmp_path}/d"
        assert values_of(hub, text_column="body") == [{"id": 1, "title": None, "text": "one", "qas": PAIRS}]
        with pytest.raises(
            DataError, match=rf"{hub}: there is no column 'text' but id, body, qas; set data\.text_column"
        ):
            values_of(hub)

    def test_a_value_of_the_wrong_type_is_a_bad_row(self, tmp_path):
        Dataset.from_list([{"text": "one"}, {"text": None}]).save_to_disk(tmp_path / "d")
        data = DataConfig()
        with pytest.raises(RowError, match=r'hf:.*: row 1: "text" must be a string, not None'):
            read_corpus(f"hf:{tmp_path}/d", data)
        bad = BadRows(OnBadRow.SKIP)
        assert len(read_corpus(f"hf:{tmp_path}/d", data, bad).passages) == 1
        assert bad.counts == {"text of the wrong type": 1}

    def test_a_hub_that_is_not_reachable(self):
        with pytest.raises(DataError, match="hf:owner/name: HF_HUB_OFFLINE is set"):
            values_of("hf:owner/name")


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_any_file_gives_passages_or_a_data_error(tmp_path_factory, suffix, content):
    folder = tmp_path_factory.mktemp("any")
    (folder / f"f{suffix}").write_bytes(content)
    (folder / "good.txt").write_text("good")
    for choice in OnBadRow:
        try:
            corpus = read_corpus(folder, DataConfig(splitting=WORDS), BadRows(choice))
        except DataError as error:
            complaint = str(error)
        else:
            complaint = str(folder)
            assert all(passage.text for passage in corpus.passages)
        assert complaint.startswith(str(folder))
        assert "\n" not in complaint
