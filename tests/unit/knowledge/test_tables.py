import csv
import gzip
import io
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polyprag.config import OnBadRow
from polyprag.errors import DataError
from polyprag.knowledge import lines, tables
from polyprag.knowledge.rows import BadRows, RowError
from polyprag.knowledge.tables import read_table

FIELD = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)


def error_of(call: Callable[[], object]) -> DataError | None:
    try:
        call()
    except DataError as error:
        return error
    return None


def read(path, content, delimiter=",", required=("text",), bad=None):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_table(path, delimiter, required, bad))


def test_dprs_passage_collection(tmp_path):
    content = (
        "id\ttext\ttitle\n"
        '1\t"Aaron Aaron ( or ; ""Ahärôn"") is a prophet, high priest,\nand brother of Moses."\tAaron\n'
        "\n"
        "2\tplain text, no quotes\t\n"
    )
    path = tmp_path / "psgs_w100.tsv"
    rows = read(path, gzip.compress(content.encode()), "\t")
    assert [row.values for row in rows] == [
        {
            "id": "1",
            "text": 'Aaron Aaron ( or ; "Ahärôn") is a prophet, high priest,\nand brother of Moses.',
            "title": "Aaron",
        },
        {"id": "2", "text": "plain text, no quotes", "title": ""},
    ]
    assert [row.place for row in rows] == [f"{path}:2", f"{path}:5"]


def test_a_mark_and_line_breaks_of_other_systems(tmp_path):
    content = b'\xef\xbb\xbf"text", title \r\nx,y\r\n'
    assert [row.values for row in read(tmp_path / "f.csv", content)] == [{"text": "x", "title": "y"}]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", r":1: there is no column 'text' but \[\]; name the right one"),
        ("id;text\n", r":1: there is no column 'text' but \['id;text'\]"),
        ("text,a,a\n", r":1: column 'a' is there more than once"),
        ('"text\n', r":1: the header is broken \(unexpected end of data\)"),
        ("text\n".encode("utf-16"), r":1: holds UTF-16 or NUL bytes; save the file as UTF-8"),
    ],
)
def test_a_header_that_cannot_be_used_is_an_error_in_any_case(tmp_path, content, complaint):
    for choice in OnBadRow:
        with pytest.raises(RowError, match=r"f\.csv" + complaint):
            read(tmp_path / "f.csv", content, bad=BadRows(choice))


@pytest.mark.parametrize(
    ("line", "complaint", "reason"),
    [
        (b"a", r":3: 1 columns where the header has 2", "wrong number of columns"),
        (b"a,b,c", r":3: 3 columns where the header has 2", "wrong number of columns"),
        (b'"a"b,c', r":3: broken quotes up to line 3 \(',' expected after '\"'\)", "broken quotes"),
        (b"a\rb,c", r":3: broken quotes up to line 3 ", "broken quotes"),
        (b"a,\xff", r":3: byte 0xff in column 3 is not UTF-8", "not UTF-8"),
        (b"a,\0", r":3: holds UTF-16 or NUL bytes", "UTF-16 or NUL bytes"),
        (
            b"a," + b"b" * 200,
            r":3: broken quotes up to line 3 \(field larger than field limit \(150\)\)",
            "broken quotes",
        ),
        (b"a," + b"b" * 400, r":3: the line is longer than ", "line too long"),
    ],
)
def test_a_bad_row_is_told_or_left_out(tmp_path, monkeypatch, line, complaint, reason):
    monkeypatch.setattr(lines, "LONGEST_LINE", 300)
    monkeypatch.setattr(tables, "LONGEST_FIELD", 0)
    old = csv.field_size_limit(150)
    content = b"id,text\n1,x\n" + line + b'\n3,"y\nz"\n'
    try:
        with pytest.raises(RowError, match=r"f\.csv" + complaint) as caught:
            read(tmp_path / "f.csv", content)
        bad = BadRows(OnBadRow.SKIP)
        rows = read(tmp_path / "f.csv", content, bad=bad)
    finally:
        csv.field_size_limit(old)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)
    assert [row.values for row in rows] == [{"id": "1", "text": "x"}, {"id": "3", "text": "y\nz"}]
    assert rows[1].place.endswith(":4")
    assert bad.counts == {reason: 1}


def test_a_quote_that_is_never_closed_does_not_pass_for_a_field(tmp_path):
    bad = BadRows(OnBadRow.SKIP)
    assert len(read(tmp_path / "f.csv", 'text\none\n"two\nthree\n', bad=bad)) == 1
    assert bad.counts == {"broken quotes": 1}
    with pytest.raises(RowError, match=r":3: broken quotes up to line 4 \(unexpected end of data\); put such"):
        read(tmp_path / "f.csv", 'text\none\n"two\nthree\n')


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(FIELD, FIELD, FIELD), max_size=6), st.sampled_from([",", "\t"]))
def test_what_the_csv_module_writes_comes_back(tmp_path_factory, records, delimiter):
    records = [record for record in records if any(record)]
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter).writerows([("a", "text", "b"), *records])
    path = tmp_path_factory.mktemp("table") / "f.csv"
    rows = read(path, written.getvalue(), delimiter)
    assert [tuple(row.values.values()) for row in rows] == records


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.binary(max_size=80), st.text('",\n\rtext\0ä', max_size=80).map(str.encode)),
    st.sampled_from([b"", b"text,id\n"]),
)
@example(b'text\n"', b"")
@example(gzip.compress(b"text\nx\n")[:15], b"")
def test_any_bytes_give_rows_or_a_data_error(tmp_path_factory, content, head):
    path = tmp_path_factory.mktemp("table") / "f.csv"
    for choice in OnBadRow:
        error = error_of(lambda choice=choice: read(path, head + content, bad=BadRows(choice)))
        assert error is None or (str(error).startswith(str(path)) and "\n" not in str(error))
        assert error is None or choice is OnBadRow.FAIL or not head
